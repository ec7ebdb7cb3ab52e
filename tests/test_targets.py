"""The task table: truths of each kind, and what is done with several classes.
"""

import numpy as np
import pandas as pd
import pytest
from flax import linen as nn
from sklearn import metrics

from echo_jax.data import schema
from echo_jax.evaluation.score import score
from echo_jax.objectives.supervised import (
  Standardisation,
  make_supervised,
  standardise_from,
)
from echo_jax.targets import TARGETS, target_named, truth_of
from experiments import ef_finetune, parts


def test_every_source_is_a_key_of_the_record():
  for target in TARGETS.values():
    field = schema.FIELDS[target.source]
    assert field.type == ("text" if target.kind == "multiclass" else "float")
    if target.classes:
      assert (*target.classes, "") == field.choices


@pytest.mark.parametrize(
  ("name", "scalars", "truth"),
  [
    ("ef_pct", {"ef_pct": 61.5}, 61.5),
    ("ef_below_50", {"ef_pct": 49.9}, 1), ("ef_below_50", {"ef_pct": 50.0}, 0),
    ("ivsd_mm", {"ivsd_mm": 9.0}, 9),
    ("as_tmed5", {"as_tmed5": "no_AS"}, 0),
    ("as_tmed5", {"as_tmed5": "severe_AS"}, 4),
    ("as_tmed3", {"as_tmed3": "early"}, 1),
  ],
)  # fmt: skip
def test_truths(name, scalars, truth):
  assert truth_of(target_named(name), scalars) == truth


def test_unknown_truths():
  for name, unknown in (("ef_pct", float("nan")), ("as_tmed5", "")):
    assert np.isnan(truth_of(target_named(name), {name: unknown}))
  with pytest.raises(ValueError, match="as_tmed3 has no class 'severe_AS'"):
    truth_of(target_named("as_tmed3"), {"as_tmed3": "severe_AS"})


def predictions(classes=("none", "early", "significant"), n=90):
  """One row a class; the truth goes round and is often called."""
  rng = np.random.default_rng(0)
  rows = []
  for i in range(n):
    chance = rng.dirichlet(np.ones(3) + 3 * np.eye(3)[i % 3])
    for c, name in enumerate(classes):
      rows.append(
        {
          "level": "video", "item_id": f"v{i}", "start_ms": np.nan,
          "study_id": f"s{i}", "patient_id": f"p{i}", "site": "", "device": "",
          "view": "", "split": "test", "target": "as_tmed3", "unit": "",
          "truth": float(c == i % 3), "prediction": chance[c], "class": name,
        }
      )  # fmt: skip
  return pd.DataFrame(rows)


def test_several_classes_of_the_table_are_scored():
  table = predictions()
  found = {e.name: e for e in score(table, resamples=100)}
  names = target_named("as_tmed3").classes
  wide = table.pivot(index="item_id", columns="class", values="prediction")
  wide = wide[list(names)]
  truth = [int(name[1:]) % 3 for name in wide.index]
  called = wide.to_numpy().argmax(1)
  wanted = metrics.balanced_accuracy_score(truth, called)
  assert found["balanced_accuracy"].value == pytest.approx(wanted)
  area = metrics.roc_auc_score(truth, wide.to_numpy(), multi_class="ovr")
  assert found["macro_auroc"].value == pytest.approx(area)


def test_classes_that_are_not_the_tables_are_refused():
  misspelt = predictions(("none", "early", "signifcant"))
  with pytest.raises(ValueError, match="as_tmed3 has no class 'signifcant'"):
    score(misspelt, resamples=100)
  nameless = predictions().query("truth == 1").assign(**{"class": ""})
  with pytest.raises(ValueError, match="as_tmed3 has no class ''"):
    score(nameless, resamples=100)
  table = predictions()
  fewer = table[table["class"] != "significant"]
  fewer = fewer[fewer.groupby("item_id")["truth"].transform("sum") == 1]
  with pytest.raises(ValueError, match="no row of class significant"):
    score(fewer, resamples=100)
  with pytest.raises(ValueError, match="said to be multiclass and regression"):
    score(table.assign(kind="regression"), resamples=100)


def test_no_head_is_trained_for_several_classes():
  targets = (target_named("ef_pct"), target_named("as_tmed5"))
  message = "as_tmed5 has 5 classes: it can be scored, but no head is trained"
  with pytest.raises(ValueError, match=message):
    standardise_from(targets, np.ones((3, 2), np.float32))
  with pytest.raises(ValueError, match=message):
    scale = Standardisation((0.0, 0.0), (1.0, 1.0))
    make_supervised(nn.Dense(2), lambda video: video, targets, scale)
  config = ef_finetune.get_config()
  config.targets = ("as_tmed5",)
  with pytest.raises(ValueError, match=message):
    parts.make_targets(config)
