"""Calipers of EchoNet-LVH: which belong to a video, what they say of spacing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from echo_jax.units import mm_from_cm

MEASURES = {
  name.lower(): f"{name.lower()}_mm"
  for name in ("IVSd", "LVIDd", "LVPWd", "IVSs", "LVIDs", "LVPWs")
}
LEAST_CALIPERS = 2  # one alone has nothing that it could agree with
TOLERANCE_PX = 2.0  # a caliper's ends are whole pixels
TOLERANCE_SHARE = 0.05
BEYOND_PX = 1.0


@dataclass(frozen=True)
class Caliper:
  """One measured line.

  Attributes:
    name: the owner's name of the measurement, e.g. IVSd.
    value_cm: its length as listed; NaN if unknown.
    frame: index from 0; -1 if unknown.
    ends_px: x1 y1 x2 y2; NaN if unknown.
  """

  name: str
  value_cm: float
  frame: int
  ends_px: tuple[float, float, float, float]

  @property
  def length_px(self) -> float:
    """Length in the picture."""
    x1, y1, x2, y2 = self.ends_px
    return math.hypot(x2 - x1, y2 - y1)

  @property
  def value_mm(self) -> float:
    """The listed length."""
    return float(mm_from_cm(self.value_cm))


def usable_calipers(
  calipers: Sequence[Caliper], listed_size: tuple[float, float],
  shape: tuple[int, int, int], notes: list[str],
) -> tuple[Caliper, ...]:  # fmt: skip
  """Calipers that lie in the video; the others are noted and left out.

  Args:
    calipers: as listed.
    listed_size: rows and columns that the table gives; NaN if unknown.
    shape: frames, rows and columns of the video.
    notes: receives what was left out.
  """
  frames, rows, columns = shape
  height, width = listed_size
  # In a resized copy the table still counts pixels of the original.
  if calipers and (abs(height - rows) > 0 or abs(width - columns) > 0):
    notes.append(
      f"calipers left out: they were drawn on {width:g}x{height:g} pixels, the "
      f"video has {columns}x{rows}"
    )
    return ()
  kept = []
  for caliper in calipers:
    x1, y1, x2, y2 = caliper.ends_px
    inside = (
      -BEYOND_PX <= min(x1, x2) and max(x1, x2) <= columns - 1 + BEYOND_PX
      and -BEYOND_PX <= min(y1, y2) and max(y1, y2) <= rows - 1 + BEYOND_PX
    )  # fmt: skip
    reason = ""
    if any(math.isnan(end) for end in caliper.ends_px) or caliper.frame < 0:
      reason = "its frame or an end is unknown"
    elif caliper.frame >= frames:
      reason = f"frame {caliper.frame}, but the video has {frames}"
    elif not inside:
      reason = f"it leaves the {columns}x{rows} picture"
    elif caliper.length_px == 0:
      reason = "both ends are one point"
    if reason:
      notes.append(f"caliper {caliper.name} left out: {reason}")
    else:
      kept.append(caliper)
  return tuple(kept)


def spacing_mm(calipers: Sequence[Caliper], notes: list[str]) -> float:
  """Millimetres a pixel from all calipers together; NaN if they disagree.

  The sum of the listed lengths over the sum of the lengths in the picture, so
  that long calipers, whose ends weigh less, count more.  It holds if every
  caliper, measured with it, is as long as listed within 2 pixels or 5 %,
  whichever is more.  Pixels are taken as square: PLAX calipers run one way
  and cannot tell.
  """
  known = [caliper for caliper in calipers if caliper.value_cm > 0]
  if len(known) < LEAST_CALIPERS:
    notes.append(
      f"spacing unknown: {len(known)} calipers with a length, "
      f"{LEAST_CALIPERS} are needed to check each other"
    )
    return math.nan
  spacing = sum(c.value_mm for c in known) / sum(c.length_px for c in known)
  for caliper in known:
    wanted_px = caliper.value_mm / spacing
    allowed_px = max(TOLERANCE_PX, TOLERANCE_SHARE * wanted_px)
    if abs(caliper.length_px - wanted_px) > allowed_px:
      notes.append(
        f"spacing unknown: {caliper.name} is {caliper.length_px:.1f} pixels "
        f"long, {caliper.value_mm:g} mm at the {spacing:.4f} mm a pixel of all "
        f"calipers are {wanted_px:.1f}"
      )
      return math.nan
  return spacing


def caliper_labels(calipers: Sequence[Caliper]) -> dict[str, Any]:
  """Calipers as keys of the record, in file order."""
  if not calipers:
    return {}
  return {
    "caliper_name": ",".join(caliper.name for caliper in calipers),
    "caliper_frame": [caliper.frame for caliper in calipers],
    "caliper_px": [caliper.ends_px for caliper in calipers],
  }


def key_frames(
  calipers: Sequence[Caliper], notes: list[str]
) -> dict[str, int]:
  """ED and ES: the frame of all diastolic and of all systolic calipers.

  Unknown, with a note, where calipers of one phase lie in several frames.
  """
  found = {}
  for key, phase in (("ed_frame", "d"), ("es_frame", "s")):
    frames = {
      caliper.frame for caliper in calipers
      if caliper.name.lower() in MEASURES and caliper.name[-1].lower() == phase
    }  # fmt: skip
    if len(frames) == 1:
      found[key] = frames.pop()
    elif frames:
      notes.append(f"{key} unknown: its calipers lie in {sorted(frames)}")
  return found
