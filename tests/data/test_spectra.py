"""Doppler on a physical grid: by hand, at any zoom, and never without scale."""

import dataclasses

import numpy as np
import pytest
from made_signals import made_spectrum

from echo_jax.data.ingest.spectrum import DopplerScale
from echo_jax.data.spectra import GRIDS, SpectrumGrid, resample_spectrum
from echo_jax.models.doppler import KINDS
from echo_jax.simulate.doppler import LOCATIONS

GRID = SpectrumGrid(rows=8, columns=4, step_cm_s=10.0, step_ms=50.0)


def test_axes_by_hand():
  np.testing.assert_array_equal(
    GRID.velocity_cm_s, [35, 25, 15, 5, -5, -15, -25, -35]
  )
  np.testing.assert_array_equal(GRID.time_ms, [25, 75, 125, 175])
  assert set(GRIDS) == set(KINDS)
  for grid in GRIDS.values():
    assert grid.rows % 16 == 0 == grid.columns % 16


def test_grids_hold_every_scale_of_the_simulated_machines():
  for place in LOCATIONS.values():
    grid = GRIDS[place.kind]
    assert max(place.scales_cm_s) <= grid.rows / 2 * grid.step_cm_s


def test_a_bright_line_lands_on_its_velocity_and_time():
  """One pixel of 1 cm/s x 5 ms at +25 cm/s and 77.5 ms: cell 1, 1."""
  picture = np.zeros((200, 100), np.uint8)
  picture[120 - 25, 15 + 10] = 255
  scale = DopplerScale((10, 20, 99, 199), 120.0, 1.0, 5.0)
  made = resample_spectrum(picture, scale, GRID)
  assert np.unravel_index(made.spectrum.argmax(), (8, 4)) == (1, 1)
  # Triangles of 10 rows and 10 columns: the peak's weights are 1 / 10 and,
  # half a pixel beside the middle, 0.95 / 10.
  np.testing.assert_allclose(made.spectrum[1, 1], 0.1 * 0.095, rtol=1e-5)
  assert made.shown.all()
  later = resample_spectrum(picture, scale, GRID, start_ms=50.0)
  np.testing.assert_allclose(later.spectrum[:, 0], made.spectrum[:, 1])


def test_what_the_display_did_not_show_is_marked():
  """20 cm/s up, 40 down, 120 ms long: rows 2 to 7, columns 0 and 1."""
  scale = DopplerScale((0, 0, 59, 59), 19.5, 1.0, 2.0)
  picture = np.full((60, 60), 255, np.uint8)
  made = resample_spectrum(picture, scale, GRID, beyond="unknown")
  shown = np.zeros((8, 4), bool)
  shown[2:, :2] = True
  np.testing.assert_array_equal(made.shown, shown)
  np.testing.assert_allclose(made.spectrum, shown, atol=1e-6)
  dark = resample_spectrum(picture, scale, GRID)
  np.testing.assert_array_equal(dark.shown, [[True, True, False, False]] * 8)
  # A triangle of 20 cm/s about 25 has an eighth beyond 20; so have its kin.
  wanted = np.array([0, 0.125, 0.875, 1, 1, 1, 1, 0.875])[:, None]
  np.testing.assert_allclose(dark.spectrum[:, :2], wanted * [[1, 1]], atol=0.03)
  with pytest.raises(ValueError, match="beyond is 'bright'"):
    resample_spectrum(picture, scale, GRID, beyond="bright")


def test_flow_at_the_edge_of_the_display_is_not_denied():
  """A band just below the highest velocity shown, in a cell cut by the edge."""
  scale = DopplerScale((0, 0, 59, 59), 25.0, 1.0, 2.0)  # 25 up, 34 down
  picture = np.zeros((60, 60), np.uint8)
  picture[1:4] = 255  # 22 to 24 cm/s, of the cell from 20 to 30
  made = resample_spectrum(picture, scale, GRID)
  assert made.shown[1, 0] and made.spectrum[1, 0] > 0.2
  assert made.spectrum[:, 0].argmax() == 1


def test_what_the_grid_cannot_hold_is_refused():
  scale = DopplerScale((0, 0, 59, 59), 59.0, 1.0, 2.0)
  picture = np.zeros((60, 60), np.uint8)
  picture[30] = 255  # at 29 cm/s
  resample_spectrum(picture, scale, GRID)
  picture[5] = 255  # at 54 cm/s
  with pytest.raises(ValueError, match="60 of 120 .* beyond the 40 cm/s"):
    resample_spectrum(picture, scale, GRID)
  scale = DopplerScale((0, 0, 59, 59), 30.0, 1.0, 2.0)
  with pytest.raises(ValueError, match="from 100 ms on there is no whole"):
    resample_spectrum(picture, scale, GRID, start_ms=100.0)


@pytest.mark.parametrize(
  "zoom",
  [
    {"cm_s": 0.5, "zero_px": 300.0, "shape": (520, 500)},
    {"ms": 2.0, "shape": (260, 1000)},
    {"cm_s": 1.6, "ms": 6.0, "zero_px": 95.0, "shape": (163, 333)},
  ],
)
def test_one_flow_at_every_zoom(zoom):
  grid = SpectrumGrid(rows=64, columns=96, step_cm_s=5.0, step_ms=20.0)
  base = resample_spectrum(*made_spectrum(), grid, beyond="unknown")
  zoomed = resample_spectrum(*made_spectrum(**zoom), grid, beyond="unknown")
  both = base.shown & zoomed.shown
  assert both.mean() > 0.5
  difference = np.abs(base.spectrum - zoomed.spectrum)[both]
  assert difference.mean() < 0.002 and difference.max() < 0.06
  other = resample_spectrum(*made_spectrum(peak_cm_s=110.0), grid)
  faster = np.abs(base.spectrum - other.spectrum)[both]
  assert faster.mean() > 4 * difference.mean()


@pytest.mark.parametrize(
  "lacking, words",
  [
    ({"cm_s": np.nan}, "without velocity"),
    ({"ms": np.nan}, "without time"),
    ({"zero_px": np.nan}, "without row of zero"),
    ({"cm_s": 0.0}, "without velocity"),
    ({"box_px": (0, 0, 500, 259)}, "does not lie in the picture of 500x260"),
  ],
)
def test_a_spectrum_without_scale_or_place_is_refused(lacking, words):
  picture, scale = made_spectrum()
  with pytest.raises(ValueError, match=words):
    resample_spectrum(picture, dataclasses.replace(scale, **lacking), GRID)
