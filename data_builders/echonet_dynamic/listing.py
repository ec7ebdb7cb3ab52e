"""The tables of EchoNet-Dynamic: FileList.csv and VolumeTracings.csv."""

from pathlib import Path

from echo_jax.data.build import Item
from echo_jax.data.folders import Files, find_files, unlisted
from echo_jax.data.ledger import Rejected
from echo_jax.data.tables import (
  Refused,
  Row,
  id_of,
  number,
  number_within,
  read_table,
  refuse_copies,
  split_named,
)
from echo_jax.data.tracings import Traced, polygon_of_chords, read_tracings

LIST, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
PICTURE = ("FrameHeight", "FrameWidth", "FPS", "NumberOfFrames")
LIST_COLUMNS = ("FileName", "EF", "ESV", "EDV", *PICTURE, "Split")
CHORD = ("X1", "Y1", "X2", "Y2")
SPLITS = {"train": "train", "val": "validation", "test": "test"}
LIMITS = {"EF": ("%", 0, 100), "EDV": ("ml", 1, 1000), "ESV": ("ml", 0, 1000)}


def list_videos(root: Path) -> tuple[tuple[Item, ...], Refused]:
  """Items to read and what the tables or the folder make impossible.

  Every row of FileList.csv and every AVI file appears exactly once.

  Raises:
    ValueError: a column is missing.
  """
  rows = read_table(root / LIST, LIST_COLUMNS)
  files = find_files(root, root / VIDEOS, ".avi")
  tracings = read_tracings(root / TRACINGS, CHORD, polygon_of_chords)
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  copies = refuse_copies(rows, "FileName", ".avi", LIST)
  for row, copy in zip(rows, copies, strict=True):
    name = id_of(row["FileName"], ".avi")
    try:
      if copy:
        raise Rejected(copy)
      items.append(_item(name, row, files, tracings))
    except Rejected as error:
      refused.append((name or "(no name)", str(error)))
  seen = {id_of(row["FileName"], ".avi").lower() for row in rows}
  return tuple(items), (*refused, *unlisted(files, seen, LIST))


def _item(
  name: str, row: Row, files: Files, tracings: dict[str, Traced]
) -> Item:
  """The item of one row.

  Raises:
    Rejected: a value that is not what the column wants, or no video.
  """
  split = split_named("Split", row["Split"], SPLITS)
  values = {
    column: number_within(column, row[column], *limits)
    for column, limits in LIMITS.items()
  }
  if values["ESV"] > values["EDV"]:
    raise Rejected(
      f"ESV {values['ESV']:g} ml above EDV {values['EDV']:g} ml"
    )
  place = files.place(
    name.lower(), f"video absent: {VIDEOS}/{name}.avi is not there"
  )
  facts = {
    "file": place, "ef_pct": values["EF"], "edv_ml": values["EDV"],
    "esv_ml": values["ESV"],
    "listed": {column: number(column, row[column]) for column in PICTURE},
    "traced": tracings.get(name.lower(), Traced()),
  }  # fmt: skip
  return Item(name, split, facts)
