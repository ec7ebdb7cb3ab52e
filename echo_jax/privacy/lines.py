"""Lines of text in the frames: what lies before and behind a piece of one.

The end of a faint line shows where the line by itself fills the view.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from echo_jax.privacy.views import Grey, View

LINE_PX, REACH, HALF_HEIGHT = 32, 6, 1.0  # of a strip along a line, in heights
FARTHEST, LOWEST, HIGHEST = 0.35, 0.5, 2.2  # a piece of the same line
WHOLE_SIGNS, WHOLE_SHARE = 5, 0.8  # read in one piece, else it is a scrap
TRIMMED = 1.5  # so much higher than its line a piece is trimmed
SCRAP_REACH = 4  # heights that are added to scraps

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


class Found:
  """Text found so far: pieces, the lines they lie on, the pixels they cover.

  Attributes:
    boxes: pieces; one on a line that was found before is made as high as that
      line, since coarse views find the same text again in higher boxes, or at
      least two thirds as high as it is, since the first may have been cut.
    lines: for each line its strips, one a picture.
    covered: [H, W], 1 in a piece.
  """

  def __init__(self, pictures: tuple[Grey, ...], shape: tuple[int, int]):
    self.boxes: list[Box] = []
    self.lines: list[tuple[View, ...]] = []
    self.covered = np.zeros(shape, np.uint8)
    self._pictures = pictures

  def add(self, boxes: Sequence[Box]) -> None:
    """New pieces, on lines that are known or on lines of their own."""
    for box in boxes:
      on = next((line[0] for line in self.lines if is_on(box, line[0])), None)
      if on is None:
        self.lines.append(tuple(along(one, box) for one in self._pictures))
      else:
        height = max(1.0, _height(box, on) / TRIMMED)
        corners = _corners(*_reach(box, on), on, height)
        box = replace(box, corners=corners)
      self.boxes.append(box)
      corners = np.rint(np.array(box.corners)).astype(np.int32)
      cv2.fillConvexPoly(self.covered, corners, 1)


def longer(
  boxes: Sequence[Box], lines: Sequence[tuple[View, ...]]
) -> Iterator[Box]:
  """Longer boxes for faint lines of which only scraps were read.

  A line is known to its ends if a frame shows a part as it is, or if one piece
  with several signs spans (nearly) all that was found of it.
  """
  for strip, *_ in lines:
    pieces = [box for box in boxes if is_on(box, strip)]
    if not pieces or not all(box.faint for box in pieces):
      continue
    ends = np.array([_reach(box, strip) for box in pieces])
    left, right = float(ends[:, 0].min()), float(ends[:, 1].max())
    wide = np.diff(ends)[:, 0] >= WHOLE_SHARE * (right - left)
    if not any(
      box.signs >= WHOLE_SIGNS and spans
      for box, spans in zip(pieces, wide, strict=True)
    ):
      more = SCRAP_REACH * LINE_PX
      corners = _corners(left - more, right + more, strip)
      yield replace(pieces[0], corners=corners)


def _corners(
  left: float, right: float, strip: View, height: float = 1.0
) -> Corners:
  """Of a piece of a strip's line, so many lines high, in the frames."""
  middle, half = HALF_HEIGHT * LINE_PX, height * LINE_PX / 2
  upper, lower = middle - half, middle + half
  corners = [(left, upper), (right, upper), (right, lower), (left, lower)]
  placed = np.array(corners) @ strip.placed[:, :2].T + strip.placed[:, 2]
  return tuple((float(x), float(y)) for x, y in placed)


def is_on(box: Box, strip: View) -> bool:
  """True if a box is as high as a strip's line, and lies on it."""
  (left, top), (right, bottom) = _extent(box, strip)
  off = abs((top + bottom) / 2 / LINE_PX - HALF_HEIGHT)
  whole = left >= -1 and right <= strip.picture.shape[1] + 1
  low = LOWEST <= _height(box, strip) <= HIGHEST
  return bool(whole and off <= FARTHEST and low)


def _height(box: Box, strip: View) -> float:
  (_, top), (_, bottom) = _extent(box, strip)
  return float((bottom - top) / LINE_PX)


def _reach(box: Box, strip: View) -> tuple[float, float]:
  """Where a box begins and ends along a strip."""
  (left, _), (right, _) = _extent(box, strip)
  return float(left), float(right)


def _extent(box: Box, strip: View) -> np.ndarray:
  """Least and largest (x, y) of a box in a strip's pixels."""
  linear, origin = strip.placed[:, :2], strip.placed[:, 2]
  inside = (np.array(box.corners) - origin) @ np.linalg.inv(linear).T
  return np.stack([inside.min(0), inside.max(0)])
