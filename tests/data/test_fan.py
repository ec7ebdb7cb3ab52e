"""The fan of a sector, against the scanner that made it and by hand."""

import numpy as np
import pytest

from echo_jax import simulate
from echo_jax.data.fan import find_fan, ray_coordinates
from echo_jax.simulate import heart, scanner


def made_grid(patient, size):
  """Device and grid of a SynthEcho study, which know their own apex."""
  study = simulate.draw_study(1, patient, 0, "clinic_like")
  ventricle = heart.build_ventricle(study.heart)
  rest = heart.pose_at(ventricle, 0.0)
  cap = heart.CAP_SHARE * ventricle.length_mm
  place = scanner.place_heart(
    ventricle, rest, cap, study.device, study.window
  )
  return study.device, scanner.make_grid(study.device, place.depth_mm, size)


@pytest.mark.parametrize("patient", [0, 1, 4])  # one a device
@pytest.mark.parametrize("size", [56, 112, 224])
def test_apex_is_the_centre_of_the_probe(patient, size):
  device, grid = made_grid(patient, size)
  fan = find_fan(grid.sector)
  row_mm, column_mm = grid.spacing_mm
  x = -float(grid.pixel_x_mm.flat[0]) / column_mm
  y = (-device.face_radius_mm - float(grid.pixel_z_mm.flat[0])) / row_mm
  assert fan.converging
  assert fan.apex_px == pytest.approx((x, y), abs=0.5)


def test_depth_and_angle_by_hand():
  """A right angle with its apex in the middle of the top row's upper edge."""
  rows, columns = np.mgrid[:40, :81]
  sector = np.abs(columns - 40) <= rows
  fan = find_fan(sector)
  assert fan.apex_px == pytest.approx((40, -0.5), abs=0.05)
  depth, angle = ray_coordinates(fan, sector.shape)
  assert depth[sector].min() == 0 and depth[sector].max() == 1
  assert angle[10, 40] == 0
  assert angle[30, 60] == pytest.approx(np.arctan2(20, 30.5), abs=2e-3)
  assert angle[sector].max() == pytest.approx(np.pi / 4, abs=0.02)
  assert np.ptp(depth[25, 40] - depth[5:26, 40]) == pytest.approx(
    20 / (np.hypot(39, 39.5) - 0.5), rel=0.01
  )


def test_edges_that_the_picture_cuts_off_do_not_bend_the_fan():
  rows, columns = np.mgrid[:80, :81]
  whole = np.abs(columns - 40) <= rows
  assert whole[60, 0] and whole[60, 80]  # cut on both sides from row 40 on
  assert find_fan(whole).apex_px == pytest.approx((40, -0.5), abs=0.3)
  left = find_fan(whole[:, 20:])
  assert left.apex_px == pytest.approx((20, -0.5), abs=0.5)


def test_a_linear_probe_has_vertical_rays():
  sector = np.zeros((50, 60), bool)
  sector[5:45, 10:50] = True
  fan = find_fan(sector)
  assert not fan.converging and fan.apex_px == (29.5, 5.0)
  depth, angle = ray_coordinates(fan, sector.shape)
  assert depth[5, 10] == 0 and depth[44, 30] == 1
  assert (depth == depth[:, :1]).all() and (angle == angle[:1]).all()


def test_no_sector_no_fan():
  with pytest.raises(ValueError, match="sector is empty"):
    find_fan(np.zeros((8, 8), bool))
