"""Blood flow of a beat: what the volume curve pushes through the valves.

There is one model of the beat, the cycles of `rhythm` and the wall of
`motion`, which the cine shows too; every curve here is its derivative.  A
sample of a flow is the mean over its step, so that summing samples gives back
the volume exactly.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from echo_jax import units
from echo_jax.simulate import electrics, heart, motion, rhythm

# A healthy valve opens to this share of the outflow tract (chosen: a jet of
# 1.1 m/s at 0.9 m/s before the valve), and never counts as stenotic: in a
# narrow tract it opens to this area, or as far as the tract is wide.
HEALTHY_AORTIC_SHARE, HEALTHY_AORTIC_CM2 = 0.8, 2.05
# Adult bodies, all that a cohort draws; below, the tract is under 2 cm2 wide.
BSA_RANGE_M2 = (1.18, 3.2)
# Normal mitral area is 4 to 5 cm2 (Baumgartner et al. 2009); 4 at 1.9 m2.
MITRAL_CM2_PER_M2 = 2.1
LEAST_WAVE_CM_S = 0.5  # a slower wave cannot be seen, so it is absent


@dataclasses.dataclass(frozen=True)
class Valves:
  """Openings that turn flow into velocity, and what leaks.

  Attributes:
    aortic_area_cm2: effective orifice area of the aortic valve, 0.3 to 5.
    outflow_mm: diameter of the left ventricular outflow tract.
    mitral_area_cm2: effective area of the mitral valve in diastole.
    regurgitant_ml: mitral regurgitation of one regular beat; 0 in health.
  """

  aortic_area_cm2: float
  outflow_mm: float
  mitral_area_cm2: float
  regurgitant_ml: float = 0.0

  @property
  def outflow_area_cm2(self) -> float:
    """Cross-section of the outflow tract, taken as a circle."""
    return math.pi * float(units.cm_from_mm(self.outflow_mm)) ** 2 / 4


def healthy_valves(bsa_m2: float) -> Valves:
  """Valves of a healthy adult heart in a body of surface `bsa_m2`.

  Raises:
    ValueError: a surface outside `BSA_RANGE_M2`.
  """
  low, high = BSA_RANGE_M2
  if not low <= bsa_m2 <= high:
    raise ValueError(
      f"bsa_m2 is {bsa_m2:g} m2; healthy valves are known from {low:g} to "
      f"{high:g} m2; for others name the openings with Valves"
    )
  valves = Valves(
    aortic_area_cm2=HEALTHY_AORTIC_CM2,
    outflow_mm=heart.outflow_tract_mm(bsa_m2),
    mitral_area_cm2=MITRAL_CM2_PER_M2 * bsa_m2,
  )
  tract = valves.outflow_area_cm2
  area = min(max(HEALTHY_AORTIC_SHARE * tract, HEALTHY_AORTIC_CM2), tract)
  return dataclasses.replace(valves, aortic_area_cm2=area)


@dataclasses.dataclass(frozen=True)
class BeatFlow:
  """Curves of one beat at equal steps.  Axis: s sample, one a step.

  Attributes:
    beat: phases of the beat.
    atrial: whether an atrial contraction ends it.
    step_s: length of a step; steps fill the beat.
    time_s: middle of each step, after the R wave.
    aortic_ml_s: flow into the aorta, never below 0.
    regurgitant_ml_s: flow back into the atrium, never below 0.
    filling_ml_s: flow through the open mitral valve, never below 0.
    outflow_cm_s, jet_cm_s, inflow_cm_s: speed in the outflow tract, in the
      aortic valve's jet and at the mitral tips, never below 0.
    annulus_cm_s: velocity of the mitral annulus towards the apex; below 0 in
      diastole.
  """

  beat: electrics.Beat
  atrial: bool
  step_s: float
  time_s: Float[np.ndarray, "s"]
  aortic_ml_s: Float[np.ndarray, "s"]
  regurgitant_ml_s: Float[np.ndarray, "s"]
  filling_ml_s: Float[np.ndarray, "s"]
  outflow_cm_s: Float[np.ndarray, "s"]
  jet_cm_s: Float[np.ndarray, "s"]
  inflow_cm_s: Float[np.ndarray, "s"]
  annulus_cm_s: Float[np.ndarray, "s"]


def _check(valves: Valves, stroke_ml: float) -> None:
  for name in ("aortic_area_cm2", "outflow_mm", "mitral_area_cm2"):
    value = getattr(valves, name)
    if not value > 0:
      raise ValueError(f"{name} is {value:g}; a valve opens to more than 0")
  # a jet is never slower than the stream that feeds it
  if valves.aortic_area_cm2 > valves.outflow_area_cm2:
    raise ValueError(
      f"aortic_area_cm2 is {valves.aortic_area_cm2:.2f}, more than the outflow "
      f"tract's {valves.outflow_area_cm2:.2f} cm2; widen outflow_mm"
    )
  if not 0 <= valves.regurgitant_ml < stroke_ml:
    raise ValueError(
      f"regurgitant_ml is {valves.regurgitant_ml:.1f} ml; it must lie from 0 "
      f"to below the {stroke_ml:.1f} ml that the ventricle ejects"
    )


def sample_beat(
  ventricle: heart.Ventricle,
  valves: Valves,
  cycle: rhythm.Cycle,
  step_s: float = 0.004,
) -> BeatFlow:
  """Flows and velocities of one beat.

  Of what leaves the ventricle, regurgitation takes the same share in every
  beat and at every moment of ejection (chosen; true regurgitation also fills
  the isovolumic phases, in which this heart's volume stands still).

  Args:
    ventricle: the heart of the study.
    valves: its valves.
    cycle: what the ventricle does in this beat, from `rhythm.run_cycles`.
    step_s: wanted length of a step; a whole number of steps fills the beat.

  Raises:
    ValueError: an opening of 0, an aortic valve wider than the outflow tract,
      more regurgitation than stroke volume, or segments that cannot bring
      about the EF.
  """
  state, beat = ventricle.state, cycle.phases
  stroke_ml = state.edv_ml - state.esv_ml
  _check(valves, stroke_ml)
  count = max(2, math.ceil(beat.rr_s / step_s - 1e-9))
  step = beat.rr_s / count
  moments = np.linspace(0, beat.rr_s, count + 1).tolist()
  edges = np.array([rhythm.ejected_at(cycle, moment) for moment in moments])
  # the long axis shortens in proportion to what is ejected
  empty = motion.moment_at(
    motion.build_wall(ventricle), heart.pose_at(ventricle, 1.0)
  )
  rise_mm = (ventricle.length_mm - empty.length_mm) * edges
  volume = state.edv_ml * (1 - state.ef_pct / 100 * edges)
  leaving = -np.diff(volume) / step
  time = (np.arange(count) + 0.5) * step
  ejection, filling = np.maximum(leaving, 0), np.maximum(-leaving, 0)
  leak = valves.regurgitant_ml / stroke_ml
  aortic = (1 - leak) * ejection
  return BeatFlow(
    beat=beat,
    atrial=cycle.atrial,
    step_s=step,
    time_s=time,
    aortic_ml_s=aortic,
    regurgitant_ml_s=leak * ejection,
    filling_ml_s=filling,
    outflow_cm_s=aortic / valves.outflow_area_cm2,
    jet_cm_s=aortic / valves.aortic_area_cm2,
    inflow_cm_s=filling / valves.mitral_area_cm2,
    annulus_cm_s=np.asarray(units.cm_from_mm(np.diff(rise_mm))) / step,
  )


def sample_beats(
  ventricle: heart.Ventricle,
  valves: Valves,
  beats: rhythm.Beats,
  step_s: float = 0.004,
) -> tuple[BeatFlow, ...]:
  """Every beat between two R waves of a run, as in a cine of that run.

  Raises:
    ValueError: beats of another rhythm than the heart's, or as `sample_beat`.
  """
  state = ventricle.state
  if beats.rhythm != state.rhythm:
    raise ValueError(
      f"beats in {beats.rhythm} for a heart in {state.rhythm}; draw them with "
      "rhythm.draw_beats for the heart's own rhythm"
    )
  cycles = rhythm.run_cycles(beats, state.ef_pct, state.early_filling_share)
  return tuple(
    sample_beat(ventricle, valves, cycle, step_s) for cycle in cycles
  )


def pressure_mmhg(velocity_cm_s):
  """Pressure drop over a valve, 4 v^2 with v in m/s: modified Bernoulli.

  The velocity before the valve is left out, as the guideline does below
  1.5 m/s (Baumgartner et al. 2017).
  """
  return 4 * units.m_from_cm(velocity_cm_s) ** 2


@dataclasses.dataclass(frozen=True)
class BeatMeasures:
  """What a sonographer measures on the curves of one beat.

  Attributes:
    stroke_ml: EDV - ESV of this beat.
    forward_ml: what reaches the aorta: stroke less regurgitant volume.
    regurgitant_ml, regurgitant_pct: volume, and its share of the stroke.
    ejection_ms: from opening to closing of the aortic valve.
    outflow_peak_cm_s, outflow_vti_cm: outflow tract; the velocity-time
      integral (VTI) is the distance that blood travels.
    aortic_peak_cm_s, aortic_vti_cm: jet of the aortic valve.
    aortic_peak_mmhg: 4 v^2 at the peak.
    aortic_mean_mmhg: mean of 4 v^2 over ejection.
    e_cm_s, a_cm_s: early and late mitral inflow; NaN without such a wave.
    deceleration_ms: from the peak of E to zero along the line from the peak
      through the moment at which half of it is left (that line is chosen).
    s_prime_cm_s, e_prime_cm_s, a_prime_cm_s: speed of the mitral annulus in
      systole, early and late diastole; NaN without such a wave.
  """

  stroke_ml: float
  forward_ml: float
  regurgitant_ml: float
  regurgitant_pct: float
  ejection_ms: float
  outflow_peak_cm_s: float
  outflow_vti_cm: float
  aortic_peak_cm_s: float
  aortic_vti_cm: float
  aortic_peak_mmhg: float
  aortic_mean_mmhg: float
  e_cm_s: float
  a_cm_s: float
  deceleration_ms: float
  s_prime_cm_s: float
  e_prime_cm_s: float
  a_prime_cm_s: float


def _peak(curve: np.ndarray, where: np.ndarray) -> float:
  """Largest value where the phase is; NaN if there is no wave in it."""
  peak = float(curve[where].max(initial=0.0))
  return peak if peak > LEAST_WAVE_CM_S else math.nan


def _deceleration_ms(flow: BeatFlow, early: np.ndarray) -> float:
  """Time in which E, falling as in its upper half, would reach zero."""
  speed = np.where(early, flow.inflow_cm_s, 0)
  top = int(np.argmax(speed))
  if not speed[top] > LEAST_WAVE_CM_S:
    return math.nan
  before, after = speed[top - 1], speed[top + 1]
  bend = before - 2 * speed[top] + after
  summit = top + 0.5 * (before - after) / bend  # of the parabola through them
  below = top + int(np.argmax(speed[top:] <= speed[top] / 2))
  high, low = speed[below - 1], speed[below]
  half = below - 1 + (high - speed[top] / 2) / (high - low)
  return 2 * float(units.ms_from_s((half - summit) * flow.step_s))


def measure_beat(flow: BeatFlow) -> BeatMeasures:
  """Measures the true curves of one beat."""
  step, beat = flow.step_s, flow.beat
  late = flow.atrial & (flow.time_s >= beat.atrial_start_s)
  early = (flow.time_s >= beat.mitral_opening_s) & ~late
  ejection_s = beat.ejection_end_s - beat.ejection_start_s
  forward = float(flow.aortic_ml_s.sum() * step)
  regurgitant = float(flow.regurgitant_ml_s.sum() * step)
  stroke = forward + regurgitant
  jet, back = flow.jet_cm_s, -flow.annulus_cm_s
  drop = pressure_mmhg(jet)
  return BeatMeasures(
    stroke_ml=stroke,
    forward_ml=forward,
    regurgitant_ml=regurgitant,
    regurgitant_pct=100 * regurgitant / stroke,
    ejection_ms=float(units.ms_from_s(ejection_s)),
    outflow_peak_cm_s=float(flow.outflow_cm_s.max()),
    outflow_vti_cm=float(flow.outflow_cm_s.sum() * step),
    aortic_peak_cm_s=float(jet.max()),
    aortic_vti_cm=float(jet.sum() * step),
    aortic_peak_mmhg=float(drop.max()),
    aortic_mean_mmhg=float(drop.sum() * step / ejection_s),
    e_cm_s=_peak(flow.inflow_cm_s, early),
    a_cm_s=_peak(flow.inflow_cm_s, late),
    deceleration_ms=_deceleration_ms(flow, early),
    s_prime_cm_s=_peak(flow.annulus_cm_s, ~early & ~late),
    e_prime_cm_s=_peak(back, early),
    a_prime_cm_s=_peak(back, late),
  )


def average_measures(measures: Sequence[BeatMeasures]) -> BeatMeasures:
  """Mean over beats; a wave that one beat lacks is averaged over the others.

  Raises:
    ValueError: no beat.
  """
  if not measures:
    raise ValueError("no beat to average; measure at least one")
  means = {}
  for field in dataclasses.fields(BeatMeasures):
    values = np.array([getattr(m, field.name) for m in measures])
    known = values[~np.isnan(values)]
    means[field.name] = float(known.mean()) if known.size else math.nan
  return BeatMeasures(**means)
