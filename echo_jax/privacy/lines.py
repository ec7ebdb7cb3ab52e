"""Lines of text in the frames: what lies before and behind a piece of one.

The end of a faint line shows where the line by itself fills the view.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from echo_jax.privacy.views import Grey, View

LINE_PX, REACH, HALF_HEIGHT = 32, 6, 1.0  # of a strip along a line, in heights
FARTHEST, LOWEST, HIGHEST = 0.35, 0.5, 1.5  # a piece of the same line
WHOLE_SIGNS, SCRAP_REACH = 5, 4

Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Box:
  """One piece of text.

  Attributes:
    corners: four (x, y) around it, in pixels.
    signs: how many letters and digits were read.
    faint: True if no frame shows it as it is.
  """

  corners: Corners
  signs: int = 0
  faint: bool = False


def along(picture: Grey, box: Box) -> View:
  """The line of a box and what lies before and behind it, upright and large."""
  corners = np.array(box.corners)
  across, down = corners[1] - corners[0], corners[3] - corners[0]
  if np.hypot(*across) < np.hypot(*down):
    across, down = down, -across
  length, height = float(np.hypot(*across)), float(np.hypot(*down))
  scale = LINE_PX / max(height, 1.0)
  reach = length / 2 + REACH * height, HALF_HEIGHT * height
  axes = np.stack([across / max(length, 1e-6), down / max(height, 1e-6)], 1)
  origin = corners.mean(0) - axes @ reach
  placed = np.column_stack([axes / scale, origin])
  size = [max(1, round(2 * part * scale)) for part in reach]
  strip = cv2.warpAffine(
    picture, placed, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REPLICATE,
  )  # fmt: skip
  return View(strip, placed, scale, box.faint)


def on_line(boxes: Sequence[Box], strip: View) -> list[Box]:
  """Those that are pieces of the strip's line, made as high as the line."""
  pieces = []
  for box in boxes:
    if is_on(box, strip):
      (left, _), (right, _) = _extent(box, strip)
      pieces.append(replace(box, corners=_corners(left, right, strip)))
  return pieces


def scraps(boxes: Sequence[Box], still: Grey) -> Iterator[Box]:
  """Longer boxes for faint lines of which only a few signs were read.

  Where a frame shows a part as it is, or more was read in another view, the
  line is known to its ends.
  """
  known = [b for b in boxes if not b.faint or b.signs >= WHOLE_SIGNS]
  for box in boxes:
    if not box.faint or box.signs >= WHOLE_SIGNS:
      continue
    strip = along(still, box)
    if not any(is_on(one, strip) for one in known):
      left = float((REACH - SCRAP_REACH) * LINE_PX)
      right = strip.picture.shape[1] - left
      yield replace(box, corners=_corners(left, right, strip))


def _corners(left: float, right: float, strip: View) -> Corners:
  """Of a piece of a strip's line, in the frames."""
  middle = HALF_HEIGHT * LINE_PX
  upper, lower = middle - LINE_PX / 2, middle + LINE_PX / 2
  corners = [(left, upper), (right, upper), (right, lower), (left, lower)]
  placed = np.array(corners) @ strip.placed[:, :2].T + strip.placed[:, 2]
  return tuple((float(x), float(y)) for x, y in placed)


def is_on(box: Box, strip: View) -> bool:
  """True if a box is as high as a strip's line, and lies on it."""
  (left, top), (right, bottom) = _extent(box, strip)
  off = abs((top + bottom) / 2 / LINE_PX - HALF_HEIGHT)
  whole = left >= -1 and right <= strip.picture.shape[1] + 1
  height = (bottom - top) / LINE_PX
  return bool(whole and off <= FARTHEST and LOWEST <= height <= HIGHEST)


def _extent(box: Box, strip: View) -> np.ndarray:
  """Least and largest (x, y) of a box in a strip's pixels."""
  linear, origin = strip.placed[:, :2], strip.placed[:, 2]
  inside = (np.array(box.corners) - origin) @ np.linalg.inv(linear).T
  return np.stack([inside.min(0), inside.max(0)])
