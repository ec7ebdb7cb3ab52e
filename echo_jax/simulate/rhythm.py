"""The run of beats: when each comes, of what kind, how it fills and squeezes.

In sinus rhythm and left bundle branch block every beat is alike.  In atrial
fibrillation and ventricular ectopy a beat follows from the intervals before
it: a short diastole fills less, a short interval leaves the muscle weak
(mechanical restitution), and the beat after it is stronger (post-extrasystolic
potentiation).
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, Int

from echo_jax.simulate import electrics

RHYTHMS = (
  "sinus", "atrial_fibrillation", "ventricular_ectopy",
  "left_bundle_branch_block",
)  # fmt: skip
STEADY = ("sinus", "left_bundle_branch_block")
_USUAL_KIND = {
  "atrial_fibrillation": "fibrillation",
  "left_bundle_branch_block": "block",
}
FULL_BEATS = {"atrial_fibrillation": 5}  # ASE/EACVI 2015, Lang et al.

# RR intervals in atrial fibrillation: the coefficient of variation is nearly
# the same in everybody (Tateno and Glass 2001), with a skewed distribution;
# that it is a shifted gamma law and where it begins was chosen.
FIBRILLATION_CV = 0.24
SHORTEST_RR_S = 0.36
FIBRILLATION_FLOOR = 0.55

# Restitution and potentiation rise and fall exponentially with one time
# constant, 176 to 182 ms in the isolated canine ventricle (Yue et al. 1985).
# Where they begin and how much is gained were chosen.
RESTITUTION_S = 0.18
REFRACTORY_S = 0.22
POTENTIATION = 0.8
UNSTRESSED_SHARE = 0.5  # see run_cycles
FILLING_S = 0.2  # chosen: three quarters of early filling within 0.28 s
ECTOPIC_STRENGTH = 0.85  # chosen: contraction out of step is weaker

# With left bundle branch block ejection begins 40 ms later (pre-ejection
# contraction 60 ms longer, electromechanical delay 20 ms shorter), lasts as
# long, and relaxation takes 50 ms more: Xiao et al. 1991, Br Heart J 66:443.
# Ectopic beats out of the right ventricle are taken to do the same.
BLOCK_DELAY_S = 0.04
BLOCK_SLOWING_S = 0.05


@dataclasses.dataclass(frozen=True)
class Pattern:
  """The law that draws one beat after another.

  Attributes:
    rhythm: one of `RHYTHMS`.
    mean_s: mean interval of the pacemaker.
    every: every how many beats one is ectopic, 0 for never.
    first: number of an ectopic beat, counted from the run's first.
    coupling_s: from a sinus beat to the ectopic beat that follows it.
  """

  rhythm: str
  mean_s: float
  every: int = 0
  first: int = 0
  coupling_s: float = 0.0

  def kind(self, number: int) -> str:
    """Kind of beat `number`: sinus, ectopic, fibrillation or block."""
    if self.every and (number - self.first) % self.every == 0:
      return "ectopic"
    return self.usual

  @property
  def usual(self) -> str:
    """Kind of the beats that are not ectopic."""
    return _USUAL_KIND.get(self.rhythm, "sinus")


@dataclasses.dataclass(frozen=True)
class Beats:
  """A run of beats, from before the first frame to past the last.

  Attributes:
    pattern: what the run was drawn from.
    r_wave_ms: R waves from the first frame; the first lies before it.
    kind: sinus, ectopic, fibrillation or block.
    before_ms: the interval that ends in this R wave, and the one before that.
    filling: passive filling before this beat over that of a regular beat.
    contractility: end-systolic elastance over that of a regular beat.
  """

  pattern: Pattern
  r_wave_ms: Float[np.ndarray, "r"]
  kind: tuple[str, ...]
  before_ms: Float[np.ndarray, "r 2"]
  filling: Float[np.ndarray, "r"]
  contractility: Float[np.ndarray, "r"]

  @property
  def rhythm(self) -> str:
    """One of `RHYTHMS`."""
    return self.pattern.rhythm

  @property
  def atrial(self) -> Bool[np.ndarray, "r"]:
    """Whether an atrial contraction precedes the beat."""
    # the sinus beat that an ectopic one forestalls never reaches the ventricle
    return np.array([kind in ("sinus", "block") for kind in self.kind])


def draw_beats(
  rng: np.random.Generator,
  rhythm: str,
  heart_rate_bpm: float,
  duration_s: float | int,
) -> Beats:
  """A run of beats that covers a recording of `duration_s`.

  Sinus rhythm and left bundle branch block have the R waves of
  `electrics.draw_r_waves`.  Elsewhere, too, a whole beat lies within the
  recording if the two intervals at its beginning leave room for one.

  Raises:
    ValueError: no such rhythm, or atrial fibrillation too fast to keep its
      variation above the shortest interval.
  """
  if rhythm not in RHYTHMS:
    raise ValueError(f"rhythm {rhythm!r} is none of {', '.join(RHYTHMS)}")
  mean_s = 60 / heart_rate_bpm
  # above it, the gamma law has its peak at the shortest interval itself
  fastest = 60 * (1 - FIBRILLATION_CV) / SHORTEST_RR_S
  if rhythm == "atrial_fibrillation" and heart_rate_bpm > fastest:
    raise ValueError(
      f"atrial_fibrillation at {heart_rate_bpm:g} bpm leaves no room above the "
      f"shortest interval, {1000 * SHORTEST_RR_S:g} ms; ask for a "
      f"heart_rate_bpm of at most {math.floor(fastest)}"
    )
  if rhythm in STEADY:
    r_wave_ms = electrics.draw_r_waves(rng, heart_rate_bpm, duration_s)
    regular = np.full((1, 2), 1000 * mean_s)
    return _describe(Pattern(rhythm, mean_s), r_wave_ms, regular)
  pattern = _draw_pattern(rng, rhythm, mean_s)
  intervals = [pattern.coupling_s]  # asked for only where it was one
  for number in range(-1, 3):
    intervals.append(_draw_interval_s(rng, pattern, number, intervals[-1]))
  _, before_that, before, into, whole = intervals
  room = max(duration_s - whole - electrics.FRAME_S, 0.05 * mean_s)
  start = rng.uniform(0, min(into, room))
  waves = 1000 * (start + np.array([-into, 0.0, whole]))
  known = 1000 * np.array([[before, before_that]])
  return continue_beats(rng, _describe(pattern, waves, known), duration_s)


def continue_beats(
  rng: np.random.Generator, beats: Beats, duration_s: float | int
) -> Beats:
  """The same run, with more beats until it covers `duration_s`."""
  waves = (beats.r_wave_ms / 1000).tolist()
  while waves[-1] <= duration_s:
    last = waves[-1] - waves[-2]
    step = _draw_interval_s(rng, beats.pattern, len(waves), last)
    waves.append(waves[-1] + step)
  more = 1000 * np.array(waves[len(beats.r_wave_ms) :])
  r_wave_ms = np.concatenate([beats.r_wave_ms, more])
  return _describe(beats.pattern, r_wave_ms, beats.before_ms[:1])


def _draw_pattern(rng, rhythm: str, mean_s: float) -> Pattern:
  """Which beats are ectopic and how early, where any are.

  Every second (bigeminy) to sixth beat, by one focus, so with one coupling
  interval; both ranges were chosen.
  """
  if rhythm == "atrial_fibrillation":
    return Pattern(rhythm, mean_s)
  every = int(rng.integers(2, 7))
  coupling = max(rng.uniform(0.52, 0.7) * mean_s, min(0.42, 0.8 * mean_s))
  return Pattern(rhythm, mean_s, every, int(rng.integers(every)), coupling)


def _draw_interval_s(rng, pattern: Pattern, number: int, last_s: float):
  """The interval that ends in beat `number`; `last_s` is the one before."""
  mean = pattern.mean_s
  if pattern.rhythm == "atrial_fibrillation":
    floor = max(FIBRILLATION_FLOOR * mean, SHORTEST_RR_S)
    shape = ((mean - floor) / (FIBRILLATION_CV * mean)) ** 2
    return floor + rng.gamma(shape, (mean - floor) / shape)
  spread = electrics.RATE_SPREAD * mean * np.clip(rng.normal(), -2.5, 2.5)
  if pattern.kind(number) == "ectopic":
    return pattern.coupling_s + 0.5 * spread
  if pattern.kind(number - 1) == "ectopic":
    # the sinus node goes on meanwhile: a fully compensatory pause
    return 2 * mean - last_s + spread
  return mean + spread


def _describe(pattern: Pattern, r_wave_ms, first_ms) -> Beats:
  """All that follows from the R waves and the two intervals before them."""
  count = len(r_wave_ms)
  kinds = tuple(pattern.kind(number) for number in range(count))
  steps = np.concatenate([first_ms[0, ::-1], np.diff(r_wave_ms)])
  before_ms = np.stack([steps[1:], steps[:-1]], axis=-1)
  filling, contractility = np.ones(count), np.ones(count)
  if pattern.rhythm not in STEADY:
    before_s = before_ms / 1000
    for i in range(count):
      kind = pattern.kind(i - 1)
      filling[i] = filling_after(*before_s[i], pattern.mean_s, kind)
    contractility = strength_after(*before_s.T, pattern.mean_s)
    ectopic = np.array([kind == "ectopic" for kind in kinds])
    contractility = np.where(ectopic, ECTOPIC_STRENGTH, 1) * contractility
  return Beats(pattern, r_wave_ms, kinds, before_ms, filling, contractility)


def make_phases(
  rr_s: float, before_s: float | None, kind: str
) -> electrics.Beat:
  """Phases of a beat of one kind; `before_s` is None in a steady rhythm."""
  late = kind in ("block", "ectopic")
  return electrics.make_beat(
    rr_s, before_s, late * BLOCK_DELAY_S, late * BLOCK_SLOWING_S
  )


def filling_after(
  rr_s: float, before_s: float, mean_s: float, kind: str = "sinus"
) -> float:
  """Passive filling in the diastole of a beat over that of a regular beat.

  Filling approaches its end exponentially; where diastole is short anyway,
  half of it is the time constant (chosen).

  Args:
    rr_s, before_s: length of the beat that the diastole belongs to, and of
      the one before.
    mean_s: regular interval, at which the result is 1.
    kind: of that beat.
  """
  regular = make_phases(mean_s, mean_s, "sinus")
  usual = mean_s - regular.mitral_opening_s
  constant = min(FILLING_S, usual / 2)
  time = rr_s - make_phases(rr_s, before_s, kind).mitral_opening_s
  return math.expm1(-max(time, 0.0) / constant) / math.expm1(-usual / constant)


def strength_after(before_s, before_that_s, mean_s: float):
  """Contractility over that of a regular beat, as in Yue et al. 1985.

  Args:
    before_s: the interval before the beat: restitution.
    before_that_s: the interval before that: potentiation.
    mean_s: regular interval, at which the result is 1.
  """

  def strength(near, far):
    near, far = (
      np.exp(-np.maximum(t - REFRACTORY_S, 0) / RESTITUTION_S)
      for t in (near, far)
    )
    return (1 - near) * (1 + POTENTIATION * far)

  return strength(before_s, before_that_s) / strength(mean_s, mean_s)


@dataclasses.dataclass(frozen=True)
class Cycle:
  """What the left ventricle does from one R wave to the next.

  `ejected` counts from 0 at the end-diastole of a regular beat to 1 at its
  end-systole; a beat that has filled more begins below 0.

  Attributes:
    phases: moments of the beat.
    start, peak, end: `ejected` at this R wave, at end-systole and at the next.
    early_share: share of the filling in between that is passive.
    atrial: whether an atrial contraction ends it.
  """

  phases: electrics.Beat
  start: float
  peak: float
  end: float
  early_share: float
  atrial: bool


def run_cycles(
  beats: Beats, ef_pct: float, early_filling_share: float
) -> tuple[Cycle, ...]:
  """The ventricle's volume over a run of beats, one cycle an R-R interval.

  End-systolic elastance E against arterial elastance A ejects the share
  F = E / (E + A) of what is there above the volume at zero pressure, taken to
  be half of the regular end-systolic volume (Sunagawa et al. 1983; the half
  was chosen).  So a contractility c turns F into c F / (1 - F + c F), and a
  fuller ventricle ejects more (Frank-Starling).  A diastole of regular length
  fills to the regular volume whatever was left; a shorter one fills a smaller
  share of what is missing, and without atrial contraction its part is lacking.
  In atrial fibrillation the regular beat has none, and nothing lacks.

  Args:
    beats: the run.
    ef_pct: of a regular beat.
    early_filling_share: of a regular beat's filling, where atria contract.
  """
  waves, before = beats.r_wave_ms.tolist(), (beats.before_ms / 1000).tolist()
  steady = beats.rhythm in STEADY
  spans = [(b - a) / 1000 for a, b in zip(waves[:-1], waves[1:], strict=True)]
  phases = [
    make_phases(span, None if steady else before[i][0], beats.kind[i])
    for i, span in enumerate(spans)
  ]
  if steady:
    return tuple(
      Cycle(p, 0.0, 1.0, 0.0, early_filling_share, True) for p in phases
    )
  # counted in regular stroke volumes above the regular end-systolic volume,
  # of which this much lies above the volume at zero pressure
  rest = (1 - UNSTRESSED_SHARE) * (100 / ef_pct - 1)
  fraction = 1 / (1 + rest)
  fibrillates = beats.rhythm == "atrial_fibrillation"
  early = 1.0 if fibrillates else early_filling_share
  kicks = ((1 - early) * beats.atrial).tolist()
  filling, strength = beats.filling.tolist(), beats.contractility.tolist()
  top = filling[0] * early + kicks[0]
  cycles = []
  for i, phase in enumerate(phases):
    c = strength[i] * fraction
    left = (top + rest) * (1 - fraction) / (1 - fraction + c) - rest
    passive = filling[i + 1] * (early - left)
    kick = kicks[i + 1]
    share = passive / (passive + kick)
    start, top = top, left + passive + kick
    cycles.append(Cycle(phase, 1 - start, 1 - left, 1 - top, share, kick > 0))
  return tuple(cycles)


def ejected_at(cycle: Cycle, since_r_s: float) -> float:
  """`ejected` at a time since the R wave; volume = EDV (1 - EF ejected)."""
  share = electrics.ejected_share(cycle.phases, since_r_s, cycle.early_share)
  filling = since_r_s >= cycle.phases.mitral_opening_s
  base = cycle.end if filling else cycle.start
  return base + (cycle.peak - base) * share


def valve_opening(cycle: Cycle, since_r_s: float) -> float:
  """Opening of the atrioventricular valves, 0 closed to 1 wide."""
  return electrics.valve_opening(cycle.phases, since_r_s, cycle.atrial)


def beat_volumes_ml(
  cycles: tuple[Cycle, ...], edv_ml: float, ef_pct: float
) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "r"]]:
  """End-diastolic and end-systolic volume of every beat.

  Args:
    cycles: the run.
    edv_ml, ef_pct: of a regular beat.
  """
  ends = np.array([(cycle.start, cycle.peak) for cycle in cycles])
  volumes = edv_ml * (1 - ef_pct / 100 * ends.reshape(-1, 2))
  return volumes[:, 0], volumes[:, 1]


def complete_beats(beats: Beats, end_ms: float) -> Int[np.ndarray, "complete"]:
  """Numbers of the beats of which both R waves lie in a recording."""
  inside = (beats.r_wave_ms >= 0) & (beats.r_wave_ms <= end_ms)
  return np.flatnonzero(inside[:-1] & inside[1:])


def typical_beats(
  beats: Beats, numbers: Int[np.ndarray, "complete"]
) -> Bool[np.ndarray, "complete"]:
  """Which of some beats volumes and EF are read from.

  Neither an ectopic beat, which fills less, nor the one after it, which is
  stronger.  Chosen: that is what "regular beats" can mean here.
  """
  kind = beats.pattern.kind
  return np.array(
    ["ectopic" not in (kind(n), kind(n - 1)) for n in numbers.tolist()], bool
  )


def too_few_beats(rhythm: str, complete: int, typical: int) -> str:
  """What to say of an EF from so few complete beats; empty if enough.

  Atrial fibrillation wants at least five (ASE/EACVI 2015, Lang et al.).

  Args:
    rhythm: one of `RHYTHMS`.
    complete: how many complete beats there are.
    typical: how many of them volumes are read from.
  """
  if complete and not typical:
    return "every complete beat is ectopic or follows an ectopic one; no EF"
  wanted = FULL_BEATS.get(rhythm, 1)
  if complete >= wanted:
    return ""
  if not complete:
    return "no complete beat in the recording"
  beats = "one complete beat" if complete == 1 else f"{complete} complete beats"
  return f"EF of {beats}; {rhythm} wants at least {wanted}"
