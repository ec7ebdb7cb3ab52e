"""SynthEcho: a virtual echocardiography cohort, from heart state to cine."""

from echo_jax.simulate.cohort import (
  COHORTS,
  Patient,
  Study,
  count_studies,
  draw_patient,
  draw_study,
)
from echo_jax.simulate.video import SimulatedVideo, simulate_video

__all__ = [
  "COHORTS",
  "Patient",
  "SimulatedVideo",
  "Study",
  "count_studies",
  "draw_patient",
  "draw_study",
  "simulate_video",
]
