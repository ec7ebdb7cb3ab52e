"""Coding of single frames and 1-bit masks as bytes.

Raw frames are row-major uint8; JPEG and PNG go through OpenCV.  One frame is
one element of a record, so that a clip decodes only the frames it needs.  A
JPEG may be the owner's own (see `ingest/coded.py`): colour where the record
wants one channel is then decoded to its luminance.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

JPEG_QUALITY = 95


def encode_frames(
  frames: UInt8[np.ndarray, "T H W c"], codec: str
) -> list[bytes]:
  """Encodes each frame; channels are grey (1) or RGB (3).

  Raises:
    ValueError: a codec other than raw, jpeg or png.
  """
  return [encode_frame(frame, codec) for frame in frames]


def encode_frame(frame: UInt8[np.ndarray, "H W c"], codec: str) -> bytes:
  """One frame as bytes; see `encode_frames`."""
  if codec == "raw":
    return np.ascontiguousarray(frame).tobytes()
  image = frame[..., ::-1] if frame.shape[-1] == 3 else frame
  if codec == "jpeg":
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", image, quality)[1].tobytes()
  if codec == "png":
    return cv2.imencode(".png", image)[1].tobytes()
  raise ValueError(f"codec {codec!r} is not one of raw, jpeg, png")


def decode_frames(
  data: Sequence[bytes], codec: str, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "T H W c"]:
  """Decodes some frames of a video; see `decode_frame`."""
  if codec == "raw":  # one by one takes longer than all that there is to do
    return np.frombuffer(b"".join(data), np.uint8).reshape(len(data), *shape)
  frames = np.empty((len(data), *shape), np.uint8)
  for frame, coded in zip(frames, data, strict=True):
    frame[...] = decode_frame(coded, codec, shape)
  return frames


def decode_frame(
  data: bytes, codec: str, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "H W c"]:
  """Decodes one frame to `shape` (rows, columns, channels), RGB or grey.

  Raises:
    ValueError: bytes that do not hold a picture of that shape.
  """
  if codec == "raw":
    return np.frombuffer(data, np.uint8).reshape(shape)
  flag = cv2.IMREAD_COLOR if shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
  # A camera's orientation tag in an owner's JPEG must not turn the picture.
  flag |= cv2.IMREAD_IGNORE_ORIENTATION
  image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
  if image is None:
    raise ValueError(f"{len(data)} bytes are not a {codec} picture")
  image = image[..., ::-1] if shape[-1] == 3 else image[..., None]
  if image.shape != tuple(shape):
    raise ValueError(f"frame is {image.shape}, its record says {shape}")
  return image


def encode_mask(mask: Bool[np.ndarray, "H W"]) -> bytes:
  """A mask as 1-bit PNG."""
  bilevel = [cv2.IMWRITE_PNG_BILEVEL, 1]
  return cv2.imencode(".png", mask.astype(np.uint8), bilevel)[1].tobytes()


def decode_mask(data: bytes) -> Bool[np.ndarray, "H W"]:
  """The mask that `encode_mask` coded."""
  image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
  if image is None:
    raise ValueError(f"{len(data)} bytes are not a mask")
  return image > 0
