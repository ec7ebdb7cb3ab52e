"""EchoNet-Dynamic: a folder in the owner's form with the faults of copies."""

import cv2
import made_builds
import numpy as np
import pandas as pd
import pytest
from made_files import (
  ECHONET_HEADER,
  chords,
  echonet_clip,
  make_echonet,
  write_avi,
)

from data_builders.echonet_dynamic import dataset
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.frames import decode_frame, decode_mask
from echo_jax.data.sources import VideoSource

FRAMES, RATE_HZ = 10, 50.0
ES, ED = 7, 2
CLIP = echonet_clip(FRAMES)


def row(name, split="TRAIN", ef="60", frames=FRAMES, fps=RATE_HZ):
  """A line of FileList.csv; the volumes give an EF of 60 %."""
  return f"{name},{ef},40,100,112,112,{fps:g},{frames},{split}"


def tracings(name, es=ES, ed=ED):
  """Small contour first, large one last, as the owner orders them."""
  return [*chords(name, es, 12), *chords(name, ed, 20)]


ROWS = [
  row("0XA1"),
  row("0XA2.avi", "val"),
  row("0XA3", "Test"),
  row("0XB1"),
  row("0XC1"), row("0XC1.avi"), row("0xc1"),
  row("0XC2", ef="60"), row("0XC2", ef="30"),
  row("0XD1", ef="140"), row("0XD2", ef="sixty"), row("0XD3", "HOLDOUT"),
  row("0XD4", ef=""), row("0XD5", ef="35"),
  row("0XE1"), row("0XE2"), row("0XE3"),
  row("0XF1", frames=42), row("0XF2", fps=30),
  row("0XG1"), row("0XG2"), row("0XG3"), row("0XG4"), row("0XG5"),
  row(""),
]  # fmt: skip
TRACINGS = [
  *tracings("0XA1.avi"),
  *tracings("0XA2"),
  *tracings("0XF1.avi"),
  *tracings("0XG1.avi", ed=99),
  *tracings("0XG2.avi"), "0XG2.avi,1,2,3,4,five",
  *tracings("0XG3.avi", es=ED, ed=ES)[::-1][:21][::-1],
  *tracings("0XG4.avi")[:2],
  *chords("0XG5.avi", ED, 20), *chords("0XG5.avi", ES, 12),
]  # fmt: skip
LISTED = {line.split(",")[0].removesuffix(".avi") for line in ROWS}
ON_DISK = (LISTED | {"0XB2"}) - {"", "0xc1", "0XB1"}
REJECTED = {
  "0XB1": "video absent: Videos/0XB1.avi is not there",
  "Videos/0XB2.avi": "not listed: the file is not in FileList.csv",
  "0xc1": "duplicate id: listed 3 times in FileList.csv",
  "0XC2": "duplicate id: 2 rows of FileList.csv disagree",
  "0XD1": "EF 140 % outside 0 to 100",
  "0XD2": "EF is 'sixty', wants a number",
  "0XD3": "Split is 'HOLDOUT', wants one of ['train', 'val', 'test']",
  "0XE1": "empty file: 0 bytes",
  "0XE2": "not a recording: the first bytes are neither DICOM nor AVI",
  "0XE3": "truncated movie:",
  "(no name)": "FileName is empty",
}
WRITTEN = {
  "0XA1", "0XA2", "0XA3", "0XC1", "0XD4", "0XD5", "0XF1", "0XF2", "0XG1",
  "0XG2", "0XG3", "0XG4", "0XG5",
}  # fmt: skip
NOTED = {
  "0XA3": "no tracing: ED and ES frames unknown",
  "0XD5": "EF 35.0 % but its volumes give 60.0 %",
  "0XF1": "FileList.csv says NumberOfFrames 42, the video has 10",
  "0XF2": "FileList.csv says FPS 30, the video has 50",
  "0XG1": "tracing of frame 99 left out: the video has 10 frames",
  "0XG2": "tracings left out: Frame is 'five', wants a number",
  "0XG3": "one traced frame only",
  "0XG4": "tracings left out: frame 7 has too few rows",
  "0XG5": "ED and ES were taken by area",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """The archive unpacked two folders deep, with a byte-order mark."""
  source = tmp_path_factory.mktemp("echonet")
  videos = dict.fromkeys(sorted(ON_DISK), CLIP)
  root = make_echonet(
    source / "unpacked" / "EchoNet-Dynamic", ROWS, TRACINGS, videos,
    line_end="\r\n", mark="\ufeff",
  )  # fmt: skip
  whole = (root / "Videos" / "0XA1.avi").read_bytes()
  (root / "Videos" / "0XE1.avi").write_bytes(b"")
  (root / "Videos" / "0XE2.avi").write_bytes(b"<html>not found</html>")
  (root / "Videos" / "0XE3.avi").write_bytes(whole[: len(whole) // 2])
  return source


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  """The folder, built."""
  data_dir = tmp_path_factory.mktemp("data")
  return build(dataset(source), data_dir, progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


def record_of(report, name):
  """The record of one video and where it is in its split."""
  for split in ("train", "validation", "test"):
    videos = VideoSource(report.path, split)
    ids = videos.index["video_id"].tolist()
    if f"echonet_dynamic:{name}" in ids:
      return videos[ids.index(f"echonet_dynamic:{name}")]
  raise LookupError(name)


def only_video(tmp_path, name="0XA1", tracing=(), **changes):
  """A folder of one video."""
  lines = [row(name, **changes)]
  return make_echonet(tmp_path / "e", lines, tracing, {name: CLIP})


def test_counts_add_up(report, ledger):
  """Every row of the list and every file is in the ledger exactly once."""
  unlisted = 1
  assert report.found == len(ROWS) + unlisted
  assert report.found == report.written + report.rejected
  ended = ledger[ledger["status"] != "noted"]
  assert len(ended) == report.found
  assert (ended["status"] == "written").sum() == report.written
  assert set(ended["item"]) == WRITTEN | set(REJECTED) | {"0XC1"}
  assert set(ended[ended["status"] == "written"]["item"]) == WRITTEN
  assert sum(report.reasons.values()) == report.rejected


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  rows = ledger[(ledger["item"] == item) & (ledger["status"] == "rejected")]
  assert len(rows) == (2 if item == "0XC2" else 1)
  assert rows["reason"].str.startswith(reason).all(), rows["reason"].tolist()


@pytest.mark.parametrize(("item", "note"), NOTED.items())
def test_what_is_odd_is_kept_with_a_note(ledger, item, note):
  rows = ledger[ledger["item"] == item]
  assert "written" in set(rows["status"])
  notes = rows[rows["status"] == "noted"]["reason"]
  assert notes.str.contains(note, regex=False).any(), notes.tolist()


def test_a_sound_video_has_no_note(ledger):
  for item in ("0XA1", "0XA2"):
    assert set(ledger[ledger["item"] == item]["status"]) == {"written"}


def test_damaged_picture_data(tmp_path, capsys):
  """Right container and length, but nothing that decodes inside."""
  root = only_video(tmp_path)
  path = root / "Videos" / "0XA1.avi"
  data = bytearray(path.read_bytes())
  start = data.index(b"movi") + 4
  data[start:] = bytes(len(data) - start)
  path.write_bytes(data)
  words = ["--source", str(root), "--data-dir", str(tmp_path / "d")]
  assert main(["build", "echonet_dynamic", *words]) == 1
  assert "none of 1 files became a record" in capsys.readouterr().err
  (failed,) = (tmp_path / "d").glob("*failed.csv")
  assert "movie: " in failed.read_text()


@pytest.mark.parametrize(
  ("name", "split"),
  [("0XA1", "train"), ("0XA2", "validation"), ("0XA3", "test")],
)
def test_split_is_the_owners_and_a_video_is_a_patient(report, name, split):
  record = record_of(report, name)
  assert record["split"] == split
  ids = {record[key] for key in ("video_id", "study_id", "patient_id")}
  assert ids == {f"echonet_dynamic:{name}"}
  assert record["patient_known"] == 0


def test_record_of_a_video(report):
  record = record_of(report, "0XA1")
  assert (record["view"], record["kind"]) == ("A4C", "cine")
  assert (record["ef_pct"], record["ef_method"]) == (60, "reported")
  assert (record["edv_ml"], record["esv_ml"]) == (100, 40)
  assert np.isnan(record["spacing_mm"]).all()  # the owner does not ship it
  times = 1000 / RATE_HZ * np.arange(FRAMES)
  np.testing.assert_allclose(record["frame_time_ms"], times, atol=1e-3)
  shape = tuple(int(n) for n in record["frames_shape"])
  assert shape == (112, 112, 1)
  for coded, drawn in zip(record["frames"], CLIP, strict=True):
    frame = decode_frame(coded, "png", shape)[..., 0].astype(int)
    assert np.abs(frame - drawn).mean() < 5  # motion JPEG loses some
  sector = decode_mask(record["sector"])
  drawn = (CLIP.max(0) > 0).astype(np.uint8)
  assert not (~sector & (drawn > 0)).any()
  # Motion JPEG smears the border over the 8x8 blocks that it crosses.
  smeared = cv2.dilate(drawn, np.ones((19, 19), np.uint8)) > 0
  assert not (sector & ~smeared).any()


def test_tracings_of_a_video(report):
  record = record_of(report, "0XA1")
  assert record["tracing_frame"].tolist() == [ES, ED]
  assert record["tracing_count"].tolist() == [40, 40]
  assert (record["es_frame"], record["ed_frame"]) == (ES, ED)
  points = record["tracing_px"]
  assert points.shape == (80, 2)
  for contour, width in ((points[:40], 12), (points[40:], 20)):
    # Down the left wall and up the right; the long axis is no part of it.
    assert (contour[:20, 0] < 56).all() and (contour[20:, 0] > 56).all()
    mirrored = contour[:19:-1] * [-1, 1] + [112, 0]
    np.testing.assert_allclose(contour[:20], mirrored, atol=1e-3)
    x, y = contour.T.astype(np.float64)
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert area == pytest.approx(np.pi * 36 * width, rel=0.05)


def test_tracings_whose_names_lack_the_suffix(report):
  first, second = record_of(report, "0XA1"), record_of(report, "0XA2")
  np.testing.assert_array_equal(first["tracing_px"], second["tracing_px"])


def test_labels_that_are_missing_are_unknown(report):
  untraced, no_ef = record_of(report, "0XA3"), record_of(report, "0XD4")
  for record in (untraced, record_of(report, "0XG2")):
    assert (record["ed_frame"], record["es_frame"]) == (-1, -1)
    assert not len(record["tracing_frame"]) and not len(record["tracing_px"])
  assert np.isnan(no_ef["ef_pct"]) and no_ef["edv_ml"] == 100


def test_ed_and_es_follow_the_area_and_never_a_single_contour(report):
  swapped = record_of(report, "0XG5")
  assert swapped["tracing_frame"].tolist() == [ED, ES]
  assert (swapped["ed_frame"], swapped["es_frame"]) == (ED, ES)
  for name in ("0XG1", "0XG3"):
    record = record_of(report, name)
    assert record["tracing_frame"].tolist() == [ES]
    assert (record["ed_frame"], record["es_frame"]) == (-1, -1)


def test_the_video_is_believed_where_the_list_disagrees(report):
  assert len(record_of(report, "0XF1")["frames"]) == FRAMES
  assert record_of(report, "0XF2")["frame_time_ms"][1] == pytest.approx(20)


def test_size_moves_the_contour_along(tmp_path, report):
  root = only_video(tmp_path, tracing=tracings("0XA1.avi"))
  half = dataset(root, size=(56, 56))
  record = record_of(build(half, tmp_path, progress=False), "0XA1")
  assert record["frames_shape"].tolist() == [56, 56, 1]
  points = record_of(report, "0XA1")["tracing_px"]
  wanted = (points + 0.5) / 2 - 0.5
  np.testing.assert_allclose(record["tracing_px"], wanted, atol=1e-3)


def test_coloured_video_is_noted(tmp_path):
  root = only_video(tmp_path)
  tint = np.stack([CLIP, CLIP // 2, CLIP // 4], -1)
  write_avi(root / "Videos" / "0XA1.avi", tint)
  report = build(dataset(root), tmp_path, progress=False)
  assert "coloured pixels" in (report.path / "ledger.csv").read_text()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_form_of_the_text_changes_nothing(tmp_path, end):
  for mark in ("", "\ufeff"):
    root = make_echonet(
      tmp_path / f"m{len(mark)}", [row("0XA1")], tracings("0XA1.avi"),
      {"0XA1": CLIP}, line_end=end, mark=mark,
    )  # fmt: skip
    made = dataset(root)
    assert [item.name for item in made.items] == ["0XA1"]
    assert len(made.items[0].facts["traced"].tracings) == 2
    assert not made.refused


@pytest.mark.parametrize(
  ("file", "column"), [("FileList.csv", "EF"), ("VolumeTracings.csv", "Frame")]
)
def test_missing_column_is_named(tmp_path, file, column):
  path = only_video(tmp_path) / file
  path.write_text(path.read_text().replace(column, "Other", 1))
  if file == "FileList.csv":
    assert ECHONET_HEADER not in path.read_text()
  with pytest.raises(ValueError, match=f"{file} has no column {column};"):
    dataset(tmp_path)


@pytest.mark.parametrize("name", ["FileList.csv", "VolumeTracings.csv"])
def test_missing_table_is_named(tmp_path, name):
  root = only_video(tmp_path)
  (root / name).unlink()
  with pytest.raises(FileNotFoundError, match=name):
    dataset(root)


@pytest.mark.parametrize("equal", [True, False])
def test_file_names_that_differ_in_case_only(tmp_path, equal):
  """Of equal files the first is read; of others none, since none is known."""
  videos = only_video(tmp_path) / "Videos"
  whole = (videos / "0XA1.avi").read_bytes()
  (videos / "0xa1.AVI").write_bytes(whole if equal else b"another")
  if len(list(videos.iterdir())) == 1:
    pytest.skip("this file system does not tell them apart")
  made = dataset(tmp_path)
  refused = dict(made.refused)
  assert refused["Videos/0xa1.AVI"].startswith("duplicate file: Videos/0XA1")
  if equal:
    assert made.items[0].facts["file"] == "Videos/0XA1.avi"
  else:
    assert refused["0XA1"].startswith("several files of that name differ")
  assert len(made.items) + len(refused) == 2


def test_two_copies_are_not_guessed_between(tmp_path):
  for copy in ("first", "second"):
    make_echonet(tmp_path / copy, [row("0XA1")], [], {"0XA1": CLIP})
  with pytest.raises(ValueError, match="pass one of them as --source"):
    dataset(tmp_path)


def test_command_line(tmp_path, capsys):
  root = only_video(tmp_path, tracing=tracings("0XA1.avi"))
  command = [
    "build", "echonet_dynamic", "--source", str(root), "--data-dir",
    str(tmp_path / "data"),
  ]  # fmt: skip
  assert main(command) == 0
  assert "1 found = 1 written + 0 rejected" in capsys.readouterr().out
  assert main(command) == 1
  assert "--overwrite" in capsys.readouterr().err
  assert main([*command, "--overwrite", "--size", "64", "64"]) == 0
  path = root / "FileList.csv"
  path.write_text(path.read_text().replace("Split", "Fold"))
  assert main([*command, "--overwrite"]) == 1
  assert "no column Split" in capsys.readouterr().err


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
