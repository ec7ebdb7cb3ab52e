"""EF and volumes of a CAMUS patient, measured again from the owner's masks."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from data_builders.camus.listing import VIEWS, Absent, find_file
from echo_jax import simpson
from echo_jax.data.ingest.cfg import Cfg, read_cfg
from echo_jax.data.ingest.series import as_labels, as_pictures
from echo_jax.data.ingest.volume import read_volume
from echo_jax.data.ledger import Rejected
from echo_jax.data.schema import FIELDS
from echo_jax.units import ef_pct

LV, WALL, ATRIUM = 1, 2, 3  # the owner's labels
SIDE_MM = (50.0, 400.0)  # of a picture; outside, its spacing is not one
LENGTHS_DIFFER = 0.2  # of the longer axis: one view is foreshortened
EF_DIFFERS_PCT, VOLUME_DIFFERS = 1.0, 0.05
LONGEST_PIXEL = 2.5  # times as long as wide; the owner's are 2 times
RULES = ("ase", "camus")

Planes = tuple[simpson.Discs, simpson.Discs]  # at ED and at ES


@dataclass(frozen=True)
class Measured:
  """EF and volumes of a patient; NaN and "" where they are unknown."""

  ef_pct: float = math.nan
  edv_ml: float = math.nan
  esv_ml: float = math.nan
  ef_method: str = ""


def measure(folder: Path, rule: str, notes: list[str]) -> Measured:
  """Simpson's volumes from the ED and ES masks of both views, or of one."""
  planes: dict[str, Planes] = {}
  for view in VIEWS:
    try:
      planes[view] = measure_view(folder, view, rule, notes)
    except (Rejected, ValueError) as reason:
      notes.append(f"{view} gives no volume: {reason}")
  if not planes:
    return Measured()
  both = len(planes) == 2
  first, last = (list(planes.values()) * 2)[:2]
  longest = simpson.longest_mm(*first, *last) if rule == "camus" else None
  edv, esv = (
    simpson.biplane_ml(*pair, longest)
    for pair in zip(first, last, strict=True)
  )
  if both:
    _note_foreshortening(first, last, notes)
  else:
    (view,) = planes
    notes.append(f"volumes from one plane only ({view})")
  if not 0 < esv <= edv or not all(
    FIELDS[key].low <= ml <= FIELDS[key].high
    for key, ml in (("edv_ml", edv), ("esv_ml", esv))
  ):
    notes.append(f"masks give ESV {esv:.1f} ml and EDV {edv:.1f} ml: not used")
    return Measured()
  method = "biplane" if both else "single_plane"
  return Measured(float(ef_pct(edv, esv)), edv, esv, method)


def measure_view(
  folder: Path, view: str, rule: str, notes: list[str]
) -> Planes:
  """Discs of one view at ED and at ES.

  Raises:
    Rejected: a mask is absent or damaged, or its spacing is impossible.
    ValueError: a mask without a long axis.
  """
  planes = []
  for phase in ("ED", "ES"):
    labels, spacing_mm = read_labels(folder, view, phase)
    cavity, atrium = labels == LV, np.argwhere(labels == ATRIUM)
    if rule == "camus":
      planes.append(simpson.measure_as_camus(cavity, spacing_mm))
      continue
    towards_px = atrium.mean(axis=0)[::-1] if len(atrium) else None
    if towards_px is None:
      notes.append(
        f"{view} {phase} shows no atrium: the blunt end was taken as base"
      )
    planes.append(
      simpson.measure_discs(cavity, spacing_mm, base_towards_px=towards_px)
    )
  ed, es = planes
  return ed, es


def read_labels(
  folder: Path, view: str, phase: str
) -> tuple[UInt8[np.ndarray, "H W"], Float[np.ndarray, "2"]]:
  """Label map and spacing of ED or ES: its own file, else the sequence's."""
  stem = f"{folder.name}_{view}"
  try:
    path, frame = find_file(folder, f"{stem}_{phase}_gt"), 0
  except Absent:
    path = find_file(folder, f"{stem}_half_sequence_gt")
    frame = -1
  volume = read_volume(path)
  labels = as_pictures(as_labels(volume.values, ATRIUM))
  if frame < 0:
    notes: list[str] = []
    cfg = read_cfg(folder / f"Info_{view}.cfg", notes)
    frame = cfg.frame(phase, len(labels), notes)
    if frame < 0:
      raise Rejected(f"no {phase} mask: {'; '.join(notes)}")
  spacing_mm, why = checked_spacing(
    volume.header.spacing_mm, labels.shape[1:], volume.header.warnings
  )
  if why:
    raise Rejected(f"{path.name}: {why}")
  return labels[frame], spacing_mm


def checked_spacing(
  spacing_mm: Float[np.ndarray, "2"], shape: tuple[int, int],
  warnings: tuple[str, ...],
) -> tuple[Float[np.ndarray, "2"], str]:  # fmt: skip
  """The spacing, or NaN and why it cannot be that of a heart's picture."""
  if np.isnan(spacing_mm).any():
    return spacing_mm, warnings[-1]
  low, high = SIDE_MM
  sides_mm = [n * float(mm) for n, mm in zip(shape, spacing_mm, strict=True)]
  longest = float(max(spacing_mm) / min(spacing_mm))
  if longest <= LONGEST_PIXEL and low <= min(sides_mm) <= max(sides_mm) <= high:
    return spacing_mm, ""
  why = (
    f"spacing {spacing_mm[0]:g} and {spacing_mm[1]:g} mm makes {shape[0]} rows "
    f"{sides_mm[0]:.0f} mm deep and {shape[1]} columns {sides_mm[1]:.0f} mm "
    f"wide, wants {low:g} to {high:g} mm and pixels up to {LONGEST_PIXEL:g} "
    "times as long as wide: spacing unknown"
  )
  return np.full(2, np.nan, np.float32), why


def _note_foreshortening(two: Planes, four: Planes, notes: list[str]) -> None:
  for phase, planes in zip(("ED", "ES"), zip(two, four, strict=True),
                           strict=True):  # fmt: skip
    short, long = sorted(plane.length_mm for plane in planes)
    if short < (1 - LENGTHS_DIFFER) * long:
      notes.append(
        f"long axes at {phase} are {short:.0f} and {long:.0f} mm: one view is "
        "foreshortened"
      )


def owners_figures(cfg: Cfg, notes: list[str]) -> Measured:
  """What the cfg says: EF in the NIfTI release, volumes too in the older."""
  older = any(key.startswith("lv") for key in cfg.values)
  limits = (0.0, 100.0, "%"), (1.0, 1000.0, "ml"), (0.0, 1000.0, "ml")
  if not older:
    ef = cfg.number("EF", *limits[0], notes)
    return Measured(ef, ef_method="" if math.isnan(ef) else "reported")
  values = [
    cfg.number(key, *limit, notes)
    for key, limit in zip(("LVef", "LVedv", "LVesv"), limits, strict=True)
  ]
  return Measured(*values, "" if np.isnan(values).all() else "reported")


def note_disagreement(
  ours: Measured, theirs: Measured, name: str, notes: list[str]
) -> None:
  """Both numbers where masks and cfg differ by more than rounding."""
  if abs(ours.ef_pct - theirs.ef_pct) > EF_DIFFERS_PCT:
    notes.append(
      f"EF {ours.ef_pct:.1f} % from the masks, {name} says "
      f"{theirs.ef_pct:g} %"
    )
  for what in ("edv_ml", "esv_ml"):
    mine, owners = getattr(ours, what), getattr(theirs, what)
    if abs(mine - owners) > VOLUME_DIFFERS * owners:
      notes.append(
        f"{what[:3].upper()} {mine:.1f} ml from the masks, {name} says "
        f"{owners:g} ml"
      )
