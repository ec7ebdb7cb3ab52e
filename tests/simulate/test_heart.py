"""The heart's geometry against voxel counts, hand calculation and itself."""

import dataclasses
import math

import numpy as np
import pytest

from echo_jax.simulate import COHORTS, draw_study, heart

CASES = [(p, share) for p in (1, 4) for share in (0.0, 0.5, 1.0)]


def _ventricle(patient: int, cohort: str = "independent", **anatomy):
  state = draw_study(5, patient, 0, cohort).heart
  changed = dataclasses.replace(state.anatomy, **anatomy)
  state = dataclasses.replace(state, anatomy=changed)
  return heart.build_ventricle(state)


def _voxels_ml(where, ventricle, pose, step=1.0):
  """Volume by counting cubes of `step` mm."""
  half = ventricle.radius_mm * 1.2 + 25
  across = np.arange(-half, half, step, np.float32)
  # cubes end at the annulus, so that its plane cuts none of them
  along = np.arange(pose.length_mm - step / 2, -25, -step, np.float32)
  x, w, depth = np.meshgrid(across, along, across, indexing="ij")
  inside = where(ventricle, pose, x, w, depth)
  return np.count_nonzero(inside) * step**3 / 1000


@pytest.mark.parametrize(("patient", "share"), CASES)
def test_volume_is_what_voxels_count(patient, share):
  ventricle = _ventricle(patient)
  state = ventricle.state
  pose = heart.pose_at(ventricle, share)
  truth = state.edv_ml * (1 - state.ef_pct / 100 * share)
  assert heart.cavity_volume_ml(ventricle, pose) == pytest.approx(truth, 1e-6)
  counted = _voxels_ml(heart.in_cavity, ventricle, pose)
  assert counted == pytest.approx(truth, rel=0.01)


def test_volume_by_hand():
  """V = pi e b^2 L (t - t^2 / 3) for an ellipsoid cut at t semi-axes."""
  ventricle = _ventricle(2, taper=0.0)
  a = ventricle.state.anatomy
  t, e = a.truncation, a.depth_aspect
  volume = math.pi * e * ventricle.radius_mm**2 * ventricle.length_mm
  volume *= (t - t**2 / 3) / 1000
  assert ventricle.state.edv_ml == pytest.approx(volume, rel=1e-9)


@pytest.mark.parametrize("patient", [1, 4])
def test_wall_is_incompressible_and_thickens(patient):
  ventricle = _ventricle(patient)
  poses = [heart.pose_at(ventricle, share) for share in (0.0, 0.3, 0.7, 1.0)]
  volumes = [_voxels_ml(heart.in_wall, ventricle, pose) for pose in poses]
  np.testing.assert_allclose(volumes, volumes[0], rtol=0.01)
  q = float(heart.wall_extent_mm2(ventricle, 0.6))
  thick = [
    heart.tissue_position_mm(ventricle, pose, 0.6, q, 1)[0]
    - heart.tissue_position_mm(ventricle, pose, 0.6, 0.0, 1)[0]
    for pose in poses
  ]
  assert np.all(np.diff(thick) > 0)


@pytest.mark.parametrize("side", [-1, 1])
def test_muscle_is_looked_up_where_it_was(side):
  ventricle = _ventricle(3)
  rest = heart.pose_at(ventricle, 0.0)
  for share in (0.4, 1.0):
    pose = heart.pose_at(ventricle, share)
    for u in (0.1, 0.5, 0.9):
      q = 0.5 * float(heart.wall_extent_mm2(ventricle, u))
      x, w = heart.tissue_position_mm(ventricle, pose, u, q, side)
      x_ref, w_ref = heart.reference_coordinates(
        ventricle, pose, np.float32([x]), np.float32([w])
      )
      was = heart.tissue_position_mm(ventricle, rest, u, q, side)
      straight = was[0] - heart.axis_mm(ventricle, u)
      np.testing.assert_allclose(
        [x_ref[0], w_ref[0]], [straight, was[1]], atol=0.01
      )


def test_nothing_moves_at_end_diastole():
  ventricle = _ventricle(3, bend_share=0.0)
  x, w = np.meshgrid(
    np.linspace(-90, 70, 50, dtype=np.float32),
    np.linspace(-20, 150, 50, dtype=np.float32),
  )
  pose = heart.pose_at(ventricle, 0.0)
  x_ref, w_ref = heart.reference_coordinates(ventricle, pose, x, w)
  np.testing.assert_allclose(x_ref, x, atol=0.02)
  np.testing.assert_allclose(w_ref, w, atol=0.02)
  assert x_ref.dtype == w_ref.dtype == np.float32


def test_motion_has_no_folds():
  """Neighbours stay in order: the map's Jacobian is positive in the muscle."""
  for patient in range(6):
    ventricle = _ventricle(patient)
    pose = heart.pose_at(ventricle, 1.0)
    x, w = np.meshgrid(
      np.linspace(-60, 60, 120, dtype=np.float32),
      np.linspace(5, 0.9 * pose.length_mm, 100, dtype=np.float32),
    )
    x_ref, w_ref = heart.reference_coordinates(ventricle, pose, x, w)
    (xw, xx), (ww, wx) = np.gradient(x_ref), np.gradient(w_ref)
    determinant = (xx * ww - xw * wx)[heart.in_wall(ventricle, pose, x, w)]
    assert np.mean(determinant > 0) > 0.98  # the rim mixes wall and cavity


@pytest.mark.parametrize("valve", ["mitral", "tricuspid"])
def test_leaflets_close_and_open_towards_the_apex(valve):
  ventricle = _ventricle(1)
  leaflets = getattr(heart, f"{valve}_leaflets_mm")
  shut = leaflets(ventricle, heart.pose_at(ventricle, 1.0))
  wide = leaflets(ventricle, heart.pose_at(ventricle, 0.3, 1.0, 1.0))
  gap = np.linalg.norm(np.diff(shut[:, -1], axis=0))
  assert gap < 0.5
  assert np.linalg.norm(np.diff(wide[:, -1], axis=0)) > 8
  assert np.all(wide[:, -1, 1] < wide[:, 0, 1] - 8)  # tips nearer the apex


def test_mitral_hinges_sit_on_the_annulus():
  ventricle = _ventricle(1)
  for share in (0.0, 1.0):
    pose = heart.pose_at(ventricle, share)
    hinges = heart.mitral_leaflets_mm(ventricle, pose)[:, 0]
    half = math.sqrt(heart.radius_squared_mm2(ventricle, pose, 1.0))
    expected = [[-half, pose.length_mm], [half, pose.length_mm]]
    np.testing.assert_allclose(hinges, expected, atol=1e-6)


@pytest.mark.parametrize("cohort", COHORTS)
def test_every_drawn_heart_keeps_a_cavity(cohort):
  for patient in range(500):
    ventricle = _ventricle(patient, cohort)
    pose = heart.pose_at(ventricle, 1.0)
    assert 0 < pose.squeeze < 1
    assert 0.6 < pose.length_mm / ventricle.length_mm < 1
