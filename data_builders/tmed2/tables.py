"""TMED-2's tables and folders: the rows of one fold, labels and files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from echo_jax.data.folders import Files, find_files
from echo_jax.data.tables import Row, id_of, read_table, refuse_copies

LABELS = "labels_per_image.csv"
LABEL_COLUMNS = ("query_key", "view_label", "diagnosis_label")
SPLIT_BY = ("diagnosis", "view")
FOLD_COLUMNS = (
  *LABEL_COLUMNS, "SourceFolder",
  *(f"{name}_classifier_split" for name in SPLIT_BY),
)  # fmt: skip
COHORTS = ("DEV479", "DEV165", "DEV56")


@dataclass(frozen=True)
class Fold:
  """An official fold, as in DEV479:0."""

  cohort: str
  number: int

  def table(self, part: str) -> str:
    """Path of its labelled or unlabelled table below the root."""
    return f"{self.cohort}/TMED2_fold{self.number}_{part}part.csv"

  def __str__(self) -> str:
    return f"{self.cohort}:{self.number}"


def parse_fold(text: str) -> Fold:
  """Reads `DEV479:0`.

  Raises:
    ValueError: no such fold; names those that there are.
  """
  cohort, _, number = text.partition(":")
  if cohort not in COHORTS or number not in ("0", "1", "2"):
    raise ValueError(
      f"no fold {text!r}; there are {', '.join(COHORTS)}, each with :0, :1, :2"
    )
  return Fold(cohort, int(number))


@dataclass(frozen=True)
class Tables:
  """The rows of one fold and the files, by image.

  An image is named `<SourceFolder>/<query_key>` in lower case: one key occurs
  in a labelled folder and in an unlabelled one, for two pictures.

  Attributes:
    fold: which.
    rows: of the labelled table, then of the unlabelled one; `image` is added.
    copies: why a row must not be used, "" if it may.
    labels: of labels_per_image.csv by key, several where they differ.
    files: PNG by image.
  """

  fold: Fold
  rows: tuple[Row, ...]
  copies: tuple[str, ...]
  labels: Mapping[str, tuple[Row, ...]]
  files: Files


def read_tables(root: Path, fold: Fold, unlabelled: bool) -> Tables:
  """Reads the fold, the labels and the names of the files.

  Args:
    root: the folder with labels_per_image.csv.
    fold: which official one.
    unlabelled: whether images of unlabelled folders are wanted.

  Raises:
    FileNotFoundError: a table of the fold is not there.
    ValueError: a column is missing.
  """
  rows: list[Row] = []
  for part in ("labeled", "unlabeled") if unlabelled else ("labeled",):
    path = root / fold.table(part)
    if not path.is_file():
      remedy = "" if part == "labeled" else "; or pass --unlabelled none"
      raise FileNotFoundError(f"{root} has no {fold.table(part)}{remedy}")
    for row in read_table(path, FOLD_COLUMNS):
      key = _key(row["query_key"])
      image = f"{_folder(row['SourceFolder'])}/{key}"
      rows.append(row | {"query_key": key, "image": image})
  labels: dict[str, tuple[Row, ...]] = {}
  for row in read_table(root / LABELS, LABEL_COLUMNS):
    row["query_key"] = key = _key(row["query_key"])
    known = labels.get(key, ())
    labels[key] = known if row in known else (*known, row)

  def image_of(place: Path) -> str:
    image = f"{_folder(place.parent.as_posix())}/{_key(place.name)}"
    return image if unlabelled or is_labelled(image) else ""

  copies = refuse_copies(rows, "image", ".png", f"fold {fold}")
  files = find_files(root, root, ".png", image_of)
  return Tables(fold, tuple(rows), tuple(copies), labels, files)


def is_labelled(image: str) -> bool:
  """Whether an image lies in a folder of labelled ones."""
  return PurePosixPath(image).parent.name == "labeled"


def _key(text: str) -> str:
  """A file name in one form: lower case, with its suffix."""
  return f"{id_of(text, '.png').lower()}.png"


def _folder(text: str) -> str:
  """A folder in one form: no empty part, and none twice in a row.

  The archives hold some folders in themselves (labeled/labeled).
  """
  parts = [p for p in re.split(r"[/\\]", text.lower()) if p not in ("", ".")]
  pairs = zip(parts, ["", *parts], strict=False)
  return "/".join(part for part, before in pairs if part != before)
