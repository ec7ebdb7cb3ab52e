"""The shared reading of owners' tables, folders and contours."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_files import chords, echonet_clip, write_avi

from data_builders import dicom_folder
from echo_jax.data.build import Item
from echo_jax.data.folders import find_files, find_root, read_video, walk
from echo_jax.data.ledger import Rejected
from echo_jax.data.tables import (
  id_of,
  keep_apart,
  known_number,
  number,
  number_within,
  read_table,
  refuse_copies,
)
from echo_jax.data.tracings import (
  Traced,
  Tracing,
  polygon_of_chords,
  polygon_of_points,
  read_tracings,
  tracing_labels,
)


def table(tmp_path, text, encoding="utf-8"):
  path = tmp_path / "t.csv"
  path.write_bytes(text.encode(encoding))
  return path


@pytest.mark.parametrize(
  "text",
  [
    "a,B\n1,x\n2,y\n", "a,B\r\n1,x\r\n2,y", "a,B\r1,x\r2,y\r",
    "\ufeffa,B\n1,x\n\n2,y\n", " B ,A\n x,1\ny , 2\n",
    ",b,a,extra\n0,x,1,9\n1,y,2,9\n", '"a","B"\n1,"x"\n"2",y\n',
    "a,B\n1,x,more,yet\n2,y\n",
  ],
)  # fmt: skip
def test_form_of_the_text_does_not_matter(tmp_path, text):
  rows = read_table(table(tmp_path, text), ("a", "B"))
  assert rows == [{"a": "1", "B": "x"}, {"a": "2", "B": "y"}]


def test_a_short_row_has_empty_cells(tmp_path):
  path = table(tmp_path, "a,b\n1\n")
  assert read_table(path, ("a", "b")) == [{"a": "1", "b": ""}]


@pytest.mark.parametrize(
  "text",
  [
    'a,b,c\n1,x,y\n"2,x,y\n3,x,y\n4,x",y,z\n5,x,y\n',
    'a,b,c\n1,x,y\n2,x,"y\n3,x,y\n4,x",z\n5,x,y\n',  # in no wanted column
    'a,b,c\n1,x,y\n2,x,y,"z\n3,x,y\n4,x",z\n5,x,y\n',
    'a,b,c\r1,x,y\r2,"x\r3,x,y\r4,x",z\r5,x,y\r',
  ],
)
def test_rows_that_a_stray_quote_swallows_are_named(tmp_path, text):
  with pytest.raises(ValueError, match="t.csv: a cell that ends in line 5"):
    read_table(table(tmp_path, text), ("a", "b"))


def test_a_quote_that_never_ends_is_named(tmp_path):
  with pytest.raises(ValueError, match="t.csv is not a CSV table: unexpected"):
    read_table(table(tmp_path, 'a,b\n1,x\n"2,x\n'), ("a", "b"))


@pytest.mark.parametrize(
  ("text", "encoding", "message"),
  [
    ("a,c\n1,2\n", "utf-8", r"t.csv has no column b; it has \['a', 'c'\]"),
    ("", "utf-8", "t.csv has no column a, b"),
    ("a;b\n1;2\n", "utf-8", "t.csv has no column a, b"),
    ("a,b,A\n1,2,3\n", "utf-8", "t.csv has the column a twice"),
    ("a,b\né,2\n", "latin-1", r"t.csv is not UTF-8 text \(byte 4\)"),
    ("a,b\n1,2\n", "utf-16", "t.csv is not UTF-8 text"),
    (f"a,b\n1,{'x' * 200_000}\n", "utf-8", "t.csv is not a CSV table: field"),
  ],
)
def test_what_is_no_such_table_is_named(tmp_path, text, encoding, message):
  with pytest.raises(ValueError, match=message):
    read_table(table(tmp_path, text, encoding), ("a", "b"))


@pytest.mark.parametrize(
  ("text", "value"),
  [("60", 60), ("-1.5", -1.5), ("6e1", 60), (".5", 0.5), ("7.", 7)],
)
def test_numbers(text, value):
  assert number("EF", text) == value


@pytest.mark.parametrize("text", ["", "NaN", "nan", "NA", "N/A", "None"])
def test_missing_cells_are_unknown(text):
  assert np.isnan(number("EF", text))


@pytest.mark.parametrize(
  "text", ["sixty", "6O", "60,5", "1_000", "inf", "1e999", "0x10", "６０", "+"]
)
def test_words_are_no_numbers(text):
  with pytest.raises(Rejected, match="EF is .* wants a"):
    number("EF", text)


def test_ranges():
  with pytest.raises(Rejected, match="EF 140 % outside 0 to 100"):
    number_within("EF", "140", "%", 0, 100)
  notes = []
  assert np.isnan(known_number("Age", "ten", "years", 0, 120, notes))
  assert np.isnan(known_number("Age", "400", "years", 0, 120, notes))
  assert notes == [
    "Age is 'ten', wants a number: taken as unknown",
    "Age 400 years outside 0 to 120: taken as unknown",
  ]


def test_ids_have_or_lack_the_suffix():
  names = (" 0XA.avi", "0XA.AVI", "0XA")
  assert {id_of(name, ".avi") for name in names} == {"0XA"}
  assert id_of("a.b", ".avi") == "a.b"


def test_copies_of_rows():
  """The first of equal rows; none of rows that contradict each other."""
  names = ("A.avi", "a", "B", "b", "", "C")
  values = ("1", "1", "1", "2", "1", "1")
  rows = [
    {"n": name, "v": value} for name, value in zip(names, values, strict=True)
  ]
  assert refuse_copies(rows, "n", ".avi", "t.csv") == [
    "", "duplicate id: listed 2 times in t.csv",
    *["duplicate id: 2 rows of t.csv disagree; mend them by hand"] * 2,
    "n is empty", "",
  ]  # fmt: skip


def test_one_patient_stays_in_the_most_held_out_split():
  splits = {
    "a": ("train", "test"), "b": ("train", "validation", "pretrain"),
    "c": ("pretrain", "train"), "d": ("validation", "test"), "e": ("test",),
  }  # fmt: skip
  items = [
    Item(f"{patient}-{split}", split, {"patient_id": patient})
    for patient, names in splits.items()
    for split in names
  ]
  kept, refused = keep_apart(items)
  assert {item.name for item in kept} == {
    "a-test", "b-validation", "c-pretrain", "c-train", "d-test", "e-test"
  }  # fmt: skip
  assert dict(refused)["b-pretrain"] == (
    "patient in two splits: held out for validation, so not in pretrain"
  )
  assert len(kept) + len(refused) == len(items)


@pytest.mark.parametrize("depth", range(6))
def test_the_folder_is_found_below(tmp_path, depth):
  root = tmp_path.joinpath(*["echo"] * depth)
  root.mkdir(parents=True, exist_ok=True)
  (root / "t.csv").touch()
  assert find_root(tmp_path, ("t.csv",)) == root


def test_every_file_is_walked_also_behind_links(tmp_path):
  """An archive on several disks; links that have no end are given, not gone."""
  here, disk = tmp_path / "archive", tmp_path / "disk2"
  (here / "ward").mkdir(parents=True)
  disk.mkdir()
  for path in (here / "ward" / "a.dcm", disk / "b.dcm"):
    path.touch()
  (here / "linked").symlink_to(disk)
  (here / "ward" / "up").symlink_to(here)
  (disk / "back").symlink_to(here / "ward")  # ward is on no way to itself
  (here / "ward" / "out").symlink_to(disk)  # but back and out make a circle
  found = [path.relative_to(here).as_posix() for path in walk(here)]
  assert found == [
    "linked/b.dcm", "linked/back/a.dcm", "linked/back/out", "linked/back/up",
    "ward/a.dcm", "ward/up", "ward/out/b.dcm", "ward/out/back",
  ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
  (tmp_path / "locked").mkdir()
  scan = os.scandir

  def refuse(path):
    if Path(path).name == "locked":
      raise PermissionError(13, "Permission denied", str(path))
    return scan(path)

  monkeypatch.setattr(os, "scandir", refuse)
  with pytest.raises(PermissionError, match="locked"):
    list(walk(tmp_path))
  with pytest.raises(PermissionError, match="locked"):
    dicom_folder.dataset(tmp_path)


def test_folders_that_are_not_found(tmp_path):
  deep = tmp_path.joinpath(*["echo"] * 6)
  deep.mkdir(parents=True)
  (deep / "t.csv").touch()
  with pytest.raises(FileNotFoundError, match=r"no t.csv .* holds \['echo'\]"):
    find_root(tmp_path, ("t.csv",))
  with pytest.raises(FileNotFoundError, match="has no Videos"):
    find_root(deep, ("t.csv",), ("Videos",))
  with pytest.raises(FileNotFoundError, match="is not a folder"):
    find_root(deep / "t.csv", ("t.csv",))
  (tmp_path / "echo" / "t.csv").touch()
  (tmp_path / "copy").mkdir()
  (tmp_path / "copy" / "t.csv").touch()
  with pytest.raises(ValueError, match="pass one of them as --source"):
    find_root(tmp_path, ("t.csv",))


def test_a_folder_is_found_by_a_path_below_it(tmp_path):
  (tmp_path / "x" / "PSAX").mkdir(parents=True)
  (tmp_path / "x" / "PSAX" / "t.csv").touch()
  found = find_root(tmp_path, ("A4C/t.csv", "PSAX/t.csv"))
  assert found == tmp_path / "x"


def test_files_of_one_name(tmp_path):
  for place, content in (
    ("1/a.avi", "a"), ("2/A.AVI", "a"), ("1/b.avi", "b"), ("2/b.avi", "other"),
    ("1/c.avi", "c"), ("1/c.txt", "c"),
  ):  # fmt: skip
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
  files = find_files(tmp_path, tmp_path, ".avi")
  assert files.place("a", "absent") == "1/a.avi"
  assert files.place("c", "absent") == "1/c.avi"
  assert [place for place, _ in files.refused] == ["2/A.AVI", "2/b.avi"]
  with pytest.raises(Rejected, match="several files of that name differ"):
    files.place("b", "absent")
  with pytest.raises(Rejected, match="absent: d"):
    files.place("d", "absent: d")


def test_a_video_that_cannot_be_opened(tmp_path):
  with pytest.raises(Rejected, match="cannot be opened: No such file"):
    read_video(tmp_path / "none.avi")


SQUARE = [(10, 10), (30, 10), (30, 30), (10, 30)]


def points(frame, corners=SQUARE, name="v.avi"):
  return [f"{name},{x},{y},{frame}" for x, y in corners]


def traced(tmp_path, lines):
  path = table(tmp_path, "\n".join(["FileName,X,Y,Frame", *lines]))
  words = ("No Systolic", "No Diastolic")
  return read_tracings(path, ("X", "Y"), polygon_of_points, words)["v"]


def test_points_keep_their_order_and_frames_too(tmp_path):
  small = [(x / 2, y / 2) for x, y in SQUARE]
  found = traced(tmp_path, [*points(7, small), *points(2)])
  assert [tracing.frame for tracing in found.tracings] == [7, 2]
  np.testing.assert_array_equal(found.tracings[1].points_px, SQUARE)
  assert [tracing.area_px2 for tracing in found.tracings] == [100, 400]
  assert not found.notes


def test_a_contour_without_a_frame_leaves_the_others(tmp_path):
  found = traced(tmp_path, [*points("No Systolic"), *points(2)])
  assert [tracing.frame for tracing in found.tracings] == [2]
  (note,) = found.notes
  assert note == "tracing without a frame left out: Frame is 'No Systolic'"


@pytest.mark.parametrize(
  ("line", "note"),
  [
    ("v.avi,1,1,five", "Frame is 'five', wants a number"),
    ("v.avi,1,one,2", "Y is 'one', wants a number"),
    ("v.avi,1,,2", "a value is empty"),
    ("v.avi,1,1,2.5", "Frame is not whole"),
    ("v.avi,1,1,3", "frame 3 has too few rows"),
  ],
)
def test_a_lost_row_leaves_out_all_contours(tmp_path, line, note):
  found = traced(tmp_path, [*points(2), line])
  assert found.tracings == ()
  assert any(note in said for said in found.notes)


def test_rows_of_a_contour_that_are_there_twice_count_once(tmp_path):
  small = [(x / 2, y / 2) for x, y in SQUARE]
  for lines in (
    [*points(5), *points(5), *points(7, small)],
    [*points(5), *points(7, small), *points(5)],
  ):
    found = traced(tmp_path, lines)
    assert [tracing.area_px2 for tracing in found.tracings] == [400, 100]
    assert found.notes == ("rows of frame 5 are there again: taken once",)


def test_two_contours_of_one_frame_are_left_out(tmp_path):
  """Which one is the frame's is not known, and both make no polygon."""
  small = [(x / 2, y / 2) for x, y in SQUARE]
  found = traced(tmp_path, [*points(5), *points(5, small), *points(7)])
  assert [tracing.frame for tracing in found.tracings] == [7]
  (note,) = found.notes
  assert note == (
    "tracing of frame 5 left out: its points go round more than once"
  )
  found = traced(tmp_path, [*points(5), *points(7), *points(5, small)])
  assert [tracing.frame for tracing in found.tracings] == [7]
  assert "its rows are in 2 places and differ" in found.notes[0]


def test_contours_of_any_number_of_points_go_round_once():
  """From anywhere, either way, in a bent ventricle, once or twice as dense."""
  t = np.linspace(0, 2 * np.pi, 37, endpoint=False)
  bent = np.stack([20 * np.sin(t) + 0.01 * (40 * np.cos(t)) ** 2,
                   40 * np.cos(t)], -1)  # fmt: skip
  for shift in range(0, 37, 5):
    for rows in (np.roll(bent, shift, 0), np.roll(bent, shift, 0)[::-1]):
      assert len(polygon_of_points(np.concatenate([rows, rows[:1]]))) == 38


def test_two_sets_of_chords_in_one_frame_are_left_out(tmp_path):
  def read(*lines):
    text = ["FileName,X1,Y1,X2,Y2,Frame"]
    for some in lines:
      text += some
    path = table(tmp_path, "\n".join(text))
    return read_tracings(path, ("X1", "Y1", "X2", "Y2"), polygon_of_chords)["v"]

  one, two, other = chords("v", 5, 20), chords("v", 5, 12), chords("v", 9, 12)
  alone = read(one, other)
  assert [tracing.frame for tracing in alone.tracings] == [5, 9]
  assert not alone.notes
  twice = read(one, one, other)
  assert twice.tracings[0].area_px2 == alone.tracings[0].area_px2
  assert twice.notes == ("rows of frame 5 are there again: taken once",)
  both = read(one, two, other)
  assert [tracing.frame for tracing in both.tracings] == [9]
  assert "its chords turn back along the axis" in both.notes[0]
  upwards = read([one[0], *one[:0:-1]])  # from apex to base is as good
  assert upwards.tracings[0].area_px2 == alone.tracings[0].area_px2


def test_chords_become_a_polygon():
  rows = np.array([[0, 0, 0, 9], [1, 2, 3, 2], [1, 4, 3, 4]], np.float64)
  wanted = [[1, 2], [1, 4], [3, 4], [3, 2]]
  np.testing.assert_array_equal(polygon_of_chords(rows), wanted)


def test_contours_that_tell_no_phase(tmp_path):
  """Frames absent, contours of no area, or of one area: nothing is said."""
  path = write_avi(tmp_path / "v.avi", echonet_clip(4))
  recording, _ = read_video(path)
  square = np.array(SQUARE, np.float32)
  flat = np.array([(0, 0), (9, 0), (5, 0)], np.float32)

  def labels(*tracings):
    notes = []
    made = Traced(tuple(Tracing(n, corners) for n, corners in tracings))
    return tracing_labels(made, recording, notes), " ".join(notes)

  made, notes = labels((0, square), (2, square))
  assert made["tracing_frame"] == [0, 2] and "ed_frame" not in made
  assert "of one area" in notes
  made, notes = labels((0, square), (2, flat), (4, square))
  assert made["tracing_frame"] == [0] and "ed_frame" not in made
  assert "frame 2 left out: it encloses no area" in notes
  assert "frame 4 left out: the video has 4 frames" in notes
  assert labels((1, flat))[0] == {}
  made, notes = labels((1, square), (3, square / 2))
  assert (made["ed_frame"], made["es_frame"]) == (1, 3)
  assert "ED and ES were taken by area" in notes
