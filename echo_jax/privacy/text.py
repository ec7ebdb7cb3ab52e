"""Text in the pixels, found by OCR in views that bring it out.

The detector and the reader are PP-OCR networks that come with the package
`rapidocr` (extra `[deid]`) and load without a network.  Text stands still and
speckle does not: the mean and the minimum over time show faint letters that no
frame shows by itself; every frame enters the maximum of a group of four, which
shows letters that are there for one frame.  What is read is never returned,
only where it is: the text of a header must not reach a log by this way.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

GROUP = 4  # frames that share a maximum
READ_SCORE = 0.4  # of the reader, for two signs or more
GLYPH_SCORE = 0.8  # for one sign by itself
TALLEST_SHARE = 1 / 6  # of the picture: a ventricle is read as a zero
COVERED_SHARE = 0.9
TALLEST_PX = 48
GLYPH_PX = 40
FINE_PX, COARSE_PX = 480, 320  # the short side that the views are scaled to
WIDEST_STEP, LARGEST_PX = 2.5, 1600
TILE_PX, OVERLAP_PX = 640, 128  # alone in a large dark picture text is missed
CLIP_LIMIT, TILES = 8.0, (8, 8)
SURROUND_PX = 8.0  # local mean and deviation
COLOURED = 24

Grey = UInt8[np.ndarray, "H W"]


@dataclass(frozen=True)
class Box:
  """Four corners (x, y) around one piece of text, in pixels."""

  corners: tuple[tuple[float, float], ...]


Reader = Callable[[UInt8[np.ndarray, "T H W c"]], tuple[Box, ...]]
"""Finds the text in the frames of one recording."""


class NoReader(ValueError):
  """OCR is not installed."""


def make_reader(threads: int = 1) -> Reader:
  """Loads the networks; the function it returns finds text in frames.

  Raises:
    NoReader: the extra `[deid]` is not installed.
  """
  for name in ("rapidocr", "onnxruntime"):
    if importlib.util.find_spec(name) is None:
      raise NoReader(
        f"no OCR: {name} is not installed, and without it nothing is written; "
        "pip install 'echo-jax[deid]'"
      )
  import rapidocr  # heavy, and not needed by anything else

  engine = rapidocr.RapidOCR(
    params={
      "Global.log_level": "critical", "Global.text_score": 0.0,
      "Global.use_cls": False, "Global.max_side_len": 2 * LARGEST_PX,
      "Det.limit_side_len": 32, "Det.box_thresh": 0.4,
      "EngineConfig.onnxruntime.intra_op_num_threads": threads,
    }
  )  # fmt: skip

  def read(frames: np.ndarray) -> tuple[Box, ...]:
    boxes: list[Box] = []
    covered = np.zeros(frames.shape[1:3], np.uint8)
    for view in views(frames):
      for box in _read(engine, view, covered):
        boxes.append(box)
        corners = np.rint(np.array(box.corners)).astype(np.int32)
        cv2.fillConvexPoly(covered, corners, 1)
    return tuple(boxes)

  return read


@dataclass(frozen=True)
class View:
  """A grey picture to read in, how much larger it is than the frames, and
  where its corner lies in the enlarged frames (x, y)."""

  picture: Grey
  scale: float
  corner: tuple[int, int] = (0, 0)


def views(frames: UInt8[np.ndarray, "T H W c"]) -> Iterator[View]:
  """The pictures that OCR reads; those that repeat another are left out."""
  seen: set[bytes] = set()
  short = min(frames.shape[1:3])
  fine, coarse = (_scale(short, wanted) for wanted in (FINE_PX, COARSE_PX))
  for picture, scales in _pictures(frames, fine, coarse):
    for scale in dict.fromkeys(scales):
      name = picture.tobytes() + np.float32(scale).tobytes()
      if picture.any() and name not in seen:
        seen.add(name)
        yield from _tiles(_scaled(picture, scale), scale)


def _tiles(picture: Grey, scale: float) -> Iterator[View]:
  """The picture in overlapping pieces that are not too large to read in."""
  starts = [_starts(length) for length in picture.shape]
  for top in starts[0]:
    for left in starts[1]:
      piece = picture[top : top + TILE_PX, left : left + TILE_PX]
      yield View(np.ascontiguousarray(piece), scale, (left, top))


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
  frames: np.ndarray, fine: float, coarse: float
) -> Iterator[tuple[Grey, tuple[float, ...]]]:
  grey = frames.max(-1)  # a blue letter is as bright as a white one
  for start in range(0, len(grey), GROUP):
    yield grey[start : start + GROUP].max(0), (fine,)
  lowest, mean = grey.min(0), grey.mean(0)
  yield _stretched(mean.astype(np.uint8)), (fine, coarse)
  yield _stretched(lowest), (fine,)
  yield _levelled(mean), (fine,)
  if frames.shape[-1] == 3:
    colour = (grey - frames.min(-1)).max(0)
    if colour.max() > COLOURED:
      yield colour, (fine,)
  # Dark letters on a bright ground, and faint ones in few frames.
  yield 255 - _stretched(grey.max(0)), (fine,)


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


def _read(engine: Any, view: View, covered: Grey) -> list[Box]:
  """What counts as text in one view and was not found in another before."""
  picture = cv2.cvtColor(view.picture, cv2.COLOR_GRAY2BGR)
  found = engine(picture, use_det=True, use_cls=False, use_rec=False).boxes
  if found is None:
    return []
  shape = np.array(view.picture.shape) / view.scale
  tallest = max(TALLEST_PX, TALLEST_SHARE * float(shape.min()))
  new = []
  for corners in found:
    placed = (np.asarray(corners, np.float64) + view.corner) / view.scale
    if short_side(placed) <= tallest and not _is_covered(placed, covered):
      new.append((corners, placed))
  if not new:
    return []
  # Recognition is as dear as detection: only what is new is read.
  words = engine.recognize_txt(
    engine.crop_text_regions(picture, np.array([one for one, _ in new]))
  )
  return [
    Box(tuple((float(x), float(y)) for x, y in placed))
    for (_, placed), text, score in zip(
      new, words.txts, words.scores, strict=True
    )
    if is_text(text, float(score), short_side(placed))
  ]


def _is_covered(corners: np.ndarray, covered: Grey) -> bool:
  """True if a box lies in text that was found already, but for its border."""
  one = np.zeros(covered.shape, np.uint8)
  cv2.fillConvexPoly(one, np.rint(corners).astype(np.int32), 1)
  area = int(one.sum())
  return area > 0 and int((one & covered).sum()) >= COVERED_SHARE * area


def short_side(corners: np.ndarray) -> float:
  """The height of a line of text, whichever way it is turned."""
  across = np.hypot(*(corners[1] - corners[0]))
  down = np.hypot(*(corners[3] - corners[0]))
  return float(min(across, down))


def is_text(text: str, score: float, height_px: float) -> bool:
  """True for two letters or digits that were read, or one read surely."""
  signs = sum(sign.isalnum() for sign in text)
  if signs >= 2:
    return score >= READ_SCORE
  return signs == 1 and score >= GLYPH_SCORE and height_px <= GLYPH_PX
