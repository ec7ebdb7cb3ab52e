"""The table of EchoNet-LVH: MeasurementsList.csv, one row a caliper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_builders.echonet_lvh.calipers import MEASURES, Caliper
from echo_jax.data.build import Item
from echo_jax.data.folders import Files, find_files, unlisted
from echo_jax.data.ledger import Rejected
from echo_jax.data.schema import FIELDS
from echo_jax.data.tables import (
  Refused,
  Row,
  id_of,
  known_number,
  read_table,
  split_named,
)

LIST, VIDEOS = "MeasurementsList.csv", "Batch*"
ENDS = ("X1", "Y1", "X2", "Y2")
PICTURE = {
  "Frames": "frames", "FPS": "Hz", "Width": "pixels", "Height": "pixels"
}  # fmt: skip
LIST_COLUMNS = (
  "HashedFileName", "Calc", "CalcValue", "Frame", *ENDS, *PICTURE, "split"
)  # fmt: skip
SPLITS = {"train": "train", "val": "validation", "test": "test"}
LARGEST = 1e6  # frames or pixels; beyond it a number is no such thing


def list_videos(root: Path) -> tuple[tuple[Item, ...], Refused]:
  """Items to read and what the table or the folder make impossible.

  Every video that a row names and every AVI file appears exactly once; so
  does every row without a name.

  Raises:
    ValueError: a column is missing.
  """
  files = find_files(root, root, ".avi")
  videos: dict[str, list[Row]] = {}
  refused: list[tuple[str, str]] = []
  for row in read_table(root / LIST, LIST_COLUMNS):
    key = id_of(row["HashedFileName"], ".avi").lower()
    if key:
      videos.setdefault(key, []).append(row)
    else:
      refused.append(("(no name)", "HashedFileName is empty"))
  items: list[Item] = []
  for rows in videos.values():
    name = id_of(rows[0]["HashedFileName"], ".avi")
    try:
      items.append(_item(name, rows, files))
    except Rejected as error:
      refused.append((name, str(error)))
  return tuple(items), (*refused, *unlisted(files, set(videos), LIST))


def _item(name: str, rows: Sequence[Row], files: Files) -> Item:
  """The item of one video.

  Raises:
    Rejected: its rows name several splits or none of the owner's; no video.
  """
  splits = {split_named("split", row["split"], SPLITS) for row in rows}
  if len(splits) > 1:
    raise Rejected(f"its rows name the splits {', '.join(sorted(splits))}")
  place = files.place(
    name.lower(), f"video absent: {VIDEOS}/{name}.avi is not there"
  )
  notes: list[str] = []
  once = list({tuple(row.values())[1:]: row for row in rows}.values())
  if len(once) < len(rows):
    notes.append(f"duplicate rows: {len(rows) - len(once)} left out")
  calipers = tuple(_caliper(row, notes) for row in once)
  facts = {
    "file": place, "calipers": calipers,
    "listed": {column: _common(once, column, notes) for column in PICTURE},
    "values_mm": _values_mm(calipers, notes), "notes": tuple(notes),
  }  # fmt: skip
  return Item(name, splits.pop(), facts)


def _caliper(row: Row, notes: list[str]) -> Caliper:
  """The caliper of one row; what cannot be read of it is unknown, noted."""

  def read(column: str, unit: str, low: float) -> float:
    about = f"{row['Calc']} {column}"
    return known_number(about, row[column], unit, low, LARGEST, notes)

  name = row["Calc"].replace(",", " ")  # the record joins names by commas
  if not name:
    notes.append("Calc is empty: caliper named (no name)")
  frame = read("Frame", "(a frame)", 0.0)
  if frame % 1 > 0:
    notes.append(f"{name} Frame is {frame:g}, not whole: taken as unknown")
  ends = tuple(read(column, "pixels", -LARGEST) for column in ENDS)
  return Caliper(
    name or "(no name)", read("CalcValue", "cm", 0.0),
    int(frame) if frame % 1 == 0 else -1, ends,
  )  # fmt: skip


def _common(rows: Sequence[Row], column: str, notes: list[str]) -> float:
  """What all rows of a video say of it; unknown if they differ."""
  texts = {row[column] for row in rows}
  if len(texts) > 1:
    notes.append(f"{column} differs between rows: taken as unknown")
    return float("nan")
  unit = PICTURE[column]
  return known_number(column, texts.pop(), unit, 0.0, LARGEST, notes)


def _values_mm(
  calipers: Sequence[Caliper], notes: list[str]
) -> dict[str, Any]:
  """The measurements that the record has a key for: the first of each."""
  values: dict[str, float] = {}
  for caliper in calipers:
    key, value = MEASURES.get(caliper.name.lower(), ""), caliper.value_mm
    if not key:
      notes.append(f"{caliper.name}: no such measurement, its caliper is kept")
      continue
    low, high = FIELDS[key].low, FIELDS[key].high
    if value < low or value > high:
      notes.append(
        f"{caliper.name} {value:g} mm ({caliper.value_cm:g} cm) outside "
        f"{low:g} to {high:g}: taken as unknown"
      )
    elif key in values and value != values[key]:
      notes.append(
        f"{caliper.name} listed again: {value:g} mm, the first was "
        f"{values[key]:g} and is kept"
      )
    elif value > 0:
      values[key] = value
  return values
