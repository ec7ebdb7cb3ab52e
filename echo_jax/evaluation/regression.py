"""Agreement of a predicted quantity with its true value.

Error is prediction minus truth.  `bias` and the limits of agreement
bias ± 1.96 SD are Bland and Altman's (Lancet 1986), in the target's unit.
"""

import warnings

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from sklearn import metrics

from echo_jax.evaluation.bootstrap import Counts, Samples, sum_by_patient

Rows = Float[np.ndarray, "n"]

# True where the metric has the target's unit.
METRICS = {
  "mae": True, "rmse": True, "r2": False, "pearson_r": False,
  "bias": True, "loa_low": True, "loa_high": True,
}  # fmt: skip
LIMIT = 1.96
_FLAT = 1e-12  # a variance below this share of the whole counts as none


def regression_metrics(truth: Rows, prediction: Rows) -> dict[str, float]:
  """Every metric on all rows; NaN where `why_undefined` gives a reason.

  R² is scikit-learn's: 1 - SSE/SST, below 0 if worse than the mean.
  """
  missing = why_undefined(truth, prediction)
  error = prediction - truth
  spread = error.std(ddof=1) if len(error) > 1 else float("nan")
  values = {
    "mae": metrics.mean_absolute_error(truth, prediction),
    "rmse": metrics.root_mean_squared_error(truth, prediction),
    "bias": error.mean(),
    "loa_low": error.mean() - LIMIT * spread,
    "loa_high": error.mean() + LIMIT * spread,
  }
  if "r2" not in missing:
    values["r2"] = metrics.r2_score(truth, prediction)
  if "pearson_r" not in missing:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", stats.NearConstantInputWarning)
      values["pearson_r"] = stats.pearsonr(truth, prediction).statistic
  return {name: float(values.get(name, np.nan)) for name in METRICS}


def why_undefined(truth: Rows, prediction: Rows) -> dict[str, str]:
  """Reason for each metric that these rows cannot give."""
  reasons = {}
  if np.ptp(prediction) == 0:
    reasons["pearson_r"] = "every prediction is the same"
  if np.ptp(truth) == 0:
    reasons |= dict.fromkeys(("r2", "pearson_r"), "every truth is the same")
  if len(truth) < 2:
    few = "needs two rows"
    reasons |= dict.fromkeys(("r2", "pearson_r", "loa_low", "loa_high"), few)
  return reasons


def resample_regression(
  truth: Rows, prediction: Rows, patient: Int[np.ndarray, "n"], counts: Counts
) -> dict[str, Samples]:
  """Every metric in every resample, from sums over each patient's rows.

  Args:
    patient: each row's patient, 0 … g-1.
    counts: weight of each patient in each resample, [r, g].
  """
  error = prediction - truth
  t, p = truth - truth.mean(), prediction - prediction.mean()
  columns = (np.ones_like(t), error, error**2, abs(error))
  columns += (t, t * t, p, p * p, t * p)
  sums = sum_by_patient(np.stack(columns, 1), patient, counts.shape[1])
  n, e, ee, ae, t1, tt, p1, pp, tp = (counts @ sums).T
  with np.errstate(divide="ignore", invalid="ignore"):
    total = _variation(tt, t1, n, (t * t).sum())
    other = _variation(pp, p1, n, (p * p).sum())
    spread = np.sqrt(np.maximum(ee - e * e / n, 0) / (n - 1))
    return {
      "mae": ae / n,
      "rmse": np.sqrt(ee / n),
      "r2": 1 - ee / total,
      "pearson_r": (tp - t1 * p1 / n) / np.sqrt(total * other),
      "bias": e / n,
      "loa_low": e / n - LIMIT * spread,
      "loa_high": e / n + LIMIT * spread,
    }


def _variation(
  squares: Samples, sums: Samples, n: Samples, whole: float
) -> Samples:
  """Sum of squares about the mean; NaN where nothing varies."""
  about = squares - sums * sums / n
  return np.where(about > _FLAT * whole, about, np.nan)
