"""The screen of a virtual machine: a picture with words burned in around it.

    +---------------------------------------+
    | name, number, birth    hospital, date |
    |          +----------------+           |
    | settings |    picture     |  (or on the other side)
    |          +----------------+           |
    | that it is simulated                  |
    +---------------------------------------+

The layout is after no vendor.  The picture begins at a multiple of 8 pixels,
so that a block of a JPEG holds moving echoes or still words, never both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

BANNER_PX, FOOT_PX = 56, 24  # rows above and below
SETTINGS_PX, EDGE_PX = 120, 24  # columns with the settings, and without
LEAST_COLUMNS = 480  # holds the longest lines of the banner
LINE_PX = 16
FONT, SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
GREY = 200
FOOT = "SIMULATED - NO PATIENT - NOT FOR CLINICAL USE"


@dataclass(frozen=True)
class Words:
  """What a screen says.

  Attributes:
    patient, hospital: lines at the top left and at the top right.
    settings: lines beside the picture.
    settings_left: on which side.
  """

  patient: Sequence[str]
  hospital: Sequence[str]
  settings: Sequence[str]
  settings_left: bool = True


@dataclass(frozen=True)
class Page:
  """A screen without its picture.

  Attributes:
    pixels: the words on black.
    x0, y0: column and row of the picture's corner.
  """

  pixels: UInt8[np.ndarray, "H W"]
  x0: int
  y0: int

  def show(self, picture: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "H W"]:
    """The screen with a picture in its place."""
    screen = self.pixels.copy()
    rows, columns = picture.shape
    screen[self.y0 : self.y0 + rows, self.x0 : self.x0 + columns] = picture
    return screen


def lay_out(rows: int, columns: int, words: Words) -> Page:
  """The screen for a picture of this size."""
  height = BANNER_PX + rows + FOOT_PX
  width = max(LEAST_COLUMNS, SETTINGS_PX + columns + EDGE_PX)
  width += width % 2
  pixels = np.zeros((height, width), np.uint8)
  x0, beside = SETTINGS_PX, 6
  if not words.settings_left:
    x0, beside = EDGE_PX, EDGE_PX + columns + 8
  _write(pixels, words.patient, 6, 0)
  for i, line in enumerate(words.hospital):
    _write(pixels, [line], width - 6 - _length(line), i)
  for i, line in enumerate(words.settings):
    where = (beside, BANNER_PX + (i + 1) * LINE_PX)
    _text(pixels, line, where)
  _text(pixels, FOOT, (6, height - 8))
  return Page(pixels, x0, BANNER_PX)


def _write(pixels, lines, x, first):
  """Lines of the banner, `first` lines below its top."""
  for i, line in enumerate(lines):
    _text(pixels, line, (x, (first + i + 1) * LINE_PX))


def _length(line):
  return cv2.getTextSize(line, FONT, SCALE, 1)[0][0]


def _text(pixels, line, where):
  cv2.putText(pixels, line, where, FONT, SCALE, GREY, 1, cv2.LINE_AA)
