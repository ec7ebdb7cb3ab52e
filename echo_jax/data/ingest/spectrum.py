"""Place and scale of a Doppler spectrum in the picture, from its region.

A record counts velocity upwards: `velocity = (zero_px - row) * cm_s`, positive
above the zero line, as the screen shows it.  Headers do not agree on the sign
of PhysicalDeltaY (by the standard it counts downwards, so it should be
negative where up is positive; many write its size only), therefore its size
is used.  The zero line comes from the reference pixel, which counts from the
region's own corner.  Whether flow towards the probe was shown above the line
or the spectrum was inverted is not in the header.
Source: DICOM PS3.3 C.8.5.5.1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from echo_jax import units
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.regions import UNITS, Region, fits_picture

SECONDS, CM_PER_S = 4, 7
TIME_SPAN_S = (0.1, 60.0)
VELOCITY_SPAN_CM_S = (2.0, 3000.0)  # tissue at the least, a jet at the most


@dataclass(frozen=True)
class DopplerScale:
  """Where the spectrum is and what its pixels mean.

  Attributes:
    box_px: first column and row, last column and row (both inside).
    zero_px: row of zero velocity in the whole picture; NaN if unknown.
    cm_s: velocity of one row, up is positive; NaN if unknown.
    ms: time of one column; NaN if unknown.
  """

  box_px: tuple[int, int, int, int]
  zero_px: float
  cm_s: float
  ms: float

  def resized(self, rows: float, columns: float) -> "DopplerScale":
    """The same spectrum in a picture whose sides are scaled so."""
    x0, y0, x1, y1 = self.box_px
    start = np.floor([x0 * columns, y0 * rows]).astype(int)
    end = np.ceil([(x1 + 1) * columns, (y1 + 1) * rows]).astype(int) - 1
    return DopplerScale(
      (int(start[0]), int(start[1]), int(end[0]), int(end[1])),
      (self.zero_px + 0.5) * rows - 0.5, self.cm_s / rows, self.ms / columns,
    )  # fmt: skip

  def labels(self) -> dict[str, Any]:
    """The keys of the video record."""
    return {
      "doppler_box_px": self.box_px, "doppler_zero_px": self.zero_px,
      "doppler_cm_s": self.cm_s, "doppler_ms": self.ms,
    }  # fmt: skip


def doppler_scale(
  regions: tuple[Region, ...], rows: int, columns: int, header: Header
) -> DopplerScale | None:
  """The spectrum's place and scale; None without one that fits the picture.

  What cannot be trusted is NaN, and a warning of `header` says why.
  """
  spectra = [r for r in regions if r.is_spectrum]
  fitting = [r for r in spectra if fits_picture(r, rows, columns)]
  for region in spectra:
    if region not in fitting:
      header.warn(
        f"spectral region {region.place} does not fit the {columns}x{rows} "
        "picture: its scale is withheld"
      )
  if not fitting:
    return None
  region = max(fitting, key=lambda r: (r.x1 - r.x0) * (r.y1 - r.y0))
  if len(fitting) > 1:
    header.warn(
      f"{len(fitting)} spectral regions: the largest, {region.place}, was "
      "taken"
    )
  box = (
    region.x0, region.y0, min(region.x1, columns - 1), min(region.y1, rows - 1)
  )  # fmt: skip
  step_cm_s = _step(
    region.units_y, CM_PER_S, abs(region.delta_y), box[3] - box[1] + 1,
    VELOCITY_SPAN_CM_S, "y", header,
  )  # fmt: skip
  step_s = _step(
    region.units_x, SECONDS, region.delta_x, box[2] - box[0] + 1, TIME_SPAN_S,
    "x", header,
  )  # fmt: skip
  zero_px = _zero_line(region, header) if step_cm_s > 0 else float("nan")
  return DopplerScale(box, zero_px, step_cm_s, float(units.ms_from_s(step_s)))


def _step(
  unit: int, wanted: int, step: float, pixels: int,
  span: tuple[float, float], axis: str, header: Header,
) -> float:  # fmt: skip
  """One pixel's step in the wanted unit; NaN with a warning otherwise."""
  name = UNITS[wanted]
  if unit != wanted:
    header.warn(
      f"spectral region has unit {UNITS.get(unit, 'unknown')} along {axis}, "
      f"wants {name}: that scale is withheld"
    )
    return float("nan")
  whole = step * pixels
  if not span[0] <= whole <= span[1]:
    header.warn(
      f"spectral region has a step of {step:.6g} {name} along {axis}, which "
      f"makes its {pixels} pixels {whole:.4g} {name}; believable is "
      f"{span[0]:g} to {span[1]:g}: that scale is withheld"
    )
    return float("nan")
  return step


def _zero_line(region: Region, header: Header) -> float:
  """Row of zero velocity in the picture; NaN with a warning if unknown."""
  if np.isnan(region.reference_y):
    header.warn("spectral region has no ReferencePixelY0: zero line unknown")
    return float("nan")
  value = region.value_y
  if np.isnan(value):
    header.warn(
      "spectral region has no ReferencePixelPhysicalValueY: its reference "
      "pixel was taken for the zero line"
    )
    value = 0.0
  zero_px = region.y0 + region.reference_y - value / region.delta_y
  if not region.y0 <= zero_px <= region.y1:
    header.warn(
      f"zero line at row {zero_px:.6g} lies outside of the spectral region "
      f"{region.place}: unknown"
    )
    return float("nan")
  return float(zero_px)
