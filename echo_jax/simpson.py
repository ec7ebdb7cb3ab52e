"""Left-ventricular volume from apical masks: Simpson's method of discs.

The long axis runs from the middle of the base to the apex, twenty discs of
equal height stand on it, and in two planes a disc is an ellipse (Lang et al.
2015, J Am Soc Echocardiogr 28:1-39).  A mask does not say where the mitral
valve is: the base is the end of the mask's principal axis that lies towards
the atrium, where that is known, and else the blunt one (an aneurysm of the
apex is blunter), so that the volume does not depend on how the picture is
turned.  `measure_as_camus` is
the rule of the CAMUS evaluation instead, for comparison with its figures.

Points are x and y in mm.
"""

from dataclasses import dataclass

import contourpy
import numpy as np
from jaxtyping import Bool, Float

from echo_jax.units import ml_from_mm3

DISCS = 20
LEAST_ELONGATION = 1.05  # of the principal deviations: less has no long axis
AS_FAR = 0.98  # points nearly as far as the farthest make the apex together
CAMUS_TOLERANCE_PX = 8.0

Points = Float[np.ndarray, "points 2"]
Spacing = Float[np.ndarray, "2"]


class NoLongAxis(ValueError):
  """A mask that is as wide as long."""


@dataclass(frozen=True)
class Discs:
  """One plane: diameters from base to apex, and the axis they stand on."""

  diameter_mm: Float[np.ndarray, "k"]
  length_mm: float


def measure_discs(
  mask: Bool[np.ndarray, "H W"], spacing_mm: Spacing, count: int = DISCS,
  base_towards_px: Float[np.ndarray, "2"] | None = None,
) -> Discs:  # fmt: skip
  """Diameters across the long axis at the middle of each disc.

  Only the largest piece of the mask counts, and its holes are filled.

  Args:
    mask: the cavity in one apical view, at least a few pixels in size.
    spacing_mm: of rows and of columns.
    count: of discs.
    base_towards_px: x and y of a point beyond the base, such as the middle of
      the left atrium; without it the base is the blunt end.

  Raises:
    ValueError: nothing in the mask, an unusable spacing, or a shape that is
      as wide as it is long.
  """
  scale_mm = _checked(spacing_mm)[::-1]
  outline = _outline_px(mask) * scale_mm
  towards = None if base_towards_px is None else base_towards_px * scale_mm
  base, apex = _long_axis(outline, towards)
  length = float(np.linalg.norm(apex - base))
  along = (apex - base) / length
  places = (np.arange(count) + 0.5) / count
  widths = [
    _width(outline, base + along * (length * place), _turned(along))
    for place in places
  ]
  return Discs(np.array(widths), length)


def measure_area_and_length(
  mask: Bool[np.ndarray, "H W"], spacing_mm: Spacing
) -> tuple[float, float]:
  """Area in mm2 and long axis in mm of a plane, as the area-length method has.

  Of the largest piece, its holes filled; the base is the blunt end.  The
  length is NaN where the mask is as wide as long.

  Raises:
    ValueError: nothing in the mask, or an unusable spacing.
  """
  outline = _outline_px(mask) * _checked(spacing_mm)[::-1]
  try:
    base, apex = _long_axis(outline, None)
  except NoLongAxis:
    return abs(_area(outline)), float("nan")
  return abs(_area(outline)), float(np.linalg.norm(apex - base))


def single_plane_ml(plane: Discs) -> float:
  """Volume if every disc were a circle: pi/4 * length/n * sum(d d)."""
  return biplane_ml(plane, plane)


def biplane_ml(
  four: Discs, two: Discs, length_mm: float | None = None
) -> float:
  """Volume from two planes at right angles: pi/4 * length/n * sum(d4 d2).

  Args:
    four: the four-chamber view.
    two: the two-chamber view; which is which does not matter.
    length_mm: of the axis; by default the longer of the two, since the
      shorter one is foreshortened.

  Raises:
    ValueError: planes of different numbers of discs.
  """
  counts = len(four.diameter_mm), len(two.diameter_mm)
  if counts[0] != counts[1]:
    raise ValueError(f"planes have {counts[0]} and {counts[1]} discs")
  if length_mm is None:
    length_mm = max(four.length_mm, two.length_mm)
  areas = np.pi / 4 * four.diameter_mm * two.diameter_mm
  return float(ml_from_mm3(areas.sum() * length_mm / counts[0]))


def measure_as_camus(
  mask: Bool[np.ndarray, "H W"], spacing_mm: Spacing
) -> Discs:
  """Diameters by the rule of the CAMUS evaluation page.

  The apex must be on top.  The base is the longest stretch of the outline
  that runs to the left within 45 degrees of the rows and strays at most 8
  pixels from a straight line; its middle point and the point farthest from
  it span the axis.  Diameters are taken at the lower rim of each disc, from
  8 pixels beside the axis outwards in steps of half a pixel.  Pixels are
  first repeated to the finer of the two spacings.  The first disc lies on the
  outline itself, so that rounding can cut it short.  For both volumes of a
  patient that page takes the longest of all four axes (`longest_mm` of ED
  and ES in both views), which makes the end-systolic one larger and EF
  lower than the guideline's.  It rounds to whole ml; here nothing is
  rounded.

  Raises:
    ValueError: see `measure_discs`, or no stretch that could be a base.
  """
  spacing = _checked(spacing_mm)
  fine = float(spacing.min())
  square = _repeated(mask, np.rint(mask.shape * spacing / fine).astype(int))
  outline = _from_the_top(_outline_px(square))
  start, end = _straightest_base(outline)
  base = outline[start + round((end - start) / 2)]
  apex = outline[np.linalg.norm(outline - base, axis=1).argmax()]
  across = _turned((apex - base) / np.linalg.norm(apex - base))
  widths = [
    _reach(square, at, across) + _reach(square, at, -across)
    for at in base + (apex - base) * (np.arange(DISCS) / DISCS)[:, None]
  ]
  length = float(np.linalg.norm(apex - base))
  return Discs(np.array(widths) * fine, length * fine)


def longest_mm(*planes: Discs) -> float:
  """The longest axis of several planes."""
  return max(plane.length_mm for plane in planes)


def _checked(spacing_mm: Spacing) -> Spacing:
  if not (np.isfinite(spacing_mm).all() and (spacing_mm > 0).all()):
    raise ValueError(f"spacing is {spacing_mm} mm; both must be above 0")
  return np.asarray(spacing_mm, np.float64)


def _outline_px(mask: Bool[np.ndarray, "H W"]) -> Points:
  """Border of the largest piece, half way between pixels in and out."""
  if not mask.any():
    raise ValueError("the mask is empty")
  padded = np.pad(mask.astype(np.float64), 1)
  lines = contourpy.contour_generator(z=padded).lines(0.5)
  return max((line[:-1] - 1 for line in lines), key=lambda p: abs(_area(p)))


def _area(outline: Points) -> float:
  """Signed area (shoelace formula)."""
  return float(_cross(outline).sum() / 2)


def _cross(outline: Points) -> Float[np.ndarray, "points"]:
  (x, y), (x2, y2) = outline.T, np.roll(outline, -1, axis=0).T
  return x * y2 - x2 * y


def _principal_axis(outline: Points) -> tuple[np.ndarray, np.ndarray]:
  """Centre of area, and unit vector along the larger second moment."""
  area, after = _area(outline), np.roll(outline, -1, axis=0)
  weight = _cross(outline)[:, None]
  centre = ((outline + after) * weight).sum(0) / (6 * area)
  p = outline - centre
  q, weight = np.roll(p, -1, axis=0), _cross(p)
  moments = (
    np.einsum("n,ni,nj->ij", weight, p, p)
    + np.einsum("n,ni,nj->ij", weight, q, q)
    + np.einsum("n,ni,nj->ij", weight, p + q, p + q)
  ) / (24 * area)
  (less, more), vectors = np.linalg.eigh(moments)
  elongation = np.sqrt(more / less)
  if elongation < LEAST_ELONGATION:
    raise NoLongAxis(
      f"the mask is as wide as long (elongation {elongation:.3f}, least "
      f"{LEAST_ELONGATION}): no long axis"
    )
  return centre, vectors[:, 1]


def _long_axis(
  outline: Points, base_towards: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
  """Middle of the base, and apex: both on the outline."""
  centre, along = _principal_axis(outline)
  if base_towards is not None:
    wrong = (base_towards - centre) @ along < 0
  else:  # the centre of area lies nearer to the blunt end
    reach = (outline - centre) @ along
    wrong = reach.max() > -reach.min()
  if wrong:
    along = -along
  base = centre + along * _crossings(outline, centre, along)[-1]
  distance = np.linalg.norm(outline - base, axis=1)
  tip = outline[distance >= AS_FAR * distance.max()].mean(0)
  towards = (tip - base) / np.linalg.norm(tip - base)
  return base, base + towards * _crossings(outline, base, towards)[-1]


def _crossings(
  outline: Points, at: np.ndarray, along: np.ndarray
) -> Float[np.ndarray, "crossings"]:
  """Where a line crosses the outline, as distances from `at`, rising."""
  beside = (outline - at) @ _turned(along)
  place = (outline - at) @ along
  beside2, place2 = np.roll(beside, -1), np.roll(place, -1)
  hit = (beside >= 0) != (beside2 >= 0)
  share = beside[hit] / (beside[hit] - beside2[hit])
  return np.sort(place[hit] + share * (place2[hit] - place[hit]))


def _width(outline: Points, at: np.ndarray, along: np.ndarray) -> float:
  """Length of a line inside of the outline."""
  places = _crossings(outline, at, along)
  return float((places[1::2] - places[::2]).sum())


def _turned(vector: np.ndarray) -> np.ndarray:
  return np.array([-vector[1], vector[0]])


def _repeated(
  mask: Bool[np.ndarray, "H W"], shape: np.ndarray
) -> Bool[np.ndarray, "h w"]:
  """The mask at another size, each pixel the nearest one."""
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(int)
    for new, old in zip(shape, mask.shape, strict=True)
  )
  return mask[np.ix_(rows, columns)]


def _from_the_top(outline: Points) -> Points:
  """The outline from its topmost point, down the right side first."""
  if _area(outline) < 0:  # with y downwards, clockwise is positive
    outline = outline[::-1]
  return np.roll(outline, -outline[:, 1].argmin(), axis=0)


def _straightest_base(outline: Points) -> tuple[int, int]:
  """First and last point of the stretch that `measure_as_camus` asks for.

  Seen from its first point, each point in between leaves a wedge of
  directions that pass within the tolerance; the last point must lie in all.
  """
  best, longest = (0, 0), 0.0
  for start in range(len(outline) - 2):
    x, y = (outline[start + 1 :] - outline[start]).T
    distance, angle = np.hypot(x, y), np.arctan2(y, -x)  # 0 is to the left
    with np.errstate(divide="ignore", invalid="ignore"):
      wedge = np.arcsin(CAMUS_TOLERANCE_PX / distance)
    wedge[distance <= CAMUS_TOLERANCE_PX] = np.inf
    low = np.maximum.accumulate(angle - wedge)[:-1]
    high = np.minimum.accumulate(angle + wedge)[:-1]
    seen = (low <= angle[1:]) & (angle[1:] <= high)
    seen &= np.abs(angle[1:]) <= np.pi / 4
    length = np.where(seen, distance[1:], 0.0)
    if length.max() > longest:
      longest = float(length.max())
      best = start, start + 2 + int(length.argmax())
  if not longest:
    raise ValueError("no stretch of the outline could be a base")
  return best


def _reach(
  mask: Bool[np.ndarray, "H W"], at: np.ndarray, along: np.ndarray
) -> float:
  """Pixels from a point to the first pixel outside of the mask."""
  steps = CAMUS_TOLERANCE_PX + 0.5 * np.arange(2 * sum(mask.shape))
  x, y = np.rint(at[:, None] + along[:, None] * steps).astype(int)
  rows, columns = mask.shape
  inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
  inside[inside] = mask[y[inside], x[inside]]
  return float(steps[np.argmin(inside)])
