"""EchoNet-Dynamic (Stanford), the folder exactly as its owner ships it.

Example:
  echo-jax build echonet_dynamic --source EchoNet-Dynamic --data-dir data
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data_builders.echonet_dynamic.listing import (
  LIST,
  TRACINGS,
  VIDEOS,
  list_videos,
)
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.folders import (
  add_folder_options,
  disagreements,
  find_root,
  read_video,
)
from echo_jax.data.ingest import as_is_notes, to_record
from echo_jax.data.tracings import tracing_labels

NAME = "echonet_dynamic"
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
  """Lists the videos; every row of FileList.csv and every file is accounted.

  Args:
    source: the folder with FileList.csv, VolumeTracings.csv and Videos, or a
      folder above it.
    size: rows and columns of the stored frames; None keeps the owner's.
    codec: raw, png, jpeg or as-is (`ingest.to_record`).

  Raises:
    FileNotFoundError: no FileList.csv, VolumeTracings.csv or Videos.
    ValueError: a column is missing (named, with the columns found).
  """
  root = find_root(Path(source), (LIST,), (TRACINGS, VIDEOS))
  items, refused = list_videos(root)
  return Dataset(
    NAME, VERSION,
    "Apical four-chamber clips with ejection fraction, volumes and tracings "
    "(Ouyang et al. 2020); one video is one patient.",
    {"size": size, "codec": codec}, items,
    partial(_read, root=str(root), size=size, codec=codec), refused,
    lambda item: (root / item.facts["file"],),
  )  # fmt: skip


def _read(
  item: Item, root: str, size: tuple[int, int] | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  """The record of one row, and what is odd about it."""
  facts, listed = item.facts, item.facts["listed"]
  recording, notes = read_video(Path(root) / facts["file"])
  notes += disagreements(
    LIST, recording, frames=("NumberOfFrames", listed["NumberOfFrames"]),
    rows=("FrameHeight", listed["FrameHeight"]),
    columns=("FrameWidth", listed["FrameWidth"]),
    rate_hz=("FPS", listed["FPS"]),
  )  # fmt: skip
  notes += _check_ef(facts)
  labels = tracing_labels(facts["traced"], recording, notes)
  owner_id = f"{NAME}:{item.name}"
  record = to_record(
    recording, video_id=owner_id, study_id=owner_id, patient_id=owner_id,
    patient_known=0, split=item.split, codec=codec, size=size, channels=1,
    site="Stanford", view="A4C", ef_method="reported", ef_pct=facts["ef_pct"],
    edv_ml=facts["edv_ml"], esv_ml=facts["esv_ml"], **labels,
  )  # fmt: skip
  notes += as_is_notes(recording, record, codec, size, channels=1)
  return record, tuple(notes)


def _check_ef(facts: Mapping[str, Any]) -> list[str]:
  """Notes an EF that its own volumes contradict by more than a point."""
  edv, esv, ef = facts["edv_ml"], facts["esv_ml"], facts["ef_pct"]
  if not edv > 0:
    return []
  computed = 100 * (edv - esv) / edv
  if abs(computed - ef) <= 1:
    return []
  return [f"EF {ef:.1f} % but its volumes give {computed:.1f} %"]
