"""CAMUS (Lyon, St-Etienne), the NIfTI release or the older MHD release.

Example:
  echo-jax build camus --source CAMUS_public --data-dir data
"""

import argparse
import math
from functools import partial
from pathlib import Path

import numpy as np

from data_builders.camus.listing import (
  VIEWS,
  Absent,
  find_file,
  find_release,
  list_views,
  patient_id,
)
from data_builders.camus.measuring import (
  ATRIUM,
  LV,
  RULES,
  WALL,
  checked_spacing,
  measure,
  note_disagreement,
  owners_figures,
)
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.ingest.cfg import Cfg, read_cfg
from echo_jax.data.ingest.recording import to_record
from echo_jax.data.ingest.series import (
  as_grey,
  as_labels,
  as_pictures,
  encode_labels,
  to_recording,
)
from echo_jax.data.ingest.volume import read_volume, require_nibabel
from echo_jax.data.ledger import Rejected
from echo_jax.units import MS_PER_S

VERSION = "1.0.0"
SPLIT_RULES = ("official", "by_number")
SEX = {"f": "F", "m": "M"}
QUALITY = {"good": "good", "medium": "medium", "poor": "poor"}
RATE_HZ = (5.0, 500.0)


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folder is, how it is split and how volumes are measured."""
  parser.add_argument(
    "--source", type=Path, required=True,
    help="the folder with database_nifti and database_split (or, of the "
    "older release, training and testing), or one above it",
  )  # fmt: skip
  parser.add_argument(
    "--split", choices=SPLIT_RULES, default="official",
    help="official lists, or patients 1-400, 401-450 and 451-500 as the "
    "released Echo-Vision-FM code has them",
  )  # fmt: skip
  parser.add_argument(
    "--simpson", choices=RULES, default="ase",
    help="ase: the guideline's discs; camus: the rule of CAMUS's own "
    "evaluation, which the released Echo-Vision-FM code uses",
  )  # fmt: skip
  parser.add_argument(
    "--size", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
    help="size of the stored frames (default: the owner's)",
  )  # fmt: skip
  parser.add_argument("--codec", choices=schema.CODECS, default="png")


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  size = tuple(args.size) if args.size else None
  return dataset(
    args.source, split=args.split, rule=args.simpson, size=size,
    codec=args.codec,
  )  # fmt: skip


def dataset(
  source: Path, *, split: str = "official", rule: str = "ase",
  size: tuple[int, int] | None = None, codec: str = "png",
) -> Dataset:  # fmt: skip
  """Lists both views of every patient.

  Args:
    source: the owner's folder, or one up to three above it.
    split: "official" or "by_number".
    rule: of Simpson's volumes, "ase" or "camus".
    size: rows and columns of the stored frames; None keeps the owner's.
    codec: raw, png or jpeg.

  Raises:
    FileNotFoundError: no release, no patient, or no official list.
    ValueError: several releases, a patient in two lists, or another rule.
    ModuleNotFoundError: the NIfTI release without nibabel.
  """
  if split not in SPLIT_RULES or rule not in RULES:
    raise ValueError(
      f"split is {split!r}, rule is {rule!r}; allowed are {SPLIT_RULES} and "
      f"{RULES}"
    )
  release = find_release(Path(source))
  if release.lists:
    require_nibabel()
  items, refused = list_views(release, split)
  settings = {
    "release": release.name, "split": split, "simpson": rule, "size": size,
    "codec": codec,
  }  # fmt: skip
  return Dataset(
    release.name, VERSION,
    "Apical two- and four-chamber half sequences with masks of every frame "
    "(Leclerc et al. 2019); EF and volumes are measured from the masks.",
    settings, items,
    partial(_read, root=str(release.root), rule=rule, size=size, codec=codec),
    refused, lambda item: (release.root / item.facts["folder"],),
  )  # fmt: skip


def _read(
  item: Item, root: str, rule: str, size: tuple[int, int] | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  """The record of one view, and what is odd about it."""
  notes: list[str] = []
  try:
    record = _record(item, Path(root), rule, size, codec, notes)
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  return record, tuple(dict.fromkeys(notes))


def _record(
  item: Item, root: Path, rule: str, size: tuple[int, int] | None, codec: str,
  notes: list[str],
) -> schema.Record:  # fmt: skip
  folder, view = root / item.facts["folder"], item.facts["view"]
  stem = f"{folder.name}_{view}"
  path = _sequence(folder, stem)
  volume = read_volume(path)
  frames = as_pictures(as_grey(volume.values))
  notes += volume.header.warnings
  spacing_mm, why = checked_spacing(
    volume.header.spacing_mm, frames.shape[1:], volume.header.warnings
  )
  notes += [why] if why else []
  cfg = read_cfg(folder / f"Info_{view}.cfg", notes)
  times = _times(cfg, len(frames), notes)
  ed, es = _phases(cfg, folder, stem, frames, notes)
  ours, theirs = measure(folder, rule, notes), owners_figures(cfg, notes)
  note_disagreement(ours, theirs, cfg.name, notes)
  kept = ours if ours.ef_method else theirs
  recording = to_recording(
    frames, times, spacing_mm, kind="cine", device="GE Vivid E95",
    time_source="" if np.isnan(times).any() else "cfg", coding=path.suffix,
  )  # fmt: skip
  patient, _, _ = item.name.rpartition("/")
  files = _mask_files(folder, stem, path, ed, es)
  return to_record(
    recording, video_id=f"{patient_id(patient)}/{view}",
    study_id=patient_id(patient), patient_id=patient_id(patient),
    patient_known=1, split=item.split, codec=codec, size=size,
    site="St-Etienne", view=VIEWS[view], ed_frame=ed, es_frame=es,
    quality=cfg.choice("ImageQuality", QUALITY, notes),
    sex=cfg.choice("Sex", SEX, notes),
    age_years=cfg.number("Age", 0, 120, "years", notes),
    ef_pct=kept.ef_pct, edv_ml=kept.edv_ml, esv_ml=kept.esv_ml,
    ef_method=kept.ef_method,
    **_masks(files, frames.shape, size, notes),
  )  # fmt: skip


def _sequence(folder: Path, stem: str) -> Path:
  """The half sequence (NIfTI) or the sequence (older release) of a view."""
  try:
    return find_file(folder, f"{stem}_half_sequence")
  except Absent:
    return find_file(folder, f"{stem}_sequence")


def _times(cfg: Cfg, frames: int, notes: list[str]) -> np.ndarray:
  """Frame times from the owner's frame rate; NaN if there is none."""
  rate_hz = cfg.number("FrameRate", *RATE_HZ, "Hz", notes)
  if math.isnan(rate_hz):
    notes.append("frame times unknown")
  listed = cfg.number("NbFrame", 1, 10_000, "frames", notes)
  if listed != frames and not math.isnan(listed):
    notes.append(
      f"{cfg.name} says {listed:g} frames, the sequence has {frames}: the "
      "sequence was believed"
    )
  return np.arange(frames) * (MS_PER_S / rate_hz)


def _phases(
  cfg: Cfg, folder: Path, stem: str, frames: np.ndarray, notes: list[str]
) -> tuple[int, int]:
  """ED and ES, checked against the owner's own pictures of them."""
  found = []
  for phase in ("ED", "ES"):
    frame = cfg.frame(phase, len(frames), notes)
    if frame >= 0 and not _shows(folder, f"{stem}_{phase}", frames[frame]):
      notes.append(
        f"frame {frame} is {phase} by {cfg.name}, but it is not the picture "
        f"that the owner gives for {phase}"
      )
    found.append(frame)
  ed, es = found
  if min(ed, es) >= 0 and ed > es:
    notes.append("the sequence runs from ES to ED; its order was kept")
  return ed, es


def _shows(folder: Path, stem: str, frame: np.ndarray) -> bool:
  """False if there is a picture of that name and it is another one."""
  try:
    still = read_volume(find_file(folder, stem)).values
  except Rejected:
    return True
  return still.size == frame.size and bool(
    (still.reshape(frame.shape) == frame).all()
  )


def _mask_files(
  folder: Path, stem: str, sequence: Path, ed: int, es: int
) -> dict[Path, slice]:
  """Where label maps may be, and the frames that each of them is of."""
  files = {
    folder / f"{stem}_{phase}_gt": slice(frame, frame + 1)
    for phase, frame in (("ED", ed), ("ES", es))
    if frame >= 0
  }
  if "half_sequence" not in sequence.name:  # the older release: ED and ES only
    return files
  return {folder / f"{stem}_half_sequence_gt": slice(None)} | files


def _masks(
  files: dict[Path, slice], shape: tuple[int, ...],
  size: tuple[int, int] | None, notes: list[str],
) -> dict[str, list[bytes]]:  # fmt: skip
  """Masks of every frame, or of ED and ES where only those are there."""
  labels, known = np.zeros(shape, np.uint8), np.zeros(shape[0], bool)
  for path, place in files.items():
    name = path.name.split("_", 2)[-1]
    try:
      found = read_volume(find_file(path.parent, path.name))
      found = as_pictures(as_labels(found.values, ATRIUM))
      if found.shape != labels[place].shape:
        raise Rejected(
          f"{found.shape} does not fit frames of {labels[place].shape}"
        )
    except Rejected as reason:
      notes.append(f"no mask from {name}: {reason}")
      continue
    if known[place].all() and (labels[place] != found).any():
      notes.append(
        f"{name} differs from half_sequence_gt: the sequence's mask is "
        "stored, volumes are from the other"
      )
      continue
    labels[place], known[place] = found, True
  if not known.any():
    return {}
  return {
    name: encode_labels(labels, label, known, size)
    for name, label in (
      ("lv_mask", LV), ("myo_mask", WALL), ("la_mask", ATRIUM)
    )
  }  # fmt: skip
