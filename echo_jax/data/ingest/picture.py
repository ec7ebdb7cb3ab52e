"""A picture of one recording for the eye: frame, sector outline, brightest."""

import cv2
import numpy as np
from jaxtyping import UInt8

from echo_jax.data.ingest.recording import Recording

OUTLINE_RGB = (255, 214, 0)
REGION_RGB = (0, 200, 255)
GAP_PX = 8


def draw_recording(recording: Recording) -> UInt8[np.ndarray, "H W 3"]:
  """First frame; same with sector (yellow) and 2D regions (blue); maximum."""
  first = _rgb(recording.frames[0])
  outlined = first.copy()
  for region in recording.regions:
    if region.is_picture:
      corners = (region.x0, region.y0), (region.x1, region.y1)
      cv2.rectangle(outlined, *corners, REGION_RGB)
  contours, _ = cv2.findContours(
    recording.sector.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
  )
  cv2.drawContours(outlined, contours, -1, OUTLINE_RGB)
  gap = np.full((len(first), GAP_PX, 3), 255, np.uint8)
  brightest = _rgb(recording.frames.max(0))
  return np.hstack([first, gap, outlined, gap, brightest])


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


def _rgb(frame: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
