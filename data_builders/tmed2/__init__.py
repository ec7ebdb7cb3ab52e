"""TMED-2 (Tufts), stills with view and aortic stenosis, as its owner ships it.

Example:
  echo-jax build tmed2 --source TMED2 --data-dir data --fold DEV479:0
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data_builders.tmed2.listing import list_images
from data_builders.tmed2.released import list_studies
from data_builders.tmed2.tables import (
  LABELS,
  SPLIT_BY,
  parse_fold,
  read_tables,
)
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.folders import add_folder_options, find_root
from echo_jax.data.ingest import Recording, to_record
from echo_jax.data.ingest.movie import is_grey
from echo_jax.data.ingest.still import read_still
from echo_jax.data.ledger import Rejected

NAME = "tmed2"
VERSION = "1.0.0"
OWNERS_SIZE = (112, 112)


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folder is, which official fold, and in which form."""
  add_folder_options(parser, LABELS)
  parser.add_argument(
    "--fold", default="DEV479:0",
    help="official fold that gives the splits (default DEV479:0)",
  )  # fmt: skip
  parser.add_argument(
    "--split-by", choices=SPLIT_BY, default="diagnosis",
    help="whose official splits: the diagnosis or the view classifier's",
  )  # fmt: skip
  parser.add_argument(
    "--unlabelled", choices=("pretrain", "none"), default="pretrain",
    help="what becomes of images in unlabelled folders (default pretrain)",
  )  # fmt: skip
  parser.add_argument(
    "--as-released", action="store_true",
    help="all labelled images of a study as one false video, as the released "
    "Echo-Vision-FM code has it; the data set is tmed2_as_released",
  )  # fmt: skip


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  return dataset(
    args.source, fold=args.fold, split_by=args.split_by,
    unlabelled=args.unlabelled == "pretrain", as_released=args.as_released,
    size=tuple(args.size) if args.size else None, codec=args.codec,
  )  # fmt: skip


def dataset(
  source: Path, *, fold: str = "DEV479:0", split_by: str = "diagnosis",
  unlabelled: bool = True, as_released: bool = False,
  size: tuple[int, int] | None = None, codec: str = "png",
) -> Dataset:  # fmt: skip
  """Lists the images, or with `as_released` the studies.

  Args:
    source: the folder with labels_per_image.csv, or one above it.
    fold: `DEV479:0` and the like.
    split_by: diagnosis or view.
    unlabelled: whether images of unlabelled folders become pretrain records.
    as_released: one record a study, whose order of frames is not time.
    size: rows and columns of the stored frames; None keeps the owner's.
    codec: raw, png or jpeg.

  Raises:
    FileNotFoundError: no labels_per_image.csv, or no table of the fold.
    ValueError: no such fold, a column missing, or options that contradict.
  """
  chosen, root = parse_fold(fold), find_root(Path(source), (LABELS,))
  if split_by not in SPLIT_BY:
    raise ValueError(f"split_by is {split_by!r}; allowed: {SPLIT_BY}")
  if as_released and split_by != "diagnosis":
    raise ValueError("the released code splits by diagnosis, not by view")
  tables = read_tables(root, chosen, unlabelled and not as_released)
  settings = {"fold": str(chosen), "split_by": split_by, "size": size,
              "codec": codec, "as_released": as_released}  # fmt: skip
  read = partial(_read, root=str(root), size=size, codec=codec)
  files = partial(_files_of, root=root)
  if as_released:
    items, refused = list_studies(tables)
    return Dataset(
      f"{NAME}_as_released", VERSION,
      "Stills of a study stacked as one false video, as the released "
      "Echo-Vision-FM protocol has it: their order is not time, and their "
      "number tells the grade.", settings, items, read, refused, files,
    )  # fmt: skip
  items, refused = list_images(tables, split_by)
  return Dataset(
    NAME, VERSION,
    "Transthoracic stills with view and grade of aortic stenosis (Huang et "
    "al. 2022).", settings | {"unlabelled": unlabelled}, items, read, refused,
    files,
  )  # fmt: skip


def _files_of(item: Item, root: Path) -> Iterator[Path]:
  """The image, or those of the study."""
  for file in item.facts.get("files") or (item.facts["file"],):
    yield root / file


def _read(
  item: Item, root: str, size: tuple[int, int] | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  """The record of one image, or of the images of one study."""
  facts = dict(item.facts)
  notes = [*facts.pop("notes")]
  if "files" in facts:
    video_id = facts["study_id"]
    stills = [read_still(Path(root) / file) for file in facts.pop("files")]
    recording = _stacked(stills)
  else:
    video_id = item.name.removesuffix(".png")
    recording = read_still(Path(root) / facts.pop("file"))
  rows, columns = recording.frames.shape[1:3]
  if (rows, columns) != OWNERS_SIZE:
    notes.append(f"{rows}x{columns} pixels, the owner's are 112x112")
  if not is_grey(recording.frames):
    notes.append("coloured pixels: stored as luminance")
  for name in ("study_id", "patient_id"):
    facts[name] = f"{NAME}:{facts[name]}"
  record = to_record(
    recording, video_id=f"{NAME}:{video_id}", patient_known=1, channels=1,
    split=item.split, codec=codec, size=size, site="Tufts", **facts,
  )  # fmt: skip
  return record, (*notes, *recording.warnings)


def _stacked(stills: Sequence[Recording]) -> Recording:
  """Stills as the frames of one cine, whose times and sector are unknown.

  Raises:
    Rejected: stills of several sizes.
  """
  sizes = {still.frames.shape[1:] for still in stills}
  if len(sizes) > 1:
    raise Rejected(f"images of {len(sizes)} sizes or colours in one study")
  return replace(
    stills[0], frames=np.concatenate([still.frames for still in stills]),
    frame_time_ms=np.full(len(stills), np.nan), time_source="", kind="cine",
    sector=np.zeros_like(stills[0].sector), warnings=(),
  )  # fmt: skip
