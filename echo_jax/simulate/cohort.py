"""Virtual patients and their studies, drawn by cohort seed.

Three cohorts.  "independent": ejection fraction (EF), end-diastolic volume,
heart rate, device, wall, right heart and long-axis share are drawn apart, so
EF can only be read from what the ventricle does.  "clinic_like": most hearts
are normal; a failing one is larger, faster, rounder, with less motion in its
right ventricle and a larger left atrium.  "referral" (referral.py): disease
with all that follows from it.
"""

import numpy as np

from echo_jax.simulate.condition import Switches
from echo_jax.simulate.heart import Anatomy, HeartState, outflow_tract_mm
from echo_jax.simulate.person import (
  ANATOMY,
  BASELINE,
  COUNT,
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
  reflect,
)
from echo_jax.simulate.referral import (
  draw_referred_patient,
  draw_referred_study,
)
from echo_jax.simulate.scanner import DEVICES, Device

COHORTS = ("independent", "clinic_like", "referral")
NO_SWITCHES = Switches()


def _check_cohort(cohort: str) -> None:
  if cohort not in COHORTS:
    raise ValueError(f"cohort {cohort!r} is none of {', '.join(COHORTS)}")


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
  ef = clipped_normal(rng, mean, spread, *EF_RANGE_PCT)
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
  """Patient number `patient` of one of `COHORTS`."""
  _check_cohort(cohort)
  if cohort == "referral":
    return draw_referred_patient(seed, patient)
  body = draw_body(seed, patient)
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
  ef = reflect(person.ef_pct + rng.normal(0, 4), *EF_RANGE_PCT)
  edv = reflect(
    person.edv_ml * float(np.exp(rng.normal(0, 0.06))), *EDV_RANGE_ML
  )
  rate = reflect(
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


def draw_study(
  seed: int,
  patient: int,
  study: int,
  cohort: str,
  switches: Switches = NO_SWITCHES,
) -> Study:
  """Study number `study` (from 0) of a patient.

  Raises:
    ValueError: the patient has no such study, there is no such cohort, or it
      has no switches.
  """
  count = count_studies(seed, patient, cohort)
  if not 0 <= study < count:
    raise ValueError(f"patient {patient} has {count} studies, not {study + 1}")
  if cohort == "referral":
    return draw_referred_study(seed, patient, study, switches)
  if switches != NO_SWITCHES:
    raise ValueError(f"cohort {cohort} has no switches; referral does")
  person = draw_patient(seed, patient, cohort)
  wobble = make_rng(seed, patient, study, WINDOW, 1).normal(0, 0.08)
  quality = float(np.clip(person.quality + wobble, 0, 1))
  return Study(
    patient=person,
    study=study,
    heart=_draw_heart(person, study),
    device=_draw_device(person, study),
    window=draw_window(person, study, quality),
    quality=quality,
  )
