"""Every figure is scikit-learn's or scipy's, on all rows and resampled."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from echo_jax.evaluation import bootstrap, classification, regression


@pytest.fixture
def rows():
  """37 patients with 1 to 6 rows each; probabilities with ties."""
  rng = np.random.default_rng(5)
  patient = np.repeat(np.arange(37), rng.integers(1, 7, 37))
  truth = rng.uniform(15, 75, len(patient))
  prediction = 0.8 * truth + 12 + rng.normal(0, 8, len(patient))
  positive = (truth < 45).astype(float)
  chance = np.round(1 / (1 + np.exp((prediction - 48) / 10)), 1)
  return patient, truth, prediction, positive, chance


def every_row(n):
  return np.arange(n)


def test_regression_equals_the_oracles(rows):
  _, truth, prediction, _, _ = rows
  got = regression.regression_metrics(truth, prediction)
  error = prediction - truth
  assert got == pytest.approx(
    {
      "mae": metrics.mean_absolute_error(truth, prediction),
      "rmse": metrics.root_mean_squared_error(truth, prediction),
      "r2": metrics.r2_score(truth, prediction),
      "pearson_r": stats.pearsonr(truth, prediction).statistic,
      "bias": np.mean(error),
      "loa_low": np.mean(error) - 1.96 * np.std(error, ddof=1),
      "loa_high": np.mean(error) + 1.96 * np.std(error, ddof=1),
    },
    abs=1e-12,
  )


def test_bland_altman_by_hand():
  truth = np.array([50.0, 60.0, 40.0])
  prediction = np.array([52.0, 60.0, 44.0])  # errors 2, 0, 4: mean 2, SD 2
  got = regression.regression_metrics(truth, prediction)
  assert got["bias"] == pytest.approx(2.0)
  assert got["loa_low"] == pytest.approx(2 - 1.96 * 2)
  assert got["loa_high"] == pytest.approx(2 + 1.96 * 2)


def test_binary_equals_the_oracles(rows):
  *_, truth, chance = rows
  called = chance >= 0.4
  got = classification.binary_metrics(truth, chance, 0.4)
  assert got == pytest.approx(
    {
      "auroc": metrics.roc_auc_score(truth, chance),
      "auprc": metrics.average_precision_score(truth, chance),
      "f1": metrics.f1_score(truth, called),
      "accuracy": metrics.accuracy_score(truth, called),
      "sensitivity": metrics.recall_score(truth, called),
      "specificity": metrics.recall_score(truth, called, pos_label=0),
      "brier": metrics.brier_score_loss(truth, chance),
    },
    abs=1e-12,
  )


def test_weighted_sums_equal_sample_weight(rows):
  _, truth, prediction, positive, chance = rows
  rng = np.random.default_rng(0)
  weight = rng.uniform(0, 3, (4, len(truth))) * rng.integers(0, 2, len(truth))
  number = regression.resample_regression(
    truth, prediction, every_row(len(truth)), weight
  )
  binary = classification.resample_binary(
    positive, chance, every_row(len(truth)), weight, 0.4
  )
  called = (chance >= 0.4).astype(float)
  for r, w in enumerate(weight):
    expected = {
      "mae": metrics.mean_absolute_error(truth, prediction, sample_weight=w),
      "rmse": metrics.root_mean_squared_error(
        truth, prediction, sample_weight=w
      ),
      "r2": metrics.r2_score(truth, prediction, sample_weight=w),
    }
    for name, value in expected.items():
      assert number[name][r] == pytest.approx(value, abs=1e-10), name
    expected = {
      "auroc": metrics.roc_auc_score(positive, chance, sample_weight=w),
      "auprc": metrics.average_precision_score(
        positive, chance, sample_weight=w
      ),
      "f1": metrics.f1_score(positive, called, sample_weight=w),
      "accuracy": metrics.accuracy_score(positive, called, sample_weight=w),
      "sensitivity": metrics.recall_score(positive, called, sample_weight=w),
      "specificity": metrics.recall_score(
        positive, called, sample_weight=w, pos_label=0
      ),
      "brier": metrics.brier_score_loss(positive, chance, sample_weight=w),
    }
    for name, value in expected.items():
      assert binary[name][r] == pytest.approx(value, abs=1e-10), name


def test_counts_equal_explicit_resampling(rows):
  patient, truth, prediction, positive, chance = rows
  counts = bootstrap.draw_counts(np.random.default_rng(1), 20, 37)
  number = regression.resample_regression(truth, prediction, patient, counts)
  binary = classification.resample_binary(
    positive, chance, patient, counts, 0.4
  )
  for r, count in enumerate(counts.astype(int)):
    drawn = np.concatenate(
      [np.flatnonzero(patient == g) for g in np.repeat(np.arange(37), count)]
    )
    want = regression.regression_metrics(truth[drawn], prediction[drawn])
    assert {n: v[r] for n, v in number.items()} == pytest.approx(want, 1e-9)
    want = classification.binary_metrics(positive[drawn], chance[drawn], 0.4)
    assert {n: v[r] for n, v in binary.items()} == pytest.approx(want, 1e-9)


def test_several_classes_equal_the_oracles(rows):
  patient, truth, _, _, _ = rows
  rng = np.random.default_rng(3)
  label = np.digitize(truth, [35, 55])
  score = rng.dirichlet([1, 1, 1], len(label)) + np.eye(3)[label] * 0.4
  score /= score.sum(1, keepdims=True)
  table = np.eye(3)[label]

  def oracle(rows):
    y, p = label[rows], score[rows]
    return {
      "macro_auroc": metrics.roc_auc_score(
        y, p, multi_class="ovr", average="macro"
      ),
      "balanced_accuracy": metrics.balanced_accuracy_score(y, p.argmax(1)),
      "macro_f1": metrics.f1_score(y, p.argmax(1), average="macro"),
      "accuracy": metrics.accuracy_score(y, p.argmax(1)),
    }

  got = classification.class_metrics(table, score)
  assert got == pytest.approx(oracle(every_row(len(label))), abs=1e-12)
  counts = bootstrap.draw_counts(np.random.default_rng(1), 10, 37)
  each = classification.resample_classes(table, score, patient, counts)
  for r, count in enumerate(counts.astype(int)):
    drawn = np.repeat(every_row(len(label)), count[patient])
    got = {name: values[r] for name, values in each.items()}
    assert got == pytest.approx(oracle(drawn), abs=1e-10)


def test_undefined_metrics_say_why():
  flat, some = np.full(4, 50.0), np.array([48.0, 50.0, 52.0, 55.0])
  assert "prediction" in regression.why_undefined(some, flat)["pearson_r"]
  assert np.isnan(regression.regression_metrics(some, flat)["pearson_r"])
  assert np.isfinite(regression.regression_metrics(some, flat)["r2"])
  assert "truth" in regression.why_undefined(flat, some)["r2"]
  ones, chance = np.ones(4), np.array([0.2, 0.4, 0.6, 0.8])
  reasons = classification.why_binary_undefined(ones)
  assert set(reasons) == {"auroc", "auprc", "specificity"}
  got = classification.binary_metrics(ones, chance, 0.5)
  assert np.isnan(got["auroc"]) and got["sensitivity"] == 0.5


def test_a_resample_without_spread_is_undefined():
  truth, prediction = np.array([40.0, 50.0, 61.3]), np.array([42.1, 47.0, 66.0])
  counts = np.array([[3.0, 0, 0], [0, 0, 3], [1, 1, 1]])
  got = regression.resample_regression(
    truth, prediction, every_row(3), counts
  )
  for name in ("r2", "pearson_r"):
    assert np.isnan(got[name]).tolist() == [True, True, False]


def test_youden_threshold():
  truth = np.array([0, 0, 1, 0, 1, 1.0])
  chance = np.array([0.1, 0.2, 0.3, 0.4, 0.7, 0.9])
  cut = classification.youden_threshold(truth, chance)
  assert cut == 0.7  # J = 2/3 at 0.7 and at 0.3; the larger cut is taken
  with pytest.raises(ValueError, match="one class only"):
    classification.youden_threshold(np.ones(3), chance[:3])
