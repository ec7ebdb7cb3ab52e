"""The tables of EchoNet-Pediatric: FileList.csv and VolumeTracings.csv a view.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from echo_jax.data.build import Item
from echo_jax.data.folders import Files, find_files, unlisted
from echo_jax.data.ledger import Rejected
from echo_jax.data.schema import FIELDS
from echo_jax.data.tables import (
  Refused,
  Row,
  id_of,
  keep_apart,
  known_number,
  number_within,
  read_table,
  refuse_copies,
)
from echo_jax.data.tracings import Traced, polygon_of_points, read_tracings

VIEWS = ("A4C", "PSAX")
LIST, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
BODY = {
  "Age": ("age_years", "years"), "Weight": ("weight_kg", "kg"),
  "Height": ("height_cm", "cm"),
}  # fmt: skip
LIST_COLUMNS = ("FileName", "EF", "Sex", *BODY, "Split")
UNFRAMED = ("No Systolic", "No Diastolic")
NAME_FORM = re.compile(r"(?P<patient>[^-]+)-(?P<study>[^-]+)-(?P<instance>\d+)")


def split_of_fold(validation_fold: int, test_fold: int) -> Callable[[str], str]:
  """A function from the text of a fold, 0 to 9, to our split.

  Raises:
    ValueError: one fold for both.
  """
  if validation_fold == test_fold:
    raise ValueError(
      f"fold {test_fold} cannot be both validation and test; name two folds"
    )

  def split_of(text: str) -> str:
    fold = number_within("Split", text, "(a fold)", 0, 9)
    if not fold % 1 == 0:  # an empty cell is not a number
      raise Rejected(f"Split is {text!r}, wants a fold from 0 to 9")
    return {validation_fold: "validation", test_fold: "test"}.get(
      int(fold), "train"
    )

  return split_of


def list_videos(
  root: Path, source: str, split_of: Callable[[str], str]
) -> tuple[tuple[Item, ...], Refused]:
  """Items to read and what the tables or the folders make impossible.

  Every row of both FileList.csv and every AVI file appears exactly once.

  Raises:
    FileNotFoundError: a view lacks its tracings or videos.
    ValueError: a column is missing.
  """
  views = [view for view in VIEWS if (root / view / LIST).is_file()]
  lists = {view: read_table(root / view / LIST, LIST_COLUMNS) for view in views}
  in_views = Counter(
    key for rows in lists.values() for key in {_key(row) for row in rows}
  )
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  for view, rows in lists.items():
    for part in (TRACINGS, VIDEOS):
      if not (root / view / part).exists():
        raise FileNotFoundError(f"{root / view} has {LIST} but no {part}")
    files = find_files(root, root / view / VIDEOS, ".avi")
    tracings = read_tracings(
      root / view / TRACINGS, ("X", "Y"), polygon_of_points, UNFRAMED
    )
    copies = refuse_copies(rows, "FileName", ".avi", f"{view}/{LIST}")
    for row, copy in zip(rows, copies, strict=True):
      name = f"{view}/{id_of(row['FileName'], '.avi') or '(no name)'}"
      try:
        if copy:
          raise Rejected(copy)
        if in_views[_key(row)] > 1:
          raise Rejected("listed as both views: which one it shows is unknown")
        facts = _facts(row, view, source, files)
        facts["traced"] = tracings.get(_key(row), Traced())
        items.append(Item(name, split_of(row["Split"]), facts))
      except Rejected as error:
        refused.append((name, str(error)))
    refused += unlisted(files, {_key(row) for row in rows}, f"{view}/{LIST}")
  kept, torn = keep_apart(items)
  return kept, (*refused, *torn)


def _key(row: Row) -> str:
  return id_of(row["FileName"], ".avi").lower()


def _facts(row: Row, view: str, source: str, files: Files) -> dict[str, Any]:
  """What the row says about the video, its child and its measurements.

  Raises:
    Rejected: an EF that is none, or no video.
  """
  name = id_of(row["FileName"], ".avi")
  notes: list[str] = []
  labels: dict[str, Any] = {
    "ef_pct": number_within("EF", row["EF"], "%", 0, 100),
    "sex": row["Sex"].upper(),
  }
  for column, (key, unit) in BODY.items():
    field = FIELDS[key]
    labels[key] = known_number(
      column, row[column], unit, field.low, field.high, notes
    )
  if labels["sex"] not in FIELDS["sex"].choices:
    notes.append(f"Sex is {row['Sex']!r}, not F or M: taken as unknown")
    labels["sex"] = ""
  place = files.place(
    name.lower(), f"video absent: {view}/{VIDEOS}/{name}.avi is not there"
  )
  return _ids(name, source, notes) | {
    "view": view, "file": place, "labels": labels, "notes": tuple(notes)
  }  # fmt: skip


def _ids(name: str, source: str, notes: list[str]) -> dict[str, Any]:
  """Patient and study from `patient-study-instance`, else the video's own."""
  found = NAME_FORM.fullmatch(name)
  patient, study = name, name
  if found:
    patient = found["patient"]
    study = f"{patient}-{found['study']}"
  else:
    notes.append(
      "FileName is not patient-study-instance: taken as a patient of its own"
    )
  return {
    "video_id": f"{source}:{name}", "study_id": f"{source}:{study}",
    "patient_id": f"{source}:{patient}", "patient_known": int(bool(found)),
  }  # fmt: skip
