"""The cohort "referral": patients of an echo laboratory, from risk to heart.

Risk -> disease -> severity on the day -> valves, walls, volumes, segments,
rhythm -> what is seen, heard and written down.  Healthy volumes lie between
those of 3-D echo and of magnetic resonance, so that stroke volumes are those
of Doppler (about 42 ml/m2), which 2-D volumes are not.  Numbers are chosen
unless a source stands beside them.
"""

import dataclasses
import math

import numpy as np

from echo_jax.simulate import disease as illness
from echo_jax.simulate import flow, heart, motion, records, segments
from echo_jax.simulate.condition import Condition, Switches
from echo_jax.simulate.heart import Anatomy, HeartState
from echo_jax.simulate.person import (
  ANATOMY,
  BASELINE,
  DEVICE,
  EDV_RANGE_ML,
  EF_RANGE_PCT,
  FUNCTION,
  HEART_RATE_RANGE_BPM,
  SITES,
  WINDOW,
  Patient,
  Study,
  clipped_normal,
  draw_body,
  draw_window,
  make_rng,
)
from echo_jax.simulate.scanner import DEVICES, Device

VALVE, ISCHAEMIA, BEAT, EVENT = 33, 34, 35, 36  # streams
EDV_INDEX_ML_M2 = {"M": 69.0, "F": 63.0}
# A strong beat after a pause ejects more than a regular one.
STRONG_BEAT = {"atrial_fibrillation": 1.35, "ventricular_ectopy": 1.3}
LBBB_EF_LOSS_PCT = 6.0


@dataclasses.dataclass(frozen=True)
class Effect:
  """What a disease of severity 1 does; a milder one does its share.

  Attributes:
    ef_pct, rate_bpm, wall_mm, atrium_mm, right_mm, sphericity: added.
    edv, right_motion, voltage: share added.
    long_axis, early: added to the shares of HeartState.
  """

  ef_pct: float = 0.0
  edv: float = 0.0
  rate_bpm: float = 0.0
  wall_mm: float = 0.0
  sphericity: float = 0.0
  atrium_mm: float = 0.0
  right_mm: float = 0.0
  right_motion: float = 0.0
  long_axis: float = 0.0
  early: float = 0.0
  voltage: float = 0.0


# Ischaemia acts through segments, valves through their load.
EFFECTS = {
  "none": Effect(),
  "dilated": Effect(
    ef_pct=-42.0, edv=0.95, rate_bpm=16.0, wall_mm=-1.0, sphericity=-0.28,
    atrium_mm=8.0, right_mm=5.0, right_motion=-0.5, long_axis=-0.04, early=0.12,
  ),
  "hypertrophic": Effect(
    ef_pct=5.0, edv=-0.12, wall_mm=8.5, atrium_mm=6.0, long_axis=-0.08,
    early=-0.15, voltage=0.45,
  ),
  # thick, stiff, small, with low voltage: transthyretin and light chains
  "infiltrative": Effect(
    ef_pct=-14.0, edv=-0.2, rate_bpm=12.0, wall_mm=7.5, atrium_mm=9.0,
    right_motion=-0.35, long_axis=-0.13, early=0.2, voltage=-0.55,
  ),
  "ischaemic": Effect(
    edv=0.35, rate_bpm=6.0, sphericity=-0.1, atrium_mm=4.0, early=-0.1,
  ),
  "valvular": Effect(),
}  # fmt: skip


def draw_referred_patient(seed: int, patient: int) -> Patient:
  """A person and the heart it would have without disease."""
  body = draw_body(seed, patient)
  rng = make_rng(seed, patient, 0, BASELINE)
  size = float(np.exp(rng.normal(0, 0.12)))
  return Patient(
    seed=seed,
    patient=patient,
    cohort="referral",
    anatomy=_draw_anatomy(seed, patient, body),
    ef_pct=clipped_normal(rng, 62.0, 3.5, 54.0, 72.0),
    edv_ml=EDV_INDEX_ML_M2[body["sex"]] * body["bsa_m2"] * size,
    heart_rate_bpm=clipped_normal(rng, 68.0, 9.0, 48.0, 100.0),
    **body,
  )


def _draw_anatomy(seed: int, patient: int, body: dict) -> Anatomy:
  rng = make_rng(seed, patient, 0, ANATOMY)
  male, bsa = body["sex"] == "M", body["bsa_m2"]
  wide = math.sqrt(bsa / 1.9)
  return Anatomy(
    sphericity=float(rng.uniform(1.65, 2.05)),
    truncation=float(rng.uniform(1.45, 1.65)),
    taper=float(rng.uniform(-0.15, 0.25)),
    depth_aspect=float(rng.uniform(0.92, 1.08)),
    bend_share=float(rng.uniform(-0.02, 0.05)),
    wall_mm=clipped_normal(rng, 9.0 if male else 8.2, 0.8, 6.8, 11.0),
    basal_tether=float(rng.uniform(0.25, 0.45)),
    rv_width_mm=float(rng.uniform(25, 35)) * wide,
    rv_apex_u=float(rng.uniform(0.2, 0.4)),
    la_length_mm=float(rng.uniform(37, 46)) * wide,
    la_width_mm=float(rng.uniform(34, 41)) * wide,
    ra_length_mm=float(rng.uniform(34, 44)) * wide,
    ra_width_mm=float(rng.uniform(32, 40)) * wide,
    atrial_wobble=tuple(rng.uniform(0.03, 0.1, size=4).tolist()),
    # Leye et al. 2009; not shrunk, as volumes are not those of 2-D echo
    outflow_mm=5.7 * bsa + 12.1,
  )


def draw_referred_study(
  seed: int, patient: int, study: int, switches: Switches
) -> Study:
  """Study number `study` of a referred patient."""
  person = draw_referred_patient(seed, patient)
  body = {name: getattr(person, name) for name in _BODY}
  background = illness.draw_background(seed, patient, body)
  disease = illness.draw_disease(seed, patient, body, background)
  moment = illness.follow_course(seed, patient, disease, study)
  valves = _draw_valves(person, disease, moment)
  functions = _draw_segments(person, disease, moment)
  state = _draw_heart(person, study, disease, moment, valves, functions)
  scar = _scar_pct(disease, moment, state.segment_functions)
  sick = disease != "none"
  wobble = make_rng(seed, patient, study, WINDOW, 1).normal(0, 0.08)
  worse = switches.quality_loss
  worse += 0.3 * switches.site_shift * (person.site == SITES[2])
  quality = float(np.clip(person.quality + wobble - worse, 0, 1))
  made = Study(
    patient=person,
    study=study,
    heart=state,
    device=_draw_device(person, study, sick, switches),
    window=draw_window(person, study, quality),
    quality=quality,
    condition=Condition(
      disease=disease,
      severity=moment.severity,
      day=float(round(moment.years * illness.DAYS_PER_YEAR)),
      treated=moment.treated,
      valves=valves,
      scar_pct=scar,
      event_2y=_draw_event(person, study, state, scar, background),
      record={},
      genes={},
      spectra=(),
      has_ecg=True,
    ),
  )
  known = records.write_down(made, background)
  condition = dataclasses.replace(made.condition, **known)
  return dataclasses.replace(made, condition=condition)


_BODY = (
  "sex", "age_years", "height_cm", "weight_kg", "bsa_m2", "site", "quality",
)  # fmt: skip


def _draw_valves(person: Patient, disease: str, moment) -> flow.Valves:
  """Aortic stenosis and mitral regurgitation of one regular beat.

  A valvular patient has stenosis (0.6), regurgitation (0.3) or both.  Failing
  dilated hearts leak too, in proportion to their severity.
  """
  rng = make_rng(person.seed, person.patient, 0, VALVE)
  which, leak, spare = rng.random(3).tolist()
  narrow = disease == "valvular" and (which < 0.6 or which > 0.9)
  leaky = disease == "valvular" and which > 0.6
  area = illness.aortic_area_cm2(rng, narrow, moment.years, person.age_years)
  healthy = flow.healthy_valves(person.bsa_m2)
  tract = dataclasses.replace(healthy, outflow_mm=person.anatomy.outflow_mm)
  usual = flow.HEALTHY_AORTIC_SHARE * tract.outflow_area_cm2
  back = (15 + 70 * leak) * (0.5 + 0.5 * moment.severity) * leaky
  if disease == "dilated" and spare < 0.7:
    back = 35 * leak * moment.severity
  if disease == "none" and spare < 0.1:
    back = 8 * leak
  return dataclasses.replace(
    tract, aortic_area_cm2=min(area, usual), regurgitant_ml=back
  )


def _draw_segments(person: Patient, disease: str, moment) -> tuple[str, ...]:
  """What coronary disease did: one to three territories, patchily."""
  if disease != "ischaemic":
    return ()
  rng = make_rng(person.seed, person.patient, 0, ISCHAEMIA)
  arteries = rng.permutation(["LAD", "RCA", "LCx"])
  order, word = rng.random(17), rng.random(17)
  many = 1 + (moment.severity > 0.55) + (moment.severity > 0.85)
  changed = {}
  for artery in arteries[:many]:
    for number in segments.territory_numbers(str(artery)):
      if order[number - 1] < 0.4 + 0.4 * moment.severity:
        place = word[number - 1] - 0.25 * (moment.severity - 0.5)
        kind = ("dyskinetic", "akinetic", "hypokinetic")
        changed[number] = kind[int(place > 0.04) + int(place > 0.45)]
  return segments.describe_function(changed)


def _load(valves: flow.Valves) -> float:
  """Pressure load of the aortic valve: 0 at 1.5 cm2 and more, 1 at 0.6."""
  return min(max((1.5 - valves.aortic_area_cm2) / 0.9, 0.0), 1.2)


def _draw_heart(
  person: Patient, study: int, disease: str, moment, valves: flow.Valves,
  functions: tuple[str, ...],
) -> HeartState:  # fmt: skip
  """Shape and function of the day."""
  rng = make_rng(person.seed, person.patient, study, FUNCTION)
  effect, severe = EFFECTS[disease], moment.severity
  load = _load(valves)
  back = valves.regurgitant_ml
  ef = person.ef_pct + effect.ef_pct * severe + rng.normal(0, 2)
  ef -= 14 * max(load - 0.7, 0) / 0.5 * rng.random()  # a late, failing heart
  if functions:
    factor = np.mean([segments.FUNCTIONS[word] for word in functions])
    ef *= 0.2 + 0.8 * factor
  edv = person.edv_ml * (1 + effect.edv * severe)
  edv *= float(np.exp(rng.normal(0, 0.04)))
  # what leaks is ejected in addition, out of a larger ventricle
  stroke, edv = edv * ef / 100 + back, edv + 1.25 * back
  ef = float(np.clip(100 * stroke / edv, *EF_RANGE_PCT))
  edv = float(np.clip(edv, *EDV_RANGE_ML))
  failing = max(0.0, 50 - ef) / 40
  kind, rate = _draw_rhythm(person, study, disease, moment, back, failing)
  rate += effect.rate_bpm * severe
  if kind == "left_bundle_branch_block":
    ef = max(ef - LBBB_EF_LOSS_PCT, EF_RANGE_PCT[0])
  if kind == "atrial_fibrillation":
    rate = min(max(rate + 12, 60.0), 115.0)
  strain = max(effect.long_axis * severe - 0.05 * load, -0.14)
  early = rng.uniform(0.55, 0.75) + effect.early * severe - 0.1 * load
  usual = flow.HEALTHY_AORTIC_SHARE * valves.outflow_area_cm2
  right = 1 + effect.right_motion * severe
  state = HeartState(
    anatomy=_remodel(person.anatomy, effect, severe, load, back, kind),
    edv_ml=edv,
    ef_pct=ef,
    heart_rate_bpm=float(np.clip(rate, *HEART_RATE_RANGE_BPM)),
    long_axis_share=float(rng.uniform(0.24, 0.34)) + strain,
    rv_inward_pct=float(rng.uniform(16, 32)) * right,
    rv_shortening_pct=float(rng.uniform(14, 26)) * right,
    early_filling_share=float(np.clip(early, 0.35, 0.9)),
    segment_functions=functions,
    rhythm=kind,
    wide_qrs_ms=float(rng.uniform(135, 175)),
    voltage=1 + effect.voltage * severe + 0.3 * load,
    aortic_opening_share=min(valves.aortic_area_cm2 / usual, 1.0),
  )
  return _within_reach(state)


def _remodel(
  anatomy: Anatomy, effect: Effect, severe: float, load: float, back: float,
  rhythm: str,
) -> Anatomy:  # fmt: skip
  """The shape that disease, load, leak and rhythm have made of a heart."""
  atrium = effect.atrium_mm * severe + 0.14 * back + 3 * load
  atrium += 5 * (rhythm == "atrial_fibrillation")
  return dataclasses.replace(
    anatomy,
    wall_mm=anatomy.wall_mm + effect.wall_mm * severe + 3.5 * load,
    sphericity=anatomy.sphericity + effect.sphericity * severe - 0.002 * back,
    la_length_mm=anatomy.la_length_mm + atrium,
    la_width_mm=anatomy.la_width_mm + 0.8 * atrium,
    rv_width_mm=anatomy.rv_width_mm + effect.right_mm * severe,
  )


def _draw_rhythm(
  person: Patient, study: int, disease: str, moment, back: float,
  failing: float,
) -> tuple[str, float]:  # fmt: skip
  """Rhythm and resting rate of the day.

  Fibrillation comes with age, a large atrium and failure, and stays once it
  came: its threshold is drawn once a patient.  Left bundle branch block is
  found in about a quarter of dilated cardiomyopathies.
  """
  once = make_rng(person.seed, person.patient, 0, BEAT).random(3)
  rng = make_rng(person.seed, person.patient, study, BEAT, 1)
  rate = person.heart_rate_bpm + rng.normal(0, 5)
  odds = -2.9 + 0.05 * (person.age_years - 60) + 0.02 * back + 1.3 * failing
  odds += 0.25 * moment.years + 1.0 * (disease == "infiltrative")
  if once[0] < 1 / (1 + math.exp(-odds)):
    return "atrial_fibrillation", float(rate)
  block = {"dilated": 0.25, "ischaemic": 0.1, "valvular": 0.06}
  if once[1] < block.get(disease, 0.02):
    return "left_bundle_branch_block", float(rate)
  ectopy = {"none": 0.03, "dilated": 0.16, "ischaemic": 0.14}
  if once[2] < ectopy.get(disease, 0.08):
    return "ventricular_ectopy", float(rate)
  return "sinus", float(rate)


def _within_reach(state: HeartState) -> HeartState:
  """The same heart with an EF that its contracting segments can bring about.

  Nobody lives with an EF below the cohorts' least: then what stands still
  moves a little.
  """
  reached = _lower_ef(state)
  if reached.ef_pct >= EF_RANGE_PCT[0]:
    return reached
  softer = tuple(
    "normal" if word == "normal" else "hypokinetic"
    for word in state.segment_functions
  )
  return _lower_ef(dataclasses.replace(state, segment_functions=softer))


def _lower_ef(state: HeartState) -> HeartState:
  """EF as low as the segments need it, also in the strong beat after a pause:
  it follows from the segments here, not the other way round."""
  strong = STRONG_BEAT.get(state.rhythm, 1.0)
  while segments.any_abnormal(state.segment_functions):
    ventricle = heart.build_ventricle(state)
    try:
      wall = motion.build_wall(ventricle)
      motion.moment_at(wall, heart.pose_at(ventricle, strong))
    except motion.OutOfReach:
      state = dataclasses.replace(state, ef_pct=0.95 * state.ef_pct)
    else:
      break
  return state


def _scar_pct(disease: str, moment, functions: tuple[str, ...]) -> float:
  """Scar: segments that stand still, or fibrosis that grows with severity."""
  dead = sum(word in ("akinetic", "dyskinetic") for word in functions)
  share = {"dilated": 12.0, "hypertrophic": 15.0, "infiltrative": 20.0}
  return 100 * dead / 17 * 0.6 + share.get(disease, 0.0) * moment.severity


def _draw_event(
  person: Patient, study: int, state: HeartState, scar_pct: float, background
) -> bool:
  """Whether a ventricular arrhythmia comes within two years.

  A proportional hazard.  That scar, low EF, ectopy and LMNA or FLNC variants
  each raise it is known (Gulati et al. 2013 found a hazard 4.6 times as high
  with fibrosis of the mid-wall, after EF was allowed for; van Rijsingen et
  al. 2012 for LMNA); these sizes are chosen: e^0.9 = 2.5 for every 10 % of
  scar, e^0.35 = 1.4 for every 10 points of EF below 50, e^0.8 for ectopy, e^1.6
  = 5 for the genes, upon 3 % in two years, to at most 93 %.  Each study of a
  patient is drawn for itself.
  """
  log_hazard = (
    math.log(0.03)
    + 0.09 * scar_pct
    + 0.035 * max(50 - state.ef_pct, 0)
    + 0.8 * (state.rhythm == "ventricular_ectopy")
    + 1.6 * bool({"lmna", "flnc"} & set(background.carried))
  )
  chance = 1 - math.exp(-math.exp(min(log_hazard, 1.0)))
  rng = make_rng(person.seed, person.patient, study, EVENT)
  return bool(rng.random() < chance)


def _draw_device(
  person: Patient, study: int, sick: bool, switches: Switches
) -> Device:
  """Mostly the site's own machine, unless a switch says otherwise."""
  rng = make_rng(person.seed, person.patient, study, DEVICE)
  own, other = rng.random(), int(rng.integers(len(DEVICES)))
  switched = rng.random()
  if switched < switches.device_confounding:
    return DEVICES[2 if sick else 0]
  if switched < switches.site_shift and person.site == SITES[2]:
    return DEVICES[2]
  return DEVICES[SITES.index(person.site) if own < 0.5 else other]
