"""Volumes that the tests make: NIfTI, MetaImage, CAMUS and ACDC folders."""

import gzip
from pathlib import Path

import nibabel
import numpy as np

CUT = 0.5  # of the long half axis: where the base cuts the ellipsoid off
ROWS, COLUMNS = 110, 96
SPACING = (1.25, 1.5)  # row and column, mm
FRAMES = 4
LONG = {"ED": 46.25, "ES": 38.75}  # bases between rows of pixels
ACROSS = {"4CH": {"ED": 27.0, "ES": 20.0}, "2CH": {"ED": 24.0, "ES": 19.0}}
CAMUS_INFO = {
  "ED": 1, "ES": FRAMES, "NbFrame": FRAMES, "Sex": "F", "Age": 56,
  "ImageQuality": "Good", "EF": 51, "FrameRate": 50.0,
}  # fmt: skip


def write_nifti(
  path, voxels, spacing=(1.0, 1.0, 1.0, 1.0), units=("mm", "sec"), **header
):
  """Voxels as T H W (or H W, T s H W); `spacing` in stored order x, y, ..."""
  stored = np.ascontiguousarray(voxels.T)
  scale = [-spacing[0], -spacing[1], *(list(spacing[2:3]) or [1.0]), 1.0]
  image = nibabel.Nifti1Image(stored, np.diag(scale))
  image.header.set_zooms(tuple(spacing)[: stored.ndim])
  image.header.set_xyzt_units(*units)
  for key, value in header.items():
    image.header[key] = value
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  nibabel.save(image, path)
  return Path(path)


def patch(path, offset, data):
  """Overwrites bytes of a file, inside of its gzip if it is one."""
  path = Path(path)
  packed = path.suffix == ".gz"
  body = bytearray(gzip.decompress(path.read_bytes()) if packed
                   else path.read_bytes())  # fmt: skip
  body[offset : offset + len(data)] = data
  path.write_bytes(gzip.compress(bytes(body)) if packed else bytes(body))


def write_mhd(path, voxels, spacing=(1.0, 1.0, 1.0), end="\n", **header):
  """A header and a raw file beside it, as ITK writes them."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  raw = path.with_suffix(".raw")
  sizes = voxels.shape[::-1]
  kinds = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "float32": "MET_FLOAT"}
  lines = {
    "ObjectType": "Image", "NDims": len(sizes), "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
    "ElementSpacing": " ".join(f"{mm:g}" for mm in spacing[: len(sizes)]),
    "DimSize": " ".join(map(str, sizes)),
    "ElementType": kinds[voxels.dtype.name],
  } | header  # fmt: skip
  lines["ElementDataFile"] = lines.pop("ElementDataFile", raw.name)  # the last
  text = end.join(f"{k} = {v}" for k, v in lines.items() if v is not None)
  path.write_bytes((text + end).encode("ascii"))
  raw.write_bytes(voxels.tobytes())
  return path


def true_ml(view_axes, long_mm):
  """Volume of an ellipsoid cut off at the base, by integration on paper."""
  a, c, (b4, b2) = long_mm, CUT * long_mm, view_axes
  return np.pi * b4 * b2 * ((a + c) - (a**3 + c**3) / (3 * a**2)) / 1000


def heart_labels(long_mm, across_mm, rows=ROWS, columns=COLUMNS,
                 spacing=SPACING):  # fmt: skip
  """Cavity 1, wall 2, atrium 3; apex on top, base below."""
  y, x = np.mgrid[:rows, :columns].astype(float)
  y, x = (y - 0.5 * rows) * spacing[0], (x - 0.5 * columns) * spacing[1]
  below = y > CUT * long_mm
  labels = np.zeros((rows, columns), np.uint8)
  outer = (x / (across_mm + 9)) ** 2 + (y / (long_mm + 9)) ** 2 < 1
  labels[outer & ~below] = 2
  labels[(x / across_mm) ** 2 + (y / long_mm) ** 2 < 1] = 1
  labels[below] = 0
  atrium = (x / 20) ** 2 + ((y - CUT * long_mm - 15) / 18) ** 2 < 1
  labels[atrium & below] = 3
  return labels


def paint(labels, seed=0):
  """Speckle with a dark cavity in a sector, uint8."""
  rng = np.random.default_rng(seed)
  level = np.array([60.0, 15.0, 130.0, 15.0])[labels]
  y, x = np.mgrid[: labels.shape[-2], : labels.shape[-1]]
  sector = np.abs(x - labels.shape[-1] / 2) < 8 + 0.8 * y
  speckle = level * rng.gamma(4.0, 0.25, labels.shape)
  return np.where(sector, speckle, 0).clip(0, 255).astype(np.uint8)


def half_sequence(view, backwards=False):
  """(frames, labels) from ED to ES, or from ES to ED."""
  shares = np.linspace(0, 1, FRAMES)
  if backwards:
    shares = shares[::-1]
  labels = np.stack(
    [
      heart_labels(
        *(ed + share * (es - ed)
          for ed, es in ((LONG["ED"], LONG["ES"]),
                         (ACROSS[view]["ED"], ACROSS[view]["ES"])))
      )
      for share in shares
    ]
  )  # fmt: skip
  return paint(labels), labels


def write_cfg(path, values, end="\n"):
  """`Key: value` lines; a value None leaves its line out."""
  lines = [f"{k}: {v}" for k, v in values.items() if v is not None]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes((end.join(lines) + end).encode("utf-8"))


def write_view(folder, view, backwards=False, end="\n", suffix=".nii.gz",
               **info):  # fmt: skip
  """All files of one view, as the NIfTI release has them."""
  frames, labels = half_sequence(view, backwards)
  ed, es = (FRAMES - 1, 0) if backwards else (0, FRAMES - 1)
  stem = folder / f"{folder.name}_{view}"
  spacing = (*SPACING[::-1], 1.0)
  for name, frame in (("ED", ed), ("ES", es)):
    for kind, series in (("", frames), ("_gt", labels)):
      path = f"{stem}_{name}{kind}{suffix}"
      write_nifti(path, series[frame], spacing[:2])
  write_nifti(f"{stem}_half_sequence{suffix}", frames, spacing)
  write_nifti(f"{stem}_half_sequence_gt{suffix}", labels, spacing)
  values = CAMUS_INFO | {"ED": ed + 1, "ES": es + 1} | info
  write_cfg(folder / f"Info_{view}.cfg", values, end)


def write_lists(root, end="\n", mark="", **lists):
  """database_split, from train=[...], validation=[...], test=[...]."""
  folder = root / "database_split"
  folder.mkdir(parents=True, exist_ok=True)
  for split, name in (("train", "training"), ("validation", "validation"),
                      ("test", "testing")):  # fmt: skip
    text = mark + end.join(lists.get(split, [])) + end
    (folder / f"subgroup_{name}.txt").write_bytes(text.encode("utf-8"))


def write_mhd_view(folder, view, end="\n", labelled=True, **info):
  """All files of one view, as the older release has them."""
  frames, labels = half_sequence(view)
  stem = folder / f"{folder.name}_{view}"
  spacing = (*SPACING[::-1], 1.0)
  write_mhd(f"{stem}_sequence.mhd", frames, spacing, end)
  for name, frame in (("ED", 0), ("ES", FRAMES - 1)):
    still = slice(frame, frame + 1)  # third axis of length 1, as shipped
    write_mhd(f"{stem}_{name}.mhd", frames[still], spacing, end)
    if labelled:
      write_mhd(f"{stem}_{name}_gt.mhd", labels[still], spacing, end)
  values = {"ED": 1, "ES": FRAMES, "NbFrame": FRAMES, "Sex": "M", "Age": 70,
            "ImageQuality": "Poor"}  # fmt: skip
  if labelled:
    values |= {"LVedv": 130.0, "LVesv": 78.0, "LVef": 40.0}
  write_cfg(folder / f"Info_{view}.cfg", values | info, end)


def short_axis(frames=6, slices=3, size=40, ef=0.5, seed=0):
  """(voxels, labels) frame, slice, row, column: int16, three rings."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:size, :size]
  away = np.hypot(y - size * 0.5, x - size * 0.55)
  labels = np.zeros((frames, slices, size, size), np.uint8)
  for t in range(frames):
    phase = 0.5 - 0.5 * np.cos(2 * np.pi * t / frames)  # ES half way
    for s in range(slices):
      radius = size * (0.24 - 0.03 * s) * np.sqrt(1 - ef * phase)
      right = np.hypot(y - size * 0.5, x - size * 0.2) < size * 0.14
      labels[t, s][right] = 1
      labels[t, s][away < radius + size * 0.1] = 2
      labels[t, s][away < radius] = 3
  level = np.array([40.0, 300.0, 120.0, 320.0])[labels]
  noisy = level + rng.normal(0, 12, labels.shape)
  return noisy.clip(0).astype(np.int16), labels


def write_acdc_patient(
  folder, frames=6, ef=0.5, seed=0, spacing=(1.4, 1.5, 8.0, 0.15),
  end="\n", size=40, slices=3, **info,
):  # fmt: skip
  """One patient as ACDC has them; ED is frame 1, ES the middle one."""
  voxels, labels = short_axis(frames, slices, size, ef, seed)
  write_nifti(folder / f"{folder.name}_4d.nii.gz", voxels, spacing)
  es = frames // 2 + 1
  for number in (1, es):
    stem = folder / f"{folder.name}_frame{number:02d}"
    write_nifti(f"{stem}.nii.gz", voxels[number - 1], spacing[:3])
    write_nifti(f"{stem}_gt.nii.gz", labels[number - 1], spacing[:3])
  values = {"ED": 1, "ES": es, "Group": "DCM", "Height": 184.0,
            "NbFrame": frames, "Weight": 95.0}  # fmt: skip
  write_cfg(folder / "Info.cfg", values | info, end)
  return voxels, labels
