"""The ultrasound sector of one clip, found from its own pixels.

Echoes move and text does not: in a clip the sector is where the grey value
changes over time, in a single frame where it is bright.  Dark flanks change by
a few grey levels only, so a low threshold is tried first and passed over where
noise floods the picture; within a JPEG block of a bright echo a pixel must
reach a share of it, since ringing changes too.  The mask is closed (speckle
has holes), opened (an ECG trace, text and rulers are thin), reduced to the
part that holds most of the clear echoes and enclosed by its convex hull, since
a B-mode sector is convex.  A flank without any echo is not seen, the hull
bridges the small concave arc under a curved probe, and a second moving picture
in the same frame (a scrolling spectrum) may be taken where no region tells
them apart.
"""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

MOST_FRAMES = 64  # more do not change the mask
CLEAR_CHANGE = 10  # grey levels; JPEG noise beside text stays below
LOW_CHANGES = (3, 5)  # tried first, for dark flanks
BLOCK = np.ones((17, 17), np.uint8)  # reaches over 8 pixels: a JPEG block
LEAST_SHARE = 0.2  # of the largest change within a block
FLOODED = 0.92  # of the box: a low threshold that finds more found noise
LEAST_AREA = 0.02  # of the box: less is no sector

Box = tuple[int, int, int, int]


def find_sector(
  grey: UInt8[np.ndarray, "T H W"], box: Box | None = None
) -> Bool[np.ndarray, "H W"]:
  """True inside the sector; all False where none is found.

  Args:
    grey: luminance of the frames.
    box: columns x0 to x1 and rows y0 to y1 (ends outside) that hold the
      picture, from the header's region; None searches everywhere.
  """
  rows, columns = grey.shape[1:]
  x0, y0, x1, y1 = box or (0, 0, columns, rows)
  inside = grey[_spread(len(grey)), y0:y1, x0:x1]
  sector = np.zeros((rows, columns), bool)
  found = np.zeros(inside.shape[1:], bool)
  if len(inside) > 1:
    found = _enclosed(inside.max(0) - inside.min(0))
  if found.mean() < LEAST_AREA:
    found = _enclosed(inside.max(0))
  if found.mean() >= LEAST_AREA:
    sector[y0:y1, x0:x1] = found
  return sector


def bounding_box(mask: Bool[np.ndarray, "H W"]) -> Box | None:
  """First and last column, first and last row as (x0, y0, x1, y1)."""
  if not mask.any():
    return None
  columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
  return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _spread(frames: int) -> np.ndarray:
  return np.unique(np.linspace(0, frames - 1, MOST_FRAMES).round().astype(int))


def _enclosed(level: np.ndarray) -> np.ndarray:
  """Hull of the sector in a map of change or of brightness."""
  clear = level > max(CLEAR_CHANGE, 0.08 * np.percentile(level, 99))
  ringing = LEAST_SHARE * cv2.dilate(level, BLOCK)
  for threshold in LOW_CHANGES:
    found = _hull(_closed(level >= np.maximum(threshold, ringing)), clear)
    if found.mean() < FLOODED:
      return found
  return _hull(_closed(clear), clear)


def _closed(mask: np.ndarray) -> np.ndarray:
  """The mask without its small holes."""
  return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(mask))


def _disc(mask: np.ndarray) -> np.ndarray:
  """What is thinner than this is a hole, a line or a letter."""
  size = max(3, min(mask.shape) // 30)
  return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _hull(mask: np.ndarray, clear: np.ndarray) -> np.ndarray:
  """Convex hull of the thick part of a mask that has most clear pixels."""
  disc = _disc(mask)
  thick = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)
  # Opening cuts the narrow apex off: take back what touches a thick part.
  parts = mask & cv2.dilate(thick, disc)
  # Beside a bright echo a block's width may be missing: reach over it.
  _, labels = cv2.connectedComponents(cv2.dilate(parts, BLOCK))
  labels *= parts
  clear_pixels = np.bincount(labels[clear & (parts > 0)], minlength=1)
  hull = np.zeros(mask.shape, np.uint8)
  if not clear_pixels.any():
    return hull > 0
  rows, columns = np.nonzero(labels == clear_pixels.argmax())
  points = np.stack([columns, rows], 1).astype(np.int32)
  cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
  return hull > 0
