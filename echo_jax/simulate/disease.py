"""Who falls ill, of what, how badly, and how it goes on over years.

Risks come first: age, sex, diabetes, genes; the disease follows from them,
then its severity at every study.  The cohort is one of an echo laboratory
that sees much disease: frequencies are chosen, and so is every number without
a source beside it.
"""

import dataclasses
import math

import numpy as np

from echo_jax.simulate.condition import DISEASES
from echo_jax.simulate.person import make_rng

BACKGROUND, DISEASE, COURSE = 30, 31, 32  # streams
DAYS_PER_YEAR = 365.25

# Share of carriers.  In dilated cardiomyopathy truncating TTN variants are
# found in some 15 to 25 % (Herman et al. 2012); here enriched in all.
CARRIERS = {
  "ttn": 0.04, "lmna": 0.02, "flnc": 0.02, "myh7": 0.03, "mybpc3": 0.03,
  "ttr": 0.04,
}  # fmt: skip
DILATING, THICKENING = ("ttn", "lmna", "flnc"), ("myh7", "mybpc3")


@dataclasses.dataclass(frozen=True)
class Background:
  """What a person brings: risks that are there before any disease.

  Attributes:
    diabetes: whether the person has it.
    polygenic_sd: polygenic score of dilated and ischaemic disease, in SD.
    carried: genes of `CARRIERS` with a pathogenic variant.
  """

  diabetes: bool
  polygenic_sd: float
  carried: tuple[str, ...]


def draw_background(seed: int, patient: int, body: dict) -> Background:
  """Diabetes (more with age and weight) and genes of one person."""
  rng = make_rng(seed, patient, 0, BACKGROUND)
  index = body["weight_kg"] / (body["height_cm"] / 100) ** 2
  odds = -1.8 + 0.03 * (body["age_years"] - 60) + 0.1 * (index - 26)
  diabetes = bool(rng.random() < 1 / (1 + math.exp(-odds)))
  score = float(rng.normal())
  chance = rng.random(len(CARRIERS))
  carried = tuple(
    gene
    for (gene, share), drawn in zip(CARRIERS.items(), chance, strict=True)
    if drawn < share
  )
  return Background(diabetes, score, carried)


def disease_odds(body: dict, background: Background) -> dict[str, float]:
  """Odds of each disease, in the order of `DISEASES`, that of none being 1.

  A carrier's odds are multiplied by e^2.5 = 12 to e^3.5 = 33; a standard
  deviation of the polygenic score multiplies by 1.6, as scores of coronary
  disease do (Khera et al. 2018).
  """
  decade = (body["age_years"] - 60) / 10
  male = body["sex"] == "M"
  carried = set(background.carried)
  score = 0.47 * background.polygenic_sd
  dilating = 2.5 * bool(carried & set(DILATING))
  logs = {
    "none": 0.0,
    "dilated": -1.4 + score + dilating + 0.3 * male,
    "hypertrophic": -2.0 + 3.0 * bool(carried & set(THICKENING)),
    "infiltrative": -2.6 + 0.6 * decade + 3.5 * ("ttr" in carried),
    "ischaemic": -1.1 + score + 0.4 * decade + 0.5 * male
    + 0.7 * background.diabetes,
    "valvular": -0.5 + 0.6 * decade,
  }  # fmt: skip
  return {name: math.exp(logs[name]) for name in DISEASES}


def draw_disease(
  seed: int, patient: int, body: dict, background: Background
) -> str:
  """One of `DISEASES`, by the odds of this person."""
  odds = np.array(list(disease_odds(body, background).values()))
  rng = make_rng(seed, patient, 0, DISEASE)
  return DISEASES[int(rng.choice(len(DISEASES), p=odds / odds.sum()))]


@dataclasses.dataclass(frozen=True)
class Moment:
  """Where a disease stands on the day of a study; see `Condition`."""

  severity: float
  years: float
  treated: bool


def follow_course(
  seed: int, patient: int, disease: str, study: int
) -> Moment:
  """Severity at a study; the later studies come half a year to 3 years on.

  Untreated disease grows by 0 to 0.1 a year.  Treatment begins after the
  first study in seven of ten with dilated or ischaemic disease, and takes 0.1
  to 0.35 off within a year: where severity costs 42 points of EF, that is 4
  to 15.  (Beta-blockers alone raised EF by 29 % of itself: Lechat et al.
  1998.)  What is treated grows by 0.3 of its pace.  The healthy have 0.
  """
  rng = make_rng(seed, patient, 0, COURSE)
  first, pace = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.1)
  chance, response = rng.random(), rng.uniform(0.1, 0.35)
  gaps = rng.uniform(0.5, 3.0, size=2)
  years = float(gaps[:study].sum())
  if disease == "none":
    return Moment(0.0, years, False)
  treatable = disease in ("dilated", "ischaemic")
  treated = bool(treatable and study > 0 and chance < 0.7)
  relief = response * min(years, 1.0) if treated else 0.0
  severity = first + (0.3 if treated else 1.0) * pace * years - relief
  return Moment(min(max(severity, 0.05), 1.0), years, treated)


def aortic_area_cm2(
  rng: np.random.Generator, worst: bool, years: float, age_years: float
) -> float:
  """Area of a diseased aortic valve; inf where it is healthy.

  It narrows by 0.04 to 0.2 cm2 a year, about the mean of 0.12 of Otto et al.
  1997, to no less than 0.45 cm2.  Above 65, three in twenty
  have a valve that is somewhat stiff, whatever else they have.

  Args:
    rng: of the patient, not of the study.
    worst: whether stenosis is why the patient came.
    years: since the first study.
    age_years: at the first study.
  """
  start, pace = rng.random(), rng.uniform(0.04, 0.2)
  stiff = rng.random() < 0.15 and age_years > 65
  if worst:
    area = 0.5 + 1.2 * start
  elif stiff:
    area = 1.5 + 0.6 * start
  else:
    return math.inf
  return max(area - pace * years, 0.45)
