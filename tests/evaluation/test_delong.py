"""DeLong's variance against all pairs written out."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from echo_jax.evaluation import delong
from echo_jax.evaluation.compare import compare
from echo_jax.evaluation.predictions import check_predictions
from echo_jax.evaluation.score import score


def made(n=60, seed=0):
  """Truth and two related predictions with ties."""
  rng = np.random.default_rng(seed)
  truth = (rng.random(n) < 0.4) * 1.0
  shared = truth + rng.normal(0, 1, n)
  return truth, *(
    np.round(shared + rng.normal(0, noise, n), 1) for noise in (0.5, 1.0)
  )


def placements(truth, prediction):
  """Every positive against every negative."""
  pos, neg = prediction[truth == 1], prediction[truth == 0]
  right = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
  return right.mean(1), right.mean(0)


def test_areas_and_covariance_are_those_of_all_pairs():
  truth, a, b = made()
  found = delong.measure_areas(truth, np.stack((a, b)))
  assert found.area == pytest.approx([roc_auc_score(truth, x) for x in (a, b)])
  pairs = [placements(truth, x) for x in (a, b)]
  wanted = sum(
    np.cov(np.stack([of[side] for of in pairs])) / len(pairs[0][side])
    for side in (0, 1)
  )
  np.testing.assert_allclose(found.covariance, wanted, rtol=1e-12)


def test_interval_and_p_by_hand():
  truth, a, b = made()
  area, covariance = delong.measure_areas(truth, np.stack((a, b)))
  low, high = delong.area_interval(truth, a)
  half = 1.959964 * covariance[0, 0] ** 0.5
  assert (low, high) == pytest.approx((area[0] - half, min(1, area[0] + half)))
  low, high, p = delong.area_difference(truth, a, b)
  error = (covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]) ** 0.5
  gap = area[0] - area[1]
  assert p == pytest.approx(2 * stats.norm.sf(abs(gap) / error))
  assert (low + high) / 2 == pytest.approx(gap)
  assert (high - low) / 2 == pytest.approx(1.959964 * error)
  assert delong.area_difference(truth, a, a) == (0, 0, 1)
  with pytest.raises(ValueError, match="1 positive and 3 negative"):
    delong.area_interval(np.array([1.0, 0, 0, 0]), np.arange(4.0))


def test_it_is_near_the_bootstrap_where_rows_are_patients(make_clips):
  rows = make_clips(240, 1, 1)
  rows = rows[rows.target == "ef_below_50"]
  by = {
    method: next(
      one for one in score(rows, method=method, resamples=400)
      if one.name == "auroc"
    )
    for method in ("delong", "percentile")
  }  # fmt: skip
  assert by["delong"].method == delong.METHOD and by["delong"].resamples == 0
  assert (by["delong"].low, by["delong"].high) == pytest.approx(
    (by["percentile"].low, by["percentile"].high), abs=0.015
  )
  others = {one.method for one in score(rows, method="delong", resamples=100)
            if one.name != "auroc"}  # fmt: skip
  assert others == {"percentile bootstrap by patient"}


def test_several_rows_of_a_patient_are_refused_with_their_count(make_clips):
  rows = check_predictions(make_clips(60, 2, 1))
  says = "80 rows are of 40 patients; use the bootstrap"
  with pytest.raises(ValueError, match=says):
    score(rows, method="delong", level="video")
  with pytest.raises(ValueError, match=says):
    compare({"a": rows, "b": rows}, level="video", test="delong")


def test_differences_by_delong_are_near_those_of_the_bootstrap(make_clips):
  rows = make_clips(240, 1, 1)
  rows = check_predictions(rows[rows.target == "ef_below_50"])
  noise = np.random.default_rng(1).uniform(-0.4, 0.4, len(rows))
  other = rows.assign(prediction=np.clip(rows.prediction + noise, 0, 1))
  (one,), (two,) = (
    compare({"a": rows, "b": other}, test=test, resamples=400)
    for test in ("delong", "bootstrap")
  )
  assert one.value == pytest.approx(two.value, abs=1e-12)
  assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=0.01)
  assert "DeLong" in one.p_method and "bootstrap" in two.p_method
  with pytest.raises(ValueError, match="one of auroc, not of brier"):
    compare({"a": rows, "b": other}, test="delong", metrics=["brier"])
