"""Grades at their edges, and where area and jet disagree."""

import dataclasses
import math

import numpy as np
import pytest

from echo_jax.simulate import draw_study, flow, grades, heart, rhythm


@pytest.mark.parametrize(
  ("area_cm2", "grade"),
  [
    (0.4, "severe"), (0.999, "severe"), (1.0, "moderate"), (1.5, "moderate"),
    (1.501, "mild"), (2.0, "mild"), (2.01, "none"), (4.0, "none"),
  ],
)  # fmt: skip
def test_area(area_cm2, grade):
  assert grades.as_grade_by_area(area_cm2) == grade


@pytest.mark.parametrize(
  ("peak_cm_s", "grade"),
  [
    (100.0, "none"), (259.9, "none"), (260.0, "mild"), (299.9, "mild"),
    (300.0, "moderate"), (399.9, "moderate"), (400.0, "severe"),
    (550.0, "severe"),
  ],
)  # fmt: skip
def test_velocity(peak_cm_s, grade):
  assert grades.as_grade_by_velocity(peak_cm_s) == grade


@pytest.mark.parametrize(
  ("area_cm2", "peak_cm_s", "mean_mmhg", "discordant"),
  [
    (0.8, 420.0, 44.0, False),
    (0.8, 399.9, 39.9, True),
    (0.8, 400.0, 38.0, False),  # either sign of a high gradient is enough
    (0.8, 390.0, 40.0, False),
    (0.999, 350.0, 30.0, True),
    (1.0, 350.0, 30.0, False),
    (1.1, 410.0, 42.0, True),  # high flow through a moderate valve
    (2.5, 120.0, 3.0, False),
  ],
)
def test_discordance(area_cm2, peak_cm_s, mean_mmhg, discordant):
  assert grades.is_discordant(area_cm2, peak_cm_s, mean_mmhg) == discordant


@pytest.mark.parametrize(
  ("volume_ml", "share_pct", "grade"),
  [
    (0.0, 0.0, "none"), (4.9, 10.0, "none"), (5.0, 10.0, "mild"),
    (29.9, 29.9, "mild"), (30.0, 29.0, "moderate"), (20.0, 30.0, "moderate"),
    (59.9, 49.9, "moderate"), (60.0, 40.0, "severe"), (25.0, 50.0, "severe"),
  ],
)  # fmt: skip
def test_regurgitation(volume_ml, share_pct, grade):
  assert grades.mr_grade(volume_ml, share_pct) == grade


def measure(ventricle, valves, rate_bpm):
  """The curves of a regular beat."""
  phases = rhythm.make_phases(60 / rate_bpm, None, "sinus")
  early = ventricle.state.early_filling_share
  cycle = rhythm.Cycle(phases, 0.0, 1.0, 0.0, early, True)
  return flow.measure_beat(flow.sample_beat(ventricle, valves, cycle))


def graded(ef_pct, edv_ml, valves, bsa_m2=1.8):
  state = draw_study(1, 4, 0, "clinic_like").heart
  ventricle = heart.build_ventricle(
    dataclasses.replace(state, ef_pct=ef_pct, edv_ml=edv_ml)
  )
  measures = measure(ventricle, valves, 70.0)
  return grades.grade_heart(measures, valves, bsa_m2), measures


def test_normal_flow_high_gradient():
  """0.65 cm2 and 72 ml: 40 ml/m2 over 1.8 m2, above 4 m/s."""
  found, m = graded(60.0, 120.0, flow.Valves(0.65, 20.0, 4.0))
  assert found.as_grade == "severe" == found.as_grade_by_velocity
  assert not found.as_discordant and not found.low_flow
  assert found.stroke_index_ml_m2 == pytest.approx(40.0)
  assert m.aortic_peak_cm_s > 400


@pytest.mark.parametrize(
  ("ef_pct", "edv_ml"), [(25.0, 160.0), (60.0, 66.0)]
)
def test_low_flow_low_gradient(ef_pct, edv_ml):
  """The same valve behind a failing and behind a small heart: 40 ml."""
  found, m = graded(ef_pct, edv_ml, flow.Valves(0.8, 20.0, 4.0))
  assert m.stroke_ml == pytest.approx(40.0, abs=0.5)
  assert found.as_grade == "severe" and found.as_discordant and found.low_flow
  assert m.aortic_peak_cm_s < 300 and m.aortic_mean_mmhg < 20


def test_flow_never_changes_the_true_grade():
  valves = flow.Valves(1.2, 20.0, 4.0)
  seen = {graded(ef, 120.0, valves)[0].as_grade for ef in (15.0, 40.0, 70.0)}
  assert seen == {"moderate"}


def test_regurgitation_can_make_flow_low():
  """72 ml of which 30 go back: 42 / 1.8 = 23 ml/m2; 42 % of the stroke."""
  found, _ = graded(60.0, 120.0, flow.Valves(2.4, 20.0, 4.0, 30.0))
  assert found.low_flow and found.mr_grade == "moderate"
  assert found.stroke_index_ml_m2 == pytest.approx(42 / 1.8)
  assert found.as_grade == "none" and not found.as_discordant


def test_healthy_valves_are_never_stenotic():
  for bsa_m2 in (1.18, 1.2, 1.6, 2.0, 2.8, 3.2):
    valves = flow.healthy_valves(bsa_m2)
    assert graded(60.0, 120.0, valves, bsa_m2)[0].as_grade == "none"
    assert valves.aortic_area_cm2 <= valves.outflow_area_cm2
    assert grades.as_grade_by_area(valves.aortic_area_cm2) == "none"
    assert valves.aortic_area_cm2 < 1.02 * valves.outflow_area_cm2
  # the smallest and the largest body that a cohort may draw
  for height_cm, index in ((145.0, 17.0), (205.0, 42.0)):
    weight_kg = index * (height_cm / 100) ** 2
    flow.healthy_valves(math.sqrt(height_cm * weight_kg / 3600))
  for bsa_m2 in (1.0, 1.17, 3.21, math.nan):
    with pytest.raises(ValueError, match="healthy valves are known from 1.18"):
      flow.healthy_valves(bsa_m2)
  # 5.7 * 2 + 12.1 = 23.5 mm, shrunk to 0.85
  assert flow.healthy_valves(2.0).outflow_mm == pytest.approx(19.975)


def healthy_cohort():
  """(study, ventricle, valves) of clinic-like hearts with EF above 55 %."""
  found = []
  for patient in range(80):
    study = draw_study(1, patient, 0, "clinic_like")
    if study.heart.ef_pct > 55:
      valves = flow.healthy_valves(study.patient.bsa_m2)
      found.append((study, heart.build_ventricle(study.heart), valves))
  return found


def grade_cohort(**changes):
  """Grades of these hearts, with something done to their valves."""
  found = []
  for study, ventricle, valves in healthy_cohort():
    valves = dataclasses.replace(valves, **changes)
    measures = measure(ventricle, valves, study.heart.heart_rate_bpm)
    found.append(grades.grade_heart(measures, valves, study.patient.bsa_m2))
  return found


def test_known_limit_most_healthy_hearts_of_the_cohort_have_low_flow():
  """See the head of grades.py; whoever enlarges the cohort's hearts amends
  both.  A limit of disease should be rare in health."""
  found = grade_cohort()
  index = np.median([grade.stroke_index_ml_m2 for grade in found])
  assert len(found) > 50 and 29 < index < 33
  assert 0.6 < np.mean([grade.low_flow for grade in found]) < 0.8
  narrowed = grade_cohort(aortic_area_cm2=0.8)
  assert {grade.as_grade for grade in narrowed} == {"severe"}
  assert 0.65 < np.mean([grade.as_discordant for grade in narrowed]) < 0.9
