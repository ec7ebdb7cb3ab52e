"""CAMUS: folders in the owner's two forms, with the faults of copies."""

import re
import shutil

import made_builds
import numpy as np
import pandas as pd
import pytest
from made_volumes import (
  ACROSS,
  COLUMNS,
  FRAMES,
  LONG,
  ROWS,
  SPACING,
  half_sequence,
  patch,
  true_ml,
  write_cfg,
  write_lists,
  write_mhd_view,
  write_nifti,
  write_view,
)

from data_builders.camus import dataset
from data_builders.camus.measuring import measure, measure_view
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.frames import decode_frame, decode_mask
from echo_jax.data.ingest.cfg import read_cfg
from echo_jax.data.ingest.volume import read_volume
from echo_jax.data.ledger import Rejected
from echo_jax.data.sources import VideoSource

EDV, ESV = (
  true_ml((ACROSS["4CH"][phase], ACROSS["2CH"][phase]), LONG[phase])
  for phase in ("ED", "ES")
)
EF = 100 * (EDV - ESV) / EDV


def make_folder(root):
  """Twelve patients: 1 and 2 are sound, each other one has its faults."""
  nifti = root / "database_nifti"
  for number in range(1, 13):
    folder = nifti / f"patient{number:04d}"
    for view in ("2CH", "4CH"):
      how = {}
      if number == 2:  # Windows line ends, plain files, ES first
        how = {"end": "\r\n", "suffix": ".nii", "backwards": True}
      if number == 3:
        how = {"EF": "n/a", "FrameRate": None, "Sex": "?", "Age": 999,
               "NbFrame": 40}  # fmt: skip
      if number == 4:
        how = {"ED": 99, "ES": "last" if view == "2CH" else 2.5}
      if number == 5:
        how = {"EF": 70}
      write_view(folder, view, **how)
  folder = nifti / "patient0006"  # one view absent
  for path in folder.glob("*2CH*"):
    path.unlink()
  folder = nifti / "patient0007"  # no masks at all, in one view no cfg
  for path in folder.glob("*_gt*"):
    path.unlink()
  (folder / "Info_2CH.cfg").unlink()
  folder = nifti / "patient0008"  # a truncated sequence; a damaged mask
  path = folder / "patient0008_2CH_half_sequence.nii.gz"
  path.write_bytes(path.read_bytes()[:-300])
  path = folder / "patient0008_4CH_ES_gt.nii.gz"
  path.write_bytes(path.read_bytes()[:60])
  folder = nifti / "patient0009"  # no mask of the sequence; spacing lost
  (folder / "patient0009_2CH_half_sequence_gt.nii.gz").unlink()
  for path in folder.glob("*4CH*.nii.gz"):
    patch(path, 80, np.float32([0.01, 0.01]).tobytes())
  folder = nifti / "patient0010"  # labels interpolated, other shape
  _, labels = half_sequence("2CH")
  path = folder / "patient0010_2CH_half_sequence_gt.nii.gz"
  write_nifti(path, labels * np.float32(0.9), (1.5, 1.25, 1.0))
  path = folder / "patient0010_4CH_half_sequence_gt.nii.gz"
  write_nifti(path, labels[:, :-4], (1.5, 1.25, 1.0))
  folder = nifti / "patient0011"  # ED is the other frame, its mask another
  shutil.copy(
    folder / "patient0011_4CH_ES.nii.gz", folder / "patient0011_4CH_ED.nii.gz"
  )
  shutil.copy(
    folder / "patient0011_2CH_ES_gt.nii.gz",
    folder / "patient0011_2CH_ED_gt.nii.gz",
  )
  wrapped = nifti / "patient0012" / "patient0012"  # a doubled folder
  (nifti / "patient0012").rename(nifti / "moved")
  wrapped.parent.mkdir()
  (nifti / "moved").rename(wrapped)
  path = nifti / "patient0002" / "Info_4CH.cfg"
  path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
  shadow = root.parent / "__MACOSX" / "database_nifti" / "patient0001"
  shadow.mkdir(parents=True)
  write_view(nifti / "patient0013", "2CH")  # in no list
  names = [f"patient{n:04d}" for n in range(1, 13)]
  write_lists(
    root, end="\r\n", mark="\ufeff", train=names[:8],
    validation=[*names[8:10], "patient0444"], test=["", *names[10:], " "],
  )  # fmt: skip
  return root


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """The archive unpacked two folders deep."""
  source = tmp_path_factory.mktemp("camus")
  make_folder(source / "CAMUS_public" / "CAMUS_public")
  return source


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("data")
  return build(dataset(source, codec="raw"), data_dir, progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


def record_of(report, name):
  """The record of one view, as `patient0001/2CH`."""
  for split in ("train", "validation", "test"):
    try:
      videos = VideoSource(report.path, split)
    except ValueError:
      continue
    ids = videos.index["video_id"].tolist()
    if f"camus:{name}" in ids:
      return videos[ids.index(f"camus:{name}")]
  raise LookupError(name)


def notes_of(ledger, name):
  rows = ledger[(ledger["item"] == name) & (ledger["status"] == "noted")]
  return rows["reason"].tolist()


def one_patient(root, split="train", **how):
  """A folder of one patient in the NIfTI form."""
  for view in ("2CH", "4CH"):
    write_view(root / "database_nifti" / "patient0001", view, **how)
  write_lists(root, **{split: ["patient0001"]})
  return root


REJECTED = {
  "patient0006/2CH": "absent: no patient0006_2CH_sequence",
  "patient0008/2CH": "damaged gzip",
  "patient0013/2CH": "no split: in none of the official lists",
  "patient0013/4CH": "no split: in none of the official lists",
  "patient0444/2CH": "patient absent: listed in a split, but has no folder",
  "patient0444/4CH": "patient absent: listed in a split, but has no folder",
}
NOTED = {
  "patient0002/2CH": "the sequence runs from ES to ED; its order was kept",
  "patient0003/2CH": "Info_2CH.cfg: EF is no number",
  "patient0003/4CH": "Info_4CH.cfg has no FrameRate",
  "patient0003/4CH ": "frame times unknown",
  "patient0003/4CH  ": "Info_4CH.cfg: Sex is none of f, m",
  "patient0003/4CH   ": "Age 999 years outside 0 to 120",
  "patient0003/4CH    ": "says 40 frames, the sequence has 4",
  "patient0004/2CH": "ED 99 of the frames outside 1 to 4",
  "patient0004/2CH ": "ES is no number",
  "patient0004/4CH": "ES 2.5 is no whole number",
  "patient0005/4CH": "% from the masks, Info_4CH.cfg says 70 %",
  "patient0006/4CH": "volumes from one plane only (4CH)",
  "patient0007/2CH": "Info_2CH.cfg is absent",
  "patient0007/4CH": "4CH gives no volume: absent",
  "patient0007/4CH ": "no mask from half_sequence_gt: absent",
  "patient0008/4CH": "4CH gives no volume: damaged gzip",
  "patient0008/4CH ": "no mask from ES_gt: damaged gzip",
  "patient0009/2CH": "no mask from half_sequence_gt: absent",
  "patient0009/4CH": "makes 110 rows 1 mm deep and 96 columns",
  "patient0009/2CH ": "volumes from one plane only (2CH)",
  "patient0010/2CH": "half_sequence_gt: labels are not the whole numbers",
  "patient0010/4CH": "(4, 106, 96) does not fit frames of (4, 110, 96)",
  "patient0011/4CH": "frame 0 is ED by Info_4CH.cfg, but it is not the",
  "patient0011/2CH": "ED_gt differs from half_sequence_gt",
}


def test_counts_add_up(report, ledger):
  assert report.found == 2 * 14
  assert report.rejected == len(REJECTED)
  assert report.written == report.found - len(REJECTED)
  ended = ledger[ledger["status"] != "noted"]
  assert len(ended) == report.found == ended["item"].nunique()


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  row = ledger[(ledger["item"] == item) & (ledger["status"] == "rejected")]
  assert row["reason"].tolist()[0].startswith(reason)


@pytest.mark.parametrize(("item", "note"), NOTED.items())
def test_what_is_odd_is_kept_with_a_note(ledger, item, note):
  found = notes_of(ledger, item.strip())
  assert any(note in one for one in found), found
  assert len(found) == len(set(found))


def test_a_sound_patient_has_no_note(ledger):
  for item in ("patient0001/2CH", "patient0001/4CH", "patient0012/4CH"):
    assert set(ledger[ledger["item"] == item]["status"]) == {"written"}
  assert len(notes_of(ledger, "patient0002/2CH")) == 1


@pytest.mark.parametrize(("view", "name"), [("2CH", "A2C"), ("4CH", "A4C")])
def test_record_of_a_view(report, view, name):
  record = record_of(report, f"patient0001/{view}")
  assert (record["view"], record["kind"], record["split"]) == (
    name, "cine", "train"
  )  # fmt: skip
  assert record["study_id"] == record["patient_id"] == "camus:patient0001"
  assert record["patient_known"] == 1
  assert (record["sex"], record["age_years"]) == ("F", 56)
  assert record["quality"] == "good"
  assert (record["ed_frame"], record["es_frame"]) == (0, FRAMES - 1)
  np.testing.assert_allclose(record["frame_time_ms"], [0, 20, 40, 60])
  np.testing.assert_allclose(record["spacing_mm"], SPACING)
  assert record["frames_shape"].tolist() == [ROWS, COLUMNS, 1]
  frames, labels = half_sequence(view)
  for t in range(FRAMES):
    shown = decode_frame(record["frames"][t], "raw", (ROWS, COLUMNS, 1))
    np.testing.assert_array_equal(shown[..., 0], frames[t])
    for key, label in (("lv_mask", 1), ("myo_mask", 2), ("la_mask", 3)):
      mask = decode_mask(record[key][t])
      np.testing.assert_array_equal(mask, labels[t] == label)
  sector = decode_mask(record["sector"])
  assert sector[frames.max(0) > 0].mean() > 0.95 and sector.mean() < 0.9


def test_volumes_of_both_views_are_those_of_the_solid(report):
  """An ellipsoid cut off at its base, integrated on paper."""
  for view in ("2CH", "4CH"):
    record = record_of(report, f"patient0001/{view}")
    assert record["ef_method"] == "biplane"
    assert record["edv_ml"] == pytest.approx(EDV, rel=0.02)
    assert record["esv_ml"] == pytest.approx(ESV, rel=0.02)
    assert record["ef_pct"] == pytest.approx(EF, abs=1)


def test_order_of_frames_is_never_changed(report):
  forward = record_of(report, "patient0001/4CH")
  backward = record_of(report, "patient0002/4CH")
  assert (backward["ed_frame"], backward["es_frame"]) == (FRAMES - 1, 0)
  frames, labels = half_sequence("4CH", backwards=True)
  shown = decode_frame(backward["frames"][0], "raw", (ROWS, COLUMNS, 1))
  np.testing.assert_array_equal(shown[..., 0], frames[0])
  mask = decode_mask(backward["lv_mask"][0])
  np.testing.assert_array_equal(mask, labels[0] == 1)
  np.testing.assert_array_equal(
    backward["frame_time_ms"], forward["frame_time_ms"]
  )
  assert backward["ef_pct"] == forward["ef_pct"]


def test_what_the_cfg_lacks_is_unknown(report):
  record = record_of(report, "patient0003/4CH")
  assert np.isnan(record["frame_time_ms"]).all()
  assert record["sex"] == "" and np.isnan(record["age_years"])
  # Measured all the same: masks of ED and ES need no cfg.
  assert record["ef_pct"] == pytest.approx(EF, abs=1)
  record = record_of(report, "patient0004/2CH")
  assert (record["ed_frame"], record["es_frame"]) == (-1, -1)
  assert record["ef_method"] == "biplane"


def test_the_owners_ef_is_only_used_where_masks_give_none(report):
  disagreeing = record_of(report, "patient0005/4CH")
  assert disagreeing["ef_pct"] == pytest.approx(EF, abs=1)
  unmasked = record_of(report, "patient0007/4CH")
  assert (unmasked["ef_pct"], unmasked["ef_method"]) == (51, "reported")
  assert np.isnan(unmasked["edv_ml"]) and unmasked["lv_mask"] == []
  unknown = record_of(report, "patient0007/2CH")
  assert np.isnan(unknown["ef_pct"]) and unknown["ef_method"] == ""


def test_one_view_gives_single_plane_volumes(report):
  record = record_of(report, "patient0006/4CH")
  assert record["ef_method"] == "single_plane"
  wide = ACROSS["4CH"]["ED"]
  wanted = true_ml((wide, wide), LONG["ED"])
  assert record["edv_ml"] == pytest.approx(wanted, rel=0.02)


def test_without_a_mask_of_the_sequence_ed_and_es_have_theirs(report):
  record = record_of(report, "patient0009/2CH")
  assert [len(mask) > 0 for mask in record["lv_mask"]] == [
    True, False, False, True
  ]  # fmt: skip
  _, labels = half_sequence("2CH")
  mask = decode_mask(record["lv_mask"][3])
  np.testing.assert_array_equal(mask, labels[3] == 1)


def test_spacing_that_cannot_be_is_unknown(report):
  record = record_of(report, "patient0009/4CH")
  assert np.isnan(record["spacing_mm"]).all()
  assert record["ef_method"] == "single_plane"  # of the other view


def test_masks_of_the_sequence_serve_where_ed_and_es_have_none(tmp_path):
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  whole = measure(folder, "ase", [])
  for path in folder.glob("*_E?_gt.nii.gz"):
    path.unlink()
  notes = []
  assert measure(folder, "ase", notes) == whole and not notes
  write_cfg(folder / "Info_4CH.cfg", {"ED": 1})
  assert measure(folder, "ase", notes).ef_method == "single_plane"
  assert any("4CH gives no volume: no ES mask" in note for note in notes)


@pytest.mark.parametrize(
  ("offset", "data", "wanted"),
  [
    (80, np.float32([0, 0]), [
      "row and column spacing 0 and 0 mm are not both above 0: spacing unknown"
    ]),
    (123, np.uint8([0]), [
      "the NIfTI header states no unit of length: taken as mm"
    ]),
    (80, np.float32([1.5, 0.1]), [
      "spacing 0.1 and 1.5 mm makes 110 rows 11 mm deep and 96 columns 144 mm "
      "wide, wants 50 to 400 mm and pixels up to 2.5 times as long as wide: "
      "spacing unknown"
    ]),
    (80, np.float32([4, 1.25]), [
      "spacing 1.25 and 4 mm makes 110 rows 138 mm deep and 96 columns 384 mm "
      "wide, wants 50 to 400 mm and pixels up to 2.5 times as long as wide: "
      "spacing unknown"
    ]),
  ],
)  # fmt: skip
def test_what_is_odd_in_a_header_is_noted_once(tmp_path, offset, data, wanted):
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  patch(folder / "patient0001_4CH_half_sequence.nii.gz", offset, data.tobytes())
  report = build(dataset(root), tmp_path / "data", progress=False)
  ledger = pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")
  assert notes_of(ledger, "patient0001/4CH") == wanted


def test_a_file_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(13, "Permission denied")

  made = dataset(one_patient(tmp_path))
  monkeypatch.setattr("data_builders.camus.read_volume", refuse)
  with pytest.raises(Rejected, match="cannot be opened: Permission denied"):
    made.read(made.items[0])


def test_split_by_number(source, tmp_path):
  by_number = dataset(source, split="by_number")
  assert {item.split for item in by_number.items} == {"train"}
  names = {item.name for item in by_number.items}
  assert "patient0013/2CH" in names and "patient0444/2CH" not in names
  for number in (400, 401, 450, 451, 500, 501):
    (tmp_path / "database_nifti" / f"patient{number:04d}").mkdir(parents=True)
  made = dataset(tmp_path, split="by_number")
  splits = {item.name[7:11]: item.split for item in made.items}
  assert splits == {
    "0400": "train", "0401": "validation", "0450": "validation",
    "0451": "test", "0500": "test",
  }  # fmt: skip
  assert [name for name, _ in made.refused] == [
    "patient0501/2CH", "patient0501/4CH"
  ]  # fmt: skip


def test_a_missing_list_stops_the_build(tmp_path):
  root = one_patient(tmp_path)
  (root / "database_split" / "subgroup_testing.txt").unlink()
  with pytest.raises(FileNotFoundError, match="subgroup_testing.txt is absent"):
    dataset(root)
  shutil.rmtree(root / "database_split")
  with pytest.raises(FileNotFoundError, match="--split by_number"):
    dataset(root)
  assert len(dataset(root, split="by_number").items) == 2


def test_a_patient_in_two_lists_stops_the_build(tmp_path):
  root = one_patient(tmp_path)
  write_lists(root, train=["patient0001"], test=["patient0001"])
  with pytest.raises(ValueError, match="patient0001 is in the lists of train"):
    dataset(root)


def test_two_folders_of_a_patient_are_not_chosen_from(tmp_path):
  root = one_patient(tmp_path)
  nifti = root / "database_nifti"
  shutil.copytree(nifti / "patient0001", nifti / "copy" / "patient0001")
  made = dataset(root)
  assert not made.items
  assert made.refused[0][1].startswith("duplicate patient: folders")


def test_two_releases_and_none(tmp_path):
  one_patient(tmp_path / "one")
  one_patient(tmp_path / "two")
  with pytest.raises(ValueError, match="pass one of them as --source"):
    dataset(tmp_path)
  inside = dataset(tmp_path / "one" / "database_nifti")
  assert inside.items == dataset(tmp_path / "one").items
  (tmp_path / "nothing").mkdir()
  with pytest.raises(FileNotFoundError, match="neither database_nifti nor"):
    dataset(tmp_path / "nothing")
  (tmp_path / "nothing" / "training").mkdir()
  with pytest.raises(FileNotFoundError, match="no folder patientNNNN"):
    dataset(tmp_path / "nothing")


def test_two_copies_of_a_file_are_not_chosen_from(tmp_path):
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  sequence = folder / "patient0001_2CH_half_sequence.nii.gz"
  write_nifti(sequence.with_suffix(""), read_volume(sequence).values)
  report = build(dataset(root), tmp_path / "data", progress=False)
  assert report.reasons == {"duplicate file": 1}


def test_size_moves_masks_and_spacing_along(tmp_path):
  root = one_patient(tmp_path)
  half = dataset(root, size=(ROWS // 2, COLUMNS // 2))
  record = record_of(build(half, tmp_path, progress=False), "patient0001/4CH")
  np.testing.assert_allclose(record["spacing_mm"], np.array(SPACING) * 2)
  assert record["ef_pct"] == pytest.approx(EF, abs=1)  # of the owner's pixels
  _, labels = half_sequence("4CH")
  whole = (labels[0] == 1).mean()
  assert decode_mask(record["lv_mask"][0]).mean() == pytest.approx(whole, 0.05)
  assert decode_mask(record["lv_mask"][0]).shape == (ROWS // 2, COLUMNS // 2)


def test_volumes_that_no_heart_has_cost_no_video(tmp_path):
  """Spacing may pass and still make a volume above a litre."""
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  for path in folder.glob("*.nii.gz"):
    patch(path, 80, np.float32([4, 3.6]).tobytes())
  notes = []
  assert measure(folder, "ase", notes).ef_method == ""
  assert re.match(r"masks give ESV \d+.\d ml and EDV 2\d\d\d", notes[-1])
  made = dataset(root)
  record, _ = made.read(made.items[0])
  assert record["ef_method"] == "reported" and np.isnan(record["edv_ml"])


def test_the_base_lies_towards_the_atrium(tmp_path):
  """Whichever end is blunt; a mask without atrium is noted."""
  folder = one_patient(tmp_path) / "database_nifti" / "patient0001"
  path = folder / "patient0001_4CH_ED_gt.nii.gz"
  labels = read_volume(path).values

  def first_and_last(changed, notes):
    write_nifti(path, changed, SPACING[::-1])
    at_ed, _ = measure_view(folder, "4CH", "ase", notes)
    return at_ed.diameter_mm[[0, -1]]

  base, apex = first_and_last(labels, [])
  assert base > 2 * apex
  alone, notes = np.where(labels == 3, 0, labels), []
  turned = alone.copy()
  turned[:6, 40:60] = 3  # on the side of the apex
  base, apex = first_and_last(turned, notes)
  assert apex > 2 * base and not notes
  base, apex = first_and_last(alone, notes)
  assert base > 2 * apex
  assert notes == ["4CH ED shows no atrium: the blunt end was taken as base"]


def test_rule_of_the_camus_evaluation(tmp_path):
  """One length for both volumes: ESV is larger and EF lower than ours."""
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  ours, theirs = measure(folder, "ase", []), measure(folder, "camus", [])
  assert theirs.esv_ml > ours.esv_ml * LONG["ED"] / LONG["ES"] * 0.95
  assert theirs.ef_pct < ours.ef_pct - 3
  made = dataset(root, rule="camus")
  assert made.settings["simpson"] == "camus"
  with pytest.raises(ValueError, match="rule is 'best'"):
    dataset(root, rule="best")


def test_masks_that_contradict_give_no_ef(tmp_path):
  """ED smaller than ES: nothing is swapped."""
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  for view in ("2CH", "4CH"):
    ed, es = (folder / f"patient0001_{view}_{p}_gt.nii.gz" for p in
              ("ED", "ES"))  # fmt: skip
    small = es.read_bytes()
    es.write_bytes(ed.read_bytes())
    ed.write_bytes(small)
  notes = []
  assert measure(folder, "ase", notes).ef_method == ""
  assert "not used" in notes[-1]


def test_foreshortened_view_is_noted(tmp_path):
  root = one_patient(tmp_path)
  folder = root / "database_nifti" / "patient0001"
  for path in folder.glob("*2CH*_gt.nii.gz"):
    patch(path, 84, np.float32([1.4 * SPACING[0]]).tobytes())  # rows
  notes = []
  measure(folder, "ase", notes)
  assert any("one view is foreshortened" in note for note in notes)


@pytest.fixture(scope="module")
def older(tmp_path_factory):
  """The older release: training with labels, testing without."""
  root = tmp_path_factory.mktemp("older")
  for number in range(1, 7):
    for view in ("2CH", "4CH"):
      folder = root / "training" / f"patient{number:04d}"
      write_mhd_view(folder, view, end="\r\n" if number == 2 else "\n")
  for view in ("2CH", "4CH"):
    folder = root / "testing" / "patient0001"
    write_mhd_view(folder, view, labelled=False)
  return root


def test_older_release(older, tmp_path):
  made = dataset(older)
  assert made.name == "camus_mhd"
  splits = {item.name: item.split for item in made.items}
  assert splits["testing/patient0001/2CH"] == "test"
  training = {s for name, s in splits.items() if name.startswith("training")}
  assert training <= {"train", "validation"}
  report = build(made, tmp_path, progress=False)
  assert report.found == report.written == 14
  record = record_of(report, "patient0002/2CH")
  np.testing.assert_allclose(record["spacing_mm"], SPACING)
  assert record["ef_pct"] == pytest.approx(EF, abs=1)
  assert np.isnan(record["frame_time_ms"]).all()  # the owner gives no rate
  assert (record["quality"], record["sex"]) == ("poor", "M")
  assert [len(mask) > 0 for mask in record["lv_mask"]] == [
    True, False, False, True
  ]  # fmt: skip
  frames, _ = half_sequence("2CH")
  shape = (ROWS, COLUMNS, 1)
  shown = decode_frame(record["frames"][1], record["frames_codec"], shape)
  np.testing.assert_array_equal(shown[..., 0], frames[1])
  ledger = pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")
  notes = notes_of(ledger, "training/patient0002/2CH")
  assert len(notes) == 5  # no frame rate, times; no word on masks a frame
  assert any("ESV" in n and "says 78 ml" in n for n in notes), notes
  assert any("EDV" in n and "says 130 ml" in n for n in notes), notes
  assert any("EF" in n and "says 40 %" in n for n in notes), notes


def test_older_release_tests_other_people(older, tmp_path):
  """patient0001 is a name in both of its folders, for two persons."""
  report = build(dataset(older), tmp_path, progress=False)
  trained = record_of(report, "patient0001/2CH")
  tested = record_of(report, "testing/patient0001/2CH")
  assert trained["patient_id"] == "camus:patient0001"
  assert tested["patient_id"] == "camus:testing/patient0001"
  assert np.isnan(tested["ef_pct"]) and tested["lv_mask"] == []


def test_command_line(tmp_path, capsys):
  root = one_patient(tmp_path / "CAMUS_public", "test")
  command = ["build", "camus", "--source", str(root), "--data-dir",
             str(tmp_path / "data")]  # fmt: skip
  assert main(command) == 0
  assert "2 found = 2 written + 0 rejected" in capsys.readouterr().out
  words = ["--split", "by_number", "--simpson", "camus", "--size", "32", "32"]
  assert main([*command, "--overwrite", *words]) == 0
  shutil.rmtree(root / "database_split")
  assert main([*command, "--overwrite"]) == 1
  assert "subgroup_training.txt is absent" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1_0", "\u0661\u0660", "inf", "nan", "1e"])
def test_a_cfg_holds_plain_numbers_only(tmp_path, text):
  write_cfg(tmp_path / "Info.cfg", {"Age": text, "EF": "+5.5e1"})
  notes = []
  cfg = read_cfg(tmp_path / "Info.cfg", notes)
  assert cfg.number("EF", 0, 100, "%", notes) == 55 and not notes
  assert np.isnan(cfg.number("Age", 0, 120, "years", notes))
  assert notes == ["Info.cfg: Age is no number"]


def test_an_empty_cfg_is_noted_once(tmp_path):
  root = one_patient(tmp_path)
  write_cfg(root / "database_nifti" / "patient0001" / "Info_2CH.cfg", {})
  report = build(dataset(root), tmp_path / "data", progress=False)
  ledger = pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")
  assert notes_of(ledger, "patient0001/2CH") == [
    "Info_2CH.cfg has no line `Key: value`", "frame times unknown"
  ]  # fmt: skip


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
