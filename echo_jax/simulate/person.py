"""Who is examined: a virtual person, a study of theirs, and all randomness.

Every kind of draw has a random stream of its own, so a draw added to one
leaves all others where they were, and no label depends on the picture.
"""

import dataclasses

import numpy as np

from echo_jax.simulate.condition import Condition
from echo_jax.simulate.heart import Anatomy, HeartState
from echo_jax.simulate.scanner import Device, Window

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
# 30 to 49: disease.py, referral.py, records.py, recordings.py, truth.py


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
    condition: disease and all that is known of it; None in the cohorts of
      healthy and failing hearts without a cause.
  """

  patient: Patient
  study: int
  heart: HeartState
  device: Device
  window: Window
  quality: float
  condition: Condition | None = None

  def rng(self, stream: int, *more: int) -> np.random.Generator:
    """This study's generator of one stream."""
    person = self.patient
    return make_rng(person.seed, person.patient, self.study, stream, *more)


def reflect(value: float, low: float, high: float) -> float:
  """Folds `value` back into [low, high]; keeps a uniform law uniform."""
  span = high - low
  folded = (value - low) % (2 * span)
  return float(low + min(folded, 2 * span - folded))


def clipped_normal(rng, mean, spread, low, high) -> float:
  return float(np.clip(rng.normal(mean, spread), low, high))


def draw_body(seed: int, patient: int) -> dict:
  """Sex, age and size of one person, and the site that sees them."""
  rng = make_rng(seed, patient, 0, BODY)
  male = bool(rng.random() < 0.5)
  age = clipped_normal(rng, 60.0, 15.0, 18.0, 95.0)
  height = clipped_normal(rng, 177 if male else 164, 7.0, 145.0, 205.0)
  index = clipped_normal(rng, 26.0, 4.0, 17.0, 42.0)  # kg per square metre
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


def draw_window(person: Patient, study: int, quality: float) -> Window:
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
