"""Intervals by resampling whole patients.

Rows of one patient are alike, so a patient's rows are drawn together
(cluster bootstrap; Davison & Hinkley 1997, section 3.8).  A resample is a row
of counts: how often each patient was drawn.  A statistic takes counts and
returns one value a resample, so that all resamples are computed at once.

Axes: r resample, g patient (group), n row.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

Counts = Float[np.ndarray, "r g"]
Samples = Float[np.ndarray, "r"]
Statistic = Callable[[Counts], dict[str, Samples]]

LEAST_RESAMPLES = 100
_CHUNK_VALUES = 4_000_000  # keeps a chunk of weights near 32 MB


def number_patients(patient_id: object) -> tuple[Int[np.ndarray, "n"], int]:
  """Each row's patient as 0 … g-1, and g."""
  names, index = np.unique(np.asarray(patient_id), return_inverse=True)
  return index.reshape(-1).astype(np.int64), len(names)


def resample(
  statistic: Statistic, patients: int, *, resamples: int = 2000,
  seed: int = 0, rows: int = 0,
) -> dict[str, Samples]:  # fmt: skip
  """Values of a statistic over bootstrap resamples of the patients.

  Args:
    statistic: counts [r, g] to one value a resample, by name.
    patients: number of patients g.
    rows: number of rows, only to bound memory.

  The draws depend on (seed, patients) alone, not on the chunk size.

  Raises:
    ValueError: fewer than 100 resamples, which give no 95 % interval.
  """
  if resamples < LEAST_RESAMPLES:
    raise ValueError(
      f"resamples is {resamples}, wants {LEAST_RESAMPLES} or more (2,000 are "
      "usual)"
    )
  rng = np.random.default_rng(seed)
  step = max(1, _CHUNK_VALUES // max(rows, patients, 1))
  parts = [
    statistic(draw_counts(rng, min(step, resamples - start), patients))
    for start in range(0, resamples, step)
  ]
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def draw_counts(
  rng: np.random.Generator, resamples: int, patients: int
) -> Counts:
  """How often each patient is in each resample, [r, g]; rows sum to g."""
  drawn = rng.integers(patients, size=(resamples, patients))
  drawn += patients * np.arange(resamples)[:, None]
  counts = np.bincount(drawn.ravel(), minlength=resamples * patients)
  return counts.reshape(resamples, patients).astype(np.float64)


def leave_one_out(
  statistic: Statistic, patients: int, rows: int = 0
) -> dict[str, Samples]:
  """Values of a statistic without each patient in turn (jackknife)."""
  step = max(1, _CHUNK_VALUES // max(rows, patients, 1))
  parts = []
  for start in range(0, patients, step):
    left = np.arange(start, min(start + step, patients))
    parts.append(statistic(1.0 - (left[:, None] == np.arange(patients))))
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def sum_by_patient(
  columns: Float[np.ndarray, "n k"], patient: Int[np.ndarray, "n"],
  patients: int,
) -> Float[np.ndarray, "g k"]:  # fmt: skip
  """Sums of row values within each patient."""
  sums = np.zeros((patients, columns.shape[1]))
  np.add.at(sums, patient, columns)
  return sums


def percentile_interval(
  samples: Samples, level: float = 0.95
) -> tuple[float, float]:
  """The middle `level` of the resampled values; undefined ones left out."""
  known = samples[np.isfinite(samples)]
  if not len(known):
    return float("nan"), float("nan")
  low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def bca_interval(
  value: float, samples: Samples, left_out: Float[np.ndarray, "g"],
  level: float = 0.95,
) -> tuple[float, float]:  # fmt: skip
  """Bias-corrected and accelerated interval (Efron 1987).

  Args:
    value: the statistic on all patients.
    left_out: the statistic without each patient in turn.
  """
  known = samples[np.isfinite(samples)]
  if not len(known) or not np.isfinite(left_out).all():
    return float("nan"), float("nan")
  below = (known < value).mean() + (known == value).mean() / 2
  if not 0 < below < 1:
    return percentile_interval(samples, level)
  shift = stats.norm.ppf(below)
  skew = left_out.mean() - left_out
  spread = (skew**2).sum() ** 1.5
  bend = (skew**3).sum() / (6 * spread) if spread else 0.0
  z = shift + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
  low, high = np.quantile(
    known, stats.norm.cdf(shift + z / (1 - bend * z))
  )
  return float(low), float(high)
