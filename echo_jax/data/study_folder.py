"""A folder of one study, as a hospital hands it over, to checked inputs.

Cines and Doppler pictures (DICOM or movies), an ECG (DICOM waveform object or
WFDB record) and a CSV of records.  What is absent is named; what is doubtful
is refused or left out by name.  All files must be of one patient.  Files are
named by position ("file 3") or pseudonym, and no patient text is quoted; a
number that is out of its range is.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echo_jax.data.clinical import CLINICAL, GENETIC, Value
from echo_jax.data.ingest import Recording
from echo_jax.data.ingest.dicom import Identity
from echo_jax.data.ingest.moment import Moment
from echo_jax.data.ledger import Rejected
from echo_jax.data.signals import usable_leads
from echo_jax.data.study_files import NO_PATIENT, File, Piece, read_files
from echo_jax.data.study_records import Row, checked_values, row_of
from echo_jax.data.tables import NUMBER

MODALITIES = ("video", "doppler", "ecg", "clinical", "genetic")
TABLES = {"clinical": CLINICAL, "genetic": GENETIC}
ECG_WINDOW_H = 24.0  # as data_builders/mimic_iv_echo links an ECG to a study
MOST_NAMES = 10  # of unused columns are told
AGES_APART_YEARS = 2.0  # chosen: a birthday between, and one of rounding


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
  """

  cines: tuple[Found, ...]
  spectra: tuple[Found, ...]
  ecg: Found | None
  clinical: Mapping[str, Value] | None
  genetic: Mapping[str, Value] | None
  identity: Identity | None = field(repr=False)
  said: tuple[Said, ...]

  @property
  def present(self) -> dict[str, bool]:
    """Which of `MODALITIES` there are."""
    there = (self.cines, self.spectra, self.ecg, self.clinical, self.genetic)
    return {
      name: bool(one) for name, one in zip(MODALITIES, there, strict=True)
    }

  @property
  def counts(self) -> Counter[str]:
    """Files by status: found if anything of them is used; adds up to all."""
    fates: dict[str, str] = {}
    for one in self.said:
      if one.file and one.status != "noted" and fates.get(one.file) != "found":
        fates[one.file] = one.status
    return Counter(fates.values())


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
    tuple(Found(p.file, p.data) for p in _used(pieces, name))
    for name in ("video", "doppler", "ecg")
  )
  said = tuple(
    line for p in pieces for line in of_tables.get(p.file.name, _lines(p))
  )
  study = FoundStudy(
    video, doppler, ecg[0] if ecg else None, rows.get("clinical"),
    rows.get("genetic"), _identity(pieces), said,
  )  # fmt: skip
  absent = [name for name, there in study.present.items() if not there]
  return replace(study, said=said + tuple(_absence(n, said) for n in absent))


def _used(pieces: list[Piece], modality: str) -> list[Piece]:
  return [p for p in pieces if p.modality == modality and p.status == "found"]


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
  lost = [s.file for s in said if s.modality in names and s.file]
  why = "no file of it in the folder"
  if lost:
    why = f"nothing usable in {', '.join(dict.fromkeys(lost))}"
  return Said(modality, "", "absent", why)


def the_patient(pieces: list[Piece]) -> str:
  """The owner's number of the one patient of all files; "" if none names one.

  A number with an issuer and the same without one are taken for one person.

  Raises:
    Rejected: several patients; says which files go together.
  """
  people: list[tuple[str, str, list[str]]] = []
  for piece in pieces:
    if not piece.patient:
      continue
    for i, (issuer, number, files) in enumerate(people):
      if number == piece.patient and (
        not issuer or not piece.issuer or issuer == piece.issuer
      ):
        together = [*files, piece.file.name]
        people[i] = (issuer or piece.issuer, number, together)
        break
    else:
      people.append((piece.issuer, piece.patient, [piece.file.name]))
  if len(people) > 1:
    raise Rejected(
      f"{len(people)} patients in one study: {_apart(f for *_, f in people)}; "
      "leave the files of one patient in the folder"
    )
  _refuse_two_persons(pieces)
  return people[0][1] if people else ""


def _refuse_two_persons(pieces: list[Piece]) -> None:
  """Raises Rejected where files differ in sex, or in age by some years."""
  sexes = [[p.file.name for p in pieces if p.sex == sex] for sex in ("F", "M")]
  if all(sexes):
    raise Rejected(
      f"two persons in one study, by their sex: {_apart(sexes)}; leave the "
      "files of one patient in the folder"
    )
  aged = sorted(
    (p.age_years, p.file.name) for p in pieces if not math.isnan(p.age_years)
  )
  apart = aged[-1][0] - aged[0][0] if aged else 0.0
  if apart > AGES_APART_YEARS:
    raise Rejected(
      f"two persons in one study: {aged[0][1]} and {aged[-1][1]} are "
      f"{apart:.3g} years of age apart; leave the files of one patient in the "
      "folder"
    )


def _is_ultrasound(piece: Piece) -> bool:
  return piece.modality in ("video", "doppler") and piece.status == "found"


def _apart(groups: Iterable[list[str]]) -> str:
  return " | ".join(", ".join(files) for files in groups)


def refuse_several_studies(pieces: list[Piece]) -> None:
  """Raises Rejected for ultrasound of several occasions.

  Several StudyInstanceUIDs of one day are one occasion; the day of each must
  be known for that.
  """
  studies: dict[str, list[Piece]] = {}
  for piece in pieces:
    if piece.identity and _is_ultrasound(piece):
      studies.setdefault(piece.identity.study, []).append(piece)
  days = {p.taken and p.taken.day for of in studies.values() for p in of}
  if len(studies) > 1 and (len(days) > 1 or None in days):
    named = _apart([p.file.name for p in of] for of in studies.values())
    raise Rejected(
      f"ultrasound of {len(studies)} studies, not all of one day: {named}; "
      "pass a folder for each"
    )


def with_one_ecg(pieces: list[Piece], window_h: float | int) -> list[Piece]:
  """Leaves the ECG nearest in time, else of most leads, else the longest.

  One that is further from the first ultrasound than the window is of another
  occasion.  Where a time is not known, a known one goes before.
  """
  times = [p.taken for p in pieces if _is_ultrasound(p) and p.taken]
  start = min(times, key=lambda t: (t.day, t.seconds or 0.0), default=None)
  ecgs = {p.file.name: _ranked(p, start) for p in _used(pieces, "ecg")}
  near = [e for e in ecgs.values() if not abs(e.after_h) > window_h]
  best = min(near, key=lambda e: e.rank, default=None)
  return [
    _chosen(ecgs[p.file.name], best, window_h) if p.file.name in ecgs else p
    for p in pieces
  ]


@dataclass(frozen=True)
class _Ranked:
  """An ECG with what decides between several; hours NaN if unknown."""

  piece: Piece
  after_h: float
  leads: int
  span_s: float

  @property
  def rank(self) -> tuple[bool, float, int, float]:
    unknown = math.isnan(self.after_h)
    hours = 0.0 if unknown else abs(self.after_h)
    return unknown, hours, -self.leads, -self.span_s

  @property
  def words(self) -> str:
    time = "at an unknown time"
    if not math.isnan(self.after_h):
      side = "after" if self.after_h >= 0 else "before"
      time = f"{abs(self.after_h):.3g} h {side} the first ultrasound"
    return f"{time}, {self.leads} usable leads, {self.span_s:.4g} s"


def _ranked(piece: Piece, start: Moment | None) -> _Ranked:
  after_h = math.nan
  if start and piece.taken:
    after_h = start.hours_to(piece.taken)
  leads, _ = usable_leads(piece.data)
  return _Ranked(piece, after_h, len(leads), len(piece.data.mv) / piece.data.hz)


def _chosen(ecg: _Ranked, best: _Ranked | None, window_h: float | int) -> Piece:
  """With when it was taken, or without its data and why."""
  if abs(ecg.after_h) > window_h:
    return ecg.piece.without(
      "refused",
      f"ECG of another occasion: {ecg.words}; allowed are {window_h:g} h",
    )
  if ecg is not best:
    return ecg.piece.without(
      "ignored",
      f"another ECG was taken, {best.piece.file.name} ({best.words}): the "
      "nearest in time, then of most leads, then the longest, then the first; "
      f"this one is {ecg.words}",
    )
  return replace(ecg.piece, notes=(*ecg.piece.notes, f"ECG {ecg.words}"))


def _identity(pieces: list[Piece]) -> Identity | None:
  """Of the first ultrasound that is used, else of any DICOM file."""
  ours = [p for p in pieces if p.identity]
  first = [p for p in ours if _is_ultrasound(p)] + ours
  return first[0].identity if first else None


Rows = dict[str, dict[str, Value]]


def _records(
  pieces: list[Piece], patient: str
) -> tuple[Rows, dict[str, tuple[Said, ...]]]:
  """The checked row of each table, and what is said of each file of records."""
  rows: Rows = {}
  said: dict[str, tuple[Said, ...]] = {}
  tables = _used(pieces, "records")
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
        _refuse_other_person(row, pieces)
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
    said[name] = tuple(lines)
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


def _refuse_other_person(row: Row, pieces: list[Piece]) -> None:
  """Raises Rejected where sex or age are not those of the other files."""
  sex, age = row.get("sex", ""), row.get("age_years", "")
  sexes = {p.sex for p in pieces if p.sex}
  if sex in ("F", "M") and sexes and sex not in sexes:
    raise Rejected(
      f"records of another person: sex is {sex}, the other files say "
      f"{', '.join(sexes)}"
    )
  ages = [p.age_years for p in pieces if not math.isnan(p.age_years)]
  if ages and NUMBER.fullmatch(age):
    apart = min(abs(float(age) - other) for other in ages)
    if apart > AGES_APART_YEARS:
      raise Rejected(
        f"records of another person: age is {apart:.3g} years from that in the "
        "other files"
      )
