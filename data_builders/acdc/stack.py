"""The short-axis stack of one ACDC patient: voxels, masks and volumes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from echo_jax.data.ingest.cfg import Cfg, read_cfg
from echo_jax.data.ingest.series import as_labels, find_window
from echo_jax.data.ingest.volume import (
  Volume,
  VolumeHeader,
  read_volume,
  read_volume_header,
)
from echo_jax.data.ledger import Rejected
from echo_jax.data.schema import FIELDS
from echo_jax.units import ef_pct, ml_from_mm3

RV, WALL, LV = 1, 2, 3  # the owner's labels
CYCLE_MS = (300.0, 2000.0)  # 30 to 200 beats a minute; a series is one beat
SLICES_MM = (1.0, 25.0)
PIXEL_MM = (0.2, 5.0)


@dataclass(frozen=True)
class Stack:
  """One patient.

  Attributes:
    values: grey values, frame, slice, row, column.
    window: grey values that become black and white.
    frame_time_ms: NaN if the header's step is no frame time.
    spacing_mm: of rows and columns; NaN if unknown.
    ed_frame: counted from 0; -1 if unknown.
    es_frame: likewise.
    labels: label map (slice, row, column) by frame, where there is one.
    scalars: keys of the record that hold for every slice.
    notes: what is odd; without patient text.
  """

  values: np.ndarray
  window: tuple[float, float]
  frame_time_ms: Float[np.ndarray, "T"]
  spacing_mm: Float[np.ndarray, "2"]
  ed_frame: int
  es_frame: int
  labels: Mapping[int, UInt8[np.ndarray, "s H W"]]
  scalars: Mapping[str, Any]
  notes: tuple[str, ...]


def series_of(folder: Path) -> Path:
  """The 4-D file of a patient.

  Raises:
    Rejected: there is none.
  """
  return _find(folder, f"{folder.name}_4d")


def series_shape(path: Path) -> tuple[int, ...]:
  """Frames, slices, rows and columns of a 4-D file, from its header.

  Raises:
    Rejected: a file that cannot be read or has no four axes.
  """
  try:
    shape = read_volume_header(path).shape
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  if len(shape) != 4:
    raise Rejected(f"{path.name} has {len(shape)} axes, wants 4")
  return shape


def _find(folder: Path, stem: str) -> Path:
  for suffix in (".nii.gz", ".nii"):
    if (folder / f"{stem}{suffix}").is_file():
      return folder / f"{stem}{suffix}"
  raise Rejected(f"absent: no {stem}.nii.gz or .nii")


def read_stack(folder: Path, window_pct: tuple[float, float]) -> Stack:
  """Reads the series, its masks and Info.cfg.

  Raises:
    Rejected: no series, or one that cannot be read.
    OSError: a file cannot be opened.
  """
  notes: list[str] = []
  path = series_of(folder)
  frames = series_shape(path)[0]
  series = read_volume(path)
  spacing_mm, slice_mm = _spacing(series.header, notes)
  cfg = read_cfg(folder / "Info.cfg", notes)
  phases = [cfg.frame(phase, frames, notes) for phase in ("ED", "ES")]
  labels = {
    frame: found
    for frame in phases
    if frame >= 0
    and (found := _labels(folder, frame, series, notes)) is not None
  }
  scalars = _volumes(labels, *phases, spacing_mm, slice_mm, notes)
  return Stack(
    series.values, find_window(series.values, window_pct),
    _times(series.header, frames, notes), spacing_mm, *phases, labels,
    scalars | _person(cfg, frames, notes), tuple(dict.fromkeys(notes)),
  )  # fmt: skip


def _spacing(
  header: VolumeHeader, notes: list[str]
) -> tuple[Float[np.ndarray, "2"], float]:
  """Spacing of rows and columns, and of slices, where they can be true."""
  notes += header.warnings
  spacing_mm, slice_mm = header.spacing_mm, header.slice_mm
  low, high = PIXEL_MM
  if not all(math.isnan(mm) or low <= mm <= high for mm in spacing_mm):
    notes.append(
      f"row and column spacing {spacing_mm[0]:g} and {spacing_mm[1]:g} mm "
      f"outside {low:g} to {high:g} mm: spacing unknown"
    )
    spacing_mm = np.full(2, np.nan, np.float32)
  low, high = SLICES_MM
  if not low <= slice_mm <= high:
    notes.append(
      f"slices {slice_mm:g} mm apart, outside {low:g} to {high:g} mm: volumes "
      "unknown"
    )
    slice_mm = math.nan
  return spacing_mm, slice_mm


def _labels(
  folder: Path, frame: int, series: Volume, notes: list[str]
) -> UInt8[np.ndarray, "s H W"] | None:
  """The label map of one frame, whose file counts from 1."""
  stem = f"{folder.name}_frame{frame + 1:02d}"
  shape = series.values.shape[1:]
  try:
    labels = as_labels(read_volume(_find(folder, f"{stem}_gt")).values, LV)
    if labels.shape != shape:
      raise Rejected(f"{labels.shape} does not fit the series {shape}")
  except Rejected as reason:
    notes.append(f"{stem}_gt not used: {reason}")
    return None
  try:
    still = read_volume(_find(folder, stem)).values
    if not np.array_equal(still, series.values[frame]):
      notes.append(f"{stem} is not frame {frame + 1} of the series")
  except Rejected as reason:
    notes.append(f"{stem} not compared with the series: {reason}")
  return labels


def _volumes(
  labels: Mapping[int, np.ndarray], ed: int, es: int,
  spacing_mm: Float[np.ndarray, "2"], slice_mm: float, notes: list[str],
) -> dict[str, Any]:  # fmt: skip
  """EDV, ESV and EF: cavity voxels times the volume of one (slices summed).

  EF needs no spacing, since both phases have the same voxels.
  """
  if ed not in labels or es not in labels or ed == es:
    notes.append("no masks at both ED and ES: EF and volumes unknown")
    return {}
  voxel_ml = float(ml_from_mm3(float(np.prod(spacing_mm)) * slice_mm))
  at_ed, at_es = (int((labels[n] == LV).sum()) for n in (ed, es))
  if not 0 < at_es <= at_ed:
    notes.append(f"cavity of {at_es} voxels at ES and {at_ed} at ED: not used")
    return {}
  volumes = {"edv_ml": at_ed * voxel_ml, "esv_ml": at_es * voxel_ml}
  if any(
    ml < FIELDS[key].low or ml > FIELDS[key].high for key, ml in volumes.items()
  ):
    edv, esv = volumes.values()
    notes.append(
      f"spacing makes EDV {edv:.3g} and ESV {esv:.3g} ml: volumes unknown"
    )
    volumes = {}
  ef = float(ef_pct(at_ed, at_es))
  return {"ef_pct": ef, "ef_method": "short_axis_stack"} | volumes


def _times(
  header: VolumeHeader, frames: int, notes: list[str]
) -> Float[np.ndarray, "T"]:
  """Frame times if the header's step makes the series one heartbeat long."""
  low, high = CYCLE_MS
  if low <= frames * header.frame_ms <= high:
    return np.arange(frames) * header.frame_ms
  notes.append(
    f"a time step of {header.frame_ms:g} ms makes {frames} frames no "
    f"heartbeat of {low:g} to {high:g} ms: frame times unknown"
  )
  return np.full(frames, np.nan)


def _person(cfg: Cfg, frames: int, notes: list[str]) -> dict[str, float]:
  listed = cfg.number("NbFrame", 1, 1000, "frames", notes)
  if listed != frames and not math.isnan(listed):
    notes.append(
      f"Info.cfg says {listed:g} frames, the series has {frames}: the series "
      "was believed"
    )
  return {
    "height_cm": cfg.number("Height", 20, 260, "cm", notes),
    "weight_kg": cfg.number("Weight", 0.3, 400, "kg", notes),
  }
