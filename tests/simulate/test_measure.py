"""Measurements against hand calculation, voxel counts and each other."""

import dataclasses
import math

import numpy as np
import pytest

from echo_jax.simulate import draw_study, heart, measure, motion, organs
from echo_jax.simulate.segments import describe_function


def _state(patient=2, anatomy=None, **changed):
  state = draw_study(5, patient, 0, "independent").heart
  shape = dataclasses.replace(state.anatomy, **(anatomy or {}))
  return dataclasses.replace(state, anatomy=shape, **changed)


ROUND = {"depth_aspect": 1.0, "bend_share": 0.0}


def test_lines_of_a_round_heart_by_hand():
  """R at the level of the tips, and sqrt(R^2 + Q / s) - R for the wall."""
  state = _state(anatomy=ROUND)
  ventricle = heart.build_ventricle(state)
  u = organs.tips_level(organs.build_organs(ventricle))
  found = measure.measure_heart(state)
  for share, cavity, walls in (
    (0.0, found.lvidd_mm, (found.ivsd_mm, found.lvpwd_mm)),
    (1.0, found.lvids_mm, (found.ivss_mm, found.lvpws_mm)),
  ):
    pose = heart.pose_at(ventricle, share)
    inner = math.sqrt(heart.radius_squared_mm2(ventricle, pose, u))
    q = float(heart.wall_extent_mm2(ventricle, u))
    s = pose.length_mm / ventricle.length_mm
    outer = math.sqrt(inner**2 + q / s)
    assert cavity == pytest.approx(2 * inner, abs=0.03)
    assert walls == pytest.approx((outer - inner,) * 2, abs=0.06)


def test_level_of_the_tips_is_in_the_basal_half():
  levels = [
    organs.tips_level(organs.build_organs(heart.build_ventricle(_state(p))))
    for p in range(8)
  ]
  assert 0.6 < min(levels) < max(levels) < 0.9


def test_cube_formula_by_hand():
  """48, 9 and 9 mm: 0.8 * 1.04 * (66^3 - 48^3) / 1000 + 0.6 = 147.784 g."""
  mass = measure.cube_mass_g(48.0, 9.0, 9.0)
  assert mass == pytest.approx(147.784, abs=1e-3)


@pytest.mark.parametrize("functions", [{}, {4: "akinetic", 10: "akinetic"}])
def test_mass_is_that_of_the_voxels_at_any_time(functions):
  names = describe_function(functions) if functions else ()
  wall = motion.build_wall(
    heart.build_ventricle(_state(ef_pct=45.0, segment_functions=names))
  )
  mass, step = measure.muscle_mass_g(wall), 1.0
  for share in (0.0, 1.0):
    now = motion.moment_at(wall, heart.pose_at(wall.ventricle, share))
    across = np.arange(-60, 60, step, np.float32)
    along = np.arange(-20, now.length_mm + 6, step, np.float32)
    points = np.meshgrid(across, across, along, indexing="ij")
    count = np.count_nonzero(motion.in_wall(wall, now, *points))
    assert 1.05 * count * step**3 / 1000 == pytest.approx(mass, rel=0.01)


def test_area_length_of_an_ellipsoid_is_exact():
  """Semi-axes 20, 18, 25 mm: planes pi 20 25 and pi 18 25, length 50."""
  areas = math.pi * 20 * 25, math.pi * 18 * 25
  volume = measure.area_length_ml((areas[0], 50.0), (areas[1], 50.0))
  assert volume == pytest.approx(4 / 3 * math.pi * 20 * 18 * 25 / 1000)


def test_atrium_and_right_ventricle_follow_the_anatomy():
  small = measure.measure_heart(_state(anatomy={"la_width_mm": 34.0}))
  large = measure.measure_heart(
    _state(anatomy={"la_width_mm": 46.0, "rv_width_mm": 40.0})
  )
  assert large.la_biplane_ml > 1.2 * small.la_biplane_ml
  assert large.la_ml > 1.2 * small.la_ml
  assert large.rv_basal_mm == pytest.approx(40.0, abs=0.1)


def test_an_infarct_shows_in_the_posterior_wall_only():
  """Segments 5 and 11 stand still: LVPW stays, the septum thickens."""
  names = describe_function({5: "akinetic", 11: "akinetic"})
  found = measure.measure_heart(
    _state(ef_pct=45.0, segment_functions=names, anatomy=ROUND)
  )
  assert found.lvpws_mm == pytest.approx(found.lvpwd_mm, rel=0.08)
  assert found.ivss_mm > 1.25 * found.ivsd_mm
