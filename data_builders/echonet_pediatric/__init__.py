"""EchoNet-Pediatric (Stanford), both views, as its owner ships them.

Example:
  echo-jax build echonet_pediatric --source EchoNet-Pediatric --data-dir data
"""

import argparse
from functools import partial
from pathlib import Path

from data_builders.echonet_pediatric.listing import (
  LIST,
  VIEWS,
  list_videos,
  split_of_fold,
)
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.folders import add_folder_options, find_root, read_video
from echo_jax.data.ingest import as_is_notes, to_record
from echo_jax.data.tracings import tracing_labels

NAME = "echonet_pediatric"
VERSION = "1.0.0"


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folder is, how frames are stored and which folds are held out."""
  add_folder_options(parser, "A4C and PSAX")
  for what, fold in (("validation", 8), ("test", 9)):
    parser.add_argument(
      f"--{what}-fold", type=int, default=fold, choices=range(10),
      metavar="0..9", help=f"the owner's fold that is {what} (default {fold})",
    )  # fmt: skip


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  return dataset(
    args.source, size=tuple(args.size) if args.size else None,
    codec=args.codec, validation_fold=args.validation_fold,
    test_fold=args.test_fold,
  )  # fmt: skip


def dataset(
  source: Path, *, size: tuple[int, int] | None = None, codec: str = "png",
  validation_fold: int = 8, test_fold: int = 9,
) -> Dataset:  # fmt: skip
  """Lists the videos; every row of both lists and every file is accounted.

  Args:
    source: the folder with A4C and PSAX (or one of them), or one above it.
    size: rows and columns of the stored frames; None keeps the owner's.
    codec: raw, png or jpeg.
    validation_fold: the owner's fold 0 to 9 that becomes validation.
    test_fold: the one that becomes test; the others are train.

  Raises:
    FileNotFoundError: neither view, or a view without tracings or videos.
    ValueError: a column is missing (named), or one fold for two splits.
  """
  split_of = split_of_fold(validation_fold, test_fold)
  markers = tuple(f"{view}/{LIST}" for view in VIEWS)
  root = find_root(Path(source), markers)
  items, refused = list_videos(root, NAME, split_of)
  return Dataset(
    NAME, VERSION,
    "Children's apical four-chamber and parasternal short-axis clips with "
    "ejection fraction by 5/6 area-length and tracings (Reddy et al. 2023).",
    {"size": size, "codec": codec, "validation_fold": validation_fold,
     "test_fold": test_fold},
    items, partial(_read, root=str(root), size=size, codec=codec), refused,
    lambda item: (root / item.facts["file"],),
  )  # fmt: skip


def _read(
  item: Item, root: str, size: tuple[int, int] | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  """The record of one row, and what is odd about it."""
  facts = item.facts
  recording, notes = read_video(Path(root) / facts["file"])
  notes = [*facts["notes"], *notes]
  labels = tracing_labels(facts["traced"], recording, notes)
  record = to_record(
    recording, video_id=facts["video_id"], study_id=facts["study_id"],
    patient_id=facts["patient_id"], patient_known=facts["patient_known"],
    split=item.split, codec=codec, size=size, channels=1, site="Stanford",
    view=facts["view"], ef_method="area_length", **facts["labels"], **labels,
  )  # fmt: skip
  notes += as_is_notes(recording, record, codec, size, channels=1)
  return record, tuple(notes)
