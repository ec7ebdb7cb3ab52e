"""AUROC with the variance of DeLong, for one row a patient.

DeLong, DeLong & Clarke-Pearson (Biometrics 1988): each row's placement is the
share of the other class that it is ranked right against, ties counted half;
areas are means of placements, and their covariances give the areas'.  Rows
are taken as independent, so several rows of one patient are refused.  By
ranks (Sun & Xu 2014) instead of all pairs.  Axes: m model, n row.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

METHOD = "DeLong 1988, one row a patient"


class Areas(NamedTuple):
  """AUROC of each model and their covariance over patients."""

  area: Float[np.ndarray, "m"]
  covariance: Float[np.ndarray, "m m"]


def measure_areas(
  truth: Float[np.ndarray, "n"], predictions: Float[np.ndarray, "m n"]
) -> Areas:
  """Areas of models that were judged on the same rows.

  Args:
    truth: 0 or 1, two rows of either at least.

  Raises:
    ValueError: fewer than two rows of a class, which have no variance.
  """
  positive = truth == 1
  count = int(positive.sum()), int((~positive).sum())
  if min(count) < 2:
    raise ValueError(
      f"DeLong's variance needs two rows of each class; there are {count[0]} "
      f"positive and {count[1]} negative"
    )
  among_all = stats.rankdata(predictions, axis=1)
  placements = [
    (among_all[:, of] - stats.rankdata(predictions[:, of], axis=1)) / others
    for of, others in zip((positive, ~positive), count[::-1], strict=True)
  ]
  covariance = sum(
    np.atleast_2d(np.cov(one)) / one.shape[1] for one in placements
  )
  return Areas(placements[0].mean(1), np.asarray(covariance))


def area_interval(
  truth: Float[np.ndarray, "n"], prediction: Float[np.ndarray, "n"],
  level: float = 0.95,
) -> tuple[float, float]:  # fmt: skip
  """Normal interval of one model's AUROC, cut to 0 … 1."""
  area, covariance = measure_areas(truth, prediction[None])
  half = stats.norm.ppf((1 + level) / 2) * np.sqrt(covariance.item())
  low, high = np.clip((area.item() - half, area.item() + half), 0, 1)
  return float(low), float(high)


def area_difference(
  truth: Float[np.ndarray, "n"], first: Float[np.ndarray, "n"],
  second: Float[np.ndarray, "n"], level: float = 0.95,
) -> tuple[float, float, float]:  # fmt: skip
  """Normal interval of first minus second, and the two-sided p of no gap.

  p is 1 where the two never differ by any draw and in value, NaN where only
  their variance is 0.
  """
  area, covariance = measure_areas(truth, np.stack((first, second)))
  gap = float(area[0] - area[1])
  contrast = np.array([1.0, -1.0])
  error = float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))
  half = float(stats.norm.ppf((1 + level) / 2)) * error
  if error < 1e-12:
    p = 1.0 if abs(gap) < 1e-12 else float("nan")
  else:
    p = float(2 * stats.norm.sf(abs(gap) / error))
  return gap - half, gap + half, p


def refuse_several_rows(target: str, rows: int, patients: int) -> None:
  """Raises ValueError where patients have several rows."""
  if rows != patients:
    raise ValueError(
      f"{target}: DeLong's method takes rows as independent, and {rows:,} "
      f"rows are of {patients:,} patients; use the bootstrap, or a level with "
      "one row a patient"
    )
