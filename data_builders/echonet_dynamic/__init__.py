"""EchoNet-Dynamic (Stanford), the folder exactly as its owner ships it.

Example:
  echo-jax build echonet_dynamic --source EchoNet-Dynamic --data-dir data
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from data_builders.echonet_dynamic.listing import (
  Tracing,
  find_root,
  list_videos,
)  # fmt: skip
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.ingest import (
  AS_IS,
  Recording,
  as_is_notes,
  read_recording,
  to_record,
)  # fmt: skip
from echo_jax.data.ingest.movie import is_grey
from echo_jax.data.ledger import Rejected
from echo_jax.units import MS_PER_S

NAME = "echonet_dynamic"
VERSION = "1.0.0"


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folder is and how frames are stored."""
  parser.add_argument(
    "--source", type=Path, required=True,
    help="the folder with FileList.csv, or one above it",
  )  # fmt: skip
  parser.add_argument(
    "--size", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
    help="size of the stored frames (default: the owner's 112x112)",
  )  # fmt: skip
  parser.add_argument(
    "--codec", choices=(*schema.CODECS, AS_IS), default="png",
    help="as-is keeps the owner's motion JPEG frames",
  )  # fmt: skip


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
  root = find_root(Path(source))
  items, refused = list_videos(root)
  return Dataset(
    NAME, VERSION,
    "Apical four-chamber clips with ejection fraction, volumes and tracings "
    "(Ouyang et al. 2020); one video is one patient.",
    {"size": size, "codec": codec}, items,
    partial(_read, root=str(root), size=size, codec=codec), refused,
  )  # fmt: skip


def _read(
  item: Item, root: str, size: tuple[int, int] | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  """The record of one row, and what is odd about it."""
  facts = item.facts
  try:
    recording = read_recording(Path(root) / facts["file"])
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  notes = [*recording.warnings, *_disagreements(facts["listed"], recording)]
  if not is_grey(recording.frames):
    notes.append(
      f"coloured pixels ({recording.coloured_pct:.1f} % of the sector): "
      "stored as luminance"
    )
  notes += _check_ef(facts)
  tracings = _usable(facts["tracings"], recording, notes)
  if facts["bad_tracing"]:
    notes.append(facts["bad_tracing"])
  owner_id = f"{NAME}:{item.name}"
  record = to_record(
    recording, video_id=owner_id, study_id=owner_id, patient_id=owner_id,
    patient_known=0, split=item.split, codec=codec, size=size, channels=1,
    site="Stanford", view="A4C", ef_method="reported", ef_pct=facts["ef_pct"],
    edv_ml=facts["edv_ml"], esv_ml=facts["esv_ml"],
    **_tracing_labels(tracings, notes),
  )  # fmt: skip
  notes += as_is_notes(recording, record, codec, size, channels=1)
  return record, tuple(notes)


def _disagreements(listed: dict[str, float], recording: Recording) -> list[str]:
  """Where FileList.csv and the video differ; the video is believed."""
  frames, rows, columns = recording.frames.shape[:3]
  times = recording.frame_time_ms
  rate_hz = float("nan")
  if frames > 1:
    rate_hz = MS_PER_S * (frames - 1) / times[-1]
  found = {
    "NumberOfFrames": frames, "FrameHeight": rows, "FrameWidth": columns,
    "FPS": rate_hz,
  }  # fmt: skip
  return [
    f"FileList.csv says {name} {listed[name]:g}, the video has {value:g}: "
    "the video was believed"
    for name, value in found.items()
    if abs(listed[name] - value) > (0.01 * value if name == "FPS" else 0)
  ]


def _check_ef(facts: dict) -> list[str]:
  """Notes an EF that its own volumes contradict by more than a point."""
  edv, esv, ef = facts["edv_ml"], facts["esv_ml"], facts["ef_pct"]
  if not edv > 0:
    return []
  computed = 100 * (edv - esv) / edv
  if abs(computed - ef) <= 1:
    return []
  return [f"EF {ef:.1f} % but its volumes give {computed:.1f} %"]


def _usable(
  tracings: tuple[Tracing, ...], recording: Recording, notes: list[str]
) -> tuple[Tracing, ...]:
  """Contours that lie in the video; the others are noted and left out."""
  frames, rows, columns = recording.frames.shape[:3]
  kept = []
  for tracing in tracings:
    where = f"tracing of frame {tracing.frame}"
    low, high = tracing.points_px.min(0), tracing.points_px.max(0)
    if not 0 <= tracing.frame < frames:
      notes.append(f"{where} left out: the video has {frames} frames")
      continue
    if (low < -1).any() or (high > [columns, rows]).any():
      notes.append(f"{where} leaves the {columns}x{rows} picture")
    kept.append(tracing)
  return tuple(kept)


def _tracing_labels(tracings: tuple[Tracing, ...], notes: list[str]) -> dict:
  """Contours in file order; ED is the largest area and ES the smallest."""
  if not tracings:
    notes.append("no tracing: ED and ES frames unknown")
    return {}
  labels = {
    "tracing_frame": [tracing.frame for tracing in tracings],
    "tracing_count": [len(tracing.points_px) for tracing in tracings],
    "tracing_px": np.concatenate([tracing.points_px for tracing in tracings]),
  }
  if len(tracings) == 1:
    notes.append("one traced frame only: ED and ES frames unknown")
    return labels
  areas = [tracing.area_px2 for tracing in tracings]
  if areas[-1] != max(areas):
    notes.append(
      f"the last traced frame has {areas[-1]:.0f} px2, not the largest area "
      f"({max(areas):.0f} px2): ED and ES were taken by area"
    )
  return labels | {
    "ed_frame": tracings[int(np.argmax(areas))].frame,
    "es_frame": tracings[int(np.argmin(areas))].frame,
  }
