"""EchoNet-LVH (Stanford), parasternal long axis with calipers, as shipped.

Example:
  echo-jax build echonet_lvh --source EchoNet-LVH --data-dir data
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data_builders.echonet_lvh.calipers import (
  caliper_labels,
  key_frames,
  spacing_mm,
  usable_calipers,
)
from data_builders.echonet_lvh.listing import LIST, list_videos
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.folders import (
  add_folder_options,
  disagreements,
  find_root,
  read_video,
)
from echo_jax.data.ingest import as_is_notes, to_record

NAME = "echonet_lvh"
VERSION = "1.0.0"


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folder is and how frames are stored."""
  add_folder_options(parser, LIST)


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  size = tuple(args.size) if args.size else None
  return dataset(args.source, size=size, codec=args.codec)


def dataset(
  source: Path, *, size: tuple[int, int] | None = None, codec: str = "png"
) -> Dataset:
  """Lists the videos; every one named and every file is accounted.

  Args:
    source: the folder with MeasurementsList.csv, or a folder above it.
    size: rows and columns of the stored frames; None keeps the owner's.
    codec: raw, png or jpeg.

  Raises:
    FileNotFoundError: no MeasurementsList.csv.
    ValueError: a column is missing (named, with the columns found).
  """
  root = find_root(Path(source), (LIST,))
  items, refused = list_videos(root)
  return Dataset(
    NAME, VERSION,
    "Parasternal long-axis clips with calipers of septum, cavity and "
    "posterior wall (Duffy et al. 2022); one video is one patient.",
    {"size": size, "codec": codec}, items,
    partial(_read, root=str(root), size=size, codec=codec), refused,
    lambda item: (root / item.facts["file"],),
  )  # fmt: skip


def _read(
  item: Item, root: str, size: tuple[int, int] | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  """The record of one video, and what is odd about it."""
  facts, listed = item.facts, item.facts["listed"]
  recording, notes = read_video(Path(root) / facts["file"])
  notes = [*facts["notes"], *notes]
  notes += disagreements(
    LIST, recording, frames=("Frames", listed["Frames"]),
    rows=("Height", listed["Height"]), columns=("Width", listed["Width"]),
    rate_hz=("FPS", listed["FPS"]),
  )  # fmt: skip
  calipers = usable_calipers(
    facts["calipers"], (listed["Height"], listed["Width"]),
    recording.frames.shape[:3], notes,
  )  # fmt: skip
  spacing = np.full(2, spacing_mm(calipers, notes), np.float32)
  owner_id = f"{NAME}:{item.name}"
  record = to_record(
    replace(recording, spacing_mm=spacing), video_id=owner_id,
    study_id=owner_id, patient_id=owner_id, patient_known=0, split=item.split,
    codec=codec, size=size, channels=1, site="Stanford", view="PLAX",
    **facts["values_mm"], **caliper_labels(calipers),
    **key_frames(calipers, notes),
  )  # fmt: skip
  notes += as_is_notes(recording, record, codec, size, channels=1)
  return record, tuple(notes)
