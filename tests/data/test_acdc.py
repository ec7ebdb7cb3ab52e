"""ACDC: folders in the owner's form with the faults of copies."""

import shutil

import made_builds
import nibabel
import numpy as np
import pandas as pd
import pytest
from made_volumes import patch, short_axis, write_acdc_patient, write_nifti

from data_builders.acdc import dataset
from data_builders.acdc.stack import read_stack
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.frames import decode_frame, decode_mask
from echo_jax.data.sources import VideoSource

FRAMES, SLICES, SIZE = 6, 3, 40
SPACING = (1.4, 1.5, 8.0, 0.15)  # columns, rows, slices in mm; frames in s
VOXEL_ML = 1.4 * 1.5 * 8 / 1000
WINDOW = (0.5, 99.5)


def make_folder(root):
  """Training 1 to 8 and testing 101, each but 1 with its fault."""
  train = root / "training"
  how = {
    2: {"end": "\r\n", "Height": "tall", "Weight": 9000, "NbFrame": 30},
    3: {"ED": 40}, 4: {"spacing": (1.4, 1.5, 8.0, 1.0)},
    5: {"ES": None, "Group": None},
  }  # fmt: skip
  for number in range(1, 9):
    folder = train / f"patient{number:03d}"
    write_acdc_patient(folder, seed=number, **how.get(number, {}))
  folder = train / "patient006"
  path = folder / "patient006_4d.nii.gz"
  path.write_bytes(path.read_bytes()[:4000])
  folder = train / "patient007"  # slice distance lost; ES mask of another size
  patch(folder / "patient007_4d.nii.gz", 88, np.float32([0]).tobytes())
  path = folder / "patient007_frame04_gt.nii.gz"
  write_nifti(path, np.zeros((2, SIZE, SIZE), np.uint8))
  folder = train / "patient008"  # doubled, plain, ED picture of another frame
  shutil.copy(
    folder / "patient008_frame04.nii.gz", folder / "patient008_frame01.nii.gz"
  )
  image = nibabel.load(folder / "patient008_4d.nii.gz")
  nibabel.save(image, folder / "patient008_4d.nii")
  (folder / "patient008_4d.nii.gz").unlink()
  folder.rename(train / "moved")
  folder.mkdir()
  (train / "moved").rename(folder / "patient008")
  (train / "patient009").mkdir()
  (train / "patient010").mkdir()
  write_nifti(
    train / "patient010" / "patient010_4d.nii.gz", np.zeros((3, 4, 4), np.int16)
  )
  (root / "__MACOSX" / "training" / "patient001").mkdir(parents=True)
  write_acdc_patient(root / "testing" / "patient101", ef=0.3, seed=101)
  return root


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  source = tmp_path_factory.mktemp("acdc")
  make_folder(source / "ACDC" / "database")
  return source / "ACDC"


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("data")
  return build(dataset(source, codec="raw"), data_dir, progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


def record_of(report, name):
  for split in ("train", "validation", "test"):
    try:
      videos = VideoSource(report.path, split)
    except ValueError:
      continue
    ids = videos.index["video_id"].tolist()
    if f"acdc:{name}" in ids:
      return videos[ids.index(f"acdc:{name}")]
  raise LookupError(name)


REJECTED = {
  "patient006/slice00": "damaged gzip",
  "patient009": "absent: no patient009_4d.nii.gz or .nii",
  "patient010": "patient010_4d.nii.gz has 3 axes, wants 4",
}
NOTED = {
  "patient002": "Info.cfg: Height is no number",
  "patient002 ": "Weight 9000 kg outside 0.3 to 400",
  "patient002  ": "says 30 frames, the series has 6: the series was believed",
  "patient003": "ED 40 of the frames outside 1 to 6",
  "patient003 ": "no masks at both ED and ES: EF and volumes unknown",
  "patient004": "a time step of 1000 ms makes 6 frames no heartbeat",
  "patient005": "Info.cfg has no ES",
  "patient007": "slices nan mm apart, outside 1 to 25 mm: volumes unknown",
  "patient007 ": "frame04_gt not used: (2, 40, 40) does not fit the series",
  "patient008": "patient008_frame01 is not frame 1 of the series",
}


def test_counts_add_up(report, ledger):
  slices_refused = SLICES  # all of patient006
  assert report.found == 9 * SLICES + 2
  assert report.rejected == slices_refused + 2
  assert report.written == report.found - report.rejected
  assert (ledger["status"] == "written").sum() == report.written


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  row = ledger[(ledger["item"] == item) & (ledger["status"] == "rejected")]
  assert row["reason"].tolist()[0].startswith(reason)


@pytest.mark.parametrize(("item", "note"), NOTED.items())
def test_what_is_odd_is_kept_with_a_note(ledger, item, note):
  rows = ledger[ledger["item"] == f"{item.strip()}/slice01"]
  notes = rows[rows["status"] == "noted"]["reason"].tolist()
  assert any(note in one for one in notes), notes
  assert "written" in set(rows["status"])


def test_a_sound_patient_has_no_note(ledger):
  for name in ("patient001", "patient101"):
    rows = ledger[ledger["item"].str.startswith(name)]
    assert set(rows["status"]) == {"written"} and len(rows) == SLICES


def test_record_of_a_slice(report):
  record = record_of(report, "patient001/slice01")
  assert (record["kind"], record["view"]) == ("mr", "")
  assert record["study_id"] == record["patient_id"] == "acdc:patient001"
  assert (record["ed_frame"], record["es_frame"]) == (0, 3)
  assert (record["height_cm"], record["weight_kg"]) == (184, 95)
  np.testing.assert_allclose(record["spacing_mm"], [1.5, 1.4])
  np.testing.assert_allclose(record["frame_time_ms"], 150 * np.arange(FRAMES))
  assert record["sector"] == b""
  assert record["frames_shape"].tolist() == [SIZE, SIZE, 1]
  voxels, labels = short_axis(FRAMES, SLICES, SIZE, seed=1)
  low, high = np.percentile(voxels, WINDOW)
  wanted = np.clip((voxels[:, 1] - low) / (high - low), 0, 1) * 255
  for t in range(FRAMES):
    shown = decode_frame(record["frames"][t], "raw", (SIZE, SIZE, 1))
    assert np.abs(shown[..., 0] - wanted[t]).max() <= 0.51
    for key, label in (("lv_mask", 3), ("myo_mask", 2), ("rv_mask", 1)):
      if t not in (0, 3):
        assert record[key][t] == b""
        continue
      mask = decode_mask(record[key][t])
      np.testing.assert_array_equal(mask, labels[t, 1] == label)
  assert record["la_mask"] == []


def test_volumes_are_those_of_the_whole_stack(report):
  _, labels = short_axis(FRAMES, SLICES, SIZE, seed=1)
  edv, esv = ((labels[t] == 3).sum() * VOXEL_ML for t in (0, 3))
  for number in range(SLICES):
    record = record_of(report, f"patient001/slice{number:02d}")
    assert record["ef_method"] == "short_axis_stack"
    assert record["edv_ml"] == pytest.approx(edv, rel=1e-6)
    assert record["esv_ml"] == pytest.approx(esv, rel=1e-6)
    assert record["ef_pct"] == pytest.approx(100 * (edv - esv) / edv, rel=1e-6)


def test_ef_needs_no_spacing(source, tmp_path):
  """Both phases have the same voxels; millilitres need their size."""
  folder = tmp_path / "patient001"
  shutil.copytree(source / "database/training/patient001", folder)
  patch(folder / "patient001_4d.nii.gz", 88, np.float32([0]).tobytes())
  stack = read_stack(folder, WINDOW)
  assert stack.scalars["ef_method"] == "short_axis_stack"
  assert stack.scalars["ef_pct"] == pytest.approx(50, abs=3)
  assert np.isnan(stack.scalars["edv_ml"])


def test_masks_that_contradict_give_no_ef(tmp_path):
  """Cavity larger at ES, or ED and ES the same frame: nothing is swapped."""
  folder = tmp_path / "patient001"
  write_acdc_patient(folder, ED=4, ES=1)
  stack = read_stack(folder, WINDOW)
  assert "ef_pct" not in stack.scalars and len(stack.labels) == 2
  assert any("at ES and" in note for note in stack.notes)
  write_acdc_patient(folder, ED=1, ES=1)
  stack = read_stack(folder, WINDOW)
  assert "ef_pct" not in stack.scalars
  assert "no masks at both ED and ES" in stack.notes[-1]


def test_pixel_spacing_that_cannot_be_is_unknown(tmp_path):
  folder = tmp_path / "patient001"
  write_acdc_patient(folder, spacing=(0.0014, 0.0015, 8.0, 0.15))
  stack = read_stack(folder, WINDOW)
  assert np.isnan(stack.spacing_mm).all()
  assert np.isnan(stack.scalars["edv_ml"])
  assert stack.scalars["ef_pct"] == pytest.approx(50, abs=3)
  assert stack.notes == (
    "row and column spacing 0.0015 and 0.0014 mm outside 0.2 to 5 mm: spacing "
    "unknown",
  )


def test_spacing_that_makes_no_heart_gives_no_volume(tmp_path):
  root = tmp_path / "training" / "patient001"
  write_acdc_patient(root, spacing=(5, 5, 25, 1.0), size=80)
  stack = read_stack(root, (0.0, 100.0))
  assert stack.scalars["ef_pct"] == pytest.approx(50, abs=3)
  assert "edv_ml" not in stack.scalars
  assert "ml: volumes unknown" in " ".join(stack.notes)
  made = dataset(tmp_path)
  record, _ = made.read(made.items[0])
  assert np.isnan(record["edv_ml"]) and record["ef_pct"] > 0


def test_files_that_changed_are_read_again(tmp_path):
  root = tmp_path / "training" / "patient001"
  found = []
  for ef in (0.6, 0.3):
    write_acdc_patient(root, ef=ef, slices=2)
    made = dataset(tmp_path)
    found.append(made.read(made.items[0])[0]["ef_pct"])
  assert found == pytest.approx([60, 30], abs=6)


def test_one_window_for_all_slices(report):
  """A voxel value has one grey level in every slice and frame."""
  voxels, _ = short_axis(FRAMES, SLICES, SIZE, seed=1)
  grey = np.stack(
    [
      np.stack(
        [
          decode_frame(frame, "raw", (SIZE, SIZE, 1))[..., 0]
          for frame in record_of(report, f"patient001/slice{s:02d}")["frames"]
        ]
      )
      for s in range(SLICES)
    ],
    axis=1,
  )
  values, counts = np.unique(voxels, return_counts=True)
  for value in values[np.argsort(counts)[-5:]]:
    places = voxels == value
    assert places.any(axis=(1, 2, 3)).sum() > 1  # in several frames
    assert len(np.unique(grey[places])) == 1
  assert (grey == 0).any() and (grey == 255).any()


def test_labels_that_are_missing_are_unknown(report):
  record = record_of(report, "patient003/slice00")
  assert (record["ed_frame"], record["es_frame"]) == (-1, 3)
  assert np.isnan(record["ef_pct"]) and record["ef_method"] == ""
  assert [len(mask) > 0 for mask in record["lv_mask"]] == [
    t == 3 for t in range(FRAMES)
  ]
  untimed = record_of(report, "patient004/slice00")
  assert np.isnan(untimed["frame_time_ms"]).all()
  unsized = record_of(report, "patient002/slice00")
  assert np.isnan([unsized["height_cm"], unsized["weight_kg"]]).all()


@pytest.mark.parametrize(
  ("step", "units", "known"),
  [(0.03, "sec", False), (0.15, "sec", True), (150, "msec", True),
   (150, None, False), (0, "sec", False), (1, "sec", False)],
)  # fmt: skip
def test_frame_times_only_where_they_make_a_heartbeat(
  tmp_path, step, units, known
):
  folder = tmp_path / "patient001"
  voxels, _ = write_acdc_patient(folder)
  write_nifti(
    folder / "patient001_4d.nii.gz", voxels, (1.4, 1.5, 8, step), ("mm", units)
  )
  stack = read_stack(folder, WINDOW)
  assert np.isfinite(stack.frame_time_ms).all() == known
  if known:
    np.testing.assert_allclose(stack.frame_time_ms, 150 * np.arange(FRAMES))
  assert any("heartbeat" in note for note in stack.notes) != known


def test_slices_of_a_person_stay_together(source):
  made = dataset(source, validation=0.5)
  splits = {}
  for item in made.items:
    splits.setdefault(item.facts["patient"], set()).add(item.split)
  assert all(len(found) == 1 for found in splits.values())
  assert splits["patient101"] == {"test"}
  training = {s for name, (s,) in splits.items() if name != "patient101"}
  assert training == {"train", "validation"}


def test_training_without_testing_is_read(source, tmp_path):
  train = source / "database" / "training"
  shutil.copytree(train / "patient001", tmp_path / "training" / "patient001")
  assert len(dataset(tmp_path / "training").items) == SLICES


def test_one_name_in_both_parts_is_not_chosen_from(source, tmp_path):
  train = source / "database" / "training" / "patient001"
  for part in ("training", "testing"):
    shutil.copytree(train, tmp_path / part / "patient001")
  made = dataset(tmp_path)
  assert not made.items
  assert made.refused == (("patient001", "duplicate patient: 2 folders"),)


def test_wrong_settings_and_folders(source, tmp_path):
  with pytest.raises(ValueError, match="wants 0 <= low < high"):
    dataset(source, window_pct=(60.0, 40.0))
  with pytest.raises(ValueError, match="validation is 1"):
    dataset(source, validation=1.0)
  with pytest.raises(FileNotFoundError, match="no folder training"):
    dataset(tmp_path)
  (tmp_path / "training").mkdir()
  with pytest.raises(FileNotFoundError, match="no folder patientNNN"):
    dataset(tmp_path)
  (tmp_path / "copy" / "training").mkdir(parents=True)
  with pytest.raises(ValueError, match="pass one of them"):
    dataset(tmp_path)


def test_command_line(source, tmp_path, capsys):
  words = ["build", "acdc", "--source", str(source), "--data-dir",
           str(tmp_path), "--size", "16", "16"]  # fmt: skip
  assert main(words) == 0
  out = capsys.readouterr().out
  assert "29 found = 24 written + 5 rejected" in out
  assert "3 x damaged gzip" in out


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
