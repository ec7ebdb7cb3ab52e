"""From the voxels of a file to the pictures and masks of a video record."""

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8

from echo_jax.data.frames import encode_mask
from echo_jax.data.ingest.recording import Recording, resize_mask
from echo_jax.data.ingest.sector import find_sector
from echo_jax.data.ledger import Rejected


def as_pictures(values: np.ndarray) -> np.ndarray:
  """One picture (H W) or a series as T H W; axes of length 1 are dropped.

  Raises:
    Rejected: more than one axis beside rows and columns.
  """
  *before, rows, columns = values.shape
  long = [n for n in before if n > 1]
  if len(long) > 1:
    raise Rejected(f"{len(long)} axes beside rows and columns, wants one")
  return values.reshape(-1, rows, columns)


def as_grey(values: np.ndarray) -> UInt8[np.ndarray, "*any"]:
  """Values that are grey levels already, as uint8.

  Raises:
    Rejected: a value that is not whole or lies outside 0 to 255.
  """
  low, high = values.min(), values.max()
  if not (low >= 0 and high <= 255):
    raise Rejected(f"grey levels {low:g} to {high:g}, wants 0 to 255")
  grey = values.astype(np.uint8)
  if (grey != values).any():
    raise Rejected("grey levels are not whole numbers")
  return grey


def find_window(
  values: np.ndarray, window_pct: tuple[float, float]
) -> tuple[float, float]:
  """The values at two percentiles of all voxels together.

  One window for a whole series keeps its brightness from frame to frame and
  from slice to slice.

  Raises:
    Rejected: voxels that are not finite, or all alike.
  """
  if not np.isfinite(values).all():
    raise Rejected("voxels that are not finite")
  low, high = (float(level) for level in np.percentile(values, window_pct))
  if not high > low:
    raise Rejected(f"no contrast: both percentiles are {low:g}")
  return low, high


def grey_in_window(
  values: np.ndarray, window: tuple[float, float]
) -> UInt8[np.ndarray, "*any"]:
  """Linear grey levels: the lower end becomes 0, the upper one 255."""
  low, high = window
  share = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
  return np.rint(255 * share.clip(0, 1)).astype(np.uint8)


def as_labels(
  values: np.ndarray, highest: int
) -> UInt8[np.ndarray, "*any"]:
  """A map of labels 0 to `highest`.

  Raises:
    Rejected: another value, as interpolation between labels leaves behind.
  """
  if not np.isin(values, np.arange(highest + 1)).all():
    raise Rejected(f"labels are not the whole numbers 0 to {highest}")
  return values.astype(np.uint8)


def to_recording(
  frames: UInt8[np.ndarray, "T H W"], frame_time_ms: Float[np.ndarray, "T"],
  spacing_mm: Float[np.ndarray, "2"], *, kind: str, device: str = "",
  time_source: str = "", coding: str = "", sector: bool = True,
) -> Recording:  # fmt: skip
  """A series of grey pictures as a recording; `to_record` makes the record.

  Args:
    sector: look for an ultrasound sector; other modalities have none.
  """
  found = np.zeros(frames.shape[1:], bool)
  return Recording(
    frames[..., None], frame_time_ms, time_source, spacing_mm,
    find_sector(frames) if sector else found, kind, device, np.zeros(0),
    math.nan, (), "MONOCHROME2", coding, 0.0, (),
  )  # fmt: skip


def encode_labels(
  labels: UInt8[np.ndarray, "T H W"], label: int,
  known: Bool[np.ndarray, "T"], size: tuple[int, int] | None,
) -> list[bytes]:  # fmt: skip
  """The mask of one label a frame; b"" where no label map is known.

  `size` is the one that the frames are stored at, None for their own.
  """
  rows, columns = size or labels.shape[1:]
  return [
    encode_mask(resize_mask(frame == label, rows, columns)) if has else b""
    for frame, has in zip(labels, known, strict=True)
  ]
