"""A records CSV of a study folder: whose rows, which columns, checked values.

Columns go by name: `patient_id` and those of `clinical.CLINICAL` and
`clinical.GENETIC`, in any case and order.  A name holds its unit; a line of
units, or a suffix such as `height (cm)`, is not guessed at.  Cells are never
quoted in a reason: in a shifted row a name may stand anywhere.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from echo_jax.data.clinical import (
  CLINICAL,
  GENETIC,
  YES_NO,
  Column,
  Value,
  check_row,
)
from echo_jax.data.ledger import Rejected
from echo_jax.data.tables import MISSING, NUMBER

LARGEST_BYTES = 2**26  # chosen; a table of one study has a line or two
# Written PatientID, patient_id, "Subject ID" and so on.
PATIENT_NAMES = ("patientid", "subjectid")
COLUMNS = {column.name: column for column in (*CLINICAL, *GENETIC)}

Row = dict[str, str]


@dataclass(frozen=True)
class Records:
  """A table as it was read.

  Attributes:
    columns: those of ours that it has.
    unused: names of the others; an owner's words.
    patients: of each row, as the owner writes them; empty without such a
      column.
    rows: cells by our names, missing ones left out.
  """

  columns: tuple[str, ...]
  unused: tuple[str, ...]
  patients: tuple[str, ...] = field(repr=False)
  rows: tuple[Row, ...] = field(repr=False)

  @property
  def patient(self) -> str:
    """Whose table it is; "" if it holds several or names none."""
    return self.patients[0] if len(set(self.patients)) == 1 else ""


class NoRecords(Rejected):
  """A table that has none of our columns: of something else."""


def read_records(path: Path) -> Records:
  """Reads a table whose first line names its columns.

  Raises:
    NoRecords: none of the columns.
    Rejected: no UTF-8 text or CSV, a column twice, no row, a row of another
      length, a cell over several lines, a row that looks like units.
    OSError: it cannot be opened.
  """
  head, *lines = _lines(path)
  names = [_our_name(cell) for cell in head]
  known = [name for name in names if name in COLUMNS]
  if not known:
    raise NoRecords(
      "no records: its first line names no column of clinical or genetic "
      "records (age_years, height_cm, ...), separated by commas"
    )
  twice = sorted({n for n in names if n and names.count(n) > 1})
  if twice:
    raise Rejected(f"records with {', '.join(twice)} twice: keep one column")
  if not lines:
    raise Rejected("records without a row below the names of the columns")
  rows = [_row(names, cells, i + 2) for i, cells in enumerate(lines)]
  return Records(
    tuple(known),
    tuple(cell for cell, name in zip(head, names, strict=True) if not name),
    tuple(row.get("patient_id", "") for row in rows)
    if "patient_id" in names else (),
    tuple({n: v for n, v in row.items() if n in COLUMNS} for row in rows),
  )  # fmt: skip


def _lines(path: Path) -> list[list[str]]:
  """Cells without blanks around them; empty lines are left out."""
  if path.stat().st_size > LARGEST_BYTES:
    raise Rejected(
      f"records of {path.stat().st_size} bytes, more than {LARGEST_BYTES}: "
      "keep the rows of this patient"
    )
  try:
    with path.open(newline="", encoding="utf-8-sig") as file:
      lines = [[cell.strip() for cell in row] for row in csv.reader(
        file, strict=True
      )]  # fmt: skip
  except UnicodeDecodeError as error:
    raise Rejected(
      f"records are not UTF-8 text (byte {error.start}); save them so"
    ) from error
  except csv.Error as error:
    raise Rejected("records are not a CSV table; mend their quotes") from error
  if any("\n" in cell or "\r" in cell for row in lines for cell in row):
    raise Rejected("records with a cell over several lines; mend the quotes")
  return [row for row in lines if any(row)] or [[]]


def _our_name(cell: str) -> str:
  """Our name of a column; "" if it has none."""
  low = cell.lower()
  if low in COLUMNS:
    return low
  plain = low.replace("_", "").replace(" ", "")
  return "patient_id" if plain in PATIENT_NAMES else ""


def _row(names: Sequence[str], cells: list[str], line: int) -> Row:
  if len(cells) != len(names):
    raise Rejected(
      f"records: row {line} has {len(cells)} cells for {len(names)} columns"
    )
  row = {
    name: cell
    for name, cell in zip(names, cells, strict=True)
    if name and cell.lower() not in MISSING
  }
  numbers = [row[n] for n in row if n in COLUMNS and _is_number(COLUMNS[n])]
  if numbers and not any(NUMBER.fullmatch(cell) for cell in numbers):
    raise Rejected(
      f"records: row {line} has words where numbers belong; a line of units is "
      "not read, for the name of a column holds its unit: remove it"
    )
  return row


def _is_number(column: Column) -> bool:
  return column.kind != "category"


def row_of(records: Records, patient: str) -> Row:
  """The row of a patient, or the only one of a table that names none.

  Args:
    records: the table.
    patient: as the owner writes it; "" if nothing names the patient.

  Raises:
    Rejected: no row, or several that could be meant.
  """
  count = len(records.rows)
  if not records.patients:
    if count > 1:
      raise Rejected(
        f"records: {count} rows and no column patient_id that says whose"
      )
    return records.rows[0]
  if not patient:
    raise Rejected(
      f"records: {count} rows of several patients, and no file names the "
      "patient of this study"
    )
  ours = [
    row
    for row, name in zip(records.rows, records.patients, strict=True)
    if name == patient
  ]
  if not ours:
    raise Rejected(f"records: none of {count} rows is of this patient")
  if any(row != ours[0] for row in ours):
    raise Rejected(
      f"records: {len(ours)} different rows of this patient; keep the one of "
      "this study"
    )
  return ours[0]


def checked_values(row: Row, table: Sequence[Column]) -> dict[str, Value]:
  """What a row says in the columns of a table; what it lacks is left out.

  Raises:
    Rejected: a word for a number, an unknown category, or a value outside of
      its range (with the unit in which it would be plausible).
  """
  values = {c.name: _value(c, row[c.name]) for c in table if c.name in row}
  try:
    check_row(values, table)
  except ValueError as error:
    raise Rejected(f"records: {error}") from error
  return values


def _value(column: Column, cell: str) -> Value:
  if _is_number(column):
    if not NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
      raise Rejected(
        f"records: {column.name} is no number (decimal point, no unit in the "
        "cell); leave it empty if it is unknown"
      )
    return float(cell)
  if column.categories == YES_NO and cell in ("0", "1"):
    return int(cell)
  if cell not in column.categories:
    raise Rejected(
      f"records: {column.name} is none of {', '.join(column.categories)}; "
      "leave it empty if it is unknown"
    )
  return cell
