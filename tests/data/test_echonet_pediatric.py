"""EchoNet-Pediatric: both views in the owner's form, with the known faults."""

import made_builds
import numpy as np
import pandas as pd
import pytest
from made_files import echonet_clip, write_avi

from data_builders.echonet_pediatric import dataset
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.sources import VideoSource, read_index

HEADER = "FileName,EF,Sex,Age,Weight,Height,Split"
TRACING_HEADER = "FileName,X,Y,Frame"
FRAMES, ES, ED = 6, 4, 1
CLIP = echonet_clip(FRAMES)
ONE = "CR0000001-CR0000010-000001"  # sound, with and without suffix: ONE, TWO
TWO = "CR0000001-CR0000010-000002"
PSAX = "CR0000001-CR0000010-000003"  # the same child in the other view


def row(name, split="0", ef="62.5", sex="F", age="7", weight="22.5", cm="121"):
  return f"{name},{ef},{sex},{age},{weight},{cm},{split}"


def ellipse(name, frame, width, count=12):
  """Points along the wall, each on a row, as the owner has them."""
  angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
  return [
    f"{name},{56 + width * np.cos(a):.0f},{55 + 30 * np.sin(a):.0f},{frame}"
    for a in angles
  ]


def tracings(name, es=ES, ed=ED):
  return [*ellipse(name, es, 10), *ellipse(name, ed, 20)]


def child(number, instance=1):
  """A name as the owner forms them; each number is another child."""
  return f"CR{number:07d}-CR{number + 500:07d}-{instance:06d}"


A4C_ROWS = [
  row(f"{ONE}.avi"), row(TWO, "0"),
  row(child(2), "8.0"), row(child(3), " 9 "),
  row(child(4), "10"), row(child(5), "train"), row(child(6), ""),
  row(child(7), ef="140"), row(child(8), ef="normal"), row(child(9), ef=""),
  row(child(10), age="newborn", weight="", cm="1.21", sex="U"),
  row(child(11)), row(child(11) + ".avi"),
  row(child(12), ef="60"), row(child(12), ef="30"),
  row(child(13)),  # no such file
  row(child(14)), row(child(15)), row(child(16)),  # damaged
  row(child(17, 1), "3"), row(child(17, 2), "9"),  # one child, two folds
  row(child(18), "3"),  # and in PSAX with another fold
  row("0X1A2B3C4D"), row(child(19)), row(child(20)), row(""), row(child(21)),
  row(child(22)),
]  # fmt: skip
PSAX_ROWS = [
  row(f"{PSAX}.avi", "0"), row(child(18, 2), "8"), row(child(22)),
]  # fmt: skip
A4C_TRACINGS = [
  *tracings(f"{ONE}.avi"), *tracings(TWO),
  *ellipse(child(19), "No Systolic", 10), *ellipse(child(19), ED, 20),
  *tracings(child(20))[:-12], f"{child(20)}.avi,1,x,1",
  *ellipse(child(21), ES, 10), *ellipse(child(21), 77, 20),
]  # fmt: skip
REJECTED = {
  f"A4C/{child(4)}": "Split 10 (a fold) outside 0 to 9",
  f"A4C/{child(5)}": "Split is 'train', wants a number",
  f"A4C/{child(6)}": "Split is '', wants a fold from 0 to 9",
  f"A4C/{child(7)}": "EF 140 % outside 0 to 100",
  f"A4C/{child(8)}": "EF is 'normal', wants a number",
  f"A4C/{child(12)}": "duplicate id: 2 rows of A4C/FileList.csv disagree",
  f"A4C/{child(13)}": f"video absent: A4C/Videos/{child(13)}.avi is not there",
  f"A4C/{child(14)}": "empty file: 0 bytes",
  f"A4C/{child(15)}": "not a recording",
  f"A4C/{child(16)}": "truncated movie",
  f"A4C/{child(17, 1)}": "patient in two splits: held out for test",
  f"A4C/{child(18)}": "patient in two splits: held out for validation",
  "A4C/(no name)": "FileName is empty",
  f"A4C/{child(22)}": "listed as both views",
  f"PSAX/{child(22)}": "listed as both views",
  "A4C/Videos/extra.avi": "not listed: the file is not in A4C/FileList.csv",
}
NOTED = {
  f"A4C/{child(2)}": "no tracing: ED and ES frames unknown",
  f"A4C/{child(10)}": "Age is 'newborn', wants a number: taken as unknown",
  f"A4C/{child(19)}": "without a frame left out: Frame is 'No Systolic'",
  f"A4C/{child(20)}": "tracings left out: Y is 'x', wants a number",
  f"A4C/{child(21)}": "tracing of frame 77 left out: the video has 6 frames",
  "A4C/0X1A2B3C4D": "taken as a patient of its own",
}


def write_view(root, view, rows, lines, end="\n", mark=""):
  (root / view / "Videos").mkdir(parents=True)
  for name, text in (
    ("FileList.csv", [HEADER, *rows]),
    ("VolumeTracings.csv", [TRACING_HEADER, *lines]),
  ):
    text = mark + end.join(text) + end
    (root / view / name).write_bytes(text.encode("utf-8"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """The archive as it unpacks: folders of the portal, each one twice."""
  top = tmp_path_factory.mktemp("pediatric")
  root = top.joinpath(*["echonetpediatric"] * 2, *["pediatric_echo_avi"] * 2)
  write_view(root, "A4C", A4C_ROWS, A4C_TRACINGS, "\r\n", "\ufeff")
  write_view(root, "PSAX", PSAX_ROWS, tracings(f"{PSAX}.avi"))
  whole = write_avi(top / "clip.avi", CLIP).read_bytes()
  for view, rows in (("A4C", A4C_ROWS), ("PSAX", PSAX_ROWS)):
    for name in {line.split(",")[0].removesuffix(".avi") for line in rows}:
      if name and name != child(13):
        (root / view / "Videos" / f"{name}.avi").write_bytes(whole)
  videos = root / "A4C" / "Videos"
  (videos / f"{child(14)}.avi").write_bytes(b"")
  (videos / f"{child(15)}.avi").write_bytes(b"<html>not found</html>")
  (videos / f"{child(16)}.avi").write_bytes(whole[: len(whole) // 2])
  (videos / "extra.avi").write_bytes(whole)
  return top


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  return build(dataset(source), tmp_path_factory.mktemp("data"), progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


def record_of(report, name):
  for split in ("train", "validation", "test"):
    videos = VideoSource(report.path, split)
    ids = videos.index["video_id"].tolist()
    if f"echonet_pediatric:{name}" in ids:
      return videos[ids.index(f"echonet_pediatric:{name}")]
  raise LookupError(name)


def test_counts_add_up(report, ledger):
  """Every row of both lists and every file is in the ledger exactly once."""
  unlisted = 1
  assert report.found == len(A4C_ROWS) + len(PSAX_ROWS) + unlisted
  assert report.found == report.written + report.rejected
  ended = ledger[ledger["status"] != "noted"]
  assert len(ended) == report.found
  rejected = set(ended[ended["status"] == "rejected"]["item"])
  assert rejected == {*REJECTED, f"A4C/{child(11)}"}


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  rows = ledger[(ledger["item"] == item) & (ledger["status"] == "rejected")]
  assert len(rows) == (2 if item.endswith(child(12)) else 1)
  assert rows["reason"].str.startswith(reason).all(), rows["reason"].tolist()


def test_the_first_of_equal_rows_is_kept(ledger):
  rows = ledger[ledger["item"] == f"A4C/{child(11)}"]
  assert sorted(rows["status"].unique()) == ["noted", "rejected", "written"]
  reason = rows[rows["status"] == "rejected"]["reason"].item()
  assert reason == "duplicate id: listed 2 times in A4C/FileList.csv"


@pytest.mark.parametrize(("item", "note"), NOTED.items())
def test_what_is_odd_is_kept_with_a_note(ledger, item, note):
  rows = ledger[ledger["item"] == item]
  assert "written" in set(rows["status"])
  assert rows["reason"].str.contains(note, regex=False).any()


def test_a_sound_video_has_no_note(ledger):
  for item in (f"A4C/{ONE}", f"A4C/{TWO}", f"PSAX/{PSAX}"):
    assert set(ledger[ledger["item"] == item]["status"]) == {"written"}


def test_record_of_a_video(report):
  record = record_of(report, ONE)
  assert (record["view"], record["kind"]) == ("A4C", "cine")
  assert (record["ef_pct"], record["ef_method"]) == (62.5, "area_length")
  assert np.isnan([record["edv_ml"], record["esv_ml"]]).all()
  assert (record["sex"], record["age_years"]) == ("F", 7)
  assert (record["weight_kg"], record["height_cm"]) == (22.5, 121)
  assert np.isnan(record["spacing_mm"]).all()
  assert record["frames_shape"].tolist() == [112, 112, 1]
  assert len(record["frames"]) == FRAMES


def test_contours_in_the_owners_order_and_phases_by_area(report):
  for name in (ONE, TWO, PSAX):
    record = record_of(report, name)
    assert record["tracing_frame"].tolist() == [ES, ED]
    assert record["tracing_count"].tolist() == [12, 12]
    assert (record["es_frame"], record["ed_frame"]) == (ES, ED)
    np.testing.assert_array_equal(record["tracing_px"][0], [66, 55])
    np.testing.assert_array_equal(record["tracing_px"][12], [76, 55])
  assert record["view"] == "PSAX"


def test_a_tracing_without_a_frame_tells_no_phase(report):
  record = record_of(report, child(19))
  assert record["tracing_frame"].tolist() == [ED]
  assert (record["es_frame"], record["ed_frame"]) == (-1, -1)


def test_ids_come_from_the_file_name(report):
  one, other = record_of(report, ONE), record_of(report, PSAX)
  for record in (one, other):
    assert record["patient_id"] == "echonet_pediatric:CR0000001"
    assert record["study_id"] == "echonet_pediatric:CR0000001-CR0000010"
    assert record["patient_known"] == 1
  stranger = record_of(report, "0X1A2B3C4D")
  assert stranger["patient_id"] == "echonet_pediatric:0X1A2B3C4D"
  assert stranger["study_id"] == stranger["video_id"]
  assert stranger["patient_known"] == 0


def test_unknown_is_not_zero(report):
  record = record_of(report, child(10))
  values = [record[n] for n in ("age_years", "weight_kg", "height_cm")]
  assert np.isnan(values).all() and record["sex"] == ""
  assert np.isnan(record_of(report, child(9))["ef_pct"])


def test_folds_become_splits_and_no_child_is_in_two(report):
  wanted = {ONE: "train", child(2): "validation", child(3): "test",
            child(17, 2): "test", child(18, 2): "validation"}  # fmt: skip
  for name, split in wanted.items():
    assert record_of(report, name)["split"] == split
  index = read_index(report.path)
  assert (index.groupby("patient_id")["split"].nunique() == 1).all()


def test_other_folds_can_be_held_out(source):
  made = dataset(source, validation_fold=1, test_fold=0)
  splits = {item.name: item.split for item in made.items}
  assert splits[f"A4C/{ONE}"] == "test"
  assert splits[f"A4C/{child(3)}"] == "train"
  assert "validation" not in splits.values()
  assert made.settings["test_fold"] == 0
  with pytest.raises(ValueError, match="fold 8 cannot be both"):
    dataset(source, test_fold=8)


def tiny(root, views=("A4C",)):
  for view in views:
    write_view(root, view, [row(child(1))], tracings(child(1)))
    write_avi(root / view / "Videos" / f"{child(1)}.avi", CLIP)
  return root


def test_one_view_is_enough(tmp_path):
  made = dataset(tiny(tmp_path, ["PSAX"]))
  assert [item.name for item in made.items] == [f"PSAX/{child(1)}"]


@pytest.mark.parametrize(
  ("file", "column"), [("FileList.csv", "Age"), ("VolumeTracings.csv", "Frame")]
)
def test_missing_column_is_named(tmp_path, file, column):
  path = tiny(tmp_path) / "A4C" / file
  path.write_text(path.read_text().replace(column, "Other", 1))
  with pytest.raises(ValueError, match=f"{file} has no column {column};"):
    dataset(tmp_path)


def test_missing_parts_are_named(tmp_path):
  (tiny(tmp_path) / "A4C" / "VolumeTracings.csv").unlink()
  with pytest.raises(FileNotFoundError, match="no VolumeTracings.csv"):
    dataset(tmp_path)
  (tmp_path / "A4C" / "FileList.csv").unlink()
  with pytest.raises(FileNotFoundError, match="no A4C/FileList.csv or PSAX"):
    dataset(tmp_path)


def test_command_line(tmp_path, capsys):
  root = tiny(tmp_path / "peds")
  command = [
    "build", "echonet_pediatric", "--source", str(root), "--data-dir",
    str(tmp_path / "data"), "--size", "56", "56", "--validation-fold", "1",
    "--test-fold", "0",
  ]  # fmt: skip
  assert main(command) == 0
  assert "1 found = 1 written + 0 rejected" in capsys.readouterr().out
  record = VideoSource(
    tmp_path / "data" / "echonet_pediatric" / "1.0.0", "test"
  )[0]
  assert record["frames_shape"].tolist() == [56, 56, 1]
  first = (np.array([66, 55]) + 0.5) / 2 - 0.5
  np.testing.assert_allclose(record["tracing_px"][0], first)


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
