"""Draws: ranges, independence, correlations, streams, repeatability."""

import dataclasses

import numpy as np
import pytest

from echo_jax.simulate import COHORTS, count_studies, draw_patient, draw_study
from echo_jax.simulate.scanner import DEVICES


def _table(cohort: str, count: int, study: int = 0):
  rows = []
  for patient in range(count):
    drawn = draw_study(17, patient, study, cohort)
    state, anatomy = drawn.heart, drawn.heart.anatomy
    rows.append(
      (
        state.ef_pct,
        state.edv_ml,
        state.heart_rate_bpm,
        float(drawn.device.name == "device-a"),
        float(drawn.device.name == "device-b"),
        anatomy.wall_mm,
        anatomy.rv_width_mm,
        anatomy.la_length_mm,
        anatomy.sphericity,
        state.rv_inward_pct,
        state.rv_shortening_pct,
        state.long_axis_share,
        drawn.quality,
      )
    )
  return np.array(rows)


@pytest.mark.parametrize("cohort", COHORTS)
def test_ranges(cohort):
  table = _table(cohort, 500)
  assert table[:, 0].min() >= 10 and table[:, 0].max() <= 78
  assert table[:, 1].min() >= 50 and table[:, 1].max() <= 300
  assert table[:, 2].min() >= 45 and table[:, 2].max() <= 120
  assert np.all(np.isfinite(table))


def test_independent_cohort_hides_ef_from_everything_else():
  """|r| of 2,000 unrelated pairs stays below 0.08 (3.6 standard errors)."""
  table = _table("independent", 2000)
  r = np.corrcoef(table.T)[0, 1:]
  assert np.abs(r).max() < 0.08
  ef = np.histogram(table[:, 0], 4, (10, 78))[0] / 2000
  np.testing.assert_allclose(ef, 0.25, atol=0.04)  # uniform


def test_clinic_like_cohort_is_mostly_normal_and_failing_hearts_dilate():
  table = _table("clinic_like", 1000)
  r = np.corrcoef(table.T)[0]
  assert r[1] < -0.3 and r[2] < -0.15 and r[9] > 0.15
  assert 55 < np.median(table[:, 0]) < 65
  assert 0.05 < np.mean(table[:, 0] < 40) < 0.3


def test_studies_of_a_patient_share_the_heart_and_differ_in_function():
  counts = [count_studies(3, p, "independent") for p in range(60)]
  assert set(counts) == {1, 2, 3}
  changes = []
  for patient in np.flatnonzero(np.array(counts) > 1):
    first, second = (
      draw_study(3, int(patient), k, "independent") for k in (0, 1)
    )
    assert first.patient == second.patient
    assert first.heart.anatomy == second.heart.anatomy
    changes.append(second.heart.ef_pct - first.heart.ef_pct)
  assert 1 < np.std(changes) < 12


def test_draws_do_not_depend_on_their_order():
  forth = [draw_study(9, p, 0, "clinic_like") for p in range(5)]
  back = [draw_study(9, p, 0, "clinic_like") for p in reversed(range(5))]
  assert forth == back[::-1]
  assert draw_study(9, 1, 0, "clinic_like") != draw_study(
    10, 1, 0, "clinic_like"
  )


def test_draws_are_the_same_everywhere():
  """Golden numbers: a change here is another cohort, so another version."""
  state = draw_study(0, 0, 0, "independent").heart
  drawn = (state.ef_pct, state.edv_ml, state.heart_rate_bpm)
  assert drawn == pytest.approx(GOLDEN, rel=1e-12)


GOLDEN = (67.84973958768266, 248.8322897882257, 112.76615337913702)


def test_devices_differ():
  for name in ("name", "frame_hz", "depth_mm", "half_angle_deg", "gamma"):
    assert len({getattr(d, name) for d in DEVICES}) == len(DEVICES)
  assert all(30 < d.frame_hz < 50 for d in DEVICES)


def test_unknown_cohort_and_study_are_refused():
  with pytest.raises(ValueError, match="independent"):
    draw_patient(0, 0, "nobody")
  with pytest.raises(ValueError, match="studies"):
    draw_study(0, 0, 3, "independent")


def test_records_are_frozen():
  study = draw_study(0, 0, 0, "independent")
  with pytest.raises(dataclasses.FrozenInstanceError):
    study.quality = 1.0
