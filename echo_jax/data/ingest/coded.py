"""Frames that the owner coded as JPEG, and whether a record can keep them.

Coding a JPEG again loses detail and time.  Its bytes may be stored as they
are if a reader of the record sees what the owner's software shows: the same
picture of the same size, within `TOLERANCE` grey levels (decoders round
differently).  A JPEG in RGB without a marker that says so does not pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from echo_jax.data.frames import decode_frame
from echo_jax.data.ingest.codestream import BadCodestream, jpeg_size

TOLERANCE = 2  # grey levels


@dataclass(frozen=True)
class CodedFrames:
  """The owner's JPEG frames, cut out of the file when asked for.

  Attributes:
    read: gives the bytes of each frame.
    colour: photometric interpretation of the coded pixels.
  """

  read: Callable[[], list[bytes]]
  colour: str


def owners_jpeg(
  coded: CodedFrames | None, frames: UInt8[np.ndarray, "T H W c"]
) -> tuple[list[bytes], str]:
  """The owner's JPEG frames and "", or none and why they cannot be kept.

  All frames must be built alike; first, middle and last are decoded.

  Args:
    coded: the owner's frames; None if they are not JPEG.
    frames: what a reader of the record must see.
  """
  if coded is None:
    return [], "the owner's frames are not JPEG"
  data = coded.read()
  try:
    sizes = [jpeg_size(one) for one in data]
  except BadCodestream as error:
    return [], f"a frame is no whole JPEG: {error}"
  if len(data) != len(frames) or len(set(sizes)) > 1:
    return [], "the owner's frames are not coded alike"
  rows, columns = frames.shape[1:3]
  if (sizes[0].rows, sizes[0].columns) != (rows, columns):
    return [], "the size changes"
  for i in sorted({0, len(frames) // 2, len(frames) - 1}):
    try:
      shown = decode_frame(data[i], "jpeg", frames.shape[1:])
    except ValueError:
      return [], f"frame {i} cannot be decoded by readers of a record"
    worst = largest_difference(shown, frames[i])
    if worst > TOLERANCE:
      return [], f"frame {i} would be shown {worst} grey levels off"
  return data, ""


def largest_difference(
  a: UInt8[np.ndarray, "H W c"], b: UInt8[np.ndarray, "H W c"]
) -> int:
  """Largest difference of any two samples."""
  return int((np.maximum(a, b) - np.minimum(a, b)).max())
