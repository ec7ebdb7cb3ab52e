"""Which kind of recording a header states: cine, still, colour, pw, cw, ...

Source: DICOM PS3.3 C.8.5.5.1 (regions) and C.8.5.6.1.1 (ImageType).
"""

import re

from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.regions import Region

# Bits of the fourth value of ImageType.
M_MODE, CW, PW, COLOUR = 0x02, 0x04, 0x08, 0x10
COLOUR_M_MODE, COLOUR_POWER = 0x20, 0x100
PW_REGION, CW_REGION, COLOUR_REGION = 3, 4, 2

TISSUE_DOPPLER = re.compile(
  r"\b(TDI|DTI|TVI|TISSUE[ _](DOPPLER|VELOCITY))\b", re.IGNORECASE
)
# Texts that speak of one image; those of a study may name several modes.
IMAGE_TEXTS = ("ImageComments", "AcquisitionDeviceProcessingDescription")


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
