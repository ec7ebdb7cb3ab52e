"""The files of a study folder, each with what its header says and it holds.

No file stops the others: what cannot be used has a reason.
"""

import filecmp
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2

from echo_jax.data.folders import walk
from echo_jax.data.ingest import Recording, read_recording
from echo_jax.data.ingest.dicom import (
  Identity,
  check_is_ultrasound,
  identity_in,
  load_dataset,
  quiet,
)  # fmt: skip
from echo_jax.data.ingest.ecg import read_origin, signal_files
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.moment import Moment, read_moment
from echo_jax.data.ingest.reading import is_wfdb, read_ecg, sniff
from echo_jax.data.ingest.waveform import is_waveform
from echo_jax.data.ledger import Rejected
from echo_jax.data.signals import LEADS, usable_leads
from echo_jax.data.spectra import refuse_without_scale
from echo_jax.data.study_records import NoRecords, read_records

SPECTRA = ("pw", "cw", "tdi")
NO_PATIENT = "names no patient: taken for that of the folder in which it lies"
A_MOVIE = "a movie has no header that says what it shows: taken for B-mode"
Keep = Callable[[Recording], Any]


@dataclass(frozen=True)
class File:
  """A file of the folder; only its name may be told.

  Attributes:
    name: a pseudonym, or its position ("file 3").
    path: where it is.
  """

  name: str
  path: Path = field(repr=False)


@dataclass(frozen=True)
class Piece:
  """One file.

  Attributes:
    file: which.
    modality: video, doppler, ecg, records; "" if it is none of these.
    status: found, refused (it should have been used) or ignored.
    text: what it holds, or why it is not used.
    notes: what a user should know of it.
    data: what was kept of a `Recording`, an `ECG` or `Records`; None if it is
      not used.
    identity: of a DICOM file; None without.
    issuer, patient: the owner's number of the patient; "" if not said.
    sex: F or M; "" if not said.
    age_years: NaN if not said.
    taken: when; None if not said.
  """

  file: File
  modality: str = ""
  status: str = "ignored"
  text: str = ""
  notes: tuple[str, ...] = ()
  data: Any = field(default=None, repr=False)
  identity: Identity | None = field(default=None, repr=False)
  issuer: str = field(default="", repr=False)
  patient: str = field(default="", repr=False)
  sex: str = ""
  age_years: float = math.nan
  taken: Moment | None = field(default=None, repr=False)

  @property
  def is_ultrasound(self) -> bool:
    """True for a cine or spectrum that is used."""
    return self.is_found("video") or self.is_found("doppler")

  def is_found(self, modality: str) -> bool:
    """True if it is used, for this modality."""
    return self.status == "found" and self.modality == modality

  def without(self, status: str, why: str) -> "Piece":
    """The same file, not used."""
    return replace(self, data=None, status=status, text=why)


class Ignored(Rejected):
  """Nothing that should have been used."""


def read_files(
  folder: Path, name_of: Callable[[Path], str] | None, keep: Keep
) -> list[Piece]:
  """All files of a folder and those below it, in the order of `walk`.

  Raises:
    FileNotFoundError: there is no such folder, or no file in it.
    OSError: a folder cannot be read.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder} is not a folder")
  files = [
    File(name_of(path) if name_of else f"file {number}", path)
    for number, path in enumerate(walk(folder), start=1)
  ]
  if not files:
    raise FileNotFoundError(f"{folder} holds no file")
  parts = _parts(files)
  copies = _copies([file for file in files if file.path not in parts])
  passed = parts | copies
  return [
    Piece(file, text=passed[file.path]) if file.path in passed
    else _piece(file, keep)
    for file in files
  ]  # fmt: skip


def _parts(files: Sequence[File]) -> dict[Path, str]:
  """Signal files, which are read with their header."""
  parts = {}
  for file in files:
    if is_wfdb(file.path):
      text = f"holds the signals of the ECG record of {file.name}"
      parts |= dict.fromkeys(signal_files(file.path), text)
  return parts


def _copies(files: Sequence[File]) -> dict[Path, str]:
  """Files with the bytes of one before, be it through a link."""
  seen: dict[int, list[File]] = {}
  copies = {}
  for file in files:
    size = file.path.stat().st_size if file.path.is_file() else 0
    for one in seen.setdefault(size, []) if size else ():
      if _is_copy(one.path, file.path):
        copies[file.path] = f"duplicate: the same bytes as {one.name}"
        break
    else:
      seen.setdefault(size, []).append(file)
  return copies


def _is_copy(path: Path, other: Path) -> bool:
  try:
    return filecmp.cmp(path, other, shallow=False)
  except OSError:  # is said when it is read
    return False


def _piece(file: File, keep: Keep) -> Piece:
  """Reads one file; whatever it is, it ends as a piece."""
  piece = Piece(file)
  try:
    if not file.path.is_file():
      raise Ignored("no file: a link to nowhere or back, or a device")
    piece = _with_header(piece)
    return _with_data(piece, keep)
  except (Ignored, NoRecords) as reason:
    return piece.without("ignored", str(reason))
  except Rejected as reason:
    return piece.without("refused", str(reason))
  except (OSError, cv2.error) as error:
    # The message of a library may quote the file: only its kind is told.
    why = f"cannot be read ({type(error).__name__})"
    return piece.without("refused", why)


def _with_header(piece: Piece) -> Piece:
  """The sort of a file, whose it is and when it was made."""
  path = piece.file.path
  if is_wfdb(path):
    origin = read_origin(path)
    return replace(
      piece, modality="ecg", patient=origin.patient, sex=origin.sex,
      age_years=origin.age_years, taken=origin.taken,
    )  # fmt: skip
  if path.suffix.lower() == ".csv":
    return replace(piece, modality="records")
  try:
    container = sniff(path)
  except Rejected as reason:
    raise Ignored(str(reason)) from reason
  if container == "movie":
    return replace(piece, modality="video")
  dataset = load_dataset(path, pixels=False)
  header = Header(dataset)
  identity = identity_in(header)
  with quiet():
    piece = replace(
      piece, identity=identity, taken=read_moment(header), sex=identity.sex,
      age_years=identity.age_years, issuer=header.text("IssuerOfPatientID"),
      patient=header.text("PatientID"),
    )  # fmt: skip
    if is_waveform(header):
      return replace(piece, modality="ecg")
    try:
      check_is_ultrasound(header, dataset)
    except Rejected as reason:
      if header.text("SOPClassUID") or header.text("Modality"):
        return replace(piece, text=str(reason))
    return replace(piece, modality="video")  # or damaged: refused as such


def _with_data(piece: Piece, keep: Keep) -> Piece:
  path = piece.file.path
  if not piece.modality:
    raise Ignored(piece.text)
  if piece.modality == "records":
    records = read_records(path)
    return replace(piece, status="found", data=records, patient=records.patient)
  if piece.modality == "ecg":
    return _with_ecg(piece)
  recording = read_recording(path)
  if recording.kind in SPECTRA:
    piece = replace(piece, modality="doppler")
    fault = _spectrum_fault(recording)
    if fault:
      return piece.without("ignored", fault)
  elif recording.kind != "cine":
    raise Ignored(f"kind {recording.kind}: neither B-mode cine nor spectrum")
  what = f"{recording.kind}, {len(recording.frames)} frames"
  notes = recording.warnings
  notes += () if piece.identity else (A_MOVIE,)
  notes += () if piece.patient else (NO_PATIENT,)
  return replace(
    piece, status="found", text=what, notes=notes, data=keep(recording)
  )


def _spectrum_fault(recording: Recording) -> str:
  """Why a Doppler picture cannot be measured; "" if it can."""
  if recording.doppler is None:
    return (
      f"Doppler picture ({recording.kind}) without scales: its header has no "
      "spectral region that fits it"
    )
  try:
    refuse_without_scale(recording.doppler)
  except ValueError as error:
    return str(error)
  return ""


def _with_ecg(piece: Piece) -> Piece:
  """With those of the twelve leads that it has, for `prepare_ecg`.

  Raises:
    Rejected: as the readers, or no lead of the twelve is usable.
  """
  try:
    ecg = read_ecg(piece.file.path)
    leads, flaws = usable_leads(ecg)
  except Rejected:
    raise
  except ValueError as error:
    raise Rejected(str(error)) from error
  if not leads:
    raise Rejected("ECG without a usable lead: " + "; ".join(flaws))
  what = (
    f"ECG, {len(leads)} usable leads ({', '.join(leads)}), "
    f"{len(ecg.mv) / ecg.hz:.4g} s at {ecg.hz:g} Hz"
  )
  twelve = [i for i, name in enumerate(ecg.leads) if name in LEADS]
  names = tuple(ecg.leads[i] for i in twelve)
  ecg = replace(ecg, mv=ecg.mv[:, twelve], leads=names)
  notes = ecg.warnings + flaws
  notes += () if piece.patient else (NO_PATIENT,)
  return replace(piece, status="found", text=what, notes=notes, data=ecg)
