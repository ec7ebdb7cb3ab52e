"""One ultrasound file to its de-identified copy, or the reason for none.

It fails closed: the copy exists in memory until every check on its bytes has
passed, and whatever goes wrong on the way means that nothing is written.
"""

import contextlib
import functools
import hashlib
import importlib.resources
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
  PYDICOM_IMPLEMENTATION_UID,
  UID,
  ExplicitVRLittleEndian,
  JPEGBaseline8Bit,
  RLELossless,
)  # fmt: skip

from echo_jax import __version__
from echo_jax.data.ingest import Recording, read_recording
from echo_jax.data.ingest.dicom import (
  FILE_ERRORS,
  ULTRASOUND,
  open_dicom,
)  # fmt: skip
from echo_jax.data.ingest.reading import sniff
from echo_jax.data.ledger import Rejected
from echo_jax.privacy import pixels, rules
from echo_jax.privacy.audit import NO_TEXT, Audit, check_copy
from echo_jax.privacy.identities import (
  NOBODY,
  Identities,
  find_identities,
  masked,
)  # fmt: skip
from echo_jax.privacy.jpeg import strip_jpeg
from echo_jax.privacy.keys import Key
from echo_jax.privacy.tags import Cleaned, clean_header
from echo_jax.privacy.text import Reader

ROUNDS = 3  # of finding text; what is still read after the last is refused
LEAST_LEFT = 0.5  # of the kept area; a copy with less helps nobody
STORED_AS = {"rle": RLELossless, "raw": ExplicitVRLittleEndian}
POINTERS = {"FrameTime": 0x00181063, "FrameTimeVector": 0x00181065}


@dataclass(frozen=True)
class Options:
  """What may be chosen: device identity (113109), syntax of new frames."""

  keep_device: bool = False
  store: str = "rle"

  def settings(self, key: Key) -> dict[str, Any]:
    """Goes into each audit record."""
    codes = [code for code, _ in rules.PROFILE]
    return {
      "profile": codes + [rules.DEVICE_OPTION[0]] * self.keep_device,
      "table": f"PS3.15 E.1-1 {rules.EDITION}", "store": self.store,
      "key": key.name, "echo_jax": __version__, "rules": _revision(),
      **{name: version(name) for name in ("dicom-anonymizer", "rapidocr")},
    }  # fmt: skip


@functools.cache
def _revision() -> str:
  """Stands for the state of the code that decides what is clean."""
  found = hashlib.sha256()
  for package in ("echo_jax.privacy", "echo_jax.data.ingest"):
    sources = importlib.resources.files(package).iterdir()
    for file in sorted(sources, key=lambda file: file.name):
      if file.name.endswith(".py"):
        found.update(file.read_bytes())
  return found.hexdigest()[:12]


@dataclass(frozen=True)
class Outcome:
  """A copy that passed every check, or none; and the record of it.

  Attributes:
    data: bytes to write; None if refused.
    audit: without identities.
    before, after: frames for a picture to look at; None if not decoded.
  """

  data: bytes | None
  audit: Audit
  before: np.ndarray | None = None
  after: np.ndarray | None = None


def deidentify(
  path: Path, key: Key, read: Reader, options: Options
) -> Outcome:
  """Cleans one file; never raises for what a file holds."""
  file, closed = key.name_file(path)
  audit = Audit(file, "refused", closed, options.settings(key))
  if closed:
    return Outcome(None, audit)
  try:
    with _quiet():
      return _deidentify(path, audit, key, read, options)
  except Rejected as error:
    with _quiet():
      reason = masked(str(error), _identities_in(path))
  except Exception as error:  # it fails closed, also for faults of ours
    # The message of a library may quote the file: only its kind is told.
    reason = f"not cleaned: {type(error).__name__} on the way"
  return Outcome(None, replace(audit, reason=reason))


def _identities_in(path: Path) -> Identities:
  """What a header holds that must not be told; nothing if it is damaged."""
  try:
    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    return find_identities(dataset, keep_device=False)
  except FILE_ERRORS:
    return NOBODY


def _deidentify(
  path: Path, audit: Audit, key: Key, read: Reader, options: Options
) -> Outcome:
  source = _open(path)
  recording = read_recording(path)
  cleaned = clean_header(source, key, options.keep_device, audit.file)
  kept = pixels.kept_area(recording)
  notes = [masked(note, cleaned.identities) for note in recording.warnings]
  audit = replace(
    audit, header=cleaned.actions, notes=tuple(notes),
    copy=f"{cleaned.patient}/{cleaned.study}/{audit.file}.dcm",
  )  # fmt: skip
  text, pieces = pixels.text_mask(recording.frames, kept.area, read)
  jpeg = [] if pieces else _unchanged_jpeg(recording, kept.area)
  for _ in range(ROUNDS + bool(jpeg)):
    area = kept.area & ~text
    if area.sum() < LEAST_LEFT * kept.area.sum():
      raise Rejected(
        f"text everywhere: less than {100 * LEAST_LEFT:.0f} % of the sector "
        "would stay"
      )
    copy = _coded(cleaned, recording, area, jpeg, options)
    seen = np.ones_like(area) if jpeg else area
    checks, more = check_copy(copy.data, cleaned, copy.frames, seen, read)
    failed = [check for check in checks if not check.passed]
    only_text = [check.name for check in failed] == [NO_TEXT]
    if not (only_text or failed and jpeg):
      break  # clean, or not to be mended by blanking more or coding anew
    text, jpeg = text | more, []
    pieces += only_text
  audit = replace(
    audit, checks=checks, sha256=hashlib.sha256(copy.data).hexdigest(),
    pixels=_describe(recording, kept, area, pieces, bool(jpeg), options),
  )  # fmt: skip
  if failed:
    reason = "; ".join(f"{c.name}: no {c.found}".strip() for c in failed)
    audit = replace(audit, reason=f"not shown clean: {reason}")
    return Outcome(None, audit, recording.frames, copy.frames)
  audit = replace(audit, outcome="written")
  return Outcome(copy.data, audit, recording.frames, copy.frames)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps pydicom's words off the screen: they may quote patient text."""
  logger = logging.getLogger("pydicom")
  level = logger.level
  logger.setLevel(logging.CRITICAL + 1)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    logger.setLevel(level)


def _open(path: Path) -> Dataset:
  """The header of a file that may be cleaned at all."""
  if sniff(path) != "dicom":
    raise Rejected("not DICOM: only DICOM ultrasound is de-identified")
  header, dataset = open_dicom(path, pixels=False)
  if header.text("SOPClassUID") not in ULTRASOUND:
    name = UID(header.text("SOPClassUID"))
    known = name.name if name.is_valid else "none"
    raise Rejected(f"not an ultrasound image: SOP class {known}")
  return dataset


def _unchanged_jpeg(recording: Recording, area: pixels.Mask) -> list[bytes]:
  """JPEG Baseline as it is, if nothing is to be blanked; else none."""
  if recording.coded is None:
    return []
  if not pixels.is_black_outside(recording.frames, area):
    return []
  try:
    return [strip_jpeg(frame) for frame in recording.coded.read()]
  except Rejected:
    return []  # a stream that was read but has no end: it is coded anew


@dataclass(frozen=True)
class _Copy:
  """Bytes of a copy, and the frames that they should decode to."""

  data: bytes
  frames: np.ndarray


def _coded(
  cleaned: Cleaned, recording: Recording, area: pixels.Mask,
  jpeg: list[bytes], options: Options,
) -> _Copy:  # fmt: skip
  """The new header with the blanked frames, or with the JPEG as it was."""
  dataset = Dataset()
  dataset.update(cleaned.dataset)
  syntax = STORED_AS[options.store]
  frames = recording.frames
  if jpeg:
    syntax = JPEGBaseline8Bit
  else:
    frames = pixels.blanked(frames, area)
  _describe_pixels(dataset, recording, bool(jpeg))
  dataset.file_meta = _meta(dataset, syntax)
  if jpeg:
    dataset.PixelData = encapsulate(jpeg)
    dataset["PixelData"].VR = "OB"
  elif syntax == RLELossless:
    array = frames[..., 0] if frames.shape[-1] == 1 else frames
    array = array if len(array) > 1 else array[0]
    dataset.compress(RLELossless, array, generate_instance_uid=False)
  else:
    raw = frames.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB"
  buffer = io.BytesIO()
  dataset.preamble = bytes(128)
  dataset.save_as(
    buffer, enforce_file_format=True, implicit_vr=False, little_endian=True
  )
  return _Copy(buffer.getvalue(), frames)


def _describe_pixels(
  dataset: Dataset, recording: Recording, as_it_is: bool
) -> None:
  """The image module for what is stored now: grey or RGB bytes, or the JPEG."""
  count, rows, columns, channels = recording.frames.shape
  grey = channels == 1
  dataset.SamplesPerPixel = channels
  dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
  if as_it_is:
    dataset.PhotometricInterpretation = recording.coded.colour
  if not grey:
    dataset.PlanarConfiguration = 0
  dataset.Rows, dataset.Columns = rows, columns
  dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
  dataset.PixelRepresentation = 0
  if count > 1 or "Multi" in UID(dataset.SOPClassUID).name:
    dataset.NumberOfFrames = count
  for name, pointer in POINTERS.items():
    if name in dataset and recording.time_source in (name, "single frame"):
      dataset.FrameIncrementPointer = pointer
  if not as_it_is:
    words = dataset.get("ImageType", ["DERIVED", "PRIMARY"])
    words = [words] if isinstance(words, str) else list(words)
    dataset.ImageType = ["DERIVED", *words[1:]]
    dataset.DerivationDescription = rules.DERIVATION


def _meta(dataset: Dataset, syntax: UID) -> FileMetaDataset:
  meta = FileMetaDataset()
  meta.MediaStorageSOPClassUID = dataset.SOPClassUID
  meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
  meta.TransferSyntaxUID = syntax
  meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
  meta.ImplementationVersionName = rules.VERSION_NAME
  return meta


def _describe(
  recording: Recording, kept: pixels.Kept, area: pixels.Mask, pieces: int,
  as_it_is: bool, options: Options,
) -> dict[str, Any]:  # fmt: skip
  count, rows, columns, channels = recording.frames.shape
  outside = recording.frames.max(axis=(0, 3))[~kept.area]
  return {
    "frames": count, "rows": rows, "columns": columns, "channels": channels,
    "kind": recording.kind, "coding": recording.coding,
    "photometric": recording.photometric, "kept": kept.rule,
    "kept_pct": round(100 * float(kept.area.mean()), 2),
    "blanked_outside_px": int((outside > 0).sum()),
    "text_pieces": pieces,
    "text_pct_of_kept": round(
      100 * float((kept.area & ~area).sum() / kept.area.sum()), 3
    ),
    "stored": "JPEG as it was" if as_it_is else options.store,
  }  # fmt: skip
