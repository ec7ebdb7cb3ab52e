"""Grey pictures of a recording that bring its writing out.

Text stands still and speckle does not: the mean and the minimum over time show
faint letters that no frame shows by itself; every frame enters the maximum of a
group of four, which shows letters that are there for one frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

GROUP = 4  # frames that share a maximum
LARGE_PX, FINE_PX, COARSE_PX = 600, 480, 320  # short side of the views
WIDEST_STEP, LARGEST_PX = 4.2, 1600
TILE_PX, OVERLAP_PX = 640, 128  # alone in a large dark picture text is missed
CLIP_LIMIT, TILES = 8.0, (8, 8)
LIFT, LIFT_LIMIT, LIFT_TILES = 0.6, 4.0, (6, 6)
SURROUND_PX = 8.0  # local mean and deviation
COLOURED = 24

Grey = UInt8[np.ndarray, "H W"]


@dataclass(frozen=True)
class View:
  """A grey picture to read in, and where its pixels lie in the frames.

  Attributes:
    picture: what is read.
    placed: matrix [2, 3] from (x, y, 1) in the picture to x, y in the frames.
    scale: pixels of the picture a pixel of the frames.
    faint: True if it brings out more than an eye sees in a frame.
  """

  picture: Grey
  placed: np.ndarray
  scale: float
  faint: bool


def views(frames: UInt8[np.ndarray, "T H W c"]) -> Iterator[View]:
  """The pictures that OCR reads; those that repeat another are left out."""
  seen: set[bytes] = set()
  short = min(frames.shape[1:3])
  sizes = [_scale(short, wanted) for wanted in (LARGE_PX, FINE_PX, COARSE_PX)]
  for picture, scales, faint in _pictures(frames, *sizes):
    for scale in dict.fromkeys(scales):
      name = picture.tobytes() + np.float32(scale).tobytes()
      if picture.any() and name not in seen:
        seen.add(name)
        yield from _tiles(_scaled(picture, scale), scale, faint)


def _tiles(picture: Grey, scale: float, faint: bool) -> Iterator[View]:
  """The picture in overlapping pieces that are not too large to read in."""
  starts = [_starts(length) for length in picture.shape]
  for top in starts[0]:
    for left in starts[1]:
      piece = picture[top : top + TILE_PX, left : left + TILE_PX]
      placed = np.array([[1, 0, left], [0, 1, top]]) / scale
      yield View(np.ascontiguousarray(piece), placed, scale, faint)


def _starts(length: int) -> list[int]:
  if length <= TILE_PX + OVERLAP_PX:
    return [0] if length <= TILE_PX else [0, length - TILE_PX]
  count = -(-(length - OVERLAP_PX) // (TILE_PX - OVERLAP_PX))
  return np.linspace(0, length - TILE_PX, count).round().astype(int).tolist()


def _scale(short: int, wanted: int) -> float:
  """Enlarges small pictures, leaves middling ones, reduces huge ones."""
  if short > LARGEST_PX:
    return LARGEST_PX / short
  return float(np.clip(wanted / short, 1.0, WIDEST_STEP))


def _pictures(
  frames: np.ndarray, large: float, fine: float, coarse: float
) -> Iterator[tuple[Grey, tuple[float, ...], bool]]:
  """Pictures, the scales to read them at, and whether they bring out more
  than an eye sees in a frame."""
  grey = frames.max(-1)  # a blue letter is as bright as a white one
  for start in range(0, len(grey), GROUP):
    yield grey[start : start + GROUP].max(0), (fine,), False
  lowest, mean = grey.min(0), grey.mean(0)
  yield _stretched(mean.astype(np.uint8)), (fine, coarse), True
  yield _stretched(lowest), (fine,), True
  yield _levelled(mean), (fine,), True
  if frames.shape[-1] == 3:
    colour = (grey - frames.min(-1)).max(0)
    if colour.max() > COLOURED:
      yield colour, (fine,), False
  for still in stills(frames):
    yield still, (large,), True
  # Dark letters on a bright ground, and faint ones in few frames.
  yield 255 - _stretched(grey.max(0)), (fine,), True


def stills(frames: np.ndarray) -> Iterator[Grey]:
  """What stands still, with the dark parts lifted: faint letters in them."""
  grey = frames.max(-1)
  yield _lifted(grey.mean(0))
  if len(grey) > 1:
    yield _lifted(grey.min(0))


def _lifted(picture: np.ndarray) -> Grey:
  lifted = 255 * (picture / 255.0) ** LIFT
  return cv2.createCLAHE(LIFT_LIMIT, LIFT_TILES).apply(lifted.astype(np.uint8))


def _stretched(picture: Grey) -> Grey:
  """Contrast spread out within each of 64 tiles."""
  return cv2.createCLAHE(CLIP_LIMIT, TILES).apply(picture)


def _levelled(picture: np.ndarray) -> Grey:
  """Each pixel against the mean and deviation of what surrounds it."""
  values = picture.astype(np.float32)
  mean = cv2.GaussianBlur(values, (0, 0), SURROUND_PX)
  spread = np.sqrt(cv2.GaussianBlur((values - mean) ** 2, (0, 0), SURROUND_PX))
  return np.clip(128 + 50 * (values - mean) / (spread + 1), 0, 255).astype(
    np.uint8
  )


def _scaled(picture: Grey, scale: float) -> UInt8[np.ndarray, "h w"]:
  if scale == 1:
    return picture
  method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
  return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)
