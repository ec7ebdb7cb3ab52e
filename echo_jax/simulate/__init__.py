"""SynthEcho: a virtual echocardiography cohort, from heart state to cine."""

from echo_jax.simulate.cohort import (
  COHORTS,
  Patient,
  Study,
  count_studies,
  draw_patient,
  draw_study,
)
from echo_jax.simulate.ecg import SimulatedECG, simulate_ecg
from echo_jax.simulate.measure import Measurements, measure_heart
from echo_jax.simulate.video import SimulatedVideo, simulate_video
from echo_jax.simulate.views import VIEWS, Viewpoint, study_clips

__all__ = [
  "COHORTS",
  "Measurements",
  "Patient",
  "SimulatedECG",
  "SimulatedVideo",
  "Study",
  "VIEWS",
  "Viewpoint",
  "count_studies",
  "draw_patient",
  "draw_study",
  "measure_heart",
  "simulate_ecg",
  "simulate_video",
  "study_clips",
]
