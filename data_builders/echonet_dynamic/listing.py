"""The tables of EchoNet-Dynamic: FileList.csv and VolumeTracings.csv."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from echo_jax.data.build import Item
from echo_jax.data.ledger import Rejected

LIST, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
LIST_COLUMNS = (
  "FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS",
  "NumberOfFrames", "Split",
)  # fmt: skip
TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
SPLITS = {"TRAIN": "train", "VAL": "validation", "TEST": "test"}
LIMITS = {"EF": ("%", 0, 100), "EDV": ("ml", 1, 1000), "ESV": ("ml", 0, 1000)}
LEAST_ROWS = 3  # the long axis and two chords make the smallest polygon

Refused = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tracing:
  """The left ventricle in one frame, from its chords as the owner draws it.

  Attributes:
    frame: index from 0.
    points_px: x and y, down one wall and up the other.
  """

  frame: int
  points_px: Float32[np.ndarray, "points 2"]

  @property
  def area_px2(self) -> float:
    """Area of the polygon (shoelace formula)."""
    x, y = self.points_px.T.astype(np.float64)
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def find_root(source: Path) -> Path:
  """The folder that holds FileList.csv: `source` or one below it.

  Raises:
    FileNotFoundError: none, or an incomplete folder (says what is missing).
    ValueError: several.
  """
  if not source.is_dir():
    raise FileNotFoundError(f"{source} is not a folder")
  # The archive nests its folder, and copies are sometimes doubled.
  found = [source / LIST] if (source / LIST).is_file() else []
  found = found or sorted(source.glob(f"*/{LIST}"))
  found = found or sorted(source.glob(f"*/*/{LIST}"))
  found = found or sorted(source.glob(f"*/*/*/{LIST}"))
  if not found:
    there = sorted(path.name for path in source.iterdir())[:10]
    raise FileNotFoundError(
      f"no {LIST} in {source} or three folders below it; it holds {there}"
    )
  if len(found) > 1:
    places = [str(path.parent) for path in found]
    raise ValueError(f"{LIST} lies in {places}; pass one of them as --source")
  root = found[0].parent
  for name in (TRACINGS, VIDEOS):
    if not (root / name).exists():
      raise FileNotFoundError(f"{root} has {LIST} but no {name}")
  return root


def list_videos(root: Path) -> tuple[tuple[Item, ...], Refused]:
  """Items to read and what the tables or the folder make impossible.

  Every row of FileList.csv and every AVI file appears exactly once.

  Raises:
    ValueError: a column is missing.
  """
  rows = _read_table(root / LIST, LIST_COLUMNS)
  files: dict[str, str] = {}
  refused: list[tuple[str, str]] = []
  for path in sorted((root / VIDEOS).iterdir()):
    if path.suffix.lower() != ".avi":
      continue
    file = path.relative_to(root).as_posix()
    kept = files.setdefault(path.stem.lower(), file)
    if kept != file:
      refused.append((file, f"duplicate file: {kept} but for upper case"))
  tracings, bad_tracings = _read_tracings(root / TRACINGS)
  copies = Counter(_key(row) for row in rows)
  contents = Counter(_content(row) for row in rows)
  items: list[Item] = []
  seen: set[str] = set()
  for row in rows:
    name, key = _id(row["FileName"]), _key(row)
    try:
      _check_copy(name, key in seen, copies[key], contents[_content(row)])
      items.append(_item(name, row, files, tracings, bad_tracings))
    except Rejected as error:
      refused.append((name or "(no name)", str(error)))
    seen.add(key)
  refused += [
    (file, f"not listed: the file is not in {LIST}, so it has no labels")
    for stem, file in files.items()
    if stem not in seen
  ]
  return tuple(items), tuple(refused)


def _id(file_name: str) -> str:
  """The owner's id: the file name, which has or has not its `.avi`."""
  name = file_name.strip()
  return name[:-4] if name.lower().endswith(".avi") else name


def _key(row: dict[str, str]) -> str:
  """The id for comparison: a file system may not tell 0xA from 0XA."""
  return _id(row["FileName"]).lower()


def _content(row: dict[str, str]) -> tuple[str, ...]:
  return (_key(row), *(row[name].strip() for name in LIST_COLUMNS[1:]))


def _check_copy(name: str, seen: bool, copies: int, same: int) -> None:
  """Keeps the first of equal rows and none of rows that contradict."""
  if not name:
    raise Rejected("FileName is empty")
  if copies != same:
    raise Rejected(
      f"duplicate id: {copies} rows of {LIST} disagree; mend them by hand"
    )
  if seen:
    raise Rejected(f"duplicate id: listed {copies} times in {LIST}")


def _item(
  name: str, row: dict[str, str], files: dict[str, str],
  tracings: dict[str, list[Tracing]], bad_tracings: dict[str, str],
) -> Item:  # fmt: skip
  """The item of one row.

  Raises:
    Rejected: a value that is not what the column wants, or no video.
  """
  split = SPLITS.get(row["Split"].strip().upper())
  if split is None:
    raise Rejected(f"Split is {row['Split']!r}, wants one of {list(SPLITS)}")
  numbers = {
    column: _number(column, row[column])
    for column in LIST_COLUMNS
    if column not in ("FileName", "Split")
  }
  for column, (unit, low, high) in LIMITS.items():
    value = numbers[column]
    if value < low or value > high:
      raise Rejected(f"{column} {value:g} {unit} outside {low} to {high}")
  if name.lower() not in files:
    raise Rejected(f"video absent: {VIDEOS}/{name}.avi is not there")
  key = name.lower()
  facts = {
    "file": files[key], "listed": numbers, "ef_pct": numbers["EF"],
    "edv_ml": numbers["EDV"], "esv_ml": numbers["ESV"],
    "tracings": tuple(tracings.get(key, ())),
    "bad_tracing": bad_tracings.get(key, ""),
  }  # fmt: skip
  return Item(name, split, facts)


def _number(column: str, text: str) -> float:
  """A number, or NaN for an empty cell."""
  if not text.strip():
    return float("nan")
  try:
    number = float(text)
  except ValueError as error:
    raise Rejected(f"{column} is {text!r}, wants a number") from error
  if not np.isfinite(number):
    raise Rejected(f"{column} is {text!r}, wants a finite number")
  return number


def _read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
  """Rows of a CSV file with or without byte-order mark, of any line end.

  Raises:
    ValueError: names the missing columns and those found.
  """
  with path.open(newline="", encoding="utf-8-sig") as file:
    reader = csv.DictReader(file, restval="")
    found = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = found
    missing = [name for name in columns if name not in found]
    if missing:
      raise ValueError(
        f"{path.name} has no column {', '.join(missing)}; it has {found}"
      )
    return [{name: row[name] for name in columns} for row in reader]


def _read_tracings(
  path: Path,
) -> tuple[dict[str, list[Tracing]], dict[str, str]]:
  """Contours by video in file order, and what was unreadable by video."""
  chords: dict[str, dict[int, list[list[float]]]] = {}
  bad: dict[str, str] = {}
  for row in _read_table(path, TRACING_COLUMNS):
    name = _id(row["FileName"]).lower()
    try:
      frame = _number("Frame", row["Frame"])
      ends = [_number(column, row[column]) for column in TRACING_COLUMNS[1:5]]
      if np.isnan([frame, *ends]).any() or frame % 1:
        raise Rejected("a value is empty, or Frame is not whole")
    except Rejected as error:
      bad[name] = f"tracings left out: {error}"
      continue
    chords.setdefault(name, {}).setdefault(int(frame), []).append(ends)
  tracings = {}
  for name, frames in chords.items():
    if name in bad:
      continue
    short = [n for n, rows in frames.items() if len(rows) < LEAST_ROWS]
    if short:
      bad[name] = f"tracings left out: frame {short[0]} has too few rows"
      continue
    tracings[name] = [_contour(n, rows) for n, rows in frames.items()]
  return tracings, bad


def _contour(frame: int, rows: list[list[float]]) -> Tracing:
  """Chord ends as a polygon; the first row is the long axis, not a chord."""
  ends = np.array(rows[1:], np.float32)  # x1 y1 x2 y2
  return Tracing(frame, np.concatenate([ends[:, :2], ends[::-1, 2:]]))
