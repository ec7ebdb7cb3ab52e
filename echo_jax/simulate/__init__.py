"""SynthEcho: a virtual echocardiography cohort, from heart state to cine."""

from echo_jax.simulate.cohort import (
  COHORTS,
  count_studies,
  draw_patient,
  draw_study,
)
from echo_jax.simulate.condition import DISEASES, Condition, Switches
from echo_jax.simulate.ecg import SimulatedECG, simulate_ecg
from echo_jax.simulate.measure import Measurements, measure_heart
from echo_jax.simulate.person import Patient, Study
from echo_jax.simulate.recordings import (
  simulate_study_doppler,
  simulate_study_ecg,
)
from echo_jax.simulate.truth import StudyTruth, read_by_someone, study_truth
from echo_jax.simulate.video import SimulatedVideo, simulate_video
from echo_jax.simulate.views import VIEWS, Viewpoint, study_clips

__all__ = [
  "COHORTS",
  "Condition",
  "DISEASES",
  "Measurements",
  "Patient",
  "SimulatedECG",
  "SimulatedVideo",
  "Study",
  "StudyTruth",
  "Switches",
  "VIEWS",
  "Viewpoint",
  "count_studies",
  "draw_patient",
  "draw_study",
  "measure_heart",
  "read_by_someone",
  "simulate_ecg",
  "simulate_study_doppler",
  "simulate_study_ecg",
  "simulate_video",
  "study_clips",
  "study_truth",
]
