"""Simpson's discs against solids whose volume is known on paper."""

import numpy as np
import pytest

from data_builders import synthetic_echo
from echo_jax import simpson
from echo_jax.data.frames import decode_mask

SQUARE = np.array([0.5, 0.5])
UNEVEN = np.array([0.4, 0.9])  # row and column spacing, mm


def draw(inside, turn_deg=0.0, spacing=SQUARE, rows=340, columns=340):
  """Mask of the points (x, y in mm from the middle) that are inside."""
  y, x = np.mgrid[:rows, :columns].astype(float)
  y, x = (y - rows / 2) * spacing[0], (x - columns / 2) * spacing[1]
  c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
  return inside(c * x + s * y, -s * x + c * y)


def ellipse(across, along):
  return lambda x, y: (x / across) ** 2 + (y / along) ** 2 < 1


def bullet(across, along, cut=0.5, slant=0.0):
  """An ellipse without what lies below its base (y points down)."""
  return lambda x, y: ellipse(across, along)(x, y) & (
    y < cut * along + slant * x
  )


def bullet_ml(b4, b2, a, cut=0.5):
  c = cut * a
  return np.pi * b4 * b2 * ((a + c) - (a**3 + c**3) / (3 * a**2)) / 1000


@pytest.mark.parametrize("turn", [0, 17, 45, 90, 133, 180, 270])
@pytest.mark.parametrize("spacing", [SQUARE, UNEVEN], ids=["square", "uneven"])
def test_prolate_ellipsoid_of_any_direction(turn, spacing):
  """4/3 pi a b c of an ellipsoid cut in two planes, within 1 %."""
  planes = [
    simpson.measure_discs(draw(ellipse(b, 42), turn, spacing), spacing)
    for b in (24, 19)
  ]
  wanted = 4 / 3 * np.pi * 42 * 24 * 19 / 1000
  assert simpson.biplane_ml(*planes) == pytest.approx(wanted, rel=0.01)
  single = 4 / 3 * np.pi * 42 * 24 * 24 / 1000
  assert simpson.single_plane_ml(planes[0]) == pytest.approx(single, rel=0.01)
  assert planes[0].length_mm == pytest.approx(84, rel=0.015)


def test_cylinder_is_exact():
  mask = np.zeros((100, 90), bool)
  mask[10:70, 20:50] = True
  plane = simpson.measure_discs(mask, np.array([1.2, 0.8]))
  assert plane.length_mm == pytest.approx(72, rel=1e-9)
  np.testing.assert_allclose(plane.diameter_mm, 24, rtol=1e-9)
  wanted = np.pi / 4 * 24**2 * 72 / 1000
  assert simpson.single_plane_ml(plane) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("turn", [0, 40, 111, 180])
@pytest.mark.parametrize(("slant", "within"), [(0.0, 0.015), (0.2, 0.04)])
def test_a_ventricle_with_a_base(turn, slant, within):
  """Cut off at the valve, apex anywhere; a slanting base cuts discs short."""
  planes = [
    simpson.measure_discs(draw(bullet(b, 46, slant=slant), turn), SQUARE)
    for b in (26, 21)
  ]
  wanted = bullet_ml(26, 21, 46)
  assert simpson.biplane_ml(*planes) == pytest.approx(wanted, rel=within)
  # From base to apex: discs are widest at the base and end in a point.
  for plane in planes:
    assert plane.diameter_mm[2] > 2 * plane.diameter_mm[-1]


@pytest.mark.parametrize("turn", [0, 40, 180])
def test_an_aneurysm_of_the_apex_is_not_taken_for_the_base(turn):
  """One plane blunt at its apex, the other at its base, volume on paper."""
  c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
  middle = 170.0

  def measured(mask, base_at_mm):
    """`base_at_mm`: the atrium on the turned y axis of the drawing."""
    x, y = -s * base_at_mm, c * base_at_mm
    towards_px = np.array([middle + x / UNEVEN[1], middle + y / UNEVEN[0]])
    return simpson.measure_discs(mask, UNEVEN, base_towards_px=towards_px)

  up = draw(bullet(26, 46), turn, UNEVEN)
  down = draw(lambda x, y: bullet(21, 46)(x, -23 - y), turn, UNEVEN)
  planes = measured(up, 70), measured(down, 70)
  y = 23 - 69 * (np.arange(4000) + 0.5) / 4000  # from base to apex
  widths = [
    b * np.sqrt(1 - (at / 46) ** 2) for b, at in ((26, y), (21, -23 - y))
  ]
  wanted = np.pi * (widths[0] * widths[1]).mean() * 69 / 1000
  assert simpson.biplane_ml(*planes) == pytest.approx(wanted, rel=0.02)
  guessed = simpson.measure_discs(down, UNEVEN)
  assert simpson.biplane_ml(planes[0], guessed) > 1.05 * wanted


def test_spacing_scales_volume_by_its_powers():
  mask = draw(bullet(26, 46))
  one = simpson.single_plane_ml(simpson.measure_discs(mask, SQUARE))
  twice = simpson.single_plane_ml(simpson.measure_discs(mask, 2 * SQUARE))
  assert twice == pytest.approx(8 * one, rel=1e-6)


def test_the_longer_axis_counts():
  """A foreshortened plane gives its diameters, not its length."""
  four = simpson.Discs(np.full(20, 40.0), 80.0)
  two = simpson.Discs(np.full(20, 30.0), 60.0)
  wanted = np.pi / 4 * 40 * 30 * 80 / 1000
  assert simpson.biplane_ml(four, two) == pytest.approx(wanted)
  assert simpson.biplane_ml(two, four) == pytest.approx(wanted)


def test_specks_and_holes_change_nothing():
  mask = draw(bullet(26, 46))
  plain = simpson.measure_discs(mask, SQUARE)
  dirty = mask.copy()
  dirty[5:9, 5:9] = True
  dirty[170:174, 168:172] = False
  assert not (dirty == mask).all()
  again = simpson.measure_discs(dirty, SQUARE)
  np.testing.assert_allclose(again.diameter_mm, plain.diameter_mm)


@pytest.mark.parametrize(
  ("mask", "spacing", "why"),
  [
    (np.zeros((9, 9), bool), SQUARE, "empty"),
    (draw(ellipse(20, 30)), np.array([0.5, -0.5]), "both must be above 0"),
    (draw(ellipse(20, 30)), np.array([0.5, np.nan]), "both must be above 0"),
    (draw(ellipse(20, 30)), np.array([np.inf, 0.5]), "both must be above 0"),
  ],
)
@pytest.mark.parametrize(
  "measure", [simpson.measure_discs, simpson.measure_as_camus]
)
def test_what_has_no_volume_is_refused(mask, spacing, why, measure):
  with pytest.raises(ValueError, match=why):
    measure(mask, spacing)


def test_a_circle_has_no_long_axis():
  with pytest.raises(ValueError, match="as wide as long"):
    simpson.measure_discs(draw(ellipse(30, 30)), SQUARE)


def test_planes_of_other_counts_are_refused():
  short = simpson.Discs(np.ones(10), 1.0)
  with pytest.raises(ValueError, match="10 and 20 discs"):
    simpson.biplane_ml(short, simpson.Discs(np.ones(20), 1.0))


def search_every_pair(outline):
  """The stretch of `measure_as_camus` by its definition, pair by pair."""
  best, longest = None, 0.0
  for start in range(len(outline)):
    for end in range(start + 2, len(outline)):
      x, y = outline[end] - outline[start]
      between = outline[start + 1 : end] - outline[start]
      length = np.hypot(x, y)
      if x >= 0 or abs(y) > -x or length <= longest:
        continue
      if (np.abs(x * between[:, 1] - y * between[:, 0]) <= 8 * length).all():
        best, longest = (start, end), length
  return best


@pytest.mark.parametrize("slant", [-0.3, 0.0, 0.4])
def test_base_of_the_camus_rule_by_brute_force(slant):
  mask = draw(bullet(24, 40, slant=slant), 8, np.array([1.2, 1.2]), 110, 90)
  outline = simpson._from_the_top(simpson._outline_px(mask))
  assert simpson._straightest_base(outline) == search_every_pair(outline)
  turned = simpson._from_the_top(outline[::-1])
  assert simpson._area(turned) == pytest.approx(simpson._area(outline))


def test_camus_rule_on_a_ventricle_of_known_size():
  """Its diameters are those at the lower rims, by the ellipse's equation."""
  spacing = np.array([0.3, 0.3])
  plane = simpson.measure_as_camus(draw(bullet(25, 48), 0, spacing), spacing)
  assert plane.length_mm == pytest.approx(1.5 * 48, rel=0.01)
  heights = 24 - 72 * np.arange(20) / 20
  wanted = 50 * np.sqrt(1 - (heights / 48) ** 2)
  # The first one lies on the base itself, where rounding decides.
  np.testing.assert_allclose(plane.diameter_mm[1:], wanted[1:], atol=0.6)


def test_camus_rule_repeats_pixels_to_the_finer_spacing():
  fine, coarse = np.array([0.3, 0.3]), np.array([0.3, 0.6])
  mask = draw(bullet(25, 48), 0, coarse, 340, 170)
  square = simpson.measure_as_camus(np.repeat(mask, 2, axis=1), fine)
  uneven = simpson.measure_as_camus(mask, coarse)
  np.testing.assert_allclose(uneven.diameter_mm, square.diameter_mm)
  assert uneven.length_mm == square.length_mm


def test_against_the_volumes_that_synthecho_integrates():
  """Its truth is a solid in 3-D; we see one plane, cut as a probe cuts it."""
  cohort = synthetic_echo.dataset(
    patients=8, size=96, duration_s=1.2, codec="raw"
  )
  for item in cohort.items[:4]:
    record, _ = cohort.read(item)
    truth = np.asarray(record["volume_ml"])
    ed, es = (
      simpson.single_plane_ml(
        simpson.measure_discs(
          decode_mask(record["lv_mask"][frame]), record["spacing_mm"]
        )
      )
      for frame in (truth.argmax(), truth.argmin())
    )
    assert ed == pytest.approx(truth.max(), rel=0.12)
    wanted = 100 * (1 - truth.min() / truth.max())
    assert 100 * (1 - es / ed) == pytest.approx(wanted, abs=4)
