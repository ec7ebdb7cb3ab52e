"""Virtual patients and their studies, drawn by cohort seed.

Two cohorts.  "independent": ejection fraction (EF), end-diastolic volume,
heart rate, device, wall, right heart and long-axis share are drawn apart, so
EF can only be read from what the ventricle does.  "clinic_like": most hearts
are normal; a failing one is larger, faster, rounder, with less motion in its
right ventricle and a larger left atrium.

Every kind of draw has a random stream of its own, so a draw added to one
leaves all others where they were, and no label depends on the picture.
"""

import dataclasses

import numpy as np

from echo_jax.simulate.heart import Anatomy, HeartState, outflow_tract_mm
from echo_jax.simulate.scanner import DEVICES, Device, Window

COHORTS = ("independent", "clinic_like")
SITES = ("site-1", "site-2", "site-3")
EF_RANGE_PCT = (10.0, 78.0)
EDV_RANGE_ML = (50.0, 300.0)
HEART_RATE_RANGE_BPM = (45.0, 120.0)

# Streams of random numbers; a number once given keeps its meaning.
BODY, ANATOMY, BASELINE, COUNT, FUNCTION, DEVICE, WINDOW, RHYTHM, PICTURE = (
  range(9)
)
ECG = 9
VIEWPOINT = 20  # where the probe is held for a view


def make_rng(
  seed: int, patient: int, study: int, stream: int, *more: int
) -> np.random.Generator:
  """The generator (PCG64) of one kind of draw for one study.

  Args:
    seed: the cohort's.
    patient, study: which; draws that belong to the patient use study 0.
    stream: one of the constants of this file.
    *more: for example the number of the clip.
  """
  entropy = [seed, patient, study, stream, *more]
  return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


@dataclasses.dataclass(frozen=True)
class Patient:
  """One virtual person.

  Attributes:
    seed, patient, cohort: what it was drawn from.
    sex: "F" or "M".
    age_years, height_cm, weight_kg, bsa_m2: body; surface after Mosteller.
    site: where this person is seen.
    anatomy: shape of the heart.
    ef_pct, edv_ml, heart_rate_bpm: baseline, from which studies depart.
    quality: 0 poor to 1 good acoustic window.
  """

  seed: int
  patient: int
  cohort: str
  sex: str
  age_years: float
  height_cm: float
  weight_kg: float
  bsa_m2: float
  site: str
  anatomy: Anatomy
  ef_pct: float
  edv_ml: float
  heart_rate_bpm: float
  quality: float


@dataclasses.dataclass(frozen=True)
class Study:
  """All numbers that define one study of one patient.

  Attributes:
    patient: who.
    study: 0 for the first.
    heart: anatomy and function of that day, with EDV and EF, the truth.
    device: settings of the machine.
    window: where the probe was held and what it lets through.
    quality: 0 poor to 1 good.
  """

  patient: Patient
  study: int
  heart: HeartState
  device: Device
  window: Window
  quality: float

  def rng(self, stream: int, *more: int) -> np.random.Generator:
    """This study's generator of one stream."""
    person = self.patient
    return make_rng(person.seed, person.patient, self.study, stream, *more)


def _check_cohort(cohort: str) -> None:
  if cohort not in COHORTS:
    raise ValueError(f"cohort {cohort!r} is none of {', '.join(COHORTS)}")


def _reflect(value: float, low: float, high: float) -> float:
  """Folds `value` back into [low, high]; keeps a uniform law uniform."""
  span = high - low
  folded = (value - low) % (2 * span)
  return float(low + min(folded, 2 * span - folded))


def _clipped_normal(rng, mean, spread, low, high) -> float:
  return float(np.clip(rng.normal(mean, spread), low, high))


def _draw_body(seed: int, patient: int) -> dict:
  """Sex, age and size of one person, and the site that sees them."""
  rng = make_rng(seed, patient, 0, BODY)
  male = bool(rng.random() < 0.5)
  age = _clipped_normal(rng, 60.0, 15.0, 18.0, 95.0)
  height = _clipped_normal(rng, 177 if male else 164, 7.0, 145.0, 205.0)
  index = _clipped_normal(rng, 26.0, 4.0, 17.0, 42.0)  # kg per square metre
  weight = index * (height / 100) ** 2
  return dict(
    sex="M" if male else "F",
    age_years=round(age, 1),
    height_cm=height,
    weight_kg=weight,
    bsa_m2=float(np.sqrt(height * weight / 3600)),
    site=SITES[int(rng.integers(len(SITES)))],
    quality=float(rng.beta(3.0, 2.0)),
  )


def _draw_baseline(seed: int, patient: int, cohort: str, body: dict):
  """(EF %, EDV ml, heart rate bpm) about which the studies vary."""
  rng = make_rng(seed, patient, 0, BASELINE)
  if cohort == "independent":
    return (
      float(rng.uniform(*EF_RANGE_PCT)),
      float(rng.uniform(*EDV_RANGE_ML)),
      float(rng.uniform(*HEART_RATE_RANGE_BPM)),
    )
  kind = rng.choice(3, p=[0.74, 0.12, 0.14])
  mean, spread = [(62.0, 4.5), (46.0, 4.0), (30.0, 7.0)][kind]
  ef = _clipped_normal(rng, mean, spread, *EF_RANGE_PCT)
  lack = max(0.0, 55 - ef) / 55
  # normal indexed volumes after Lang et al. 2015; failing hearts dilate
  index = 54.0 if body["sex"] == "M" else 45.0
  size = float(np.exp(rng.normal(0, 0.16)))
  edv = index * body["bsa_m2"] * (1 + 1.3 * lack) * size
  rate = rng.normal(68 + 22 * lack, 9)
  return (
    ef,
    float(np.clip(edv, *EDV_RANGE_ML)),
    float(np.clip(rate, *HEART_RATE_RANGE_BPM)),
  )


def _draw_anatomy(
  seed: int, patient: int, cohort: str, ef: float, bsa_m2: float
) -> Anatomy:
  """Shape of one heart; `ef` matters in the clinic-like cohort only."""
  rng = make_rng(seed, patient, 0, ANATOMY)
  lack = max(0.0, 55 - ef) / 55 if cohort == "clinic_like" else 0.0
  return Anatomy(
    sphericity=float(rng.uniform(1.6, 2.05)) - 0.2 * lack,
    truncation=float(rng.uniform(1.45, 1.65)),
    taper=float(rng.uniform(-0.15, 0.25)),
    depth_aspect=float(rng.uniform(0.92, 1.08)),
    bend_share=float(rng.uniform(-0.02, 0.05)),
    wall_mm=float(rng.uniform(7.5, 12.0)),
    basal_tether=float(rng.uniform(0.25, 0.45)),
    rv_width_mm=float(rng.uniform(24, 38)) + 4 * lack,
    rv_apex_u=float(rng.uniform(0.2, 0.4)),
    la_length_mm=float(rng.uniform(36, 50)) + 6 * lack,
    la_width_mm=float(rng.uniform(34, 44)) + 5 * lack,
    ra_length_mm=float(rng.uniform(34, 46)),
    ra_width_mm=float(rng.uniform(32, 42)),
    atrial_wobble=tuple(rng.uniform(0.03, 0.1, size=4).tolist()),
    outflow_mm=outflow_tract_mm(bsa_m2),
  )


def draw_patient(seed: int, patient: int, cohort: str) -> Patient:
  """Patient number `patient` of a cohort ("independent" or "clinic_like")."""
  _check_cohort(cohort)
  body = _draw_body(seed, patient)
  ef, edv, rate = _draw_baseline(seed, patient, cohort, body)
  return Patient(
    seed=seed,
    patient=patient,
    cohort=cohort,
    anatomy=_draw_anatomy(seed, patient, cohort, ef, body["bsa_m2"]),
    ef_pct=ef,
    edv_ml=edv,
    heart_rate_bpm=rate,
    **body,
  )


def count_studies(seed: int, patient: int, cohort: str) -> int:
  """How many studies this patient has: 1 to 3."""
  _check_cohort(cohort)
  rng = make_rng(seed, patient, 0, COUNT)
  return int(rng.choice(3, p=[0.5, 0.3, 0.2])) + 1


def _draw_heart(person: Patient, study: int) -> HeartState:
  """Function of that day, about the patient's baseline."""
  rng = make_rng(person.seed, person.patient, study, FUNCTION)
  ef = _reflect(person.ef_pct + rng.normal(0, 4), *EF_RANGE_PCT)
  edv = _reflect(
    person.edv_ml * float(np.exp(rng.normal(0, 0.06))), *EDV_RANGE_ML
  )
  rate = _reflect(
    person.heart_rate_bpm + rng.normal(0, 6), *HEART_RATE_RANGE_BPM
  )
  lack = max(0.0, 55 - ef) / 55 if person.cohort == "clinic_like" else 0.0
  return HeartState(
    anatomy=person.anatomy,
    edv_ml=edv,
    ef_pct=ef,
    heart_rate_bpm=rate,
    long_axis_share=float(rng.uniform(0.16, 0.36)),
    rv_inward_pct=float(rng.uniform(10, 34)) * (1 - 0.5 * lack),
    rv_shortening_pct=float(rng.uniform(10, 26)) * (1 - 0.5 * lack),
    early_filling_share=float(rng.uniform(0.5, 0.8)),
  )


def _draw_device(person: Patient, study: int) -> Device:
  """Any device in the independent cohort; mostly the site's own otherwise."""
  rng = make_rng(person.seed, person.patient, study, DEVICE)
  own, other = rng.random(), int(rng.integers(len(DEVICES)))
  if person.cohort == "clinic_like" and own < 0.7:
    return DEVICES[SITES.index(person.site)]
  return DEVICES[other]


def _draw_window(person: Patient, study: int, quality: float) -> Window:
  """How the probe was held and what a window of this quality shows."""
  rng = make_rng(person.seed, person.patient, study, WINDOW)
  poor = 1 - quality
  return Window(
    apex_x_mm=float(rng.uniform(0, 10)),
    apex_depth_mm=float(rng.uniform(17, 26)),
    tilt_deg=float(rng.uniform(-4, 9)),
    gain_db=float(rng.uniform(-9, -3)),
    clutter_db=float(rng.uniform(-36, -30) + 7 * poor),
    haze_db=float(rng.uniform(-33, -25) + 4 * poor),
    lateral_loss_db=float(rng.uniform(4, 9) + 7 * poor),
    apex_loss_db=float(rng.uniform(3, 8) + 6 * poor),
    rv_loss_db=float(rng.uniform(0, 14)),
    gap_u=float(rng.uniform(0.25, 0.75)),
    gap_db=float(rng.uniform(0, 8) + 6 * poor),
    edge_loss_db=float(rng.uniform(10, 24)),
    shadow_deg=float(rng.uniform(-45, 45)),
    shadow_db=float(rng.uniform(0, 6) + 12 * poor),
    sway_mm=float(rng.uniform(0.3, 1.5)),
    rock_deg=float(rng.uniform(-2.5, 2.5)),
  )


def draw_study(seed: int, patient: int, study: int, cohort: str) -> Study:
  """Study number `study` (from 0) of a patient.

  Raises:
    ValueError: the patient has no such study, or there is no such cohort.
  """
  person = draw_patient(seed, patient, cohort)
  count = count_studies(seed, patient, cohort)
  if not 0 <= study < count:
    raise ValueError(f"patient {patient} has {count} studies, not {study + 1}")
  wobble = make_rng(seed, patient, study, WINDOW, 1).normal(0, 0.08)
  quality = float(np.clip(person.quality + wobble, 0, 1))
  return Study(
    patient=person,
    study=study,
    heart=_draw_heart(person, study),
    device=_draw_device(person, study),
    window=_draw_window(person, study, quality),
    quality=quality,
  )
