"""Text in the pixels, found by OCR in views that bring it out.

The detector and the reader are PP-OCR networks that come with the package
`rapidocr` (extra `[deid]`) and load without a network.  What is read is never
returned, only where it is and how many signs it has: the text of a header must
not reach a log by this way.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from echo_jax.privacy.lines import Box, Found, is_on, longer
from echo_jax.privacy.views import LARGEST_PX, Grey, View, stills, views

READ_SCORE = 0.4  # of the reader, for two signs or more
GLYPH_SCORE = 0.8  # for one sign by itself
TALLEST_SHARE = 1 / 6  # of the picture: a ventricle is read as a zero
COVERED_SHARE = 0.9
TALLEST_PX = 48
# The same of one sign by itself: a share of the picture, in these bounds.
GLYPH_SHARE, GLYPH_PX = 1 / 8, (16, 40)

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
    found = Found(tuple(stills(frames)), frames.shape[1:3])
    for view in views(frames):
      found.add(_read(engine, view, found.covered))
    for line in tuple(found.lines):
      for strip in line:
        # Not what lies beside the line: it may be text with a strip of its own.
        pieces = _read(engine, strip, found.covered)
        found.add([piece for piece in pieces if is_on(piece, strip)])
    return (*found.boxes, *longer(found.boxes, found.lines))

  return read


def _read(engine: Any, view: View, covered: Grey) -> list[Box]:
  """What counts as text in a view and is not covered yet."""
  picture = cv2.cvtColor(view.picture, cv2.COLOR_GRAY2BGR)
  found = engine(picture, use_det=True, use_cls=False, use_rec=False).boxes
  if found is None:
    return []
  shape = np.array(view.picture.shape) / view.scale
  tallest = max(TALLEST_PX, TALLEST_SHARE * float(shape.min()))
  glyph_px = float(np.clip(GLYPH_SHARE * min(covered.shape), *GLYPH_PX))
  new = []
  for corners in found:
    placed = np.column_stack([corners, np.ones(4)]) @ view.placed.T
    if short_side(placed) <= tallest and not _is_covered(placed, covered):
      new.append((corners, placed))
  if not new:
    return []
  # Recognition is as dear as detection: only what is new is read.
  words = engine.recognize_txt(
    engine.crop_text_regions(picture, np.array([one for one, _ in new]))
  )
  boxes = []
  for (_, placed), text, score in zip(
    new, words.txts, words.scores, strict=True
  ):
    if is_text(text, float(score), short_side(placed) <= glyph_px):
      corners = tuple((float(x), float(y)) for x, y in placed)
      boxes.append(Box(corners, _signs(text), view.faint))
  return boxes


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


def _signs(text: str) -> int:
  return sum(sign.isalnum() for sign in text)


def is_text(text: str, score: float, low: bool) -> bool:
  """True for two letters or digits that were read, or a low one read surely."""
  signs = _signs(text)
  if signs >= 2:
    return score >= READ_SCORE
  return signs == 1 and score >= GLYPH_SCORE and low
