"""What the clinic knows of a patient: numbers, drugs, genes, and the gaps.

Columns and units are those of `data.clinical`.  What costs money is missing
not at random: a natriuretic peptide is asked for where the heart seems to
fail, creatinine and a jet where the patient seems ill, genes in young
cardiomyopathy; a polygenic score goes by site.  Body size, pressure, rate,
diabetes, drugs, the other spectra and the ECG have gaps at random.  All levels
and chances are chosen, so that they order as they do in a clinic.
"""

import math

import numpy as np

from echo_jax.simulate.disease import DAYS_PER_YEAR
from echo_jax.simulate.person import Study, make_rng

RECORD, ORDERED, TAKEN = 37, 38, 39  # streams
CARDIOMYOPATHIES = ("dilated", "hypertrophic", "infiltrative")


def write_down(study: Study, background) -> dict:
  """`record`, `genes`, `spectra` and `has_ecg` of a `Condition`.

  Args:
    study: with a condition that lacks these.
    background: a `disease.Background`.
  """
  truth = _true_record(study, background)
  chance = _chances(study)
  rng = study.rng(ORDERED)
  drawn = dict(zip(truth, rng.random(len(truth)), strict=True))
  record = {
    name: value if drawn[name] < chance.get(name, 1.0) else None
    for name, value in truth.items()
  }
  return {
    "record": record,
    "genes": _known_genes(study, background),
    **_taken(study),
  }


def _yes(flag) -> str:
  return "yes" if flag else "no"


def suspicion(study: Study) -> float:
  """How ill the patient seems, 0 to 1: failure, stiff valve, thick wall."""
  state, condition = study.heart, study.condition
  failing = max(0.0, 55 - state.ef_pct) / 35
  stiff = max(0.0, 1.6 - condition.valves.aortic_area_cm2)
  thick = max(0.0, state.anatomy.wall_mm - 11) / 8
  return min(failing + stiff + thick, 1.0)


def _true_record(study: Study, background) -> dict:
  """Every clinical column as it is."""
  rng = study.rng(RECORD)
  normal = rng.normal(size=5).tolist()
  uniform = rng.random(4).tolist()
  person, state, condition = study.patient, study.heart, study.condition
  years = person.age_years + condition.day / DAYS_PER_YEAR
  failing = max(0.0, 55 - state.ef_pct) / 35
  stiff = max(0.0, 1.5 - condition.valves.aortic_area_cm2)
  flutters = state.rhythm == "atrial_fibrillation"
  systolic = 128 + 0.35 * (years - 60) + 14 * normal[0] - 14 * failing
  creatinine = math.log(0.95 if person.sex == "M" else 0.78)
  creatinine += 0.007 * (years - 60) + 0.15 * background.diabetes
  creatinine += 0.25 * failing + 0.2 * normal[1]
  peptide = math.log(90) + 0.03 * (years - 60) + 1.1 * flutters
  peptide += 2.0 * failing + 1.1 * stiff + 0.5 * creatinine + 0.6 * normal[2]
  peptide += 1.2 * (condition.disease == "infiltrative")
  peptide += 0.015 * condition.valves.regurgitant_ml
  diastolic = 0.45 * systolic + 20 - 6 * stiff + 7 * normal[3]
  return {
    "age_years": round(years, 1),
    "sex": person.sex,
    "height_cm": round(person.height_cm, 0),
    "weight_kg": round(person.weight_kg, 1),
    "systolic_mmhg": float(np.clip(round(systolic), 75, 220)),
    "diastolic_mmhg": float(np.clip(round(diastolic), 40, 120)),
    "heart_rate_bpm": float(round(state.heart_rate_bpm)),
    "diabetes": _yes(background.diabetes),
    "creatinine_mg_dl": round(math.exp(creatinine), 2),
    "nt_probnp_pg_ml": round(math.exp(peptide), 0),
    "beta_blocker": _yes(
      uniform[0] < (0.8 if condition.treated or flutters else 0.25)
    ),
    "renin_angiotensin_inhibitor": _yes(
      uniform[1] < (0.85 if condition.treated else 0.35)
    ),
    "diuretic": _yes(uniform[2] < 0.12 + 0.6 * min(failing, 1)),
    "anticoagulant": _yes(uniform[3] < (0.85 if flutters else 0.08)),
  }


def _chances(study: Study) -> dict[str, float]:
  """Chance that a column is known; others always are."""
  worry = suspicion(study)
  years = study.patient.age_years
  drugs = (
    "beta_blocker", "renin_angiotensin_inhibitor", "diuretic", "anticoagulant"
  )  # fmt: skip
  return {
    "height_cm": 0.95,
    "weight_kg": 0.95,
    "systolic_mmhg": 0.92,
    "diastolic_mmhg": 0.92,
    "heart_rate_bpm": 0.92,
    "diabetes": 0.9,
    "creatinine_mg_dl": min(0.4 + 0.4 * worry + 0.004 * years, 0.97),
    "nt_probnp_pg_ml": 0.15 + 0.7 * worry,
    **dict.fromkeys(drugs, 0.85),
  }


def _known_genes(study: Study, background) -> dict:
  """Panel and polygenic score, None where nobody looked.

  The panel is ordered as one: all genes are known or none.  Carriers were not
  known to be such when it was ordered, but a cardiomyopathy was: that there is
  a panel tells of the disease, whatever it found.
  """
  person = study.patient
  rng = make_rng(person.seed, person.patient, 0, ORDERED, 1)
  panel, score = rng.random(2).tolist()
  asked = 0.08
  if study.condition.disease in CARDIOMYOPATHIES:
    asked = 0.75 if person.age_years < 70 else 0.45
  carried = {
    f"carrier_{gene}": _yes(gene in background.carried)
    if panel < asked
    else None
    for gene in ("ttn", "lmna", "flnc", "myh7", "mybpc3", "ttr")
  }
  known = score < (0.8 if person.site == "site-1" else 0.4)
  points = round(background.polygenic_sd, 3) if known else None
  return {"polygenic_score_sd": points, **carried}


def _taken(study: Study) -> dict:
  """Spectra and ECG that were recorded at this study."""
  rng = study.rng(TAKEN)
  worry = suspicion(study)
  chance = {
    "aortic_cw": 0.75 + 0.23 * worry,
    "outflow_pw": 0.8,
    "mitral_pw": 0.9,
    "annulus_tdi": 0.85,
  }
  spectra = tuple(name for name in chance if rng.random() < chance[name])
  return {"spectra": spectra, "has_ecg": bool(rng.random() < 0.9)}
