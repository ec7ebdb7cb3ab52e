"""Pixels of a DICOM file as grey or RGB bytes, whatever their coding.

Nothing is decoded before the header, the number of coded frames and the size
that each of them states are known to agree.
Source: DICOM PS3.3 C.7.6.3 (Image Pixel), PS3.5 8 and annex A (coding).
Axes: T frame, H row, W column, c channel (1 grey or 3 RGB).
"""

import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException
from pydicom.pixels import (
  apply_color_lut,
  get_decoder,
  iter_pixels,
  pixel_array,
)  # fmt: skip
from pydicom.uid import UID

from echo_jax.data.ingest import limits
from echo_jax.data.ingest.coded import CodedFrames
from echo_jax.data.ingest.codestream import (
  RLE,
  BadCodestream,
  coded_size,
  rle_bytes_limit,
)  # fmt: skip
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.stream import decode_stream
from echo_jax.data.ledger import Rejected

STEM = "1.2.840.10008.1.2.4."
JPEG_XL = tuple(f"{STEM}{n}" for n in (110, 111, 112))
# MPEG-2, H.264 and HEVC; the forms in several fragments end in .1.
VIDEO = tuple(f"{STEM}{n}" for n in range(100, 109)) + tuple(
  f"{STEM}{n}.1" for n in range(100, 107)
)
BASELINE = f"{STEM}50"
JPEG = (BASELINE, f"{STEM}51")
JPEG_2000 = tuple(f"{STEM}{n}" for n in (90, 91, 92, 93, 201, 202, 203))
GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = (
  "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420",
  "YBR_ICT", "YBR_RCT",
)  # fmt: skip

# What pydicom and its decoders raise on damaged or unusual pixels.
PIXEL_ERRORS = (
  BytesLengthException, ValueError, AttributeError, RuntimeError,
  NotImplementedError, TypeError, KeyError, IndexError, EOFError, OSError,
  OverflowError, MemoryError, SyntaxError, ZeroDivisionError, struct.error,
  Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Pixels:
  """What the pixel data hold.

  Attributes:
    frames: grey (c = 1) or RGB (c = 3).
    stream_ms: times of a video stream's own; None without one.
    coded: the JPEG frames as they are; None if they are coded otherwise.
  """

  frames: UInt8[np.ndarray, "T H W c"]
  stream_ms: Float64[np.ndarray, "T"] | None = None
  coded: CodedFrames | None = None


@dataclass(frozen=True)
class _Shape:
  """The pixel data as the header announces them."""

  frames: int
  rows: int
  columns: int
  samples: int
  bits: int
  photometric: str
  syntax: UID

  @property
  def size(self) -> str:
    return f"{self.columns}x{self.rows}"


def read_pixels(header: Header, dataset: FileDataset, syntax: UID) -> Pixels:
  """All frames of a file.

  Raises:
    Rejected: no pixels, a coding that cannot be decoded, damage, or a size
      that is impossible or too large.
  """
  if not header.has("PixelData"):
    raise Rejected(
      "no pixels: the header has no PixelData (a report, or a file that was "
      "cut off in its header)"
    )
  _check_syntax(syntax)
  shape = _announced(header, syntax)
  try:
    data = dataset.PixelData
  except PIXEL_ERRORS as error:
    raise Rejected("damaged pixels: PixelData cannot be read") from error
  if not isinstance(data, bytes):
    raise Rejected("damaged pixels: PixelData has no bytes")
  if syntax in VIDEO:
    return _from_stream(shape, data)
  if syntax.is_encapsulated:
    _check_frames(shape, dataset)
  frames, as_coded = _decode(header, dataset, shape)
  if syntax != BASELINE:
    return Pixels(frames)
  return Pixels(
    frames, coded=CodedFrames(lambda: list(_coded(shape, dataset)), as_coded)
  )


def _check_syntax(syntax: UID) -> None:
  """Refuses a coding that nothing here decodes, and names the remedy."""
  if not syntax.is_valid:
    raise Rejected(
      "transfer syntax missing: how the pixels are coded is not said"
    )
  if syntax in JPEG_XL:
    raise Rejected(
      f"codec not supported: JPEG XL (transfer syntax {syntax}); recompress "
      "as JPEG Baseline or JPEG 2000, e.g. with djxl, and try again"
    )
  if syntax in VIDEO:
    return
  try:
    decoder = get_decoder(syntax)
  except NotImplementedError as error:
    raise Rejected(
      f"codec not supported: transfer syntax {syntax}; recompress as JPEG "
      "Baseline, JPEG 2000 or RLE"
    ) from error
  if decoder.is_encapsulated and not decoder.is_available:
    raise Rejected(
      f"decoder not installed: {syntax.name} needs `pip install "
      "'echo-jax[dicom]'`"
    )


def _announced(header: Header, syntax: UID) -> _Shape:
  """The shape of the pixel data by the header; refuses what cannot be."""
  shape = _Shape(
    header.integer("NumberOfFrames", 1), header.integer("Rows", 0),
    header.integer("Columns", 0), header.integer("SamplesPerPixel", 1),
    header.integer("BitsAllocated", 8),
    header.text("PhotometricInterpretation"), syntax,
  )  # fmt: skip
  count, samples = shape.frames, shape.samples
  if min(count, shape.rows, shape.columns) < 1 or samples not in (1, 3):
    raise Rejected(
      f"bad picture size: {count} frames of {shape.size} with {samples} "
      "samples a pixel"
    )
  if shape.rows * shape.columns > limits.LARGEST_FRAME_PX:
    raise Rejected(
      f"too large: a frame of {shape.size} has more than "
      f"{limits.LARGEST_FRAME_PX} pixels"
    )
  channels = 3 if shape.photometric == "PALETTE COLOR" else samples
  whole = count * shape.rows * shape.columns * channels
  if whole > limits.LARGEST_BYTES or count > limits.MOST_FRAMES:
    raise Rejected(
      f"too large: {count} frames of {shape.size} take more than "
      f"{limits.LARGEST_BYTES / 2**30:g} GiB, or are more than "
      f"{limits.MOST_FRAMES}; cut the recording into parts"
    )
  if shape.photometric not in (COLOUR if samples == 3 else GREY):
    raise Rejected(
      f"bad colour: PhotometricInterpretation is not one of those for "
      f"{samples} samples a pixel"
    )
  stored = header.integer("BitsStored", shape.bits)
  if shape.bits not in (8, 16) or not 8 <= stored <= shape.bits:
    raise Rejected(
      f"bad depth: {stored} of {shape.bits} bits a sample are used; allowed "
      "are 8, and 8 to 16 of 16"
    )
  highest = header.integer("HighBit", stored - 1)
  if highest != stored - 1:
    raise Rejected(
      f"bad depth: the highest of {stored} bits is said to be number "
      f"{highest}; it can only be {stored - 1} (PS3.5 8.1.1)"
    )
  if header.integer("PixelRepresentation", 0) != 0:
    raise Rejected("bad depth: signed pixels are not a picture of ultrasound")
  return _with_real_colour(header, shape)


def _with_real_colour(header: Header, shape: _Shape) -> _Shape:
  """Names of colour belong to codings: PS3.3 C.7.6.3.1.2, PS3.5 8.2.

  Under a wrong one pydicom would hand out luminance and chrominance as RGB.
  """
  named, syntax = shape.photometric, shape.syntax
  fits = {
    "YBR_ICT": JPEG_2000, "YBR_RCT": JPEG_2000,
    "YBR_PARTIAL_420": VIDEO, "YBR_PARTIAL_422": VIDEO,
  }.get(named)  # fmt: skip
  if fits is None or syntax in fits:
    return shape
  if syntax not in JPEG:
    raise Rejected(
      f"bad colour: PhotometricInterpretation {named} with {syntax.name}, "
      "which cannot be so coded"
    )
  header.warn(
    f"PhotometricInterpretation {named} cannot be in a JPEG: read as "
    "YBR_FULL_422"
  )
  return replace(shape, photometric="YBR_FULL_422")


def _coded(shape: _Shape, dataset: FileDataset) -> Iterator[bytes]:
  """The coded bytes of each frame, by offset table or by their ends."""
  offsets = None
  if "ExtendedOffsetTable" in dataset:
    offsets = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
  return generate_frames(
    dataset.PixelData, number_of_frames=shape.frames, extended_offsets=offsets
  )


def _check_frames(shape: _Shape, dataset: FileDataset) -> None:
  """Every frame must be there and be of the size that the header says."""
  most = rle_bytes_limit(
    shape.rows * shape.columns, shape.samples * shape.bits // 8
  )
  count = 0
  try:
    for data in _coded(shape, dataset):
      if count < shape.frames:
        _check_frame(data, f"frame {count} of {shape.frames}", shape, most)
      count += 1
  except Rejected:  # is a ValueError too
    raise
  except PIXEL_ERRORS as error:
    raise Rejected(
      f"damaged pixels: frame {count} of {shape.frames} cannot be found "
      f"({type(error).__name__})"
    ) from error
  if count != shape.frames:
    raise Rejected(
      f"damaged pixels: {count} coded frames, the header says {shape.frames}"
    )


def _check_frame(data: bytes, name: str, shape: _Shape, most: int) -> None:
  if shape.syntax == RLE and len(data) > most:
    raise Rejected(
      f"damaged pixels: {name} has {len(data)} bytes of RLE, {shape.size} "
      f"pixels need {most} at most"
    )
  try:
    size = coded_size(data, shape.syntax)
  except BadCodestream as error:
    raise Rejected(
      f"damaged pixels: {name} cannot be decoded, {error}"
    ) from error
  says = shape.rows, shape.columns, shape.samples
  if size is not None and (size.rows, size.columns, size.components) != says:
    raise Rejected(
      f"damaged pixels: {name} is coded as {size.columns}x{size.rows} with "
      f"{size.components} samples, the header says {shape.size} with "
      f"{shape.samples}"
    )


def _from_stream(shape: _Shape, data: bytes) -> Pixels:
  """Frames of MPEG-2, H.264 or HEVC; as many as the header says."""
  try:
    video = b"".join(generate_frames(data, number_of_frames=1))
  except PIXEL_ERRORS as error:
    raise Rejected("damaged pixels: the video cannot be found") from error
  stream = decode_stream(video, (shape.frames, shape.rows, shape.columns))
  if len(stream.frames) != shape.frames:
    raise Rejected(
      f"damaged pixels: {len(stream.frames)} frames decoded, the header says "
      f"{shape.frames}"
    )
  return Pixels(stream.frames, stream.times_ms if stream.timed else None)


def _decode(
  header: Header, dataset: FileDataset, shape: _Shape
) -> tuple[UInt8[np.ndarray, "T H W c"], str]:
  """Decoded frames, and how their colours were really coded."""
  frames, done = None, 0
  with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    try:
      palette = None
      if shape.photometric == "PALETTE COLOR":
        palette = _palette(header, dataset, shape)
      for pixels in _decoded_frames(dataset, shape):
        frame = _to_bytes(pixels, header, shape, palette)
        if frames is None:
          frames = np.empty((shape.frames, *frame.shape), np.uint8)
        if done < shape.frames:
          frames[done] = frame
        done += 1
    except PIXEL_ERRORS as error:
      raise Rejected(
        f"damaged pixels: frame {done} of {shape.frames} cannot be decoded "
        f"({type(error).__name__}, {shape.syntax.name})"
      ) from error
  if done != shape.frames:
    raise Rejected(
      f"damaged pixels: {done} frames decoded, the header says {shape.frames}"
    )
  colour = shape.photometric
  if any("Photometric Interpretation" in str(one.message) for one in said):
    header.warn(
      f"PhotometricInterpretation {colour} disagrees with the coded frames: "
      "the frames were believed"
    )
    colour = "RGB" if colour.startswith("YBR") else "YBR_FULL"
  return frames, colour


def _decoded_frames(
  dataset: FileDataset, shape: _Shape
) -> Iterable[np.ndarray]:
  """Frames as pydicom decodes them, RGB where there is colour."""
  if shape.photometric == "YBR_FULL_422" and not shape.syntax.is_encapsulated:
    # iter_pixels of pydicom 3.0 cuts these frames at three bytes a pixel.
    frames = pixel_array(dataset)
    return frames if shape.frames > 1 else [frames]
  return iter_pixels(
    dataset, decoding_plugin=_plugin(shape.syntax),
    photometric_interpretation=shape.photometric,
  )  # fmt: skip


def _plugin(syntax: UID) -> str:
  """The decoder to use; "" takes any that is installed.

  Decoders of JPEG differ by up to 20 grey levels where they enlarge the
  colours of 4:2:2: Pillow and OpenCV, which reads records, use the same one.
  pydicom's own RLE decoder is in Python, tens of times slower.
  """
  wanted = {BASELINE: "pillow", RLE: "pylibjpeg"}.get(syntax, "")
  if wanted and wanted in get_decoder(syntax).available_plugins:
    return wanted
  return ""


def _palette(
  header: Header, dataset: FileDataset, shape: _Shape
) -> UInt8[np.ndarray, "n 3"]:
  """RGB of every pixel value, from the colour tables of the header."""
  values = np.arange(2**shape.bits, dtype=f"u{shape.bits // 8}")
  colours = apply_color_lut(values[None], dataset)[0]
  if colours.dtype.itemsize == 1:
    return colours
  # Tables of 16 bits repeat or pad the upper byte; some use the lower one.
  if colours.max() <= 255:
    header.warn("the palette uses 8 of its 16 bits: the lower 8 were taken")
    return colours.astype(np.uint8)
  return (colours >> 8).astype(np.uint8)


def _to_bytes(
  pixels: np.ndarray, header: Header, shape: _Shape,
  palette: UInt8[np.ndarray, "n 3"] | None,
) -> UInt8[np.ndarray, "H W c"]:  # fmt: skip
  """One decoded frame to 8 bits, grey or RGB."""
  if palette is not None:
    return palette[pixels]
  stored_bits = header.integer("BitsStored", shape.bits)
  if shape.photometric == "MONOCHROME1":
    pixels = (1 << stored_bits) - 1 - pixels
  if stored_bits > 8:
    header.warn(f"{stored_bits} bits a sample: the upper 8 were kept")
    pixels = pixels >> (stored_bits - 8)
  if pixels.ndim == 2:
    pixels = pixels[..., None]
  return pixels.astype(np.uint8)
