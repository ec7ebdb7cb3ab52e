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

import cv2
import numpy as np
from jaxtyping import UInt8

GROUP = 4  # frames that share a maximum
READ_SCORE = 0.4  # of the reader, for two signs or more
GLYPH_SCORE = 0.8  # for one sign by itself
TALLEST_SHARE = 1 / 6  # of the picture: a taller "0" is a heart
TALLEST_PX = 48
GLYPH_PX = 40
FINE_PX, COARSE_PX = 480, 320  # the short side that the views are scaled to
WIDEST_STEP, LARGEST_PX = 2.5, 1600
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
    return tuple(box for view in views(frames) for box in _read(engine, view))

  return read


@dataclass(frozen=True)
class View:
  """A grey picture to read in, and how much larger it is than the frames."""

  picture: Grey
  scale: float


def views(frames: UInt8[np.ndarray, "T H W c"]) -> Iterator[View]:
  """The pictures that OCR reads; those that repeat another are left out."""
  seen: set[bytes] = set()
  short = min(frames.shape[1:3])
  fine, coarse = (_scale(short, wanted) for wanted in (FINE_PX, COARSE_PX))
  for picture, scales in _pictures(frames, fine, coarse):
    for scale in dict.fromkeys(scales):
      name = picture.tobytes() + np.float32(scale).tobytes()
      if name not in seen:
        seen.add(name)
        yield View(_scaled(picture, scale), scale)


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
  yield _stretched(mean.astype(np.uint8)), (fine, coarse, 1.5 * fine)
  yield _stretched(lowest), (fine, coarse)
  yield _levelled(mean), (fine,)
  if frames.shape[-1] == 3:
    colour = (grey - frames.min(-1)).max(0)
    if colour.max() > COLOURED:
      yield colour, (fine,)
  # Dark letters on a bright ground.
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


def _scaled(picture: Grey, scale: float) -> Grey:
  if scale == 1:
    return picture
  method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
  return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)


def _read(engine: Callable, view: View) -> list[Box]:
  """What counts as text in one view."""
  found = engine(cv2.cvtColor(view.picture, cv2.COLOR_GRAY2BGR))
  if found.boxes is None or found.txts is None:
    return []
  tallest = max(TALLEST_PX, TALLEST_SHARE * min(view.picture.shape) / view.scale)
  boxes = []
  for corners, text, score in zip(
    found.boxes, found.txts, found.scores, strict=True
  ):
    placed = np.asarray(corners, np.float64) / view.scale
    if is_text(text, float(score), short_side(placed), tallest):
      boxes.append(Box(tuple((float(x), float(y)) for x, y in placed)))
  return boxes


def short_side(corners: np.ndarray) -> float:
  """The height of a line of text, whichever way it is turned."""
  across = np.hypot(*(corners[1] - corners[0]))
  down = np.hypot(*(corners[3] - corners[0]))
  return float(min(across, down))


def is_text(text: str, score: float, height_px: float, tallest: float) -> bool:
  """True for two letters or digits that were read, or one read surely.

  Whole ventricles are read as a zero: what is too tall is no text.
  """
  signs = sum(sign.isalnum() for sign in text)
  if signs >= 2:
    return score >= READ_SCORE and height_px <= tallest
  return signs == 1 and score >= GLYPH_SCORE and height_px <= GLYPH_PX
