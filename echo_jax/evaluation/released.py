"""The interval that the public code of Echo-Vision-FM prints.

Its `run_multiple_tests` cuts the test set into fixed batches of 8, draws 16 of
them 50 times and gives the mean of the 50 results with a Student t interval
over the repetitions.  That says where the mean of ever more repetitions would
lie, not how the model does on other patients: it shrinks with every
repetition, and rows of one patient count as many.  Here to be compared with.
"""

import numpy as np
from scipy import stats

from echo_jax.evaluation.bootstrap import Counts, Samples

BATCH, BATCHES, REPETITIONS = 8, 16, 50
METHOD = (
  f"as released: {REPETITIONS} x {BATCHES} batches of {BATCH}, t over "
  "repetitions: not an interval of the test set"
)


def draw_batches(rows: int, seed: int) -> Counts:
  """Which rows each repetition holds, [50, n] of 0 and 1.

  Batches are of the rows in their order, the last may be smaller; at least
  two are always left out, as released.

  Raises:
    ValueError: fewer than three batches.
  """
  batch = np.arange(rows) // BATCH
  count = -(-rows // BATCH)
  drawn = min(BATCHES, count - 2)
  if drawn < 1:
    raise ValueError(
      f"{rows} rows are {count} batches of {BATCH}; the released protocol "
      f"leaves two out and needs {2 * BATCH + 1} rows or more"
    )
  rng = np.random.default_rng(seed)
  chosen = [
    rng.choice(count, drawn, replace=False) for _ in range(REPETITIONS)
  ]
  return np.stack([np.isin(batch, one) for one in chosen]).astype(np.float64)


def mean_and_interval(
  samples: Samples, level: float = 0.95
) -> tuple[float, float, float]:
  """Mean over the repetitions in which there is a value, and its t interval."""
  known = samples[np.isfinite(samples)]
  if len(known) < 2:
    return float("nan"), float("nan"), float("nan")
  mean = float(known.mean())
  error = known.std(ddof=1) / np.sqrt(len(known))
  half = float(stats.t.ppf((1 + level) / 2, len(known) - 1) * error)
  return mean, mean - half, mean + half
