"""The task table: its rows, their truths and columns, and how classes score."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from data_builders import camus, synthetic_echo
from echo_jax.data import schema
from echo_jax.evaluation import regression
from echo_jax.evaluation.score import score
from echo_jax.targets import (
  KINDS,
  TARGETS,
  Target,
  count_outputs,
  layout,
  target_named,
  truth_of,
  truths_of,
)


def test_every_source_is_a_key_of_the_record():
  for target in TARGETS.values():
    for source in target.sources:
      field = schema.FIELDS[source]
      of_text = target.kind in ("multiclass", "ordinal") or target.positive
      known = ("text",) if of_text else ("float", "int")
      assert field.type in known
      if target.positive:  # a misspelt one would make everybody negative
        assert set(target.positive) < set(field.choices)
      elif of_text and field.choices:
        assert (*target.classes, "") == field.choices


def test_grades_of_quality_are_those_that_builders_write():
  classes = target_named("image_quality").classes
  assert tuple(name for _, name in synthetic_echo.GRADES) == classes
  assert set(camus.QUALITY.values()) == set(classes)


@pytest.mark.parametrize(
  ("name", "scalars", "truth"),
  [
    ("ef_pct", {"ef_pct": 61.5}, 61.5),
    ("ef_below_50", {"ef_pct": 49.9}, 1), ("ef_below_50", {"ef_pct": 50.0}, 0),
    ("ef_at_least_50", {"ef_pct": 50.0}, 1),
    ("ef_at_least_50", {"ef_pct": 49.9}, 0),
    ("ef_at_least_45", {"ef_pct": 45.0}, 1),
    ("esv_ln_ml", {"esv_ml": np.exp(2.0)}, 2),
    ("ivsd_mm", {"ivsd_mm": 9.0}, 9),
    ("as_tmed5", {"as_tmed5": "no_AS"}, 0),
    ("as_tmed5", {"as_tmed5": "severe_AS"}, 4),
    ("as_tmed3", {"as_tmed3": "early"}, 1),
  ],
)  # fmt: skip
def test_truths(name, scalars, truth):
  assert truth_of(target_named(name), scalars) == pytest.approx(truth)


def test_what_has_no_logarithm_is_refused():
  assert np.isnan(truth_of(target_named("esv_ln_ml"), {"esv_ml": np.nan}))
  with pytest.raises(ValueError, match="esv_ml is 0, which has no logarithm"):
    truth_of(target_named("esv_ln_ml"), {"esv_ml": 0.0})
  with pytest.raises(ValueError, match="it has no logarithm"):
    Target("grade", "multiclass", "", "as_tmed3", classes=("a", "b"),
           link="log")  # fmt: skip
  with pytest.raises(ValueError, match="link 'ln' is not one of"):
    Target("edv", "regression", "ml", "edv_ml", link="ln")


def test_logarithms_are_judged_as_logarithms():
  """R2 of ln(ml); one below 0, as of half a millilitre, is a truth too."""
  rng = np.random.default_rng(0)
  truth = np.log([0.5, 20.0, 50.0, 90.0])
  rows = pd.DataFrame({
    "item_id": list("abcd"), "patient_id": list("abcd"), "split": "test",
    "target": "esv_ln_ml", "truth": truth,
    "prediction": truth + rng.normal(0, 0.2, 4), "level": "video",
    "study_id": "", "site": "", "device": "", "view": "", "unit": "ln(ml)",
  })  # fmt: skip
  found = {one.name: one for one in score(rows, resamples=100)}
  assert found["mae"].unit == "ln(ml)"
  assert found["r2"].value == pytest.approx(
    metrics.r2_score(truth, rows["prediction"])
  )


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


def test_columns_of_outputs_labels_and_values():
  """EF, three classes, three grades in order, two labels."""
  kinds = ("ef_pct", "as_tmed3", "image_quality")
  targets = (*map(target_named, kinds), WALLS)
  assert [one.outputs for one in targets] == [1, 3, 2, 2]
  assert [one.labels for one in targets] == [1, 1, 1, 2]
  assert [one.values for one in targets] == [1, 3, 3, 2]
  places = layout(targets)
  assert [p.output for p in places] == [
    slice(0, 1), slice(1, 4), slice(4, 6), slice(6, 8)
  ]  # fmt: skip
  assert places[-1].label == slice(3, 5) and places[-1].value == slice(7, 9)
  assert count_outputs(targets) == 8 and count_outputs(()) == 0


WALLS = Target(
  "thick_walls", "multilabel", "", ("ivsd_mm", "lvpwd_mm"), at_least=11.0,
  classes=("septum", "posterior"),
)  # fmt: skip
SEVERE = target_named("as_significant")


def test_truths_of_the_other_kinds():
  grades = target_named("image_quality")
  record = {
    "quality": "good", "ivsd_mm": 11.0, "lvpwd_mm": float("nan"),
    "as_tmed5": "severe_AS",
  }  # fmt: skip
  truth = truths_of((grades, WALLS, SEVERE), record)
  np.testing.assert_array_equal(truth, [2, 1, np.nan, 1])
  assert truth_of(WALLS, record | {"ivsd_mm": 10.9}) == 0
  assert truth_of(SEVERE, {"as_tmed5": "mild_AS"}) == 0
  assert np.isnan(truth_of(SEVERE, {"as_tmed5": ""}))
  event = Target("event", "binary", "", "event", at_least=1.0)
  for value, wanted in ((1, 1), (0, 0), (np.int32(-1), np.nan)):
    np.testing.assert_equal(truth_of(event, {"event": value}), wanted)


def test_rules_in_words():
  assert target_named("ef_below_50").rule() == "ef_pct < 50"
  assert WALLS.rule(1) == "lvpwd_mm >= 11"
  assert SEVERE.rule() == "as_tmed5 is moderate_AS or severe_AS"
  assert target_named("ef_pct").rule() == ""


@pytest.mark.parametrize(
  ("row", "message"),
  [
    (("x", "grade", "", "x"), "no kind 'grade'"),
    (("x", "binary", "", "x"), "0 of below, at_least and positive"),
    (("x", "regression", "", "x", 5.0), "1 of below, at_least and positive"),
    (("x", "ordinal", "", "x"), "ordinal and has 0 classes"),
    (("x", "multiclass", "", "x", np.nan, ("a",)), "has 1 classes"),
    (("x", "ordinal", "", "x", np.nan, ("a", "a")), "must differ"),
    (("x", "multilabel", "", ("a",), 1.0, ("a", "b")), "one key a class"),
    (("x", "multilabel", "", "a", 1.0, ("a",)), "one key a class"),
  ],
)
def test_a_row_that_is_no_task_is_refused(row, message):
  with pytest.raises(ValueError, match=message):
    Target(*row)
  with pytest.raises(ValueError, match="loss 'l1' is not one of"):
    Target("x", "binary", "", "x", 1.0, loss="l1")


def test_a_name_alone_or_with_its_classes_is_what_outputs_mean():
  """The contract's hash of runs on numbers stays what it was."""
  assert target_named("ef_pct").meaning == "ef_pct"
  assert target_named("as_tmed3").meaning == (
    "as_tmed3 (multiclass: none, early, significant)"
  )


def test_metrics_of_the_table_are_those_that_are_computed():
  assert KINDS["regression"].metrics == tuple(regression.METRICS)
