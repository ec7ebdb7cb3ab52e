"""A folder of one study, as a hospital hands it over, to checked inputs.

Cines and Doppler pictures (DICOM or movies), an ECG (DICOM waveform object or
WFDB record) and a CSV of records.  What is absent is named; what is doubtful
is refused or left out by name.  All files must be of one patient.  Files are
named by position ("file 3") or pseudonym, and no patient text is quoted; a
number that is out of its range is.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echo_jax.data.clinical import CLINICAL, GENETIC, Value
from echo_jax.data.ingest import Recording
from echo_jax.data.ingest.dicom import Identity
from echo_jax.data.ledger import Rejected
from echo_jax.data.study_ecg import with_one_ecg
from echo_jax.data.study_files import NO_PATIENT, File, Piece, read_files
from echo_jax.data.study_person import (
  refuse_other_person,
  refuse_several_studies,
  the_patient,
)  # fmt: skip
from echo_jax.data.study_records import checked_values, row_of
from echo_jax.modalities import MODALITIES

TABLES = {"clinical": CLINICAL, "genetic": GENETIC}
ECG_WINDOW_H = 24.0  # as data_builders/mimic_iv_echo links an ECG to a study
MOST_NAMES = 10  # of unused columns are told


@dataclass(frozen=True)
class Said:
  """One line on a file, or on an absent modality (then `file` is "").

  Attributes:
    modality: one of `MODALITIES`; "records" of a table as a whole, "" where
      it is not known.
    file: position or pseudonym.
    status: found, refused (it should have been used), ignored, absent, or
      noted (of what was found).
    text: what or why.
  """

  modality: str
  file: str
  status: str
  text: str

  def __str__(self) -> str:
    who = " ".join(filter(None, (self.modality, self.file)))
    return f"{who}: {self.status}: {self.text}"


@dataclass(frozen=True)
class Found:
  """What is used of one file: what was kept of a recording, or an `ECG`."""

  file: File
  data: Any


@dataclass(frozen=True)
class FoundStudy:
  """The checked inputs of one study.

  Attributes:
    cines: B-mode.
    spectra: pw, cw and tdi, each with a scale in cm/s and ms.
    ecg: in mV, with one usable lead or more; None without.
    clinical, genetic: values by column, as `clinical.encode` takes them; None
      without.
    identity: of the first ultrasound file, else of the ECG: real identifiers,
      for pseudonyms only; None without a DICOM file.
    said: on every file in their order, then on every absent modality.
    counts: files found (anything of them is used), refused and ignored; they
      add up to all.
  """

  cines: tuple[Found, ...]
  spectra: tuple[Found, ...]
  ecg: Found | None
  clinical: Mapping[str, Value] | None
  genetic: Mapping[str, Value] | None
  identity: Identity | None = field(repr=False)
  said: tuple[Said, ...]
  counts: Mapping[str, int]

  @property
  def present(self) -> dict[str, bool]:
    """Which of `MODALITIES` there are."""
    there = (self.cines, self.spectra, self.ecg, self.clinical, self.genetic)
    return {
      name: bool(one) for name, one in zip(MODALITIES, there, strict=True)
    }


def read_study_folder(
  folder: Path, *,
  name_of: Callable[[Path], str] | None = None,
  keep: Callable[[Recording], Any] = lambda recording: recording,
  ecg_window_h: float | int = ECG_WINDOW_H,
) -> FoundStudy:  # fmt: skip
  """Reads every file of a folder and of those below it.

  Args:
    folder: of one study.
    name_of: pseudonym of a file; by default its position, "file 3".
    keep: what is kept of a cine or spectrum as soon as it is read, for the
      frames of a whole study may be gigabytes; by default the `Recording`.
    ecg_window_h: an ECG that is further from the ultrasound is not used.

  Raises:
    FileNotFoundError: there is no such folder, or no file in it.
    Rejected: files of several patients, or ultrasound of several studies.
    OSError: a folder cannot be read.
  """
  pieces = read_files(folder, name_of, keep)
  patient = the_patient(pieces)
  refuse_several_studies(pieces)
  pieces = with_one_ecg(pieces, ecg_window_h)
  rows, of_tables = _records(pieces, patient)
  video, doppler, ecg = (
    tuple(Found(p.file, p.data) for p in pieces if p.is_found(name))
    for name in ("video", "doppler", "ecg")
  )
  by_file = [of_tables.get(p.file, _lines(p)) for p in pieces]
  said = tuple(line for lines in by_file for line in lines)
  study = FoundStudy(
    video, doppler, ecg[0] if ecg else None, rows.get("clinical"),
    rows.get("genetic"), _identity(pieces), said,
    Counter(_fate(lines) for lines in by_file),
  )  # fmt: skip
  absent = [name for name, there in study.present.items() if not there]
  return replace(study, said=said + tuple(_absence(n, said) for n in absent))


def _fate(lines: tuple[Said, ...]) -> str:
  statuses = [line.status for line in lines]
  return next(s for s in ("found", "refused", "ignored") if s in statuses)


def _lines(piece: Piece) -> tuple[Said, ...]:
  """What became of a file, and what is to be known of it."""
  about = piece.modality, piece.file.name
  notes = piece.notes if piece.status == "found" else ()
  return (
    Said(*about, piece.status, piece.text),
    *(Said(*about, "noted", note) for note in notes),
  )


def _absence(modality: str, said: tuple[Said, ...]) -> Said:
  """Why there is none: no file, or none that could be used."""
  names = (modality, "records") if modality in TABLES else (modality,)
  lost = [
    s.file
    for s in said
    if s.modality in names and s.status in ("refused", "ignored")
  ]
  why = "no file of it in the folder"
  if lost:
    why = f"nothing usable in {', '.join(dict.fromkeys(lost))}"
  return Said(modality, "", "absent", why)


def _identity(pieces: list[Piece]) -> Identity | None:
  """Of the first ultrasound that is used, else of any DICOM file."""
  ours = [p for p in pieces if p.identity]
  first = [p for p in ours if p.is_ultrasound] + ours
  return first[0].identity if first else None


Rows = dict[str, dict[str, Value]]


def _records(
  pieces: list[Piece], patient: str
) -> tuple[Rows, dict[File, tuple[Said, ...]]]:
  """The checked row of each table, and what is said of each file of records."""
  rows: Rows = {}
  said: dict[File, tuple[Said, ...]] = {}
  tables = [p for p in pieces if p.is_found("records")]
  for piece in tables:
    name = piece.file.name
    lines = [Said("records", name, "noted", note) for note in _notes(piece)]
    for modality, table in TABLES.items():
      own = {column.name for column in table}
      holding = [p.file.name for p in tables if own & set(p.data.columns)]
      if name not in holding:
        continue
      try:
        if len(holding) > 1:
          raise Rejected(
            f"{modality} columns in {', '.join(holding)}: keep one of them"
          )
        row = row_of(piece.data, patient)
        refuse_other_person(row, pieces)
        values = checked_values(row, table)
      except Rejected as reason:
        lines.append(Said(modality, name, "refused", str(reason)))
        continue
      if values:
        rows[modality] = values
        text = f"{len(values)} of {len(table)} values: {', '.join(values)}"
        lines.append(Said(modality, name, "found", text))
      else:
        lines.append(Said(modality, name, "ignored", "all cells are empty"))
    said[piece.file] = tuple(lines)
  return rows, said


def _notes(piece: Piece) -> list[str]:
  notes = []
  if piece.data.unused:
    names = ", ".join(map(repr, piece.data.unused[:MOST_NAMES]))
    notes.append(
      f"{len(piece.data.unused)} columns not used: {names}; only names like "
      "height_cm are known, and no unit is guessed"
    )
  if not piece.data.patients:
    notes.append(NO_PATIENT)
  return notes
