"""The heart's clock: R waves, and what the ventricle does between them.

Every beat runs from R wave to R wave: isovolumic contraction (volume at its
largest), ejection, isovolumic relaxation (volume at its smallest), early
filling, rest, atrial contraction.  Both isovolumic phases last longer than a
frame of the slowest device, so every beat has a sampled frame at each extreme.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

ISOVOLUMIC_CONTRACTION_S = 0.045
FRAME_S = 0.04  # longer than a frame of the slowest device
RATE_SPREAD = 0.02  # relative standard deviation of RR intervals


@dataclasses.dataclass(frozen=True)
class Beat:
  """Moments of one beat in seconds after its R wave.

  Attributes:
    rr_s: length of the beat.
    ejection_end_s: aortic valve closes; end-systole begins.
    mitral_opening_s: end-systole ends, filling begins.
    early_end_s: early filling ends.
    atrial_start_s: atrial contraction begins; it ends with the beat.
    ejection_start_s: aortic valve opens; end-diastole ends.
  """

  rr_s: float
  ejection_end_s: float
  mitral_opening_s: float
  early_end_s: float
  atrial_start_s: float
  ejection_start_s: float


def make_beat(
  rr_s: float,
  before_s: float | None = None,
  delay_s: float = 0.0,
  slowing_s: float = 0.0,
) -> Beat:
  """Phases of a beat of length `rr_s`, 0.36 s and longer.

  The end of ejection follows the regression of electromechanical systole on
  heart rate, 546 - 2.1 HR ms from the onset of Q (Weissler et al. 1968), less
  40 ms from Q to the R peak.

  Args:
    rr_s: time to the next R wave.
    before_s: time since the R wave before, where beats are irregular: it, not
      what is still to come, has set the length of systole.  Without a source:
      the rate is then held within 30 to 140 bpm, and a beat soon followed by
      another keeps at most 62 % of its time for systole.
    delay_s: how much later ejection begins and ends.
    slowing_s: how much longer relaxation takes at 60 bpm.
  """
  if before_s is None:
    rate_bpm, latest = 60 / rr_s, math.inf
  else:
    rate_bpm, latest = min(max(60 / before_s, 30.0), 140.0), 0.62 * rr_s
  ejection_end = min(0.506 - 0.0021 * rate_bpm + delay_s, latest)
  root = math.sqrt(rr_s)
  opening = ejection_end + max(0.048, 0.075 * root) + slowing_s * root
  filling = rr_s - opening
  return Beat(
    rr_s=rr_s,
    ejection_end_s=ejection_end,
    mitral_opening_s=opening,
    early_end_s=opening + min(0.22, 0.55 * filling),
    atrial_start_s=rr_s - min(0.14, 0.45 * filling),
    ejection_start_s=ISOVOLUMIC_CONTRACTION_S + delay_s,
  )


def _smooth(t):
  """Rises from 0 at t = 0 to 1 at t = 1 without a corner."""
  t = min(max(t, 0.0), 1.0)
  return t * t * (3 - 2 * t)


def _bump(t):
  """0 outside (0, 1), 1 at the middle."""
  return math.sin(math.pi * t) if 0 < t < 1 else 0.0


def ejected_share(beat: Beat, since_r_s: float, early_share: float) -> float:
  """0 at end-diastole to 1 at end-systole; volume = EDV (1 - EF share).

  Args:
    beat: the phases.
    since_r_s: time since the beat's R wave, 0 to `rr_s`.
    early_share: share of the stroke volume that early filling returns.
  """
  if since_r_s < beat.mitral_opening_s:
    start = beat.ejection_start_s
    t = (since_r_s - start) / (beat.ejection_end_s - start)
    return _smooth(max(t, 0.0) ** 0.9)  # ejection is faster at its beginning
  early = _smooth(
    (since_r_s - beat.mitral_opening_s)
    / (beat.early_end_s - beat.mitral_opening_s)
  )
  late = _smooth(
    (since_r_s - beat.atrial_start_s) / (beat.rr_s - beat.atrial_start_s)
  )
  return 1 - early_share * early - (1 - early_share) * late


def valve_opening(beat: Beat, since_r_s: float, atrial: bool = True) -> float:
  """Opening of the atrioventricular valves, 0 closed to 1 wide.

  Wide in early filling, half shut at rest, wide again in atrial contraction,
  where there is one (`atrial`).
  """
  t = since_r_s - beat.mitral_opening_s
  left = beat.rr_s - since_r_s
  if t <= 0:
    return 0.0
  gate = _smooth(t / 0.04) * _smooth(left / 0.04)
  early = _bump(t / (beat.early_end_s - beat.mitral_opening_s))
  late = atrial * _bump(
    (since_r_s - beat.atrial_start_s) / (beat.rr_s - beat.atrial_start_s)
  )
  return min(1.0, gate * (0.35 + 0.65 * early + 0.45 * late))


def aortic_opening(beat: Beat, since_r_s: float) -> float:
  """Opening of the aortic valve: wide while the ventricle ejects."""
  since = since_r_s - beat.ejection_start_s
  left = beat.ejection_end_s - since_r_s
  return _smooth(since / 0.03) * _smooth(left / 0.03)


def draw_r_waves(
  rng: np.random.Generator, heart_rate_bpm: float, duration_s: float | int
) -> Float[np.ndarray, "r"]:
  """R-wave times in ms from the first frame, from before 0 to past the end.

  The second time is the first R wave inside the recording.  It is placed
  uniformly over a beat, but early enough that a whole beat follows within
  `duration_s` wherever the recording is long enough to hold one.
  """
  mean_s = 60 / heart_rate_bpm
  count = int(duration_s / (0.9 * mean_s)) + 4
  spread = np.clip(rng.normal(size=count), -2.5, 2.5)
  intervals = mean_s * (1 + RATE_SPREAD * spread)
  room = max(duration_s - intervals[1] - FRAME_S, 0.05 * mean_s)
  first = rng.uniform(0, min(float(intervals[0]), room))
  times = first - intervals[0] + np.concatenate([[0], np.cumsum(intervals)])
  last = int(np.searchsorted(times, duration_s, side="right"))
  return 1000 * times[: last + 1]
