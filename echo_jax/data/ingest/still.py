"""A PNG picture to a recording of one frame."""

import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from echo_jax.data.ingest.recording import (
  Recording,
  coloured_pct,
  luminance,
)  # fmt: skip
from echo_jax.data.ingest.sector import find_sector
from echo_jax.data.ledger import Rejected

MODES = ("L", "RGB")  # 8-bit grey and colour; no palette, no transparency
MOST_PIXELS = 4096 * 4096


def read_still(path: Path) -> Recording:
  """Reads a whole 8-bit grey or RGB PNG; its one frame is at 0 ms.

  A PNG has no header of ours: spacing, device and heart rate are unknown.

  Raises:
    Rejected: it cannot be opened, is no such PNG, damaged or cut off.
  """
  pixels = _pixels(path)
  frames = pixels[None] if pixels.ndim == 3 else pixels[None, ..., None]
  sector = find_sector(luminance(frames))
  notes = () if sector.any() else ("no ultrasound sector found in the pixels",)
  return Recording(
    frames, np.zeros(1), "single frame", np.full(2, np.nan, np.float32),
    sector, "still", "", np.zeros(0), float("nan"), (),
    "MONOCHROME2" if frames.shape[-1] == 1 else "RGB", "png",
    coloured_pct(frames, sector), notes,
  )  # fmt: skip


def _pixels(path: Path) -> UInt8[np.ndarray, "..."]:
  """Decoded pixels, after every checksum of the file was found right."""
  try:
    with Image.open(path, formats=["PNG"]) as picture:
      mode, (columns, rows) = picture.mode, picture.size
      picture.verify()  # checksums; load() alone reads damaged data as black
    if mode not in MODES:
      raise Rejected(f"picture: mode {mode}, wants 8-bit grey or RGB")
    if rows * columns > MOST_PIXELS:
      raise Rejected(f"picture: {rows} x {columns} pixels is no ultrasound")
    with Image.open(path, formats=["PNG"]) as picture:
      return np.array(picture)
  except Rejected:
    raise
  except (OSError, SyntaxError, ValueError, zlib.error,
          Image.DecompressionBombError) as error:  # fmt: skip
    raise Rejected(_reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
  """Why Pillow could not read it, without the path that it names."""
  if isinstance(error, OSError) and error.strerror:
    return f"cannot be opened: {error.strerror}"
  if path.stat().st_size == 0:
    return "empty file: 0 bytes"
  return f"damaged picture: no whole PNG ({type(error).__name__})"
