"""A picture of one recording for the eye: frames, sector and regions.

It shows pixels as they are, with whatever is burned into them.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from echo_jax.data.ingest.recording import Recording
from echo_jax.data.ingest.regions import Region

OUTLINE_RGB = (255, 214, 0)
PICTURE_RGB = (0, 200, 255)
SPECTRUM_RGB = (255, 90, 220)
MMODE_RGB = (90, 255, 120)
OTHER_RGB = (150, 150, 150)
GAP_PX = 8


def draw_recording(recording: Recording) -> UInt8[np.ndarray, "H W 3"]:
  """Three panels: first frame; middle frame explained; brightest of all.

  The middle one has the sector (yellow), 2D regions (blue), spectra with
  their zero line (pink), M-mode (green) and other regions (grey), each with
  its name.
  """
  frames = recording.frames
  explained = _rgb(frames[len(frames) // 2]).copy()
  for region in recording.regions:
    _draw_region(explained, region)
  if recording.doppler is not None and recording.doppler.zero_px >= 0:
    x0, _, x1, _ = recording.doppler.box_px
    row = round(recording.doppler.zero_px)
    cv2.line(explained, (x0, row), (x1, row), SPECTRUM_RGB)
  contours, _ = cv2.findContours(
    recording.sector.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
  )
  cv2.drawContours(explained, contours, -1, OUTLINE_RGB)
  gap = np.full((len(explained), GAP_PX, 3), 255, np.uint8)
  return np.hstack(
    [_rgb(frames[0]), gap, explained, gap, _rgb(frames.max(0))]
  )  # fmt: skip


def stack_pictures(
  pictures: list[UInt8[np.ndarray, "_ _ 3"]],
) -> UInt8[np.ndarray, "H W 3"]:
  """Pictures below each other on white."""
  width = max(picture.shape[1] for picture in pictures)
  rows = [
    cv2.copyMakeBorder(
      picture, 0, GAP_PX, 0, width - picture.shape[1], cv2.BORDER_CONSTANT,
      value=(255, 255, 255),
    )
    for picture in pictures
  ]  # fmt: skip
  return np.vstack(rows)


def _draw_region(picture: np.ndarray, region: Region) -> None:
  """Its border and name; a border outside of the picture is cut off."""
  rows, columns = picture.shape[:2]
  x = np.clip([region.x0, region.x1], 0, columns - 1).tolist()
  y = np.clip([region.y0, region.y1], 0, rows - 1).tolist()
  colour = OTHER_RGB
  for applies, rgb in (
    (region.is_picture, PICTURE_RGB), (region.is_spectrum, SPECTRUM_RGB),
    (region.is_mmode, MMODE_RGB),
  ):  # fmt: skip
    colour = rgb if applies else colour
  cv2.rectangle(picture, (x[0], y[0]), (x[1], y[1]), colour)
  place = x[0] + 3, min(y[0] + 12, rows - 2)
  font = cv2.FONT_HERSHEY_SIMPLEX
  cv2.putText(picture, region.name, place, font, 0.4, colour, 1)


def _rgb(frame: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
