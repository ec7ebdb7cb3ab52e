"""Differences between two models' tables, against scikit-learn's metrics."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from echo_jax.evaluation.bootstrap import draw_counts
from echo_jax.evaluation.grades import call_grades
from echo_jax.evaluation.paired import paired_difference, paired_rows

GRADES = ("none", "mild", "moderate", "severe")
RHYTHMS = (
  "sinus", "atrial_fibrillation", "ventricular_ectopy",
  "left_bundle_branch_block",
)  # fmt: skip
N, RESAMPLES = 60, 200
PATIENT = np.arange(N) // 2  # two studies each


def table_of(truth, chance, target, classes):
  """Study rows of a test split; one row a class, or one of a number."""
  columns = [("", truth, chance)] if not classes else [
    (name, np.where(np.isnan(truth), np.nan, truth == k), chance[:, k])
    for k, name in enumerate(classes)
  ]
  tables = [
    pd.DataFrame({
      "level": "study", "item_id": [f"s{i}" for i in range(N)],
      "study_id": [f"s{i}" for i in range(N)],
      "patient_id": [f"p{i}" for i in PATIENT], "site": "", "device": "",
      "view": "", "split": "test", "target": target, "unit": "",
      "truth": true, "prediction": prediction, "class": name,
    })
    for name, true, prediction in columns
  ]  # fmt: skip
  return pd.concat(tables, ignore_index=True)


def made(seed, skill, truth, k=4):
  """Probabilities that know some of the truth."""
  logits = np.random.default_rng(seed).normal(size=(N, k))
  logits[np.arange(N), truth] += skill
  return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


TRUTH = np.random.default_rng(0).integers(0, 4, N)


def kappa(truth, chance):
  return metrics.cohen_kappa_score(
    truth, call_grades(chance), labels=range(4), weights="quadratic"
  )


def balanced(truth, chance):
  return metrics.balanced_accuracy_score(truth, chance.argmax(1))


def area(truth, chance):
  return metrics.roc_auc_score(
    truth, chance, multi_class="ovr", labels=range(4)
  )


@pytest.mark.parametrize(
  "target, classes, metric, oracle",
  [
    ("as_grade", GRADES, "quadratic_kappa", kappa),
    ("rhythm", RHYTHMS, "balanced_accuracy", balanced),
    ("rhythm", RHYTHMS, "macro_auroc", area),
  ],
)
def test_class_metrics_differ_as_in_scikit_learn(
  target, classes, metric, oracle
):
  """The same resampled patients for both models, and for every seed."""
  chances = [[made(s, skill, TRUTH) for s in seeds]
             for skill, seeds in ((2.0, (1, 2)), (1.0, (3,)))]  # fmt: skip
  a, b = (
    [table_of(TRUTH, chance, target, classes) for chance in of]
    for of in chances
  )
  b[0] = b[0].sample(frac=1.0, random_state=0)  # the order says nothing
  found = paired_rows(
    a, b, target, metric, resamples=RESAMPLES, level=0.9, seed=5
  )
  values = [[oracle(TRUTH, chance) for chance in of] for of in chances]
  wanted = np.mean(values[0]) - values[1][0]
  assert found.value == pytest.approx(wanted, abs=1e-12)
  assert [v for _, v in found.by_seed] == pytest.approx(sum(values, []))
  assert found.patients == 30 and found.rows == N and found.level == 0.9
  # Patients are numbered by the sorted names p0, p1, p10, ...
  names = np.unique([f"p{i}" for i in PATIENT], return_inverse=True)[1]
  counts = draw_counts(np.random.default_rng(5), RESAMPLES, 30).astype(int)
  seed_of = np.random.default_rng((5, 1)).integers(2, size=(2, RESAMPLES))
  samples = []
  for r, count in enumerate(counts):
    rows = np.repeat(np.arange(N), count[names])
    sides = [[oracle(TRUTH[rows], chance[rows]) for chance in of]
             for of in chances]  # fmt: skip
    samples.append(np.mean(np.array(sides[0])[seed_of[:, r]]) - sides[1][0])
  low, high = np.quantile(samples, [0.05, 0.95])
  assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_what_paired_seeds_have_in_common_cancels():
  """By hand: differences of 1, 2 and 6 points for every patient."""
  truth = np.random.default_rng(1).normal(55, 10, N)
  common = (3.0, 30.0, 12.0)
  a = [table_of(truth, truth + c, "ef_pct", ()) for c in common]
  b = [table_of(truth, truth + c + d, "ef_pct", ())
       for c, d in zip(common, (1.0, 2.0, 6.0), strict=True)]  # fmt: skip
  found = paired_rows(
    b, a, "ef_pct", "mae", paired_seeds=True, resamples=20_000
  )
  assert found.value == pytest.approx(3) and "paired seed" in found.method
  # Means of three drawn of (1, 2, 6) are 1 to 6, with 1 and 6 in 1 of 27
  # each: beyond 2.5 %.
  wide = 1.5**0.5
  assert found.low == pytest.approx(3 - 2 * wide)
  assert found.high == pytest.approx(3 + 3 * wide)
  apart = paired_rows(b, a, "ef_pct", "mae")
  assert apart.value == pytest.approx(3) and apart.high > 15
  with pytest.raises(ValueError, match="3 seeds of a and 2 of b"):
    paired_rows(a, b[:2], "ef_pct", "mae", paired_seeds=True)
  one = paired_rows(b[:1], a[:1], "ef_pct", "mae", paired_seeds=True)
  assert one.low == pytest.approx(1) and one.high == pytest.approx(1)


def test_rows_of_numbers_are_as_arrays_and_unknown_truth_is_left_out():
  truth = np.random.default_rng(1).normal(55, 10, N)
  a, b = (truth + np.random.default_rng(s).normal(0, 6, N) for s in (2, 3))
  known = np.arange(N) % 7 != 0
  gaps = np.where(known, truth, np.nan)
  tables = [table_of(gaps, one, "ef_pct", ()) for one in (a, b)]
  order = np.argsort([f"s{i}" for i in range(N)])
  order = order[known[order]]
  for metric in ("mae", "r2"):
    found = paired_rows(tables[:1], tables[1:], "ef_pct", metric)
    wanted = paired_difference(
      truth[order], a[order], b[order], [f"p{i}" for i in PATIENT[order]],
      metric,
    )  # fmt: skip
    assert (found.value, found.low, found.high, found.p) == pytest.approx(
      (wanted.value, wanted.low, wanted.high, wanted.p)
    )
    assert found.rows == known.sum() and found.without_truth == sum(~known)
  assert paired_rows(tables[:1], tables[1:], "ef_pct", "mae").unit == "%"


def test_tables_of_other_items_or_truths_are_refused():
  chance = made(1, 2.0, TRUTH)
  table = table_of(TRUTH, chance, "as_grade", GRADES)
  other = table_of(np.roll(TRUTH, 1), chance, "as_grade", GRADES)
  fewer = table[table["item_id"] != "s3"]
  for wrong in (other, fewer):
    with pytest.raises(ValueError, match="other items"):
      paired_rows([table], [wrong], "as_grade", "quadratic_kappa")
  with pytest.raises(ValueError, match="no metric 'mae'"):
    paired_rows([table], [table], "as_grade", "mae")
