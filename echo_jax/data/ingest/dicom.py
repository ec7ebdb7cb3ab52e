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
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from echo_jax.data.ingest import limits
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.pixels import read_pixels
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
from echo_jax.data.ingest.spectrum import doppler_scale
from echo_jax.data.ingest.timing import (
  read_frame_times,
  read_heart_rate_bpm,
  read_r_waves,
)  # fmt: skip
from echo_jax.data.ingest.view import view_in
from echo_jax.data.ledger import Rejected

ULTRASOUND = {
  "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image",
  "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image",
  "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image (retired)",
  "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image (retired)",
}
VOLUMES = "1.2.840.10008.5.1.4.1.1.6.2"
DIRECTORY = "1.2.840.10008.1.3.10"
DEFLATED = "1.2.840.10008.1.2.1.99"
# Defined terms of PS3.3 C.7.3.1.1.1 that may be told.
MODALITIES = frozenset(
  "AU BI CR CT DOC DX ECG EPS ES GM HD IO IVOCT IVUS KO MG MR NM OCT OP OPT OT "
  "PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN RTRECORD RTSTRUCT SC SEG SM "
  "SR US XA XC".split()
)
CHUNK_BYTES = 2**20

# What pydicom raises on a file that is damaged or not as the standard says.
FILE_ERRORS = (
  InvalidDicomError, BytesLengthException, EOFError, OSError, ValueError,
  TypeError, KeyError, AttributeError, NotImplementedError, OverflowError,
  IndexError, LookupError, RecursionError, MemoryError, AssertionError,
  struct.error, zlib.error,
)  # fmt: skip
COLOURED_LIMIT_PCT = 2.0


def read_dicom(path: Path) -> Recording:
  """Reads one ultrasound file; see `reading.read_recording`.

  Raises:
    Rejected: damaged, not ultrasound, without pixels or not decodable.
  """
  with quiet():  # values are converted, and complained of, when asked for
    return _read(path)


def _read(path: Path) -> Recording:
  size = path.stat().st_size
  if size > limits.LARGEST_BYTES:
    raise Rejected(
      f"too large: the file has {size} bytes, more than "
      f"{limits.LARGEST_BYTES / 2**30:g} GiB"
    )
  header, dataset = open_dicom(path)
  syntax = transfer_syntax(dataset)
  pixels = read_pixels(header, dataset, syntax)
  frames = pixels.frames
  rows, columns = frames.shape[1:3]
  regions = read_regions(header)
  times = read_frame_times(header, len(frames), pixels.stream_ms)
  kind = kind_from_header(regions, len(frames), header)
  spacing_mm = spacing_from_regions(regions, rows, columns, header)
  box = picture_box(regions, rows, columns)
  strip = any(r.is_spectrum or r.is_mmode for r in regions)
  sector = np.zeros((rows, columns), bool)
  if box or not (strip or kind in ("pw", "cw", "mmode")):
    sector = find_sector(luminance(frames), box)
  if not sector.any():
    header.warn("no ultrasound sector found in the pixels")
  share = coloured_pct(frames, sector)
  _warn_of_pixels(header, frames, kind, share)
  return Recording(
    frames, times.frame_time_ms, times.source, spacing_mm, sector, kind,
    device_name(header), read_r_waves(header, times),
    read_heart_rate_bpm(header), regions,
    header.text("PhotometricInterpretation"), syntax.name, share,
    doppler=doppler_scale(regions, rows, columns, header), coded=pixels.coded,
    view=view_in(header), warnings=tuple(header.warnings),
  )  # fmt: skip


def open_dicom(path: Path, pixels: bool = True) -> tuple[Header, FileDataset]:
  """The header of an ultrasound file, and its data set for the pixels.

  Raises:
    Rejected: not DICOM, damaged, or not 2-D ultrasound.
  """
  dataset = load_dataset(path, pixels)
  header = Header(dataset)
  with quiet():
    check_is_ultrasound(header, dataset)
  return header, dataset


def load_dataset(path: Path, pixels: bool = True) -> FileDataset:
  """Any DICOM file, whose values are not converted yet.

  Raises:
    Rejected: not DICOM, or damaged.
  """
  with quiet() as said:
    try:
      _check_deflated(path)
      dataset = pydicom.dcmread(
        path, stop_before_pixels=not pixels, force=not has_preamble(path)
      )
    except Rejected:  # is a ValueError too
      raise
    except FILE_ERRORS as error:
      raise Rejected(
        f"damaged DICOM: its header cannot be read ({type(error).__name__})"
      ) from error
  if any("End of file reached" in str(one.message) for one in said):
    raise Rejected(
      "truncated DICOM: the file ends before its pixel data do; copy it again"
    )
  return dataset


def _check_deflated(path: Path) -> None:
  """Refuses a deflated file that grows beyond all measure.

  pydicom inflates it at once: 1 KiB may hold 1 MiB, 1 GiB a terabyte.
  """
  if not has_preamble(path):
    return
  meta = Header(read_file_meta_info(path))
  if meta.text("TransferSyntaxUID") != DEFLATED:
    return
  # The data begin behind the meta information, whose length its first
  # element (12 bytes) says.
  start = 132 + 12 + meta.integer("FileMetaInformationGroupLength", 0)
  inflate = zlib.decompressobj(-zlib.MAX_WBITS)
  with path.open("rb") as file:
    file.seek(start)
    left, data = limits.LARGEST_BYTES, file.read(CHUNK_BYTES)
    while data and not inflate.eof:
      left -= len(inflate.decompress(data, CHUNK_BYTES))
      if left < 0:
        raise Rejected(
          "too large: the deflated file grows to more than "
          f"{limits.LARGEST_BYTES / 2**30:g} GiB"
        )
      data = inflate.unconsumed_tail or file.read(CHUNK_BYTES)


def has_preamble(path: Path) -> bool:
  """True if the file says `DICM` after 128 bytes (PS3.10 7.1)."""
  with Path(path).open("rb") as file:
    return file.read(132)[128:] == b"DICM"


def device_name(header: Header) -> str:
  """Manufacturer and model."""
  names = header.text("Manufacturer"), header.text("ManufacturerModelName")
  return " ".join(name for name in names if name)


@contextlib.contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
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


def check_is_ultrasound(header: Header, dataset: FileDataset) -> None:
  """Raises Rejected for what is not 2-D ultrasound; says what it is."""
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
    # Any other word may be a misplaced name.
    shown = modality if modality in MODALITIES else "none"
    raise Rejected(f"not ultrasound: modality {shown}, SOP class {name}")
  header.warn(f"modality US stored under SOP class {name}")


def transfer_syntax(dataset: FileDataset) -> UID:
  """How the file is coded; an empty UID if it does not say."""
  return UID(_meta(dataset).text("TransferSyntaxUID"))


def _meta(dataset: FileDataset) -> Header:
  """The file meta information (group 2), which old files lack."""
  return Header(getattr(dataset, "file_meta", None) or Dataset())


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
    maker, model: of the device; free text, which may hold a name.
  """

  patient: str
  study: str
  recording: str
  sex: str
  age_years: float
  maker: str
  model: str


def read_identity(path: Path) -> Identity:
  """Identifiers of a file, without reading its pixels.

  Raises:
    Rejected: not DICOM, damaged, or not 2-D ultrasound.
  """
  header, _ = open_dicom(path, pixels=False)
  return identity_in(header)


def identity_in(header: Header) -> Identity:
  """Identifiers of any DICOM object."""
  with quiet():
    parts = header.text("IssuerOfPatientID"), header.text("PatientID")
    sex = header.text("PatientSex").upper()
    return Identity(
      "|".join(parts) if parts[1] else "",
      header.text("StudyInstanceUID"),
      header.text("SOPInstanceUID"),
      sex if sex in ("F", "M") else "",
      _age_years(header),
      header.text("Manufacturer"),
      header.text("ManufacturerModelName"),
    )


def _age_years(header: Header) -> float:
  """PatientAge (045Y, 018M, 003W, 010D) in years; NaN if it is not so."""
  text = header.text("PatientAge").upper()
  days = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}
  if not (text.isascii() and text[:-1].isdigit() and text[-1] in days):
    return float("nan")
  years = int(text[:-1]) * days[text[-1]] / days["Y"]
  return years if years <= 120 else float("nan")
