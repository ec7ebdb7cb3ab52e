"""A folder as a ward hands it over: cines among everything else."""

import json
import shutil

import made_builds
import numpy as np
import pandas as pd
import pydicom
import pydicom.data
import pytest
from made_files import drawn_clip, region, write_dicom
from pydicom.examples import get_path

from data_builders.dicom_folder import dataset, pseudonym
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.sources import VideoSource, read_index

CLIP = drawn_clip(4)
NUMBER, NAME = "MRN-0815-4711", "SECRET^NAME"
STUDY = "1.2.826.0.1.3680043.8.498.1"
WRITTEN = {
  "ward/cine.dcm", "ward/colour.dcm", "ward/still.dcm", "ward/nobody.dcm"
}  # fmt: skip
REJECTED = {
  "ward/copy.dcm": "duplicate id: ward:",
  "ct.dcm": "not ultrasound: modality CT, SOP class CT Image Storage",
  "DICOMDIR": "DICOMDIR: a list of files, not a recording",
  "empty.dcm": "empty file: 0 bytes",
  "movie.avi": "not DICOM: a movie; this builder takes DICOM only",
  "notes.txt": "not a recording: the first bytes are neither DICOM",
  "ward/cut.dcm": "truncated DICOM: the file ends before its pixel data do",
}


def pip_file(name):
  return pydicom.data.get_testdata_file(name, download=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  source = tmp_path_factory.mktemp("source")
  ward = source / "ward"
  ward.mkdir()
  shutil.copy(get_path("ybr_color"), ward / "cine.dcm")
  shutil.copy(ward / "cine.dcm", ward / "copy.dcm")
  whole = (ward / "cine.dcm").read_bytes()
  (ward / "cut.dcm").write_bytes(whole[: len(whole) // 2])
  known = {
    "PatientID": NUMBER, "PatientName": NAME, "StudyInstanceUID": STUDY,
    "PatientSex": "F", "PatientAge": "061Y",
  }  # fmt: skip
  flow = region(RegionDataType=2)
  colour = np.stack([CLIP, CLIP // 2, CLIP // 4], -1)
  write_dicom(
    ward / "colour.dcm", colour, [region(), flow], FrameTime="25", **known
  )
  write_dicom(ward / "still.dcm", CLIP[:1], [region()], **known)
  write_dicom(
    ward / "nobody.dcm", CLIP, [region()], FrameTime="40",
    PatientID=None, StudyInstanceUID=None, SOPInstanceUID=None,
  )  # fmt: skip
  shutil.copy(pip_file("CT_small.dcm"), source / "ct.dcm")
  shutil.copy(pip_file("DICOMDIR"), source / "DICOMDIR")
  (source / "notes.txt").write_text(f"{NAME} was here\n")
  (source / "empty.dcm").write_bytes(b"")
  (source / "movie.avi").write_bytes(b"RIFF\x10\0\0\0AVI LIST")
  return source


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("data")
  return build(dataset(source, name="ward"), data_dir, progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


@pytest.fixture(scope="module")
def records(report, ledger):
  """Records by the name of their file."""
  written = ledger[ledger["status"] == "written"]
  assert set(written["item"]) == WRITTEN
  found = {}
  for split, items in written.groupby("split"):
    videos = VideoSource(report.path, split)
    for i, item in enumerate(items["item"]):  # in the order of the records
      found[item] = videos[i]
  return found


def test_every_file_is_accounted(source, report, ledger):
  files = {
    path.relative_to(source).as_posix()
    for path in source.rglob("*")
    if path.is_file()
  }
  assert report.found == len(files) == len(WRITTEN) + len(REJECTED)
  assert (report.written, report.rejected) == (len(WRITTEN), len(REJECTED))
  ended = ledger[ledger["status"] != "noted"]
  assert sorted(ended["item"]) == sorted(files)


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  (row,) = ledger[ledger["item"] == item].itertuples()
  assert row.status == "rejected"
  assert row.reason.startswith(reason)


def test_records_hold_what_the_header_says(records):
  kinds = {name: record["kind"] for name, record in records.items()}
  assert kinds == {
    "ward/cine.dcm": "cine", "ward/colour.dcm": "colour",
    "ward/still.dcm": "still", "ward/nobody.dcm": "cine",
  }  # fmt: skip
  colour, still = records["ward/colour.dcm"], records["ward/still.dcm"]
  np.testing.assert_allclose(colour["frame_time_ms"], [0, 25, 50, 75])
  np.testing.assert_allclose(colour["spacing_mm"], 0.5)
  assert colour["frames_shape"].tolist() == [240, 320, 3]
  assert still["frames_shape"].tolist() == [240, 320, 1]
  assert (colour["sex"], colour["age_years"]) == ("F", 61)
  cine = records["ward/cine.dcm"]
  assert len(cine["frames"]) == 30 and cine["device"] == "SonoSite, Inc. Turbo"
  assert np.isnan(cine["spacing_mm"]).all()
  # Nobody said which view it is or what the heart did.
  assert cine["view"] == "" and np.isnan(cine["ef_pct"])


def test_warnings_of_a_file_are_noted(ledger):
  notes = ledger[ledger["status"] == "noted"]
  cine = notes[notes["item"] == "ward/cine.dcm"]["reason"].str.cat(sep="\n")
  assert "does not fit the 320x240 picture" in cine


def test_one_patient_has_one_id_and_one_split(records):
  colour, still = records["ward/colour.dcm"], records["ward/still.dcm"]
  for key in ("patient_id", "study_id", "split"):
    assert colour[key] == still[key]
  assert colour["video_id"] != still["video_id"]
  assert colour["patient_known"] == 1
  assert colour["study_id"] == f"ward:{pseudonym(STUDY, b'')}"


def test_missing_identifiers_follow_the_rule(records, ledger):
  """Study for patient, folder for study, path for recording; all noted."""
  nobody = records["ward/nobody.dcm"]
  study = "folder|ward"
  assert nobody["patient_known"] == 0
  assert nobody["study_id"] == f"ward:{pseudonym(study, b'')}"
  assert nobody["patient_id"] == f"ward:{pseudonym(f'study|{study}', b'')}"
  place = "file|ward/nobody.dcm"
  assert nobody["video_id"] == f"ward:{pseudonym(place, b'')}"
  notes = ledger[ledger["item"] == "ward/nobody.dcm"]["reason"]
  for name in ("StudyInstanceUID", "SOPInstanceUID", "PatientID"):
    assert notes.str.startswith(f"no {name}").any()


def test_no_identifier_is_stored(report, source):
  """Neither in records nor in any text beside them."""
  cine = pydicom.dcmread(source / "ward" / "cine.dcm")
  secrets = [
    NUMBER, NAME, "SECRET", STUDY, cine.StudyInstanceUID, cine.SOPInstanceUID
  ]  # fmt: skip
  files = [path for path in report.path.rglob("*") if path.is_file()]
  assert any("array_record" in path.name for path in files)
  for path in files:
    data = path.read_bytes()
    assert not [text for text in secrets if text.encode() in data], path.name
  index = read_index(report.path)
  for key in ("video_id", "study_id", "patient_id"):
    assert index[key].str.fullmatch("ward:[0-9a-f]{16}").all()


def test_folders_behind_links_are_searched(tmp_path):
  disk, source = tmp_path / "disk", tmp_path / "source"
  source.mkdir()
  disk.mkdir()
  write_dicom(disk / "a.dcm", CLIP, [region()], FrameTime="33")
  (source / "linked").symlink_to(disk)
  (disk / "loop").symlink_to(disk)
  found = dataset(source)
  assert [item.name for item in found.items] == ["linked/a.dcm"]
  (loop,) = found.refused
  assert loop == ("linked/loop", "cannot be opened: Is a directory")


def test_ids_and_split_are_reproducible(source, tmp_path):
  """Same answer from another place; other ids, same groups, with a key."""
  moved = shutil.copytree(source, tmp_path / "moved")
  (moved / "ward" / "cine.dcm").unlink()
  first = {item.name: item for item in dataset(source).items}
  again = {item.name: item for item in dataset(moved).items}
  assert set(again) == set(first) - {"ward/cine.dcm"}
  for name, item in again.items():
    assert item.split == first[name].split
    assert item.facts["patient_id"] == first[name].facts["patient_id"]
    assert item.facts["video_id"] == first[name].facts["video_id"]
  keyed = {item.name: item for item in dataset(source, key=b"k").items}
  ids = {name: item.facts["patient_id"] for name, item in keyed.items()}
  assert ids["ward/colour.dcm"] == ids["ward/still.dcm"]
  for name, item in first.items():
    assert item.facts["patient_id"] != ids[name]


def test_a_file_name_of_other_bytes_has_a_pseudonym(tmp_path):
  """Without SOPInstanceUID the path names the recording."""
  one, other = (pseudonym(f"file|{name}", b"") for name in ("\udcff", "\udcfe"))
  assert one != other and len(one) == 16


def test_shares_are_obeyed(source):
  made = dataset(source, shares={"test": 1.0})
  assert {item.split for item in made.items} == {"test"}
  with pytest.raises(ValueError, match="shares sum to"):
    dataset(source, shares={"train": 0.5})


def run(source, data_dir, *more):
  words = ["--source", str(source), "--data-dir", str(data_dir), *more]
  return main(["build", "dicom_folder", *words])


def test_command_line(source, tmp_path, capsys):
  key = tmp_path / "key"
  key.write_text("a secret\n")
  some = tmp_path / "some"
  some.mkdir()
  shutil.copy(source / "ward" / "colour.dcm", some)
  more = ("--name", "ward7", "--size", "60", "80", "--channels", "1")
  assert run(some, tmp_path, *more, "--key-file", str(key)) == 0
  assert "1 found = 1 written + 0 rejected" in capsys.readouterr().out
  folder = tmp_path / "ward7" / "1.0.0"
  settings = (folder / "settings.json").read_text()
  assert "a secret" not in settings and json.loads(settings)["channels"] == 1
  index = read_index(folder)
  assert index["patient_id"][0] == (
    f"ward7:{pseudonym(f'|{NUMBER}', b'a secret')}"
  )
  record = VideoSource(folder, index["split"][0])[0]
  assert record["frames_shape"].tolist() == [60, 80, 1]
  np.testing.assert_allclose(record["spacing_mm"], 2.0)


def test_nothing_usable_fails_and_says_where_to_look(tmp_path, capsys):
  bad = tmp_path / "bad"
  bad.mkdir()
  (bad / "notes.txt").write_text("nothing\n")
  shutil.copy(pip_file("CT_small.dcm"), bad)
  assert run(bad, tmp_path / "data") == 1
  assert "none of 2 files became a record" in capsys.readouterr().err
  text = (tmp_path / "data" / "dicom_folder-1.0.0-failed.csv").read_text()
  assert "not ultrasound" in text and "not a recording" in text
  (tmp_path / "none").mkdir()
  assert run(tmp_path / "none", tmp_path / "data") == 1
  assert run(tmp_path / "absent", tmp_path / "data") == 1
  assert "is not a folder" in capsys.readouterr().err


def test_empty_key_is_refused(source, tmp_path, capsys):
  (tmp_path / "key").write_text("\n")
  assert run(source, tmp_path, "--key-file", str(tmp_path / "key")) == 1
  assert "is empty; put a secret into it" in capsys.readouterr().err


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
