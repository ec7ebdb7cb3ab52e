"""The smallest difference that is stated is found as often as is stated."""

import numpy as np
import pytest

from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.paired import paired_difference
from echo_jax.evaluation.power import POWER, SIZE, smallest_difference

PATIENTS, SETS, CORRELATION, SPREAD = 100, 200, 0.5, 2.0


def found(gap, sets=SETS, seed=0):
  """Share of simulated test sets in which the paired test finds a gap in MAE.

  Absolute errors of two models on the same patients are normal about 10, far
  from 0, so that their correlation is that of the two MAEs.
  """
  rng = np.random.default_rng(seed)
  shared, own = CORRELATION**0.5, (1 - CORRELATION) ** 0.5
  truth, patients = np.zeros(PATIENTS), np.arange(PATIENTS)
  hits = 0
  for k in range(sets):
    common = rng.normal(size=PATIENTS)
    a, b = (
      10 + SPREAD * (shared * common + own * rng.normal(size=PATIENTS))
      for _ in range(2)
    )
    hits += (
      paired_difference(
        truth, a + gap, b, patients, "mae", resamples=200, seed=k
      ).p
      < SIZE
    )
  return hits / sets


def test_the_stated_difference_is_found_with_the_stated_power():
  half = 1.959964 * SPREAD / PATIENTS**0.5
  one = Estimate("mae", 10.0, 10 - half, 10 + half)
  gap = smallest_difference(one, CORRELATION)
  assert gap == pytest.approx(
    (1.959964 + 0.841621) * SPREAD * (2 * (1 - CORRELATION) / PATIENTS) ** 0.5,
    rel=1e-5,
  )
  # Three standard errors of a share of 200 sets are 0.085.
  assert found(gap) == pytest.approx(POWER, abs=0.085)
  assert found(gap / 3, 50) < 0.4
