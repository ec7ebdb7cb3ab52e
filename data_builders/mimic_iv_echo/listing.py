"""The recordings of MIMIC-IV-ECHO: its two lists and the files that are there.

No DICOM file is opened and none is asked for one by one: folders are listed.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from data_builders.mimic_iv_echo.tables import (
  column_names,
  read_table,
  read_time,
  table_path,
)  # fmt: skip
from echo_jax.data.build import Item

RECORDS, STUDIES, FILES = "echo-record-list.csv", "echo-study-list.csv", "files"
RECORD_COLUMNS = (
  "subject_id", "study_id", "acquisition_datetime", "dicom_filepath"
)  # fmt: skip
STUDY_COLUMNS = ("subject_id", "study_id", "study_datetime")
MEASUREMENT_ID = "measurement_id"
PLACE = re.compile(r"files/p(\d\d)/p(\d+)/s(\d+)/(\d+)_\d+\.dcm")
DEPTH = 4  # files / p10 / p10002221 / s94106955 / *.dcm

Key = tuple[str, str]  # subject and study
Refused = tuple[tuple[str, str], ...]


@dataclass
class Study:
  """One occasion as echo-study-list.csv has it."""

  time: datetime | None
  linked: set[str] = field(default_factory=set)


def read_studies(root: Path) -> tuple[dict[Key, Study], bool]:
  """Studies, and whether the list links them to measurements (release 1.0).

  A study with several notes has several rows.

  Raises:
    FileNotFoundError: no echo-study-list.csv.
    ValueError: a column is missing.
  """
  path = table_path(root, STUDIES)
  if path is None:
    raise FileNotFoundError(f"{root} has {RECORDS} but no {STUDIES}")
  studies: dict[Key, Study] = {}
  for piece in read_table(path, STUDY_COLUMNS, (MEASUREMENT_ID,)):
    for row in piece.itertuples(index=False):
      key = row.subject_id, row.study_id
      study = studies.setdefault(key, Study(read_time(row.study_datetime)))
      # A column of numbers with gaps is often saved as 123.0.
      if linked := row.measurement_id.removesuffix(".0"):
        study.linked.add(linked)
  return studies, MEASUREMENT_ID in column_names(path)


def listed_studies(root: Path) -> set[Key]:
  """Every study that has a recording.

  Raises:
    ValueError: a column is missing.
  """
  return {
    key
    for piece in read_table(table_path(root, RECORDS), RECORD_COLUMNS)
    for key in zip(piece["subject_id"], piece["study_id"], strict=True)
  }


def list_files(
  root: Path,
  facts_of: Callable[[Key, str], Mapping[str, Any]],
  split_of: Callable[[str], str],
) -> tuple[tuple[Item, ...], Refused]:
  """Items to read, and what list and folder say of each other.

  Every row of echo-record-list.csv and every `.dcm` file appears exactly once.

  Args:
    root: the folder with the lists.
    facts_of: (subject, study) and acquisition time -> facts of the item.
    split_of: subject -> split.

  Raises:
    ValueError: a column is missing.
  """
  present, others = _walk(root)
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  seen: set[str] = set()
  for piece in read_table(table_path(root, RECORDS), RECORD_COLUMNS):
    for row in piece.itertuples(index=False):
      place, key = row.dicom_filepath, (row.subject_id, row.study_id)
      fault = _fault(place, key, present, seen)
      seen.add(place)
      if fault:
        refused.append((place or "(no name)", fault))
        continue
      facts = facts_of(key, row.acquisition_datetime)
      items.append(Item(place, split_of(key[0]), facts))
  unlisted = f"not listed: the file is not in {RECORDS}"
  refused += [(place, unlisted) for place in sorted(present - seen)]
  if others:
    refused.append(
      (FILES, f"not DICOM by name: {others} other files were passed over")
    )
  return tuple(items), tuple(refused)


def _fault(place: str, key: Key, present: set[str], seen: set[str]) -> str:
  """Why a row cannot become an item; "" if it can."""
  if place in seen:
    return f"duplicate row: the file is listed before in {RECORDS}"
  match = PLACE.fullmatch(place)
  if not match:
    return "dicom_filepath is not files/pNN/pSUBJECT/sSTUDY/STUDY_NNNN.dcm"
  group, subject, study, again = match.groups()
  if (subject, study) != key or study != again or subject[:2] != group:
    return "dicom_filepath is not of the row's subject_id and study_id"
  if place not in present:
    return f"file absent: it is in {RECORDS} but not in the folder"
  return ""


def _walk(root: Path) -> tuple[set[str], int]:
  """Places of all `.dcm` files, and how many other files there are."""
  present: set[str] = set()
  others = 0
  for place, is_dicom in _entries(root / FILES, FILES, DEPTH):
    if is_dicom:
      present.add(place)
    else:
      others += 1
  return present, others


def _entries(
  folder: Path | str, place: str, depth: int
) -> Iterator[tuple[str, bool]]:
  """Files below a folder; links to folders are followed, but not for ever."""
  with os.scandir(folder) as entries:
    for entry in entries:
      below = f"{place}/{entry.name}"
      if entry.name.endswith(".dcm"):
        yield below, True
      elif depth and entry.is_dir():
        yield from _entries(entry.path, below, depth - 1)
      else:
        yield below, False
