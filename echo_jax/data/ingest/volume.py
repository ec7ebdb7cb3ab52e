"""NIfTI and MetaImage files to arrays in picture order, with their spacing.

Both formats store columns first.  Arrays here end in rows and columns, as
every picture does: T H W, or T slice H W.  Voxels stay in the order in which
they are stored; the directions in a header are not applied, since an
ultrasound picture has none.

nibabel knows the NIfTI header.  The voxels are read here and not through it,
and MetaImage (a few lines of text beside plain voxels) is read here too,
because what a header claims has to be weighed against the bytes that are
there before memory is taken: a header of 348 bytes can ask for terabytes.
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from echo_jax.data.ledger import Rejected
from echo_jax.units import MS_PER_S

MOST_VOXELS = 2**28  # the largest 4-D series of ACDC has about half of it
MOST_BYTES = 2**30
MOST_HEADER_BYTES = 2**16
DEFLATE_RATIO = 1032  # no deflate stream grows by more
GZIP_MAGIC = b"\x1f\x8b"
MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI unit codes: m, mm, um
MS = {8: MS_PER_S, 16: 1.0, 24: 0.001}  # s, ms, us
META_TYPES = {
  "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2",
  "MET_UINT": "u4", "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class VolumeHeader:
  """What a file says of its voxels, in picture order.

  Attributes:
    shape: of the voxels; the last two are rows and columns.
    dtype: as stored.
    spacing_mm: row and column spacing; NaN if unknown or impossible.
    slice_mm: distance of the slices, for files with a third axis; else NaN.
    frame_ms: time step of a fourth axis; NaN if unknown.
    warnings: what a user should know; without patient text.
    slope: value = slope * stored + intercept.
    intercept: see slope.
    offset: bytes before the first voxel.
    packed: how voxels are compressed: "", "gzip" or "zlib".
    data_file: name of the file with the voxels, "" for the same one.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  spacing_mm: Float[np.ndarray, "2"]
  slice_mm: float
  frame_ms: float
  warnings: tuple[str, ...] = ()
  slope: float = 1.0
  intercept: float = 0.0
  offset: int = 0
  packed: str = ""
  data_file: str = ""


@dataclass(frozen=True)
class Volume:
  """The voxels of a file, and what its header says."""

  values: np.ndarray
  header: VolumeHeader


def read_volume(path: str | Path) -> Volume:
  """Reads NIfTI (plain or gzip) or MetaImage by content, not by name.

  Raises:
    Rejected: damaged, truncated, too large, or another format; says which.
    OSError: the file cannot be opened at all.
    ModuleNotFoundError: NIfTI without nibabel; says how to install it.
  """
  path = Path(path)
  header = read_volume_header(path)
  data = path.with_name(header.data_file) if header.data_file else path
  if not data.is_file():
    raise Rejected(f"voxels absent: {header.data_file} is not there")
  count = math.prod(header.shape)
  wanted = count * header.dtype.itemsize
  has = data.stat().st_size
  if wanted > (has * DEFLATE_RATIO if header.packed else has):
    raise Rejected(
      f"truncated volume: its header speaks of {wanted} bytes of voxels, the "
      f"file has {has}"
    )
  block = _read_block(data, header, wanted)
  values = np.frombuffer(block, header.dtype).reshape(header.shape)
  if (header.slope, header.intercept) != (1.0, 0.0):
    # What overflows is infinite, and whoever uses the values refuses that.
    with np.errstate(over="ignore", invalid="ignore"):
      scaled = values.astype(np.float32) * np.float32(header.slope)
      values = scaled + np.float32(header.intercept)
  return Volume(values, header)


def read_volume_header(path: str | Path) -> VolumeHeader:
  """Reads the header alone; see `read_volume` for what it raises."""
  path = Path(path)
  with path.open("rb") as file:
    head = file.read(MOST_HEADER_BYTES)
  if not head:
    raise Rejected("empty file: 0 bytes")
  if head[:2] == GZIP_MAGIC:
    return _nifti_header(_unzipped(path, 0, 348), "gzip")
  if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
    return _nifti_header(head[:348], "")
  if b"NDims" in head[:4096]:
    return _meta_header(head)
  raise Rejected("not a volume: neither NIfTI nor MetaImage by its first bytes")


def _read_block(path: Path, header: VolumeHeader, wanted: int) -> bytes:
  """The bytes of the voxels; never more than the header speaks of."""
  if header.packed == "gzip":
    block = _unzipped(path, header.offset, wanted)
  else:
    with path.open("rb") as file:
      file.read(header.offset)
      block = file.read(MOST_BYTES if header.packed else wanted)
  if header.packed == "zlib":
    try:
      block = zlib.decompressobj().decompress(block, wanted)
    except zlib.error as error:
      raise Rejected(f"damaged zlib stream: {error}") from error
  if len(block) != wanted:
    raise Rejected(f"truncated volume: {len(block)} of {wanted} voxel bytes")
  return block


def _unzipped(path: Path, skip: int, count: int) -> bytes:
  """So many bytes from inside a gzip file."""
  try:
    with gzip.open(path) as file:
      file.read(skip)
      block = file.read(count)
      file.read(1)  # past the last byte the checksum is compared
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise Rejected(f"damaged gzip: {error}") from error
  return block


def require_nibabel() -> ModuleType:
  """nibabel, or an error that says how to install it."""
  try:
    import nibabel
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "NIfTI files are read with nibabel: pip install 'echo-jax[nifti]'"
    ) from error
  return nibabel


def _nifti_header(head: bytes, packed: str) -> VolumeHeader:
  nibabel = require_nibabel()
  if len(head) < 348:
    raise Rejected(f"truncated NIfTI: its header has {len(head)} of 348 bytes")
  if head[:4] not in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
    raise Rejected("not a volume: the gzip file holds no NIfTI-1 header")
  if head[344:348] != b"n+1\0":
    raise Rejected(
      f"magic is {head[344:348]!r}, not NIfTI-1 in one file: save it as .nii"
    )
  order = "<" if head[:1] == b"\x5c" else ">"
  raw = nibabel.Nifti1Header(head[:348], order, check=False)
  try:
    dtype = raw.get_data_dtype()
    slope, intercept = raw.get_slope_inter()
  except (nibabel.spatialimages.HeaderDataError, KeyError) as error:
    raise Rejected(f"bad NIfTI header: {error}") from error
  axes = int(raw["dim"][0])
  if not 2 <= axes <= 7:
    raise Rejected(f"bad NIfTI header: {axes} axes, wants 2 to 7")
  offset = float(raw["vox_offset"])
  if not 0 <= offset <= MOST_HEADER_BYTES:
    raise Rejected(f"bad NIfTI header: voxels at byte {offset:g}")
  units, notes = int(raw["xyzt_units"]), []
  with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
    steps = raw["pixdim"][1 : axes + 1].astype(np.float64)
  if units & 7 not in MM:
    notes.append("the NIfTI header states no unit of length: taken as mm")
  lengths = steps[:3] * MM.get(units & 7, 1.0)
  return _checked(
    raw["dim"][1 : axes + 1], dtype, lengths, notes,
    frame_ms=float(steps[3] * MS.get(units & 56, math.nan)) if axes > 3
    else math.nan,
    slope=1.0 if slope is None else float(slope),
    intercept=0.0 if slope is None else float(intercept),
    offset=max(int(offset), 352), packed=packed,
  )  # fmt: skip


def _meta_header(head: bytes) -> VolumeHeader:
  """MetaImage: `Key = value` lines; the last one names the voxels."""
  values: dict[str, str] = {}
  offset = 0
  for line in head.splitlines(keepends=True):
    offset += len(line)
    key, found, value = line.decode("ascii", "replace").partition("=")
    if not found:
      continue
    values[key.strip().lower()] = value.strip()
    if key.strip().lower() == "elementdatafile":
      break
  data_file = values.get("elementdatafile", "")
  if not data_file:
    raise Rejected("bad MetaImage header: no ElementDataFile")
  here = data_file.upper() == "LOCAL"
  if not here and (set(data_file) & set("/\\%\0") or data_file == "LIST"):
    raise Rejected(
      "ElementDataFile is not the name of one file in the same folder"
    )
  for key, wants in (("binarydata", "TRUE"), ("elementnumberofchannels", "1")):
    if values.get(key, wants).upper() != wants:
      raise Rejected(f"bad MetaImage header: {key} is not {wants}")
  kind = values.get("elementtype", "")
  if kind not in META_TYPES:
    raise Rejected(f"bad MetaImage header: ElementType {kind[:20]!r}")
  msb = values.get("binarydatabyteordermsb", values.get("elementbyteordermsb"))
  dtype = np.dtype((">" if (msb or "").upper() == "TRUE" else "<")
                   + META_TYPES[kind])  # fmt: skip
  shape, steps, skip = (
    _numbers(values.get(key, ""), key)
    for key in ("dimsize", "elementspacing", "headersize")
  )
  if _numbers(values.get("ndims", ""), "ndims") != [len(shape)]:
    raise Rejected("bad MetaImage header: NDims and DimSize differ")
  if skip and not 0 <= skip[0] <= MOST_HEADER_BYTES:
    raise Rejected(f"bad MetaImage header: HeaderSize {skip[0]:g}")
  lengths = np.array(steps or [math.nan] * 3)
  packed = values.get("compresseddata", "").upper() == "TRUE"
  return _checked(
    np.array(shape), dtype, lengths, [],
    offset=offset if here else int(skip[0]) if skip else 0,
    packed="zlib" if packed else "", data_file="" if here else data_file,
  )  # fmt: skip


def _numbers(text: str, key: str) -> list[float]:
  try:
    return [float(part) for part in text.split()]
  except ValueError as error:
    raise Rejected(f"bad MetaImage header: {key} is no number") from error


def _checked(
  sizes: np.ndarray, dtype: np.dtype, lengths: np.ndarray, notes: list[str],
  frame_ms: float = math.nan, **more: Any,
) -> VolumeHeader:  # fmt: skip
  """A header in picture order, once its numbers are possible."""
  if not 2 <= len(sizes) <= 7 or not all(
    0 < n < 2**31 and n % 1 == 0 for n in sizes
  ):
    raise Rejected(f"bad header: sizes {[f'{n:g}' for n in sizes]}")
  sizes = [int(n) for n in sizes]
  if dtype.kind not in "iuf" or dtype.itemsize > 8:
    raise Rejected(f"voxels are {dtype}; whole or real numbers are read")
  voxels = math.prod(sizes)
  if voxels > MOST_VOXELS or voxels * dtype.itemsize > MOST_BYTES:
    raise Rejected(
      f"too large: {voxels} voxels of {dtype.itemsize} bytes, most are "
      f"{MOST_VOXELS} voxels and {MOST_BYTES} bytes"
    )
  steps = np.full(3, math.nan)
  steps[: min(len(lengths), 3)] = lengths[:3]
  spacing = steps[1::-1]
  if not (np.isfinite(spacing).all() and (spacing > 0).all()):
    notes.append(
      f"row and column spacing {spacing[0]:g} and {spacing[1]:g} mm are not "
      "both above 0: spacing unknown"
    )
    spacing = np.full(2, math.nan)
  apart = float(steps[2]) if len(sizes) > 2 and steps[2] > 0 else math.nan
  return VolumeHeader(
    tuple(sizes[::-1]), dtype, spacing.astype(np.float32),
    apart if math.isfinite(apart) else math.nan, frame_ms, tuple(notes), **more,
  )  # fmt: skip
