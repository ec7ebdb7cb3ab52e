"""Intervals by patient: draws, coverage, paired differences."""

import numpy as np
import pytest
from scipy import stats

from echo_jax.evaluation import bootstrap, regression
from echo_jax.evaluation.bootstrap import resample
from echo_jax.evaluation.paired import paired_difference, two_sided_p


def mean_of(values, patient):
  """The mean error of rows, as a statistic of counts."""

  def statistic(counts):
    return regression.resample_regression(
      np.zeros_like(values), values, patient, counts
    )

  return statistic


def test_draws_are_those_of_the_seed_and_no_chunk(monkeypatch):
  values = np.random.default_rng(0).normal(size=50)
  statistic = mean_of(values, np.arange(50))
  whole = resample(statistic, 50, resamples=101, seed=3)["bias"]
  monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 50 * 7)
  chunked = resample(statistic, 50, resamples=101, seed=3)["bias"]
  np.testing.assert_allclose(chunked, whole, rtol=0, atol=1e-14)
  other = resample(statistic, 50, resamples=101, seed=4)["bias"]
  assert abs(other - whole).max() > 0.01
  counts = bootstrap.draw_counts(np.random.default_rng(0), 9, 50)
  assert (counts.sum(1) == 50).all()


def test_agrees_with_scipy():
  values = np.random.default_rng(0).gamma(2, 3, size=80)
  statistic = mean_of(values, np.arange(80))
  ours = resample(statistic, 80, resamples=20_000)["bias"]
  left = bootstrap.leave_one_out(statistic, 80)["bias"]
  assert left[3] == pytest.approx(np.delete(values, 3).mean())
  for method, interval in (
    ("percentile", bootstrap.percentile_interval(ours)),
    ("bca", bootstrap.bca_interval(values.mean(), ours, left)),
  ):
    theirs = stats.bootstrap(
      (values,), np.mean, n_resamples=20_000, method=method, rng=1
    ).confidence_interval
    assert interval == pytest.approx(theirs, abs=0.04), method


def test_coverage_with_clustered_rows():
  """About 95 % by patient; far fewer if rows are taken as independent."""
  rng = np.random.default_rng(11)
  by_patient, by_row, sets = 0, 0, 200
  patient = np.repeat(np.arange(60), 5)
  for k in range(sets):
    values = rng.normal(size=60)[patient] + rng.normal(0, 0.5, 300)
    low, high = bootstrap.percentile_interval(
      resample(mean_of(values, patient), 60, resamples=400, seed=k)["bias"]
    )
    by_patient += low <= 0 <= high
    low, high = bootstrap.percentile_interval(
      resample(mean_of(values, np.arange(300)), 300, resamples=400, seed=k)[
        "bias"
      ]
    )
    by_row += low <= 0 <= high
  assert 0.90 <= by_patient / sets <= 0.99
  assert by_row / sets < 0.75


def models(n=300, gap=1.0, seed=0):
  rng = np.random.default_rng(seed)
  patient = np.array([f"p{k}" for k in range(n // 2)]).repeat(2)
  truth = rng.uniform(20, 70, n)
  shared = rng.normal(0, 6, n)
  pred_a = truth + shared + rng.normal(0, 1, n)
  pred_b = truth + shared * (1 + gap / 6) + rng.normal(0, 1, n)
  return truth, pred_a, pred_b, patient


def test_paired_difference():
  truth, pred_a, pred_b, patient = models()
  got = paired_difference(
    truth, pred_a, pred_b, patient, "mae", unit="%", names=("ours", "theirs")
  )
  want = abs(pred_a - truth).mean() - abs(pred_b - truth).mean()
  assert got.value == pytest.approx(want)
  assert got.low < want < got.high < 0
  assert got.p < 0.01 and got.patients == 150 and got.rows == 300
  assert dict(got.by_seed)["ours"] == pytest.approx(abs(pred_a - truth).mean())
  assert "ours minus theirs" in got.protocol and "p = " in str(got)


def test_paired_is_antisymmetric_and_nothing_for_equals():
  truth, pred_a, pred_b, patient = models(gap=0.2)
  one = paired_difference(truth, pred_a, pred_b, patient, "rmse")
  other = paired_difference(truth, pred_b, pred_a, patient, "rmse")
  assert one.value == -other.value and one.p == other.p
  assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
  same = paired_difference(truth, pred_a, pred_a, patient, "r2", unit="%")
  assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
  assert same.unit == ""


def test_paired_auroc():
  truth, pred_a, pred_b, patient = models(gap=8)
  positive = (truth < 45).astype(float)
  chance = [1 / (1 + np.exp((pred - 45) / 9)) for pred in (pred_a, pred_b)]
  got = paired_difference(positive, *chance, patient, "auroc", threshold=1)
  assert got.high > got.value > got.low > 0


def test_seeds_widen_the_interval():
  truth, pred_a, pred_b, patient = models(gap=0.5)
  shift = np.array([[-4.0], [0], [4]])
  one = paired_difference(truth, pred_a, pred_b, patient, "mae")
  many = paired_difference(
    truth, pred_a + shift, pred_b + shift, patient, "mae"
  )
  assert many.high - many.low > 2 * (one.high - one.low)
  assert "seed" in many.method and "seed" not in one.method
  assert [name for name, _ in many.by_seed][:2] == ["a seed 0", "a seed 1"]


def test_p_is_about_uniform_without_a_difference():
  """Both models equally good: p below 0.1 in about a tenth of the sets."""
  found = 0
  for k in range(100):
    truth, pred_a, pred_b, patient = models(n=120, gap=0, seed=k)
    found += (
      paired_difference(
        truth, pred_a, pred_b, patient, "mae", resamples=300, seed=k
      ).p
      < 0.1
    )
  assert 3 <= found <= 20
  assert two_sided_p(np.ones(99)) == pytest.approx(0.02)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"metric": "mse"}, "no metric 'mse'; there are mae"),
    ({"pred_a": np.ones(3)}, "shape"),
    ({"truth": np.array([np.nan, 1, 2, 3])}, "finite"),
    ({"patient_id": ["a"]}, "1 patient ids for 4 rows"),
  ],
)
def test_paired_refuses(change, message):
  good = dict(
    truth=np.arange(4.0), pred_a=np.ones(4), pred_b=np.ones(4),
    patient_id=list("abcd"), metric="mae",
  )  # fmt: skip
  with pytest.raises(ValueError, match=message):
    paired_difference(**{**good, **change})


def test_paired_with_nothing_to_resample():
  got = paired_difference(
    np.arange(4.0), np.ones(4), np.ones(4), ["a"] * 4, "mae"
  )
  assert got.reason == "one patient gives no interval" and np.isnan(got.p)
  got = paired_difference(
    np.ones(4), np.ones(4), np.ones(4), list("abcd"), "auroc"
  )
  assert "undefined" in str(got)
