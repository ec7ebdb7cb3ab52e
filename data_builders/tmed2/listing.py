"""One item an image of TMED-2, with its labels and its official split."""

import re

from data_builders.tmed2.tables import (
  FOLD_COLUMNS,
  LABEL_COLUMNS,
  LABELS,
  Tables,
  is_labelled,
)
from echo_jax.data.build import Item
from echo_jax.data.ledger import Rejected
from echo_jax.data.tables import Refused, Row, keep_apart

SPLITS = {"train": "train", "val": "validation", "test": "test"}
UNUSED = ("not_used", "not_provided", "")  # by the chosen classifier
NOT_PROVIDED = ("Not_Provided", "")
VIEWS = {
  "PLAX": "PLAX", "PSAX": "PSAX", "A4C": "A4C", "A2C": "A2C",
  "A4CorA2CorOther": "", **dict.fromkeys(NOT_PROVIDED, ""),
}  # fmt: skip
# Official three classes: none, early (mild, mild to moderate), significant.
AS_TMED3 = {
  "no_AS": "none", "mild_AS": "early", "mildtomod_AS": "early",
  "moderate_AS": "significant", "severe_AS": "significant",
  **dict.fromkeys(NOT_PROVIDED, ""),
}  # fmt: skip
KEY_FORM = re.compile(r"(?P<patient>\d+)s(?P<study>\d+)_\d+\.png", re.ASCII)


def list_images(
  tables: Tables, split_by: str
) -> tuple[tuple[Item, ...], Refused]:
  """Items to read and what the tables or folders make impossible.

  Every row of the fold, every labelled image that the fold lacks and every
  PNG appears exactly once.
  """
  column = f"{split_by}_classifier_split"
  listed = {row["image"] for row in tables.rows}
  rows = list(zip(tables.rows, tables.copies, strict=True))
  rows += [_unlisted(i, tables) for i in tables.files.places if i not in listed]
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  for row, reason in rows:
    try:
      if reason:
        raise Rejected(reason)
      items.append(_item(row, tables, column))
    except Rejected as error:
      refused.append((row["image"], str(error)))
  refused += tables.files.refused
  refused += _lacking(tables, listed)
  kept, torn = keep_apart(items)
  return kept, (*refused, *torn)


def _unlisted(image: str, tables: Tables) -> tuple[Row, str]:
  """An empty row for a file without one; refused if it should have labels.

  An unlabelled folder itself says that its images have no label.
  """
  row = dict.fromkeys(FOLD_COLUMNS, "")
  row |= {"query_key": image.rpartition("/")[2], "image": image}
  reason = f"not listed: the image is not in fold {tables.fold}"
  return row, reason if is_labelled(image) else ""


def _lacking(tables: Tables, listed: set[str]) -> Refused:
  """Labelled images that neither the fold nor a folder has."""
  there = {
    image.rpartition("/")[2]
    for image in (*listed, *tables.files.places)
    if is_labelled(image)
  }
  reason = f"not listed: only {LABELS} has it, no fold and no folder"
  return tuple((key, reason) for key in tables.labels if key not in there)


def _item(row: Row, tables: Tables, column: str) -> Item:
  """The item of one image.

  Raises:
    Rejected: a name or label of another form, labels that contradict each
      other, or no file.
  """
  image, notes = row["image"], []
  facts = ids_of(row["query_key"]) | labels_of(row, notes)
  if is_labelled(image):
    _compare(row, tables, notes)
  file = tables.files.place(image, f"image absent: {image} is not there")
  split = SPLITS.get(row[column].lower(), "pretrain")
  if split == "pretrain" and is_labelled(image):
    if row[column].lower() not in UNUSED:  # a misspelt test, say
      raise Rejected(
        f"{column} is {row[column]!r}, wants one of {[*SPLITS, *UNUSED]}"
      )
    notes.append(f"{column} is {row[column]!r}: it goes to pretrain")
  return Item(image, split, facts | {"file": file, "notes": tuple(notes)})


def ids_of(key: str) -> dict[str, str]:
  """Study and patient of `<patient>s<study>_<index>.png`.

  Raises:
    Rejected: a name of another form.
  """
  found = KEY_FORM.fullmatch(key)
  if not found:
    raise Rejected(f"name {key!r} is not <patient>s<study>_<index>.png")
  patient = found["patient"]
  return {"study_id": f"{patient}s{found['study']}", "patient_id": patient}


def labels_of(row: Row, notes: list[str]) -> dict[str, str]:
  """View and both gradings of the stenosis from one row.

  Raises:
    Rejected: a word that is no label.
  """
  view, grade = row["view_label"], row["diagnosis_label"]
  if view not in VIEWS:
    raise Rejected(f"view_label is {view!r}, wants one of {list(VIEWS)}")
  if grade not in AS_TMED3:
    raise Rejected(f"diagnosis_label is {grade!r}, wants {list(AS_TMED3)}")
  if not VIEWS[view] and view not in NOT_PROVIDED:
    notes.append(f"view_label is {view}: not one view, so unknown")
  three = AS_TMED3[grade]
  return {
    "view": VIEWS[view], "as_tmed5": grade if three else "", "as_tmed3": three
  }  # fmt: skip


def _compare(row: Row, tables: Tables, notes: list[str]) -> None:
  """Holds the fold's labels against those of labels_per_image.csv."""
  labels = tables.labels.get(row["query_key"], ())
  if not labels:
    notes.append(f"not in {LABELS}: the fold's labels are taken")
  for label in labels:
    for column in LABEL_COLUMNS[1:]:
      if row[column] != label[column]:
        raise Rejected(
          f"labels disagree: {column} is {row[column]!r} in the fold, "
          f"{label[column]!r} in {LABELS}"
        )
