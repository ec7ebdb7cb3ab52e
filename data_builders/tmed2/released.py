"""One item a study of TMED-2, as the released Echo-Vision-FM code has it.

It stacks all labelled images of a study in the order of the table and takes
split and grade from the first row, for the folder of images with both labels.
"""

from collections.abc import Sequence

from data_builders.tmed2.listing import SPLITS, ids_of, labels_of
from data_builders.tmed2.tables import Tables
from echo_jax.data.build import Item
from echo_jax.data.ledger import Rejected
from echo_jax.data.tables import Refused, Row, keep_apart

FOLDER = "view_and_diagnosis_labeled_set/labeled"


def list_studies(tables: Tables) -> tuple[tuple[Item, ...], Refused]:
  """Items to read, in the order of their names, and what is left out.

  Every study of the labelled table appears exactly once.
  """
  studies: dict[str, list[Row]] = {}
  for row in tables.rows:
    studies.setdefault(row["query_key"].split("_")[0], []).append(row)
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  for study in sorted(studies):
    try:
      items.append(_item(study, studies[study], tables))
    except Rejected as error:
      refused.append((study, str(error)))
  kept, torn = keep_apart(items)
  return kept, (*refused, *torn)


def _item(study: str, rows: Sequence[Row], tables: Tables) -> Item:
  """The item of one study.

  Raises:
    Rejected: what the released code leaves out, or an image is absent.
  """
  notes: list[str] = []
  facts = ids_of(rows[0]["query_key"]) | labels_of(rows[0], notes)
  split = SPLITS.get(rows[0]["diagnosis_classifier_split"].lower())
  if split is None or not facts["as_tmed5"]:
    raise Rejected("as released: no diagnosis or no split in its first row")
  if not facts.pop("view"):
    raise Rejected(
      f"as released: the first view is {rows[0]['view_label']!r}, not one view"
    )
  files = tuple(
    tables.files.place(image, f"image absent: {image} is not there")
    for image in (f"{FOLDER}/{row['query_key']}" for row in rows)
  )
  for column in ("diagnosis_label", "diagnosis_classifier_split"):
    if len({row[column] for row in rows}) > 1:
      notes.append(f"{column} differs within the study: the first is taken")
  if len(set(files)) < len(files):
    notes.append("an image is listed twice and stands twice, as released")
  notes.append(f"{len(files)} stills of one study: not a video")
  return Item(study, split, facts | {"files": files, "notes": tuple(notes)})
