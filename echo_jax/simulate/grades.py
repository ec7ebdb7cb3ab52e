"""Grades of valve disease: the guidelines' thresholds, and nothing else.

Aortic stenosis after Baumgartner et al. 2017 (EACVI/ASE), mitral regurgitation
after Zoghbi et al. 2017 (ASE).

Known limit: the guideline's 35 ml/m2 is meant for stroke volumes by Doppler,
while all cohorts but the referral have the volumes of 2-D echo, and a heart has
one stroke volume here.  Of the clinic-like hearts with an EF above 55 % and
healthy valves the median stroke index is 31 ml/m2, and 71 % come out as
`low_flow`.
Narrow their valve, and area and jet disagree in 35 % at 0.6 cm2, 56 % at 0.7,
76 % at 0.8 and 87 % at 0.9: low-flow, low-gradient stenosis is far more
frequent than in life.  Neither share says anything about a clinic.
"""

import dataclasses

from echo_jax.simulate.flow import BeatMeasures, Valves

GRADES = ("none", "mild", "moderate", "severe")
SEVERE_CM2, MODERATE_CM2 = 1.0, 1.5  # severe below, moderate up to and with
# The guideline parts mild stenosis from none by velocity alone.  Truth goes
# by area, so that flow cannot change it: this edge is chosen.
MILD_CM2 = 2.0
MILD_CM_S, MODERATE_CM_S, SEVERE_CM_S = 260.0, 300.0, 400.0
SEVERE_MMHG = 40.0
LOW_FLOW_ML_M2 = 35.0  # of a stroke volume by Doppler
# A trace is common in health; from here on it counts (chosen).
MILD_MR_ML = 5.0
MODERATE_MR_ML, SEVERE_MR_ML = 30.0, 60.0
MODERATE_MR_PCT, SEVERE_MR_PCT = 30.0, 50.0


@dataclasses.dataclass(frozen=True)
class Grades:
  """Grades of one heart.

  Attributes:
    as_grade: aortic stenosis by true area; one of `GRADES`.
    as_grade_by_velocity: what the peak velocity alone would say.
    as_discordant: area says severe and neither velocity nor mean gradient
      does, or the other way round.
    stroke_index_ml_m2: forward stroke volume over body surface.
    low_flow: stroke index below 35 ml/m2; see the known limit above.
    mr_grade: mitral regurgitation; one of `GRADES`.
  """

  as_grade: str
  as_grade_by_velocity: str
  as_discordant: bool
  stroke_index_ml_m2: float
  low_flow: bool
  mr_grade: str


def as_grade_by_area(area_cm2: float) -> str:
  """Severe below 1.0 cm2, moderate to 1.5, mild to 2.0, else none."""
  if area_cm2 < SEVERE_CM2:
    return "severe"
  if area_cm2 <= MODERATE_CM2:
    return "moderate"
  return "mild" if area_cm2 <= MILD_CM2 else "none"


def as_grade_by_velocity(peak_cm_s: float) -> str:
  """Mild from 2.6 m/s, moderate from 3.0, severe from 4.0."""
  edges = (MILD_CM_S, MODERATE_CM_S, SEVERE_CM_S)
  return GRADES[sum(peak_cm_s >= edge for edge in edges)]


def is_discordant(area_cm2: float, peak_cm_s: float, mean_mmhg: float) -> bool:
  """Whether area and jet disagree on severe stenosis.

  High gradient is a peak of 4 m/s or a mean of 40 mmHg, either being enough.
  At the lower edges area and velocity disagree in most hearts (Minners et al.
  2008), so only the edge of the guideline's own algorithm counts.
  """
  high = peak_cm_s >= SEVERE_CM_S or mean_mmhg >= SEVERE_MMHG
  return high != (area_cm2 < SEVERE_CM2)


def mr_grade(regurgitant_ml: float, regurgitant_pct: float) -> str:
  """The worse of volume (30, 60 ml) and fraction (30, 50 %)."""
  if regurgitant_ml >= SEVERE_MR_ML or regurgitant_pct >= SEVERE_MR_PCT:
    return "severe"
  if regurgitant_ml >= MODERATE_MR_ML or regurgitant_pct >= MODERATE_MR_PCT:
    return "moderate"
  return "mild" if regurgitant_ml >= MILD_MR_ML else "none"


def grade_heart(
  measures: BeatMeasures, valves: Valves, bsa_m2: float
) -> Grades:
  """Grades from true areas and volumes; velocity only tells discordance."""
  index = measures.forward_ml / bsa_m2
  peak, mean = measures.aortic_peak_cm_s, measures.aortic_mean_mmhg
  return Grades(
    as_grade=as_grade_by_area(valves.aortic_area_cm2),
    as_grade_by_velocity=as_grade_by_velocity(peak),
    as_discordant=is_discordant(valves.aortic_area_cm2, peak, mean),
    stroke_index_ml_m2=index,
    low_flow=index < LOW_FLOW_ML_M2,
    mr_grade=mr_grade(measures.regurgitant_ml, measures.regurgitant_pct),
  )
