"""The owner's CSV tables, plain or gzipped, read in pieces."""

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from echo_jax.data.tables import refuse_line_breaks

ROWS_AT_ONCE = 200_000  # the largest table has some 28 million
DEEPEST = 6  # physionet.org/files/mimic-iv-echo/1.0, and a doubled folder
LEAF = re.compile(r"[ps]\d+")  # folders of patients and studies hold no table


def find_root(source: Path, table: str) -> Path:
  """The folder that holds a table: `source` or one at most 6 below it.

  Raises:
    FileNotFoundError: none; says what is there instead.
    ValueError: several at the same depth.
  """
  if not source.is_dir():
    raise FileNotFoundError(f"{source} is not a folder")
  level = [source]
  for _ in range(DEEPEST + 1):
    found = [folder for folder in level if table_path(folder, table)]
    if len(found) > 1:
      places = [str(folder) for folder in found]
      raise ValueError(f"{table} lies in {places}; pass one of them")
    if found:
      return found[0]
    level = [
      child
      for folder in level
      for child in sorted(folder.iterdir())
      if not LEAF.fullmatch(child.name) and child.is_dir()
    ]
  there = sorted(path.name for path in source.iterdir())[:10]
  raise FileNotFoundError(
    f"no {table} (or {table}.gz) in {source} or {DEEPEST} folders below it; "
    f"it holds {there}"
  )


def table_path(folder: Path, table: str) -> Path | None:
  """A table as plain CSV or, if that is not there, as `.gz`."""
  for path in (folder / table, folder / f"{table}.gz"):
    if path.is_file():
      return path
  return None


def column_names(path: Path) -> list[str]:
  """Names of a table's columns, without byte-order mark and blanks."""
  with _damage_named(path), _opened(path) as file:
    return [name.strip() for name in next(csv.reader(file), [])]


def read_table(
  path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
  """Pieces of a table as text; an empty cell, or an absent optional column, "".

  Raises:
    ValueError: a column is missing (named, with those found), a cell goes over
      several lines, or the file is damaged or cut off.
  """
  found = column_names(path)
  missing = [name for name in columns if name not in found]
  if missing:
    raise ValueError(
      f"{path.name} has no column {', '.join(missing)}; it has {found}"
    )
  wanted = [name for name in (*columns, *optional) if name in found]
  line = 1
  with _damage_named(path), _opened(path) as file:
    for piece in pd.read_csv(
      file, names=found, header=0, dtype=str, keep_default_na=False,
      usecols=found, chunksize=ROWS_AT_ONCE,
    ):  # fmt: skip
      piece = piece.fillna("")
      # A stray quote may be in any column, also in one that is not wanted.
      if any(piece[name].str.contains("[\n\r]").any() for name in found):
        for number, row in enumerate(piece.to_numpy(), line + 1):
          refuse_line_breaks(path.name, number, row)
      line += len(piece)
      piece = piece[wanted].apply(lambda column: column.str.strip())
      absent = [name for name in optional if name not in found]
      yield piece.assign(**dict.fromkeys(absent, ""))


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
  """Turns what a damaged file raises into one line with its name."""
  try:
    yield
  except (EOFError, zlib.error, csv.Error, pd.errors.ParserError) as error:
    raise ValueError(
      f"{path.name} is damaged or cut off ({type(error).__name__}); copy it "
      "again"
    ) from error


def _opened(path: Path) -> io.TextIOBase:
  if path.suffix == ".gz":
    return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
  return path.open(encoding="utf-8-sig", newline="")


def read_time(text: str) -> datetime | None:
  """A point in time such as 2154-03-01 10:22:00; None if it is not one."""
  try:
    return datetime.fromisoformat(text)
  except ValueError:
    return None


def hours_between(first: Any, second: Any) -> float:
  """Hours from the first time to the second."""
  return (second - first).total_seconds() / 3600
