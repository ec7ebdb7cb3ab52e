"""Which pixels of a recording stay, and the frames with all others black."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from echo_jax.data.ingest.recording import Recording
from echo_jax.data.ingest.regions import Region, fits_picture
from echo_jax.data.ledger import Rejected
from echo_jax.privacy.text import Box, Reader

LARGEST_SHARE = 0.97  # more of the picture was not told from what is around it
# Added around the sector: its dim flanks are seen only in part.
MARGIN_SHARE = 0.035  # of the short side
AROUND_PX = 48  # what OCR sees beyond the kept area: letters that reach in
# Added to a text box before and behind, above and below, in heights: a
# detector cuts the first letter, and leaves room above and below by itself.
PAD_ALONG, PAD_ACROSS, PAD_PX = 0.5, 0.12, 2
TRACES = (2, 3)  # spatial formats: M-mode, spectral
SPECTRA = (3, 4)  # data types: PW, CW
# What decoding a JPEG leaves beside the sector's edge; black blocks are zero.
EDGE_NOISE, BLOCK_PX = 16, 8

Frames = UInt8[np.ndarray, "T H W c"]
Mask = Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class Kept:
  """The area that stays and the ground for it."""

  area: Mask
  rule: str


def kept_area(recording: Recording) -> Kept:
  """The sector, and the header's rectangles of M-mode and spectral pictures.

  Raises:
    Rejected: there is neither, or the area is the whole picture.
  """
  rows, columns = recording.sector.shape
  area = _grown(recording.sector)
  rules = ["sector"] if area.any() else []
  if recording.kind in ("pw", "cw", "tdi", "mmode"):
    traces = [r for r in recording.regions if _is_trace(r, rows, columns)]
    for region in traces:
      area[region.y0 : region.y1 + 1, region.x0 : region.x1 + 1] = True
    rules += ["M-mode or spectral region"] if traces else []
  if not area.any():
    raise Rejected(
      "no sector: neither the pixels nor the header's regions say which part "
      "is the ultrasound picture, so none can be shown clean"
    )
  if area.mean() > LARGEST_SHARE:
    raise Rejected(
      f"no border: {100 * area.mean():.0f} % of the picture would stay, so "
      "the sector was not told from what is around it"
    )
  return Kept(area, " and ".join(rules))


def _grown(sector: Mask) -> Mask:
  reach = max(1, round(MARGIN_SHARE * min(sector.shape)))
  disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
  return cv2.dilate(sector.astype(np.uint8), disc).astype(bool)


def _is_trace(region: Region, rows: int, columns: int) -> bool:
  shows = region.spatial_format in TRACES or region.data_type in SPECTRA
  return shows and fits_picture(region, rows, columns)


def text_mask(
  frames: Frames, area: Mask, read: Reader
) -> tuple[Mask, int]:
  """Where text lies in or reaches into the area, and how many pieces."""
  rows, columns = np.nonzero(area)
  top, left = (max(int(x.min()) - AROUND_PX, 0) for x in (rows, columns))
  bottom, right = (int(x.max()) + 1 + AROUND_PX for x in (rows, columns))
  found = np.zeros(area.shape, np.uint8)
  count = 0
  for box in read(frames[:, top:bottom, left:right]):
    one = np.zeros(area.shape, np.uint8)
    points = _widened(box) + (left, top)
    cv2.fillConvexPoly(one, np.rint(points).astype(np.int32), 1)
    if (one.astype(bool) & area).any():
      found |= one
      count += 1
  return found.astype(bool) & area, count


def _widened(box: Box) -> np.ndarray:
  """The corners moved outwards."""
  corners = np.array(box.corners)
  centre = corners.mean(0)
  edges = corners[1] - corners[0], corners[3] - corners[0]
  lengths = [float(np.hypot(*edge)) for edge in edges]
  shift = np.zeros((4, 2))
  for edge, length in zip(edges, lengths, strict=True):
    share = PAD_ALONG if length == max(lengths) else PAD_ACROSS
    pad = max(PAD_PX, share * min(lengths))
    unit = edge / max(length, 1e-6)
    shift += np.sign((corners - centre) @ unit)[:, None] * unit * pad
  return corners + shift


def blanked(frames: Frames, area: Mask) -> Frames:
  """The frames, black outside of the area."""
  return frames * area[None, :, :, None].astype(np.uint8)


def is_black_outside(frames: Frames, area: Mask) -> bool:
  """True if nothing is there to blank but what decoding leaves.

  Away from the sector not one grey level is let through: writing may be there.
  """
  near = cv2.dilate(
    area.astype(np.uint8), np.ones((2 * BLOCK_PX + 1,) * 2, np.uint8)
  ).astype(bool)
  brightest = frames.max(axis=(0, 3))
  return bool(
    brightest[~near].max(initial=0) == 0
    and brightest[near & ~area].max(initial=0) <= EDGE_NOISE
  )
