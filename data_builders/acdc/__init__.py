"""ACDC (Dijon): cine cardiac MR in short axis, one record a slice.

Example:
  echo-jax build acdc --source ACDC/database --data-dir data
"""

import argparse
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from data_builders.acdc.listing import find_parts, list_slices
from data_builders.acdc.stack import LV, RV, WALL, Stack, read_stack
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.ingest.recording import to_record
from echo_jax.data.ingest.series import (
  encode_labels,
  grey_in_window,
  to_recording,
)
from echo_jax.data.ingest.volume import require_nibabel
from echo_jax.data.ledger import Rejected

NAME = "acdc"
VERSION = "1.0.0"
VALIDATION = 0.2  # of the training patients
WINDOW_PCT = (0.5, 99.5)


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folder is, who validates, and how frames are stored."""
  parser.add_argument(
    "--source", type=Path, required=True,
    help="the folder with training and testing, or one above it",
  )  # fmt: skip
  parser.add_argument(
    "--validation", type=float, default=VALIDATION,
    help="share of the training patients, drawn by a hash of the patient",
  )  # fmt: skip
  parser.add_argument(
    "--window", type=float, nargs=2, default=WINDOW_PCT,
    metavar=("LOW", "HIGH"),
    help="percentiles of the whole series that become black and white",
  )  # fmt: skip
  parser.add_argument(
    "--size", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
    help="size of the stored frames (default: the owner's)",
  )  # fmt: skip
  parser.add_argument("--codec", choices=schema.CODECS, default="png")


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  return dataset(
    args.source, validation=args.validation, window_pct=tuple(args.window),
    size=tuple(args.size) if args.size else None, codec=args.codec,
  )  # fmt: skip


def dataset(
  source: Path, *, validation: float = VALIDATION,
  window_pct: tuple[float, float] = WINDOW_PCT,
  size: tuple[int, int] | None = None, codec: str = "png",
) -> Dataset:  # fmt: skip
  """Lists every slice of every patient.

  Args:
    source: the folder with training and testing, or one up to three above.
    validation: share of the training patients, by a hash of the patient.
    window_pct: grey 0 and 255 are these percentiles of all voxels of a
      patient's series, so that slices and frames keep their relation.
    size: rows and columns of the stored frames; None keeps the owner's.
    codec: raw, png or jpeg.

  Raises:
    FileNotFoundError: no training or testing folder, or no patient.
    ValueError: several of them, or a share or window that cannot be.
    ModuleNotFoundError: nibabel is not installed.
  """
  low, high = window_pct
  if not 0 <= low < high <= 100:
    raise ValueError(
      f"window {low:g} to {high:g}; wants 0 <= low < high <= 100"
    )
  if not 0 <= validation < 1:
    raise ValueError(f"validation is {validation:g}, wants 0 to below 1")
  require_nibabel()
  parts = find_parts(Path(source))
  items, refused = list_slices(parts, validation)
  settings = {
    "validation": validation, "window_pct": list(window_pct), "size": size,
    "codec": codec,
  }  # fmt: skip
  return Dataset(
    NAME, VERSION,
    "Short-axis cine MR with masks at end-diastole and end-systole (Bernard "
    "et al. 2018); one record is one slice, EF is of the whole stack.",
    settings, items,
    partial(_read, window_pct=window_pct, size=size, codec=codec), refused,
    lambda item: (Path(item.facts["folder"]),),
  )  # fmt: skip


@lru_cache(maxsize=1)
def _stack_of(
  folder: Path, window_pct: tuple[float, float], files: tuple
) -> Stack:
  """The slices of a patient follow each other: the stack is read once."""
  return read_stack(folder, window_pct)


def _files_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
  """Name, time and size of each file, which change with its content."""
  stats = {path.name: path.stat() for path in folder.iterdir()}
  return tuple(
    (name, stat.st_mtime_ns, stat.st_size)
    for name, stat in sorted(stats.items())
  )


def _read(
  item: Item, window_pct: tuple[float, float], size: tuple[int, int] | None,
  codec: str,
) -> tuple[schema.Record, tuple[str, ...]]:  # fmt: skip
  """The record of one slice, and what is odd about its stack."""
  try:
    folder = Path(item.facts["folder"])
    stack = _stack_of(folder, window_pct, _files_of(folder))
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  number = item.facts["slice"]
  frames = grey_in_window(stack.values[:, number], stack.window)
  recording = to_recording(
    frames, stack.frame_time_ms, stack.spacing_mm, kind="mr", sector=False,
    coding="NIfTI",
    time_source="" if np.isnan(stack.frame_time_ms).any() else "pixdim",
  )  # fmt: skip
  patient = f"{NAME}:{item.facts['patient']}"
  record = to_record(
    recording, video_id=f"{NAME}:{item.name}", study_id=patient,
    patient_id=patient, patient_known=1, split=item.split, codec=codec,
    size=size, site="Dijon", ed_frame=stack.ed_frame, es_frame=stack.es_frame,
    **stack.scalars, **_masks(stack, number, size),
  )  # fmt: skip
  return record, stack.notes


def _masks(
  stack: Stack, number: int, size: tuple[int, int] | None
) -> dict[str, list[bytes]]:
  """Masks at ED and ES; the other frames have none."""
  frames, _, rows, columns = stack.values.shape
  labels = np.zeros((frames, rows, columns), np.uint8)
  known = np.zeros(frames, bool)
  for frame, found in stack.labels.items():
    labels[frame], known[frame] = found[number], True
  if not known.any():
    return {}
  return {
    name: encode_labels(labels, label, known, size)
    for name, label in (("lv_mask", LV), ("myo_mask", WALL), ("rv_mask", RV))
  }
