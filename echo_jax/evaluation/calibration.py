"""Calibration: whether what is given 80 % comes true eight times in ten.

Of one event a row: truth is 0 or 1, prediction its probability.  Among
several classes the event is that the called class is the true one.  Bins are
ten of equal width, or ten that share the rows (equal mass); they include
their upper end and stay those of all rows in every resample.  Axes: r
resample, g patient, n row, k bin.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from echo_jax.evaluation.bootstrap import (
  Counts,
  Samples,
  number_patients,
  sum_by_patient,
)

Rows = Float[np.ndarray, "n"]
Patient = Int[np.ndarray, "n"]
Bins = Int[np.ndarray, "n"]

BINS = 10
CUTS = ("width", "mass")
METRICS = (
  "ece_width", "ece_mass", "calibration_slope", "calibration_intercept"
)  # fmt: skip
# A probability of 0 or 1 has no logit.
_LEAST_CHANCE = 1e-6
_NEWTON_STEPS, _LARGEST_STEP = 100, 4.0
_SMALL_STEP = 1e-5  # the next one would be near its square


def bin_edges(
  prediction: Rows, cut: str, bins: int = BINS
) -> Float[np.ndarray, "edges"]:
  """Ends of the bins: even over 0 to 1 ("width"), or quantiles ("mass").

  Raises:
    ValueError: another cut.
  """
  places = np.linspace(0, 1, bins + 1)
  if cut == "width":
    return places
  if cut == "mass":
    return np.quantile(prediction, places)
  raise ValueError(f"cut is {cut!r}; allowed: {', '.join(CUTS)}")


def bins_of(prediction: Rows, cut: str, bins: int = BINS) -> Bins:
  """Each row's bin, 0 … bins-1; equal predictions share one."""
  edges = bin_edges(prediction, cut, bins)
  return np.searchsorted(edges[1:-1], prediction).astype(np.int64)


def calibration_errors(truth: Rows, prediction: Rows) -> dict[str, float]:
  """Expected calibration error (Naeini et al. 2015) by either kind of bins.

  The mean over rows of |observed share - mean prediction| of their bin.  It
  is biased upwards: of finitely many rows it is above 0 even where the
  probabilities are right, and more so in a resample.
  """
  every = np.zeros(len(truth), np.int64)
  found = resample_errors(truth, prediction, every, np.ones((1, 1)))
  return {name: float(value[0]) for name, value in found.items()}


def resample_errors(
  truth: Rows, prediction: Rows, patient: Patient, counts: Counts
) -> dict[str, Samples]:
  """Both errors in every resample."""
  rows = np.bincount(patient, minlength=counts.shape[1]).astype(float)
  found = {}
  for cut in CUTS:
    columns = np.zeros((len(truth), BINS))
    columns[np.arange(len(truth)), bins_of(prediction, cut)] = (
      prediction - truth
    )
    gaps = counts @ sum_by_patient(columns, patient, counts.shape[1])
    found[f"ece_{cut}"] = np.abs(gaps).sum(1) / (counts @ rows)
  return found


def recalibration(truth: Rows, prediction: Rows) -> dict[str, float]:
  """Slope and intercept of truth on logit(prediction); 1 and 0 are right.

  Logistic regression without penalty, both fitted together (Cox 1958), by
  scikit-learn; NaN where `why_no_slope` gives a reason.  A slope below 1:
  probabilities are too extreme.
  """
  slope = intercept = np.nan
  if not why_no_slope(truth, prediction):
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-9)
    model.fit(_logits(prediction)[:, None], truth)
    slope, intercept = model.coef_.item(), model.intercept_.item()
  return {
    "calibration_slope": float(slope),
    "calibration_intercept": float(intercept),
  }


def why_no_slope(truth: Rows, prediction: Rows) -> dict[str, str]:
  """Reason why the regression has no finite answer, for both of its numbers."""
  if len(np.unique(truth)) < 2:
    reason = f"one class only: every truth is {truth[0]:g}"
  elif _overlap(truth == 1, _logits(prediction), np.ones((1, len(truth))))[0]:
    return {}
  else:
    reason = "the predictions separate the classes: no finite slope"
  return dict.fromkeys(("calibration_slope", "calibration_intercept"), reason)


def resample_recalibration(
  truth: Rows, prediction: Rows, patient: Patient, counts: Counts
) -> dict[str, Samples]:
  """Slope and intercept in every resample, by Newton's method.

  All resamples at once, from the answer on all rows; undefined where a
  resample holds one class, or classes that the predictions separate.
  """
  x, weight = _logits(prediction), counts[:, patient]
  powers = np.stack((np.ones_like(x), x, x * x), 1)
  start = recalibration(truth, prediction)
  solved = _overlap(truth == 1, x, weight)
  both = np.where(solved[:, None], list(start.values())[::-1], np.nan)
  going = np.flatnonzero(solved)
  for _ in range(_NEWTON_STEPS):
    if not len(going):
      break
    all_go = len(going) == len(weight)
    of = weight if all_go else weight[going]  # no copy while none has ended
    step = _newton_step(both[going], powers, truth, of)
    # A full step from afar may overshoot: no logit moves by more than this.
    move = np.abs(step) @ (1, np.abs(x).max())
    step *= np.minimum(1, _LARGEST_STEP / np.maximum(move, 1e-300))[:, None]
    both[going] += step
    going = going[move > _SMALL_STEP]
  both[going] = np.nan  # did not settle: counted as undefined
  return {
    "calibration_slope": both[:, 1], "calibration_intercept": both[:, 0]
  }  # fmt: skip


def _newton_step(
  both: Float[np.ndarray, "r 2"], powers: Float[np.ndarray, "n 3"],
  truth: Rows, weight: Float[np.ndarray, "r n"],
) -> Float[np.ndarray, "r 2"]:  # fmt: skip
  """Step of intercept and slope up the likelihood."""
  line = powers[:, :2]
  chance = both @ line.T
  expit(chance, out=chance)
  expected = weight * chance
  up = weight @ (truth[:, None] * line) - expected @ line
  expected *= 1 - chance
  aa, ab, bb = (expected @ powers).T
  with np.errstate(divide="ignore", invalid="ignore"):
    area = aa * bb - ab * ab
    return np.stack(
      (bb * up[:, 0] - ab * up[:, 1], aa * up[:, 1] - ab * up[:, 0]), 1
    ) / area[:, None]  # fmt: skip


def _overlap(
  positive: Bool[np.ndarray, "n"], x: Rows, weight: Float[np.ndarray, "r n"]
) -> Bool[np.ndarray, "r"]:
  """Whether the classes' x overlap, without which no slope is finite."""
  ends = []
  for of in (positive, ~positive):
    there = weight[:, of] > 0
    ends.append(np.where(there, x[of], np.inf).min(1, initial=np.inf))
    ends.append(np.where(there, x[of], -np.inf).max(1, initial=-np.inf))
  low, high, other_low, other_high = ends
  return (high > other_low) & (other_high > low)


def _logits(prediction: Rows) -> Rows:
  """Logits of probabilities, cut to 1e-6 … 1 - 1e-6."""
  return logit(np.clip(prediction, _LEAST_CHANCE, 1 - _LEAST_CHANCE))


def reliability_table(
  truth: Rows, prediction: Rows, patient_id: object, cut: str = "mass",
  bins: int = BINS,
) -> pd.DataFrame:  # fmt: skip
  """One row a bin that has any: what was predicted and what came true.

  Columns: low and high (ends of the bin), rows, patients, predicted (mean
  probability), observed (share of 1).
  """
  edges = bin_edges(prediction, cut, bins)
  patient, _ = number_patients(patient_id)
  place = bins_of(prediction, cut, bins)
  table = pd.DataFrame(
    {"bin": place, "truth": truth, "prediction": prediction, "who": patient}
  )
  found = table.groupby("bin").agg(
    rows=("truth", "size"), patients=("who", "nunique"),
    predicted=("prediction", "mean"), observed=("truth", "mean"),
  )  # fmt: skip
  found.insert(0, "low", edges[found.index])
  found.insert(1, "high", edges[found.index + 1])
  return found.reset_index(drop=True)
