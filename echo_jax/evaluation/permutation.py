"""Whether two models could be exchanged: a permutation test by patient.

Under the hypothesis that it makes no difference which of them judged a
patient, all of a patient's rows may change sides.  The size is right with few
patients too, where the bootstrap's is not; but the hypothesis is a narrower
one: probabilities that rank equally well on unlike scales violate it.
"""

import numpy as np
import pandas as pd

from echo_jax.evaluation.bootstrap import number_patients
from echo_jax.evaluation.score import measure_rows

METHOD = "two-sided, permutation by patient"
_CHUNK_VALUES = 4_000_000
_ROUNDING = 1e-9


def exchange_p(
  rows_a: pd.DataFrame, rows_b: pd.DataFrame, target: str, metric: str, *,
  split: str = "test", threshold: float = 0.5, order: tuple[str, ...] = (),
  seed: int = 0, permutations: int = 2000,
) -> float:  # fmt: skip
  """Two-sided p of the metric's difference; never exactly 0.

  Args:
    rows_a, rows_b: tables of one level and of the same items, which the
      caller has checked (`paired.paired_rows`).
    threshold: of both models.

  Permutations are drawn, not all of them made; the one that was seen counts
  as one more (Phipson & Smyth 2010).
  """
  both = pd.concat(
    [
      rows.assign(
        item_id=side + rows.item_id.astype(str),
        patient_id=side + rows.patient_id.astype(str),
      )
      for side, rows in (("a:", rows_a), ("b:", rows_b))
    ],
    ignore_index=True,
  )
  found = measure_rows(both, target, split, threshold, order)
  # Sorted by name, all patients of a come first, then the same of b.
  patient, sides = number_patients(found.patient_id)
  rng = np.random.default_rng((seed, 2))
  step = max(1, _CHUNK_VALUES // len(patient))
  gaps = []
  for start in range(0, permutations + 1, step):
    count = min(step, permutations + 1 - start)
    first = rng.integers(2, size=(count, sides // 2)).astype(np.float64)
    if start == 0:
      first[0] = 1  # as it was seen
    counts = np.concatenate((first, 1 - first), axis=1)
    one, other = (
      found.measured.statistic(patient, of)[metric]
      for of in (counts, 1 - counts)
    )
    gaps.append(one - other)
  gap = np.abs(np.concatenate(gaps))
  known = gap[np.isfinite(gap)]
  return float((known >= gap[0] - _ROUNDING).mean())
