"""A prediction interval for one patient, from errors on validation.

Split-conformal prediction (Lei et al., JASA 2018): the half width is the
ceil((n+1)(1-a))-th smallest absolute error of n patients the model was not
trained on.  If patients of that kind come, at least 1-a of their true values
lie inside, whatever the distribution.  Several rows of one patient share that
patient's weight (Lee, Barber & Willett 2023), so n counts patients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_ROUNDING = 1e-9


@dataclass(frozen=True)
class PredictionInterval:
  """prediction ± `half_width`, meant to hold `coverage` of true values."""

  half_width: float
  coverage: float
  patients: int
  rows: int
  unit: str = ""

  def around(
    self, prediction: ArrayLike | float, low: float | int = -math.inf,
    high: float | int = math.inf,
  ) -> tuple[np.ndarray | np.float64, np.ndarray | np.float64]:  # fmt: skip
    """Lower and upper ends, cut to the range that is possible."""
    prediction = np.asarray(prediction, np.float64)
    return (
      np.clip(prediction - self.half_width, low, high),
      np.clip(prediction + self.half_width, low, high),
    )


def fit_interval(
  truth: ArrayLike, prediction: ArrayLike, *, coverage: float = 0.9,
  patient_id: ArrayLike | Sequence[str] | None = None, unit: str = "",
) -> PredictionInterval:  # fmt: skip
  """Fits the half width on validation rows; NaN truths must be gone.

  Args:
    coverage: 1-a, above 0 and below 1.
    patient_id: the person of each row; every row its own without it.

  Raises:
    ValueError: not finite, or too few patients for that coverage (90 %
      needs 9, 95 % needs 19).
  """
  truth = np.asarray(truth, np.float64)
  error = np.abs(truth - np.asarray(prediction, np.float64))
  if not 0 < coverage < 1:
    raise ValueError(f"coverage is {coverage:g}; allowed: above 0, below 1")
  if error.shape != truth.shape or error.ndim != 1:
    raise ValueError(f"want rows [n], got {truth.shape} and {error.shape}")
  if not np.isfinite(error).all():
    raise ValueError("truth and prediction must be finite")
  names = np.arange(len(error)) if patient_id is None else patient_id
  _, person, rows = np.unique(
    np.asarray(names), return_inverse=True, return_counts=True
  )
  needed = math.ceil(coverage / (1 - coverage) - _ROUNDING)
  if len(rows) < needed:
    raise ValueError(
      f"{len(rows)} validation patients are too few for a {coverage:.0%} "
      f"interval; it needs {needed}"
    )
  order = np.argsort(error, kind="stable")
  weight = 1 / ((len(rows) + 1) * rows[person.reshape(-1)[order]])
  first = np.searchsorted(weight.cumsum(), coverage - _ROUNDING)
  return PredictionInterval(
    half_width=float(error[order][first]), coverage=coverage,
    patients=len(rows), rows=len(error), unit=unit,
  )  # fmt: skip
