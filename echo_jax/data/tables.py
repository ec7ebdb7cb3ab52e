"""Owners' CSV tables: any form of the text is read, no content is guessed."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from echo_jax.data.build import Item
from echo_jax.data.ledger import Rejected

Row = dict[str, str]
Limit = float | int
Refused = tuple[tuple[str, str], ...]

MISSING = ("", "na", "n/a", "nan", "none", "null")  # as pandas writes and reads
# float() also takes 1_000, digits of other scripts and words for infinity.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.I)


def read_table(path: Path, columns: Iterable[str]) -> list[Row]:
  """Rows of a CSV file, with or without byte-order mark, of any line end.

  Columns are found by name, in any order and case; others are left out.
  Cells lose the blanks around them; one that a short row lacks is empty.

  Raises:
    ValueError: no UTF-8 text, no CSV, a column missing or there twice (named,
      with those found), or a cell with a line break in it (named, with its
      line): a stray quote swallows all rows up to the next one.
  """
  try:
    with path.open(newline="", encoding="utf-8-sig") as file:
      reader = csv.DictReader(file, restval="", strict=True)
      found = [name.strip() for name in reader.fieldnames or ()]
      reader.fieldnames = [name.lower() for name in found]
      _check_columns(path.name, columns, found)
      rows: list[Row] = []
      for row in reader:
        refuse_line_breaks(path.name, reader.line_num, row.values())
        rows.append({name: row[name.lower()].strip() for name in columns})
      return rows
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path.name} is not UTF-8 text (byte {error.start}); save it so"
    ) from error
  except csv.Error as error:
    raise ValueError(f"{path.name} is not a CSV table: {error}") from error


def refuse_line_breaks(
  table: str, line: int, cells: Iterable[str | list[str]]
) -> None:
  """Refuses a row that several lines of text became.

  Raises:
    ValueError: see `read_table`.
  """
  # DictReader gives cells beyond the last column as a list.
  text = "".join(c if isinstance(c, str) else "".join(c) for c in cells)
  if "\n" in text or "\r" in text:
    raise ValueError(
      f"{table}: a cell that ends in line {line} goes over several lines; "
      "mend the quotes there"
    )


def _check_columns(
  table: str, columns: Iterable[str], found: list[str]
) -> None:
  counts = Counter(name.lower() for name in found)
  missing = [name for name in columns if not counts[name.lower()]]
  if missing:
    raise ValueError(
      f"{table} has no column {', '.join(missing)}; it has {found}"
    )
  twice = [name for name in columns if counts[name.lower()] > 1]
  if twice:
    raise ValueError(f"{table} has the column {', '.join(twice)} twice")


def number(column: str, text: str) -> float:
  """A number, or NaN for a cell that is empty or says that it is missing.

  Raises:
    Rejected: a word, or a number that is not finite.
  """
  if text.lower() in MISSING:
    return float("nan")
  if not NUMBER.fullmatch(text):
    raise Rejected(f"{column} is {text!r}, wants a number")
  if not np.isfinite(float(text)):
    raise Rejected(f"{column} is {text!r}, wants a finite number")
  return float(text)


def number_within(
  column: str, text: str, unit: str, low: Limit, high: Limit
) -> float:
  """A number of the range, or NaN for an empty cell.

  Raises:
    Rejected: see `number`; or outside of the range (both ends named).
  """
  value = number(column, text)
  if value < low or value > high:
    raise Rejected(f"{column} {value:g} {unit} outside {low:g} to {high:g}")
  return value


def known_number(
  column: str, text: str, unit: str, low: Limit, high: Limit,
  notes: list[str],
) -> float:  # fmt: skip
  """As `number_within`, but what it refuses is unknown (NaN) and noted."""
  try:
    return number_within(column, text, unit, low, high)
  except Rejected as reason:
    notes.append(f"{reason}: taken as unknown")
    return float("nan")


def id_of(file_name: str, suffix: str) -> str:
  """The owner's id: a file name, which has or has not its suffix."""
  name = file_name.strip()
  return name[: -len(suffix)] if name.lower().endswith(suffix) else name


def refuse_copies(
  rows: Sequence[Row], column: str, suffix: str, table: str
) -> list[str]:
  """Why a row must not be used, for each row; "" if it may.

  The first of equal rows may be used, and none of rows that name the same
  file and differ in another column.  Case does not count in names, since a
  file system may not tell 0xA from 0XA.
  """
  keys = [id_of(row[column], suffix).lower() for row in rows]
  contents = [
    (key, *(text for name, text in row.items() if name != column))
    for key, row in zip(keys, rows, strict=True)
  ]
  copies, same = Counter(keys), Counter(contents)
  reasons: list[str] = []
  seen: set[str] = set()
  for key, content in zip(keys, contents, strict=True):
    reason = ""
    if not key:
      reason = f"{column} is empty"
    elif copies[key] != same[content]:
      reason = (
        f"duplicate id: {copies[key]} rows of {table} disagree; mend them by "
        "hand"
      )
    elif key in seen:
      reason = f"duplicate id: listed {copies[key]} times in {table}"
    seen.add(key)
    reasons.append(reason)
  return reasons


def split_named(column: str, text: str, names: Mapping[str, str]) -> str:
  """Our name of an owner's split, whose case does not count.

  Raises:
    Rejected: not one of `names`, whose keys are lower case.
  """
  split = names.get(text.lower())
  if split is None:
    raise Rejected(f"{column} is {text!r}, wants one of {list(names)}")
  return split


def keep_apart(items: Sequence[Item]) -> tuple[tuple[Item, ...], Refused]:
  """Leaves out what would put one patient into two splits.

  A patient's test records stay; where there are none, the validation records
  do.  Training and pre-training may share a patient.  `facts["patient_id"]`
  is the patient.
  """
  held: dict[str, str] = {}
  for split in ("validation", "test"):
    for item in items:
      if item.split == split:
        held[item.facts["patient_id"]] = split
  kept: list[Item] = []
  refused: list[tuple[str, str]] = []
  for item in items:
    split = held.get(item.facts["patient_id"], item.split)
    if split == item.split:
      kept.append(item)
    else:
      refused.append(
        (item.name, f"patient in two splits: held out for {split}, so not in "
         f"{item.split}")
      )  # fmt: skip
  return tuple(kept), tuple(refused)
