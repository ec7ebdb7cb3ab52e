"""What goes wrong when an ECG is taken: pure functions from leads to leads.

All take and give millivolts, samples by `ecg.LEADS`.  What disturbs the
recording is added to the leads that a machine records, I, II and V1-V6; the
others follow from these, so the identities between leads still hold.  Levels
are arguments; those of the defaults were chosen.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from echo_jax.simulate.ecg import LEADS, RECORDED, derive_leads

Leads = Float32[np.ndarray, "s l"]
_CHEST = LEADS[6:]
_LIMBS = ("RA", "LA", "LL")


def _disturb(mv: Leads, disturbance) -> Leads:
  return derive_leads(mv[:, RECORDED].astype(np.float64) + disturbance)


def add_noise(mv: Leads, rng: np.random.Generator, rms_mv=0.02) -> Leads:
  """White noise of `rms_mv` in every recorded lead, apart from each other."""
  return _disturb(mv, rng.normal(0.0, rms_mv, (len(mv), len(RECORDED))))


def add_hum(
  mv: Leads,
  rng: np.random.Generator,
  hz: float,
  peak_mv: float = 0.05,
  mains_hz: float = 50.0,
) -> Leads:
  """Mains hum, in one phase, with half to all of `peak_mv` in each lead.

  Args:
    mv: the leads.
    rng: for the phase and the sizes.
    hz: samples a second.
    peak_mv: largest size.
    mains_hz: 50 or 60.
  """
  size = peak_mv * rng.uniform(0.5, 1.0, len(RECORDED))
  phase = rng.uniform(0, 2 * math.pi)
  time = np.arange(len(mv))[:, None] / hz
  return _disturb(mv, size * np.sin(2 * math.pi * mains_hz * time + phase))


def add_wander(
  mv: Leads, rng: np.random.Generator, hz: float, peak_mv: float = 0.3
) -> Leads:
  """Baseline wander below 0.5 Hz: breathing, and a slower drift.

  Args:
    mv: the leads.
    rng: for rates, phases and sizes.
    hz: samples a second.
    peak_mv: largest size of each of the two.
  """
  time = np.arange(len(mv))[:, None] / hz
  drift = np.zeros((len(mv), len(RECORDED)))
  for low_hz, high_hz in ((0.03, 0.1), (0.15, 0.4)):
    rate = rng.uniform(low_hz, high_hz)
    phase = rng.uniform(0, 2 * math.pi, len(RECORDED))
    size = peak_mv * rng.uniform(0.3, 1.0, len(RECORDED))
    drift += size * np.sin(2 * math.pi * rate * time + phase)
  return _disturb(mv, drift)


def drop_leads(mv: Leads, leads: Sequence[str]) -> Leads:
  """The named leads flat at 0 mV, as after an electrode has come off.

  Raises:
    ValueError: no such lead.
  """
  dropped = mv.copy()
  dropped[:, [_index(name) for name in leads]] = 0.0
  return dropped


def swap_electrodes(mv: Leads, first: str, second: str) -> Leads:
  """What is recorded with two electrodes in each other's place.

  Args:
    mv: the leads.
    first, second: two of RA, LA and LL, or two of V1 to V6.  Chest leads do
      not notice swapped limbs: their reference is the mean of all three.

  Raises:
    ValueError: other electrodes, or one of each sort.
  """
  if first in _CHEST and second in _CHEST:
    order = list(range(len(LEADS)))
    one, two = _index(first), _index(second)
    order[one], order[two] = two, one
    return mv[:, order].copy()
  if first not in _LIMBS or second not in _LIMBS:
    raise ValueError(
      f"cannot swap {first!r} and {second!r}: two of {', '.join(_LIMBS)} or "
      f"two of {', '.join(_CHEST)}"
    )
  # potentials against the right arm
  potential = {"RA": np.zeros(len(mv)), "LA": mv[:, 0], "LL": mv[:, 1]}
  potential[first], potential[second] = potential[second], potential[first]
  recorded = mv[:, RECORDED].astype(np.float64)
  recorded[:, 0] = potential["LA"] - potential["RA"]
  recorded[:, 1] = potential["LL"] - potential["RA"]
  return derive_leads(recorded)


def _index(lead: str) -> int:
  if lead not in LEADS:
    raise ValueError(f"no ECG lead {lead!r}; there are {', '.join(LEADS)}")
  return LEADS.index(lead)
