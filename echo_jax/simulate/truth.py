"""What is true of a study as a whole, and what a reader writes down instead."""

import dataclasses
import math

import numpy as np

from echo_jax.simulate import flow, grades, heart, measure, rhythm
from echo_jax.simulate.condition import Switches
from echo_jax.simulate.person import RHYTHM, Study
from echo_jax.simulate.recordings import valves_of

READER, RUN_ON = 42, 43  # streams
RUN_S = 10.0  # long enough for the five beats that fibrillation asks for
# One reader against another, standard deviations (chosen).
READER_SPREAD = {
  "ef_pct": 5.0, "edv_share": 0.12, "length_mm": 0.8, "la_share": 0.12,
  "grade": 0.25,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StudyTruth:
  """Labels of a study; names and units are those of the video record.

  Volumes and EF are means over the regular beats of ten seconds, the run of
  the study's first A4C clip and on; velocities and gradients those of the
  same beats.  Where no beat is regular, volumes and EF are NaN and velocities
  those of all beats.
  """

  ef_pct: float
  edv_ml: float
  esv_ml: float
  lvidd_mm: float
  lvids_mm: float
  ivsd_mm: float
  ivss_mm: float
  lvpwd_mm: float
  lvpws_mm: float
  la_ml: float
  lv_mass_g: float
  rv_basal_mm: float
  as_grade: str
  as_vmax_cm_s: float
  as_mean_mmhg: float
  as_area_cm2: float
  as_discordant: int
  stroke_index_ml_m2: float
  mr_grade: str
  mr_ml: float
  rhythm: str
  segments: tuple[str, ...]
  ef_caveat: str

  def labels(self) -> dict[str, float | int | str]:
    """By the names of the video record, and `ef_caveat`."""
    plain = dataclasses.asdict(self)
    functions = enumerate(plain.pop("segments"), start=1)
    return plain | {f"segment_{i:02d}": word for i, word in functions}


def study_truth(study: Study, video_s: float | int = 2.0) -> StudyTruth:
  """The truth of one study.

  Args:
    study: from `draw_study`.
    video_s: length of its cines, whose first A4C begins the run of beats.
  """
  state = study.heart
  beats = rhythm.draw_beats(
    study.rng(RHYTHM, 0), state.rhythm, state.heart_rate_bpm, video_s
  )
  beats = rhythm.continue_beats(study.rng(RUN_ON), beats, RUN_S)
  cycles = rhythm.run_cycles(beats, state.ef_pct, state.early_filling_share)
  complete = rhythm.complete_beats(beats, 1000 * RUN_S)
  typical = complete[rhythm.typical_beats(beats, complete)]
  caveat = rhythm.too_few_beats(state.rhythm, len(complete), len(typical))
  edv, esv = (
    volume[typical]
    for volume in rhythm.beat_volumes_ml(cycles, state.edv_ml, state.ef_pct)
  )
  valves, ventricle = valves_of(study), heart.build_ventricle(state)
  # a jet is measured in any beat, where none is regular
  heard = typical if len(typical) else complete
  flows = [flow.sample_beat(ventricle, valves, cycles[i]) for i in heard]
  measures = flow.average_measures([flow.measure_beat(f) for f in flows])
  graded = grades.grade_heart(measures, valves, study.patient.bsa_m2)
  sizes = measure.measure_heart(state)
  lines = {
    name: getattr(sizes, name)
    for name in ("lvidd_mm", "lvids_mm", "ivsd_mm", "ivss_mm", "lvpwd_mm",
                 "lvpws_mm", "la_ml", "rv_basal_mm")
  }  # fmt: skip
  return StudyTruth(
    ef_pct=_mean(100 * (1 - esv / edv)),
    edv_ml=_mean(edv),
    esv_ml=_mean(esv),
    lv_mass_g=sizes.mass_g,
    as_grade=graded.as_grade,
    as_vmax_cm_s=measures.aortic_peak_cm_s,
    as_mean_mmhg=measures.aortic_mean_mmhg,
    as_area_cm2=valves.aortic_area_cm2,
    as_discordant=int(graded.as_discordant),
    stroke_index_ml_m2=graded.stroke_index_ml_m2,
    mr_grade=graded.mr_grade,
    mr_ml=measures.regurgitant_ml,
    rhythm=state.rhythm,
    segments=state.segment_functions or ("normal",) * 17,
    ef_caveat=caveat,
    **lines,
  )


def _mean(values: np.ndarray) -> float:
  """NaN where there is none, as where every second beat is ectopic."""
  return float(values.mean()) if values.size else math.nan


def read_by_someone(
  truth: StudyTruth, study: Study, switches: Switches
) -> StudyTruth:
  """The same study as one reader saw it; the truth itself without noise.

  EF, volumes of ventricle and atrium, the LV's diameters and walls, and grades
  of valves are read, each by itself; all else stays true, also mass, right
  ventricle, valve area, regurgitant volume and the 17 segments.
  """
  noise = switches.label_noise
  if not noise:
    return truth
  rng = study.rng(READER)
  z = dict(zip(READER_SPREAD, noise * rng.normal(size=5), strict=True))
  ef = truth.ef_pct + READER_SPREAD["ef_pct"] * z["ef_pct"]
  ef = float(np.clip(ef, 5.0, 85.0))
  edv = truth.edv_ml * math.exp(READER_SPREAD["edv_share"] * z["edv_share"])
  lines = {
    name: max(
      getattr(truth, name) + READER_SPREAD["length_mm"] * noise * rng.normal(),
      2.0,
    )
    for name in ("lvidd_mm", "lvids_mm", "ivsd_mm", "ivss_mm", "lvpwd_mm",
                 "lvpws_mm")
  }  # fmt: skip
  return dataclasses.replace(
    truth,
    ef_pct=ef,
    edv_ml=edv,
    esv_ml=edv * (1 - ef / 100),
    la_ml=truth.la_ml * math.exp(READER_SPREAD["la_share"] * z["la_share"]),
    as_grade=_read_grade(truth.as_grade, z["grade"]),
    mr_grade=_read_grade(truth.mr_grade, noise * rng.normal()),
    **lines,
  )


def _read_grade(grade: str, z: float) -> str:
  """A neighbour of the grade beyond two spreads."""
  place = grades.GRADES.index(grade) + round(READER_SPREAD["grade"] * z)
  return grades.GRADES[min(max(place, 0), len(grades.GRADES) - 1)]
