"""Ultrasound regions of a DICOM picture: what is shown where, at what scale.

Source: DICOM PS3.3 C.8.5.5 (US Region Calibration), C.8.5.6.1.1 (ImageType).
Region borders are pixel indices of the whole picture, both ends inside;
physical deltas are per pixel.
"""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from echo_jax import units
from echo_jax.data.ingest.header import Header

SPATIAL_FORMATS = {
  0: "no format", 1: "2D", 2: "M-mode", 3: "spectral", 4: "wave form",
  5: "graphics",
}  # fmt: skip
DATA_TYPES = {
  0: "no data type", 1: "tissue", 2: "colour flow", 3: "PW Doppler",
  4: "CW Doppler", 5: "Doppler mean trace", 6: "Doppler mode trace",
  7: "Doppler max trace", 8: "volume trace", 9: "volume derivative",
  10: "ECG trace", 11: "pulse trace", 12: "phonocardiogram", 13: "grey bar",
  14: "colour bar", 15: "integrated backscatter", 16: "area trace",
  17: "area derivative", 18: "other",
}  # fmt: skip
UNITS = {
  0: "no unit", 1: "%", 2: "dB", 3: "cm", 4: "s", 5: "Hz", 6: "dB/s",
  7: "cm/s", 8: "cm2", 9: "cm2/s", 10: "cm3", 11: "cm3/s", 12: "degrees",
}  # fmt: skip
CENTIMETRES = 3
WIDEST_CM = 40.0  # no cardiac picture is wider or deeper
FINEST_CM = 1.0  # and none shows less than this
# Bits of the fourth value of ImageType.
M_MODE, CW, PW, COLOUR = 0x02, 0x04, 0x08, 0x10
COLOUR_M_MODE, COLOUR_POWER = 0x20, 0x100
PW_REGION, CW_REGION, COLOUR_REGION = 3, 4, 2

TISSUE_DOPPLER = re.compile(
  r"\b(TDI|DTI|TVI|TISSUE[ _](DOPPLER|VELOCITY))\b", re.IGNORECASE
)
# Texts that speak of one image; those of a study may name several modes.
IMAGE_TEXTS = ("ImageComments", "AcquisitionDeviceProcessingDescription")
PIXEL_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")  # row, column; mm


@dataclass(frozen=True)
class Region:
  """One item of SequenceOfUltrasoundRegions, as the header has it.

  Attributes:
    spatial_format: 1 is 2D, 2 M-mode, 3 spectral, 4 wave form; -1 unknown.
    data_type: 1 is tissue, 2 colour flow, 3 PW, 4 CW, 10 ECG; -1 unknown.
    x0, y0, x1, y1: first and last column and row; -1 unknown.
    units_x, units_y: 3 is cm, 4 s, 7 cm/s; -1 unknown.
    delta_x, delta_y: physical step of one pixel in that unit, to the right
      and down; NaN unknown.
    reference_x, reference_y: pixel of a known value, counted from the
      region's own corner (x0, y0); NaN unknown.
    value_x, value_y: the value there; NaN unknown.
  """

  spatial_format: int
  data_type: int
  x0: int
  y0: int
  x1: int
  y1: int
  units_x: int
  units_y: int
  delta_x: float
  delta_y: float
  reference_x: float = float("nan")
  reference_y: float = float("nan")
  value_x: float = float("nan")
  value_y: float = float("nan")

  @property
  def is_picture(self) -> bool:
    """True for a 2D picture of tissue or colour flow."""
    return self.spatial_format == 1 and self.data_type in (1, 2)

  @property
  def is_spectrum(self) -> bool:
    """True for a Doppler spectrum: velocity over time."""
    doppler = self.data_type in (3, 4) and self.spatial_format in (-1, 0)
    return self.spatial_format == 3 or doppler

  @property
  def is_mmode(self) -> bool:
    """True for an M-mode strip: depth over time."""
    return self.spatial_format == 2

  @property
  def place(self) -> str:
    """The borders in words."""
    return f"x {self.x0}..{self.x1}, y {self.y0}..{self.y1}"

  @property
  def name(self) -> str:
    """What it shows, in words."""
    form = SPATIAL_FORMATS.get(self.spatial_format, "unknown format")
    return f"{form}, {DATA_TYPES.get(self.data_type, 'unknown data type')}"

  def __str__(self) -> str:
    unit_x = UNITS.get(self.units_x, "unknown unit")
    unit_y = UNITS.get(self.units_y, "unknown unit")
    return (
      f"{self.name}, {self.place}, "
      f"{self.delta_x:.6g} {unit_x} x {self.delta_y:.6g} {unit_y} a pixel"
    )


def read_regions(header: Header) -> tuple[Region, ...]:
  """All regions of a header in their order; empty where it has none."""
  return tuple(
    Region(
      item.integer("RegionSpatialFormat"), item.integer("RegionDataType"),
      item.integer("RegionLocationMinX0"), item.integer("RegionLocationMinY0"),
      item.integer("RegionLocationMaxX1"), item.integer("RegionLocationMaxY1"),
      item.integer("PhysicalUnitsXDirection"),
      item.integer("PhysicalUnitsYDirection"),
      item.number("PhysicalDeltaX"), item.number("PhysicalDeltaY"),
      item.number("ReferencePixelX0"), item.number("ReferencePixelY0"),
      item.number("ReferencePixelPhysicalValueX"),
      item.number("ReferencePixelPhysicalValueY"),
    )
    for item in header.items("SequenceOfUltrasoundRegions")
  )  # fmt: skip


def fits_picture(region: Region, rows: int, columns: int) -> bool:
  """True if the region lies in the picture, one pixel past its end allowed."""
  return (
    0 <= region.x0 < region.x1 <= columns and 0 <= region.y0 < region.y1 <= rows
  )


def picture_box(
  regions: tuple[Region, ...], rows: int, columns: int
) -> tuple[int, int, int, int] | None:
  """Box (x0, y0, x1, y1; ends outside) of all 2D regions; None if unusable."""
  pictures = [r for r in regions if r.is_picture]
  if not pictures:
    return None
  if not all(fits_picture(r, rows, columns) for r in pictures):
    return None
  return (
    min(r.x0 for r in pictures),
    min(r.y0 for r in pictures),
    min(max(r.x1 for r in pictures) + 1, columns),
    min(max(r.y1 for r in pictures) + 1, rows),
  )


def spacing_from_regions(
  regions: tuple[Region, ...], rows: int, columns: int, header: Header
) -> Float32[np.ndarray, "2"]:
  """Row and column spacing in mm, from the 2D regions; NaN where doubtful.

  Every 2D region must lie in the picture, be in centimetres with positive
  steps, show between 1 and 40 cm, and all must agree within 0.5 %.  Each
  reason for withholding becomes a warning of `header` with both numbers.
  Where the header has no 2D region, PixelSpacing is taken.
  """
  unknown = np.full(2, np.nan, np.float32)
  pictures = [r for r in regions if r.is_picture]
  if not pictures:
    return _spacing_of_picture(regions, rows, columns, header)
  faults = [_fault(r, rows, columns) for r in pictures]
  for fault in filter(None, faults):
    header.warn(f"{fault}: spacing withheld")
  if any(faults):
    return unknown
  for region in pictures:
    if region.x1 == columns or region.y1 == rows:
      header.warn(
        f"region {region.place} ends one pixel past the {columns}x{rows} "
        "picture: taken as its last pixel"
      )
  steps = np.array([(r.delta_y, r.delta_x) for r in pictures])  # cm
  if np.ptp(steps, axis=0).max() > 0.005 * steps.min():
    header.warn(
      f"{len(pictures)} 2D regions of different scale ({steps[:, 1].min():g} "
      f"to {steps[:, 1].max():g} cm a pixel): spacing withheld"
    )
    return unknown
  return units.mm_from_cm(steps[0]).astype(np.float32)


def _fault(region: Region, rows: int, columns: int) -> str:
  """Why the scale of a 2D region cannot be trusted; "" if it can."""
  steps = f"{region.delta_x:.6g} x {region.delta_y:.6g}"
  if not fits_picture(region, rows, columns):
    return (
      f"region {region.place} does not fit the {columns}x{rows} picture "
      f"(header: {steps} cm a pixel)"
    )
  if (region.units_x, region.units_y) != (CENTIMETRES, CENTIMETRES):
    x, y = UNITS.get(region.units_x, "?"), UNITS.get(region.units_y, "?")
    return f"2D region has units {x} and {y} instead of cm"
  pixels = region.x1 - region.x0 + 1, region.y1 - region.y0 + 1
  return _scale_fault("2D region", region.delta_x, region.delta_y, *pixels)


def _scale_fault(
  what: str, x_cm: float, y_cm: float, columns: int, rows: int
) -> str:
  """Why steps of one pixel cannot be those of a heart; "" if they can."""
  width_cm, height_cm = abs(x_cm * columns), abs(y_cm * rows)
  size = (
    f"{what} has steps {x_cm:.6g} x {y_cm:.6g} cm a pixel, which make its "
    f"{columns}x{rows} pixels {width_cm:.3g} x {height_cm:.3g} cm"
  )
  if not (x_cm > 0 and y_cm > 0):
    return f"{size}; both steps must be above 0"
  if max(width_cm, height_cm) > WIDEST_CM or width_cm < FINEST_CM:
    return f"{size}; believable is {FINEST_CM:g} to {WIDEST_CM:g} cm"
  return ""


def _spacing_of_picture(
  regions: tuple[Region, ...], rows: int, columns: int, header: Header
) -> Float32[np.ndarray, "2"]:
  """PixelSpacing of a header without 2D region; NaN where it has none.

  It is one scale for the whole picture, so beside a spectrum or an M-mode
  strip, which have another, it is not believed.
  """
  unknown = np.full(2, np.nan, np.float32)
  if any(r.is_spectrum or r.is_mmode for r in regions):
    header.warn("no 2D region in the header: spacing unknown")
    return unknown
  for name in PIXEL_SPACINGS:
    spacing_mm = header.numbers(name)
    if len(spacing_mm) != 2:
      continue
    row_cm, column_cm = units.cm_from_mm(spacing_mm)
    fault = _scale_fault(name, column_cm, row_cm, columns, rows)
    if fault:
      header.warn(f"{fault}: spacing withheld")
      return unknown
    header.warn(
      f"no 2D region in the header: spacing from {name}, {spacing_mm[0]:g} x "
      f"{spacing_mm[1]:g} mm (row x column)"
    )
    return spacing_mm.astype(np.float32)
  header.warn("no 2D region and no PixelSpacing in the header: spacing unknown")
  return unknown


def kind_from_header(
  regions: tuple[Region, ...], frames: int, header: Header
) -> str:
  """The kind of recording that the header states (never the pixels).

  A spectral region makes it `pw` or `cw`, an M-mode region `mmode`; else one
  frame is a `still`; else a colour-flow region, or the colour flag of
  ImageType, makes it `colour`; else it is a `cine`.  Without regions the
  flags decide.  DICOM has no flag for tissue Doppler: `colour` and `pw`
  become `tdi` only where the header names a tissue velocity in words.
  """
  kind = _by_regions_and_flags(regions, frames, header)
  if kind in ("colour", "pw"):
    said_by = _tissue_doppler(header)
    if said_by:
      header.warn(f"{said_by} names tissue Doppler: kind is tdi, not {kind}")
      return "tdi"
  return kind


def _by_regions_and_flags(
  regions: tuple[Region, ...], frames: int, header: Header
) -> str:
  flags = _imaging_flags(header)
  spectra = [r for r in regions if r.is_spectrum]
  colour = any(r.data_type == COLOUR_REGION for r in regions)
  if spectra:
    return "cw" if any(r.data_type == CW_REGION for r in spectra) else "pw"
  if any(r.is_mmode for r in regions):
    return "mmode"
  if not regions and flags & CW:
    return "cw"
  if not regions and flags & PW:
    return "pw"
  if not regions and flags & (M_MODE | COLOUR_M_MODE):
    return "mmode"
  if regions and not colour and flags & (COLOUR | COLOUR_POWER):
    header.warn(
      "ImageType says colour Doppler, no region does: taken as colour Doppler"
    )
  if frames == 1:
    return "still"
  flagged = bool(flags & (COLOUR | COLOUR_POWER))
  return "colour" if colour or flagged else "cine"


def _tissue_doppler(header: Header) -> str:
  """The attribute that names tissue Doppler; "" if none does."""
  for item in header.items("ImageDataTypeSequence"):
    if item.text("DataType") == "TISSUE_VELOCITY":
      return "DataType"
  for name in IMAGE_TEXTS:
    if TISSUE_DOPPLER.search(header.text(name)):
      return name
  return ""


def _imaging_flags(header: Header) -> int:
  """The fourth value of ImageType as bits; 0 if absent or not hexadecimal."""
  # Not through values(): its third value may be empty and must be counted.
  parts = header.raw_values("ImageType")
  if len(parts) < 4:
    return 0
  try:
    return int(str(parts[3]), 16)
  except ValueError:
    return 0
