"""NIfTI and MetaImage: order, spacing, scaling, damage."""

import gzip
import math
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
from made_volumes import patch, write_mhd, write_nifti

from echo_jax.data.frames import decode_mask
from echo_jax.data.ingest import volume
from echo_jax.data.ingest.series import (
  as_grey,
  as_labels,
  as_pictures,
  encode_labels,
  find_window,
  grey_in_window,
)
from echo_jax.data.ingest.volume import read_volume, read_volume_header
from echo_jax.data.ledger import Rejected

RNG = np.random.default_rng(0)
SERIES = RNG.integers(0, 256, (3, 7, 5), np.uint8)  # T H W
STACK = RNG.integers(0, 900, (4, 2, 6, 5)).astype(np.int16)  # T slice H W


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_comes_in_picture_order(tmp_path, suffix):
  """x is stored first; rows, columns and their spacing follow the picture."""
  path = write_nifti(tmp_path / f"a{suffix}", SERIES, (0.3, 0.15, 2.0))
  # What the file holds, by another reader: stored[x, y, t].
  stored = np.asarray(nibabel.load(path).dataobj)
  assert stored.shape == (5, 7, 3)
  found = read_volume(path)
  np.testing.assert_array_equal(found.values, SERIES)
  assert found.values[2, 6, 1] == stored[1, 6, 2]
  np.testing.assert_allclose(found.header.spacing_mm, [0.15, 0.3])
  assert found.header.slice_mm == pytest.approx(2.0)
  assert found.header.warnings == () and found.values.dtype == np.uint8


def test_nifti_of_four_axes(tmp_path):
  path = write_nifti(tmp_path / "a.nii.gz", STACK, (1.5, 1.4, 8.0, 0.03))
  found = read_volume(path)
  np.testing.assert_array_equal(found.values, STACK)
  np.testing.assert_allclose(found.header.spacing_mm, [1.4, 1.5], rtol=1e-6)
  assert found.header.slice_mm == pytest.approx(8)
  assert found.header.frame_ms == pytest.approx(30)
  assert read_volume_header(path).shape == found.values.shape


def test_nifti_of_one_picture(tmp_path):
  flat = write_nifti(tmp_path / "flat.nii", SERIES[0], (0.3, 0.15))
  thick = write_nifti(tmp_path / "thick.nii", SERIES[:1], (0.3, 0.15, 1.0))
  for path in (flat, thick):
    found = read_volume(path)
    np.testing.assert_array_equal(as_pictures(found.values), SERIES[:1])
    np.testing.assert_allclose(found.header.spacing_mm, [0.15, 0.3])
  assert read_volume(flat).values.shape == (7, 5)
  assert math.isnan(read_volume(flat).header.slice_mm)


@pytest.mark.parametrize(
  ("units", "factor_mm", "factor_ms"),
  [(("mm", "msec"), 1, 1), (("meter", "sec"), 1000, 1000),
   (("micron", "usec"), 0.001, 0.001)],
)  # fmt: skip
def test_nifti_units(tmp_path, units, factor_mm, factor_ms):
  path = write_nifti(tmp_path / "a.nii", STACK, (2, 3, 4, 5), units)
  header = read_volume_header(path)
  np.testing.assert_allclose(header.spacing_mm, [3 * factor_mm, 2 * factor_mm])
  assert header.frame_ms == pytest.approx(5 * factor_ms)


def test_nifti_without_units(tmp_path):
  path = write_nifti(tmp_path / "a.nii", STACK, (2, 3, 4, 5), (None, None))
  header = read_volume_header(path)
  np.testing.assert_allclose(header.spacing_mm, [3, 2])
  assert math.isnan(header.frame_ms)
  assert header.warnings == (
    "the NIfTI header states no unit of length: taken as mm",
  )


def test_nifti_scaling_equals_nibabels(tmp_path):
  path = write_nifti(tmp_path / "a.nii", STACK)
  patch(path, 112, np.float32([0.5, -3]).tobytes())  # scl_slope, scl_inter
  wanted = np.asarray(nibabel.load(path).dataobj).T
  assert wanted[0, 0, 0, 0] == STACK[0, 0, 0, 0] * 0.5 - 3
  np.testing.assert_allclose(read_volume(path).values, wanted)


def test_big_endian_nifti(tmp_path):
  image = nibabel.Nifti1Image(STACK.T, np.eye(4))
  header = image.header.as_byteswapped(">")
  image = nibabel.Nifti1Image(STACK.T, np.eye(4), header)
  nibabel.save(image, tmp_path / "a.nii")
  assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
  np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").values, STACK)


def test_content_is_believed_and_not_the_name(tmp_path):
  plain = write_nifti(tmp_path / "a.nii", SERIES)
  packed = write_nifti(tmp_path / "b.nii.gz", SERIES)
  plain.rename(tmp_path / "c.nii.gz")
  packed.rename(tmp_path / "d.nii")
  for name in ("c.nii.gz", "d.nii"):
    np.testing.assert_array_equal(read_volume(tmp_path / name).values, SERIES)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_metaimage(tmp_path, end):
  path = write_mhd(tmp_path / "a.mhd", SERIES, (0.3, 0.15, 1.0), end)
  found = read_volume(path)
  np.testing.assert_array_equal(found.values, SERIES)
  np.testing.assert_allclose(found.header.spacing_mm, [0.15, 0.3])
  assert found.header.slice_mm == 1


def test_metaimage_in_one_file_and_packed(tmp_path):
  path = write_mhd(tmp_path / "a.mha", STACK, ElementDataFile="LOCAL")
  path.write_bytes(path.read_bytes() + STACK.tobytes())
  np.testing.assert_array_equal(read_volume(path).values, STACK)
  path = write_mhd(tmp_path / "b.mhd", STACK, CompressedData="True")
  packed = zlib.compress(STACK.tobytes())
  path.with_suffix(".raw").write_bytes(packed)
  np.testing.assert_array_equal(read_volume(path).values, STACK)


def test_metaimage_of_the_other_byte_order(tmp_path):
  path = write_mhd(tmp_path / "a.mhd", STACK, BinaryDataByteOrderMSB="True")
  path.with_suffix(".raw").write_bytes(STACK.astype(">i2").tobytes())
  np.testing.assert_array_equal(read_volume(path).values, STACK)


def test_metaimage_without_spacing(tmp_path):
  path = write_mhd(tmp_path / "a.mhd", SERIES, ElementSpacing=None)
  header = read_volume_header(path)
  assert np.isnan(header.spacing_mm).all() and len(header.warnings) == 1


@pytest.mark.parametrize("bad", [0.0, -0.3, np.nan, np.inf])
def test_impossible_spacing_is_unknown_and_named(tmp_path, bad):
  path = write_nifti(tmp_path / "a.nii", SERIES, (0.25, 0.15, 1.0))
  patch(path, 80, np.float32([bad]).tobytes())  # pixdim[1], columns
  header = read_volume_header(path)
  assert np.isnan(header.spacing_mm).all()
  assert header.warnings == (
    f"row and column spacing 0.15 and {bad:g} mm are not both above 0: "
    "spacing unknown",
  )


def damaged(kind, path):
  """A sound file with one fault; most patch the 348 bytes of the header."""
  sound = write_nifti(path, SERIES, (0.3, 0.15, 1.0)).read_bytes()
  match kind:
    case "empty":
      path.write_bytes(b"")
    case "words":
      path.write_bytes(b"<html>not found</html>" * 30)
    case "short header":
      path.write_bytes(sound[:200])
    case "short voxels":
      path.write_bytes(sound[:-1])
    case "pair":
      patch(path, 344, b"ni1\0")
    case "kind":
      patch(path, 70, np.int16([9999]).tobytes())
    case "complex":
      patch(path, 70, np.int16([32]).tobytes())
    case "axes":
      patch(path, 40, np.int16([9]).tobytes())
    case "negative size":
      patch(path, 42, np.int16([-5]).tobytes())
    case "terabytes":
      patch(path, 40, np.int16([4, 32000, 32000, 9, 9]).tobytes())
    case "gigabytes":
      patch(path, 40, np.int16([3, 9000, 9000, 3]).tobytes())
    case "offset":
      patch(path, 108, np.float32([-4]).tobytes())
    case "offset nan":
      patch(path, 108, np.float32([np.nan]).tobytes())
  return path


FAULTS = {
  "empty": "empty file: 0 bytes", "words": "not a volume",
  "short header": "truncated NIfTI", "short voxels": "truncated volume",
  "pair": "save it as .nii", "kind": "bad NIfTI header",
  "complex": "voxels are complex64", "axes": "9 axes",
  "negative size": "bad header: sizes", "terabytes": "too large",
  "gigabytes": "truncated volume", "offset": "voxels at byte -4",
  "offset nan": "voxels at byte nan",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "why"), FAULTS.items())
def test_damaged_nifti_is_refused_by_name_and_takes_no_memory(
  tmp_path, kind, why
):
  path = damaged(kind, tmp_path / "a.nii")
  tracemalloc.start()
  with pytest.raises(Rejected, match=why):
    read_volume(path)
  _, most = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert most < 20e6


def test_truncated_and_altered_gzip(tmp_path):
  path = write_nifti(tmp_path / "a.nii.gz", SERIES)
  sound = path.read_bytes()
  for kept in (40, len(sound) // 2, len(sound) - 9):
    path.write_bytes(sound[:kept])
    with pytest.raises(Rejected, match="gzip"):
      read_volume(path)
  # One voxel changed under the old checksum.
  body = bytearray(gzip.decompress(sound))
  body[-1] ^= 1
  altered = gzip.compress(bytes(body), mtime=0)
  path.write_bytes(altered[:-8] + sound[-8:])
  with pytest.raises(Rejected, match="CRC"):
    read_volume(path)


def test_gzip_of_something_else(tmp_path):
  path = tmp_path / "a.nii.gz"
  path.write_bytes(gzip.compress(b"x" * 1000))
  with pytest.raises(Rejected, match="no NIfTI-1 header"):
    read_volume(path)


def test_a_gzip_that_could_never_hold_its_voxels(tmp_path):
  """A thousandfold is the most that deflate can do."""
  path = write_nifti(tmp_path / "a.nii.gz", SERIES)
  patch(path, 42, np.int16([3000, 3000]).tobytes())
  with pytest.raises(Rejected, match="speaks of 27000000 bytes"):
    read_volume(path)


@pytest.mark.parametrize(
  ("change", "why"),
  [
    ({"ElementDataFile": "../a.raw"}, "not the name of one file"),
    ({"ElementDataFile": "C:\\a.raw"}, "not the name of one file"),
    ({"ElementDataFile": "a%d.raw 1 3 1"}, "not the name of one file"),
    ({"ElementDataFile": "LIST"}, "not the name of one file"),
    ({"ElementDataFile": "gone.raw"}, "voxels absent: gone.raw"),
    ({"ElementDataFile": None}, "no ElementDataFile"),
    ({"ElementType": "MET_STRING"}, "ElementType 'MET_STRING'"),
    ({"DimSize": "5 seven 3"}, "dimsize is no number"),
    ({"DimSize": "5 7"}, "NDims and DimSize differ"),
    ({"DimSize": "5 7 inf"}, "bad header: sizes"),
    ({"DimSize": "5 7 -3"}, "bad header: sizes"),
    ({"DimSize": "5 7 2.5"}, "bad header: sizes"),
    ({"DimSize": "5 7 4"}, "truncated volume"),
    ({"DimSize": "99999 99999 99"}, "too large"),
    ({"NDims": "x"}, "ndims is no number"),
    ({"BinaryData": "False"}, "binarydata is not TRUE"),
    ({"ElementNumberOfChannels": "3"}, "elementnumberofchannels is not 1"),
    ({"HeaderSize": "-1"}, "HeaderSize -1"),
    ({"CompressedData": "True"}, "damaged zlib stream"),
  ],
)
def test_damaged_metaimage_is_refused_by_name(tmp_path, change, why):
  path = write_mhd(tmp_path / "a.mhd", SERIES, **change)
  with pytest.raises(Rejected, match=why):
    read_volume(path)


def test_without_nibabel_the_remedy_is_named(tmp_path, monkeypatch):
  path = write_nifti(tmp_path / "a.nii", SERIES)
  monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
  with pytest.raises(ModuleNotFoundError, match=r"echo-jax\[nifti\]"):
    volume.read_volume(path)


def test_mutated_files_are_read_or_refused(tmp_path):
  """Seeded short form of the fuzzing: nothing else than `Rejected` comes."""
  rng = np.random.default_rng(7)
  made = [
    write_nifti(tmp_path / "a.nii", STACK),
    write_nifti(tmp_path / "b.nii.gz", STACK),
    write_mhd(tmp_path / "c.mhd", STACK),
  ]
  outcomes = {"read": 0, "refused": 0}
  for path in made:
    sound = path.read_bytes()
    for _ in range(150):
      data = bytearray(sound)
      for _ in range(rng.integers(1, 6)):
        data[rng.integers(min(len(data), 400))] = rng.integers(256)
      if rng.random() < 0.3:
        data = data[: rng.integers(len(data))]
      path.write_bytes(data)
      try:
        outcomes["read"] += read_volume(path).values.size > 0
      except Rejected:
        outcomes["refused"] += 1
  assert sum(outcomes.values()) == 450 and min(outcomes.values()) > 50


def test_grey_levels_are_kept_or_refused():
  whole = SERIES.astype(np.float64)
  np.testing.assert_array_equal(as_grey(whole), SERIES)
  with pytest.raises(Rejected, match="not whole numbers"):
    as_grey(whole * 0.5)
  for bad in (whole - 9, whole * 2, whole * np.nan):
    with pytest.raises(Rejected, match="wants 0 to 255"):
      as_grey(bad)


def test_window_by_hand():
  """0 to 200 with 10 and 90 %: 20 becomes black, 180 white, 100 half."""
  values = np.arange(201, dtype=np.int16)
  window = find_window(values, (10.0, 90.0))
  assert window == (20, 180)
  grey = grey_in_window(values, window)
  assert grey[[0, 20, 180, 200]].tolist() == [0, 0, 255, 255]
  assert grey[100] == 128 and (np.diff(grey.astype(int)) >= 0).all()
  with pytest.raises(Rejected, match="no contrast"):
    find_window(np.zeros(9), (10.0, 90.0))
  with pytest.raises(Rejected, match="not finite"):
    find_window(np.array([0.0, np.nan]), (10.0, 90.0))


def test_labels_are_kept_or_refused():
  labels = np.array([0, 1, 2, 3])
  np.testing.assert_array_equal(as_labels(labels.astype(float), 3), labels)
  for bad in (labels + 1, labels - 1, labels * 0.5, labels * np.nan):
    with pytest.raises(Rejected, match="whole numbers 0 to 3"):
      as_labels(bad, 3)


def test_masks_of_one_label_at_another_size():
  labels = np.zeros((2, 8, 6), np.uint8)
  labels[0, :4] = 2
  masks = encode_labels(labels, 2, np.array([True, False]), (4, 3))
  assert masks[1] == b""
  np.testing.assert_array_equal(
    decode_mask(masks[0]), np.arange(4)[:, None].repeat(3, 1) < 2
  )


def test_pictures_of_many_axes_are_refused():
  assert as_pictures(np.zeros((1, 5, 1, 2, 3))).shape == (5, 2, 3)
  with pytest.raises(Rejected, match="2 axes beside rows and columns"):
    as_pictures(STACK)


@pytest.mark.oracle
def test_simpleitk_reads_the_same(tmp_path):
  """The library that CAMUS was written with."""
  itk = pytest.importorskip("SimpleITK")
  made = [
    write_nifti(tmp_path / "a.nii.gz", SERIES, (0.3, 0.15, 2.0)),
    write_nifti(tmp_path / "b.nii", STACK, (1.5, 1.4, 8.0, 0.03)),
    write_mhd(tmp_path / "c.mhd", SERIES, (0.3, 0.15, 2.0)),
  ]
  for path in made:
    theirs = itk.ReadImage(str(path))
    found = read_volume(path)
    np.testing.assert_array_equal(found.values, itk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(
      found.header.spacing_mm, theirs.GetSpacing()[1::-1], rtol=1e-6
    )
  # Files that SimpleITK wrote itself.
  image = itk.GetImageFromArray(SERIES)
  image.SetSpacing((0.3, 0.15, 2.0))
  for name in ("d.nii.gz", "e.mhd", "f.mha"):
    for packed in (False, True):
      itk.WriteImage(image, str(tmp_path / name), packed)
      found = read_volume(tmp_path / name)
      np.testing.assert_array_equal(found.values, SERIES)
      np.testing.assert_allclose(found.header.spacing_mm, [0.15, 0.3])
