"""Ultrasound DICOM to a recording: header, pixels, colour, scale and times."""

import contextlib
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import UInt8
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder, iter_pixels
from pydicom.uid import UID

from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.recording import (
  Recording,
  coloured_pct,
  luminance,
  repeated_frames,
)  # fmt: skip
from echo_jax.data.ingest.regions import (
  kind_from_header,
  picture_box,
  read_regions,
  spacing_from_regions,
)  # fmt: skip
from echo_jax.data.ingest.sector import find_sector
from echo_jax.data.ingest.timing import (
  read_frame_times,
  read_heart_rate_bpm,
  read_r_waves,
)  # fmt: skip
from echo_jax.data.ledger import Rejected

ULTRASOUND = {
  "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image",
  "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image",
  "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image (retired)",
  "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image (retired)",
}
VOLUMES = "1.2.840.10008.5.1.4.1.1.6.2"
DIRECTORY = "1.2.840.10008.1.3.10"
JPEG_XL = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
MPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))

# What pydicom raises on a file that is damaged or not as the standard says.
FILE_ERRORS = (
  InvalidDicomError, BytesLengthException, EOFError, OSError, ValueError,
  TypeError, KeyError, AttributeError, NotImplementedError, OverflowError,
  struct.error, zlib.error,
)  # fmt: skip
# And what it and its decoders raise on damaged or unusual pixels.
PIXEL_ERRORS = (
  BytesLengthException, ValueError, AttributeError, RuntimeError,
  NotImplementedError, TypeError, KeyError, IndexError, EOFError, OSError,
  OverflowError, struct.error,
)  # fmt: skip
COLOURED_LIMIT_PCT = 2.0
LARGEST_BYTES = 4 * 2**30


def read_dicom(path: Path) -> Recording:
  """Reads one ultrasound file; see `reading.read_recording`.

  Raises:
    Rejected: damaged, not ultrasound, without pixels or not decodable.
  """
  with _quiet():  # values are converted, and complained of, when asked for
    return _read(path)


def _read(path: Path) -> Recording:
  header, dataset = open_dicom(path)
  _check_pixels(header, dataset)
  frames = _read_pixels(header, dataset)
  rows, columns = frames.shape[1:3]
  regions = read_regions(header)
  times = read_frame_times(header, len(frames))
  kind = kind_from_header(regions, len(frames), header)
  spacing_mm = spacing_from_regions(regions, rows, columns, header)
  box = picture_box(regions, rows, columns)
  sector = np.zeros((rows, columns), bool)
  if box or kind not in ("pw", "cw", "mmode"):
    sector = find_sector(luminance(frames), box)
  if not sector.any():
    header.warn("no ultrasound sector found in the pixels")
  share = coloured_pct(frames, sector)
  _warn_of_pixels(header, frames, kind, share)
  return Recording(
    frames, times.frame_time_ms, times.source, spacing_mm, sector, kind,
    device_name(header), read_r_waves(header, times),
    read_heart_rate_bpm(header), regions,
    header.text("PhotometricInterpretation"),
    transfer_syntax(dataset).name, share, tuple(header.warnings),
  )  # fmt: skip


def open_dicom(path: Path, pixels: bool = True) -> tuple[Header, FileDataset]:
  """The header of an ultrasound file, and its data set for the pixels.

  Raises:
    Rejected: not DICOM, damaged, or not 2-D ultrasound.
  """
  with _quiet() as said:
    try:
      dataset = pydicom.dcmread(
        path, stop_before_pixels=not pixels, force=not has_preamble(path)
      )
    except FILE_ERRORS as error:
      raise Rejected(
        f"damaged DICOM: its header cannot be read ({type(error).__name__})"
      ) from error
  if any("End of file reached" in str(one.message) for one in said):
    raise Rejected(
      "truncated DICOM: the file ends before its pixel data do; copy it again"
    )
  header = Header(dataset)
  with _quiet():
    _check_is_ultrasound(header, dataset)
  return header, dataset


def has_preamble(path: Path) -> bool:
  """True if the file says `DICM` after 128 bytes (PS3.10 7.1)."""
  with Path(path).open("rb") as file:
    return file.read(132)[128:] == b"DICM"


def device_name(header: Header) -> str:
  """Manufacturer and model."""
  names = header.text("Manufacturer"), header.text("ManufacturerModelName")
  return " ".join(name for name in names if name)


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
  """Keeps pydicom's words off the screen: they may quote patient text."""
  logger = logging.getLogger("pydicom")
  level = logger.level
  logger.setLevel(logging.CRITICAL + 1)
  try:
    with warnings.catch_warnings(record=True) as said:
      warnings.simplefilter("always")
      yield said
  finally:
    logger.setLevel(level)


def _check_is_ultrasound(header: Header, dataset: FileDataset) -> None:
  stored = _meta(dataset).text("MediaStorageSOPClassUID")
  if stored == DIRECTORY or header.has("DirectoryRecordSequence"):
    raise Rejected("DICOMDIR: a list of files, not a recording")
  uid = header.text("SOPClassUID")
  modality = header.text("Modality")
  if uid == VOLUMES:
    raise Rejected(
      "3-D ultrasound: Enhanced US Volume is not a video; export a 2-D view"
    )
  if uid in ULTRASOUND:
    return
  name = UID(uid).name if UID(uid).is_valid else "none"
  if modality != "US":
    shown = modality if modality.isalnum() else "none"
    raise Rejected(f"not ultrasound: modality {shown}, SOP class {name}")
  header.warn(f"modality US stored under SOP class {name}")


def transfer_syntax(dataset: FileDataset) -> UID:
  """How the file is coded; an empty UID if it does not say."""
  return UID(_meta(dataset).text("TransferSyntaxUID"))


def _meta(dataset: FileDataset) -> Header:
  """The file meta information (group 2), which old files lack."""
  return Header(getattr(dataset, "file_meta", None) or Dataset())


def _check_pixels(header: Header, dataset: FileDataset) -> None:
  """Refuses what cannot be decoded before any decoder is asked."""
  if not header.has("PixelData"):
    raise Rejected(
      "no pixels: the header has no PixelData (a report, or a file that was "
      "cut off in its header)"
    )
  syntax = transfer_syntax(dataset)
  if not syntax.is_valid:
    raise Rejected(
      "transfer syntax missing: how the pixels are coded is not said"
    )
  if syntax in JPEG_XL:
    raise Rejected(
      f"codec not supported: JPEG XL (transfer syntax {syntax}); recompress "
      "as JPEG Baseline or JPEG 2000, e.g. with djxl, and try again"
    )
  if syntax in MPEG:
    raise Rejected(
      f"codec not supported: MPEG video in DICOM (transfer syntax {syntax}); "
      "extract the stream to an MP4 file and read that"
    )
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


def _read_pixels(
  header: Header, dataset: FileDataset
) -> UInt8[np.ndarray, "T H W c"]:
  """Frames as grey or RGB bytes, by PhotometricInterpretation (C.7.6.3)."""
  count = header.integer("NumberOfFrames", 1)
  rows, columns = header.integer("Rows", 0), header.integer("Columns", 0)
  samples = header.integer("SamplesPerPixel", 1)
  if min(count, rows, columns) < 1 or samples not in (1, 3):
    raise Rejected(
      f"bad picture size: {count} frames of {columns}x{rows} with {samples} "
      "samples a pixel"
    )
  if count * rows * columns * 3 > LARGEST_BYTES:
    raise Rejected(
      f"too large: {count} frames of {columns}x{rows} take more than "
      f"{LARGEST_BYTES / 2**30:g} GiB"
    )
  frames: list[np.ndarray] = []
  with _quiet() as said:
    try:
      for pixels in iter_pixels(dataset):
        frames.append(_to_bytes(pixels, header, dataset))
    except PIXEL_ERRORS as error:
      raise Rejected(
        f"damaged pixels: frame {len(frames)} of {count} cannot be decoded "
        f"({type(error).__name__}, {transfer_syntax(dataset).name})"
      ) from error
  if len(frames) != count:
    raise Rejected(
      f"damaged pixels: {len(frames)} frames decoded, the header says {count}"
    )
  for one in said:
    if "Photometric Interpretation" in str(one.message):
      header.warn(
        "PhotometricInterpretation "
        f"{header.text('PhotometricInterpretation')} disagrees with the coded "
        "frames: the frames were believed"
      )
  return np.stack(frames)


def _to_bytes(
  pixels: np.ndarray, header: Header, dataset: FileDataset
) -> UInt8[np.ndarray, "H W c"]:
  """One decoded frame to 8 bits, grey or RGB."""
  photometric = header.text("PhotometricInterpretation")
  stored_bits = header.integer("BitsStored", 8)
  if photometric == "PALETTE COLOR":
    # A palette has 8 or 16 bits; those of 16 repeat or pad the upper byte.
    pixels = apply_color_lut(pixels, dataset)
    return (pixels >> (8 * (pixels.dtype.itemsize - 1))).astype(np.uint8)
  if photometric == "MONOCHROME1":
    pixels = (1 << stored_bits) - 1 - pixels
  if stored_bits > 8:
    header.warn(f"{stored_bits} bits a sample: the upper 8 were kept")
    pixels = pixels >> (stored_bits - 8)
  if pixels.ndim == 2:
    pixels = pixels[..., None]
  return pixels.astype(np.uint8)


def _warn_of_pixels(
  header: Header, frames: np.ndarray, kind: str, share_pct: float
) -> None:
  repeats = repeated_frames(frames)
  if repeats:
    shown = ", ".join(str(i) for i in repeats[:12])
    more = ", ..." if len(repeats) > 12 else ""
    header.warn(
      f"{len(repeats)} of {len(frames)} frames repeat the one before "
      f"({shown}{more}): the true frame rate is lower"
    )
  if kind in ("cine", "still") and share_pct > COLOURED_LIMIT_PCT:
    header.warn(
      f"{share_pct:.0f} % of the sector is coloured though the header speaks "
      f"of {kind}: colour Doppler or a tinted grey map"
    )
  if kind == "colour" and share_pct == 0:
    header.warn("the header says colour Doppler but no pixel is coloured")


@dataclass(frozen=True)
class Identity:
  """Who and when, as the owner wrote it: real identifiers, never to be stored.

  Attributes:
    patient, study, recording: PatientID with its issuer, StudyInstanceUID,
      SOPInstanceUID; "" if missing.
    sex: F, M or "".
    age_years: at the study; NaN if unknown.
  """

  patient: str
  study: str
  recording: str
  sex: str
  age_years: float


def read_identity(path: Path) -> Identity:
  """Identifiers of a file, without reading its pixels.

  Raises:
    Rejected: not DICOM, damaged, or not 2-D ultrasound.
  """
  header, _ = open_dicom(path, pixels=False)
  with _quiet():
    parts = header.text("IssuerOfPatientID"), header.text("PatientID")
    sex = header.text("PatientSex").upper()
    return Identity(
      "|".join(parts) if parts[1] else "",
      header.text("StudyInstanceUID"),
      header.text("SOPInstanceUID"),
      sex if sex in ("F", "M") else "",
      _age_years(header),
    )


def _age_years(header: Header) -> float:
  """PatientAge (045Y, 018M, 003W, 010D) in years; NaN if it is not so."""
  text = header.text("PatientAge").upper()
  days = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}
  if not (text[:-1].isdigit() and text[-1] in days):
    return float("nan")
  years = int(text[:-1]) * days[text[-1]] / days["Y"]
  return years if years <= 120 else float("nan")
