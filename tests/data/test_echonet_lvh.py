"""EchoNet-LVH: the owner's table of calipers and its batches, with faults."""

import made_builds
import numpy as np
import pandas as pd
import pytest
from made_files import drawn_clip, sector_mask, write_avi

from data_builders.echonet_lvh import dataset
from data_builders.echonet_lvh.calipers import Caliper, spacing_mm
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.sources import VideoSource

HEADER = (
  ",HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,"
  "split"
)
FRAMES, RATE_HZ, ROWS, COLUMNS = 6, 50.0, 96, 128
CLIP = drawn_clip(
  FRAMES, sector_mask(ROWS, COLUMNS, apex=(64, 6), depth=80), text=False
)
SPACING_MM = 0.8
# Four points on one line from the back wall to the septum, and two frames.
ENDS = {
  "LVPWd": ((60, 80), (60, 66)), "LVIDd": ((60, 66), (60, 16)),
  "IVSd": ((60, 16), (60, 4)), "LVIDs": ((70, 60), (70, 25)),
}  # fmt: skip
PHASE = {"d": 1, "s": 4}


def line(name, calc, split="train", **changes):
  """A row, whose length in centimetres follows from its ends."""
  (x1, y1), (x2, y2) = ENDS.get(calc, ((10, 10), (20, 20)))
  cell = {
    "value": f"{np.hypot(x2 - x1, y2 - y1) * SPACING_MM / 10:.2f}",
    "frame": PHASE[calc[-1]] if calc[-1:] in PHASE else 0,
    "x1": x1, "x2": x2, "y1": y1, "y2": y2, "frames": FRAMES, "fps": RATE_HZ,
    "width": COLUMNS, "height": ROWS,
  } | changes  # fmt: skip
  cells = (name, calc, *cell.values(), split)
  return ",".join(str(value) for value in (0, *cells))


def video(name, split="train", calcs=tuple(ENDS), **changes):
  return [line(name, calc, split, **changes) for calc in calcs]


def changed(name, calc, **changes):
  """A whole video of which one row differs."""
  return [
    line(name, each, **(changes if each == calc else {})) for each in ENDS
  ]


LINES = [
  *video("0XA1"), *video("0XA2.avi", "VAL"), *video("0XA3", "test"),
  *video("0XB1"),  # no such file
  *video("0XB2"), *video("0XB3"), *video("0XB4"),  # damaged
  *video("0XB5", "holdout"), *video("0XB6", ""),
  *video("0XB7", calcs=["IVSd"]), *video("0XB7", "test", ["LVIDd"]),
  *video("0XB8"),  # in two batches, not equal
  *video("0XC1"), line("0XC1", "LVIDd"),
  *video("0XC2"), line("0XC2", "LVIDd", value=6.5),
  *changed("0XC3", "IVSd", value="thick"),
  *changed("0XC4", "LVIDd", value="40"),
  *changed("0XC5", "LVIDs", frame="end-systole"),
  *changed("0XC6", "LVIDs", frame=99),
  *changed("0XC7", "LVPWd", x1="left"),
  *changed("0XC8", "LVPWd", y1=400),
  *video("0XD1", frames="unknown"), *video("0XD2", frames=60),
  *video("0XD3", width=1024, height=768), *video("0XD6", width=96),
  *video("0XD4", fps=30),
  *changed("0XD5", "LVIDd", fps=25),
  *changed("0XE1", "LVIDd", value=6.0), *video("0XE2", calcs=["LVIDd"]),
  *video("0XE3"), line("0XE3", "LVOT", value=0.8 * 14.14 / 10),
  *video("0XE4"), line("0XE4", ""),
  *changed("0XE5", "IVSd", frame=2), *changed("0XE6", "IVSd", x2=60, y2=16),
  line("", "IVSd"),
]  # fmt: skip
REJECTED = {
  "0XB1": "video absent: Batch*/0XB1.avi is not there",
  "0XB2": "empty file: 0 bytes",
  "0XB3": "not a recording",
  "0XB4": "truncated movie",
  "0XB5": "split is 'holdout', wants one of ['train', 'val', 'test']",
  "0XB6": "split is '', wants one of",
  "0XB7": "its rows name the splits test, train",
  "0XB8": "several files of that name differ",
  "(no name)": "HashedFileName is empty",
  "Batch4/deep/0XA1.AVI": "duplicate file: Batch1/0XA1.avi has that name too, "
  "and the same content",
  "Batch4/0XB8.avi": "duplicate file: Batch2/0XB8.avi has that name too, and "
  "another content",
  "Batch3/extra.avi": "not listed: the file is not in MeasurementsList.csv",
}
NOTED = {
  "0XC1": "duplicate rows: 1 left out",
  "0XC2": "LVIDd listed again: 65 mm, the first was 40 and is kept",
  "0XC3": "IVSd CalcValue is 'thick', wants a number: taken as unknown",
  "0XC4": "LVIDd 400 mm (40 cm) outside 5 to 150: taken as unknown",
  "0XC5": "LVIDs Frame is 'end-systole', wants a number: taken as unknown",
  "0XC6": "caliper LVIDs left out: frame 99, but the video has 6",
  "0XC7": "LVPWd X1 is 'left', wants a number: taken as unknown",
  "0XC8": "caliper LVPWd left out: it leaves the 128x96 picture",
  "0XD1": "Frames is 'unknown', wants a number: taken as unknown",
  "0XD2": "MeasurementsList.csv says Frames 60, the video has 6",
  "0XD3": "calipers left out: they were drawn on 1024x768 pixels",
  "0XD6": "calipers left out: they were drawn on 96x96 pixels, the video has",
  "0XD4": "MeasurementsList.csv says FPS 30, the video has 50",
  "0XD5": "FPS differs between rows: taken as unknown",
  "0XE1": "spacing unknown: LVPWd is 14.0 pixels long, 11.2 mm at the",
  "0XE2": "spacing unknown: 1 calipers with a length, 2 are needed",
  "0XE3": "LVOT: no such measurement, its caliper is kept",
  "0XE4": "Calc is empty",
  "0XE5": "ed_frame unknown: its calipers lie in [1, 2]",
  "0XE6": "caliper IVSd left out: both ends are one point",
}
NO_SPACING = ("0XC2", "0XC4", "0XD3", "0XE1", "0XE2")


def write_table(root, lines, end="\n", mark="", header=HEADER):
  root.mkdir(parents=True, exist_ok=True)
  text = mark + end.join([header, *lines]) + end
  (root / "MeasurementsList.csv").write_bytes(text.encode("utf-8"))
  return root


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """Doubled archive folder; the videos are spread over four batches."""
  top = tmp_path_factory.mktemp("lvh")
  root = top / "echonetlvh" / "EchoNet-LVH"
  write_table(root, LINES, "\r\n", "\ufeff")
  whole = write_avi(top / "clip.avi", CLIP).read_bytes()
  (top / "clip.avi").unlink()
  names = {text.split(",")[1].removesuffix(".avi") for text in LINES} - {""}
  for i, name in enumerate(sorted(names - {"0XB1"})):
    batch = {"0XA1": 1, "0XB8": 2}.get(name, i % 4 + 1)
    path = root / f"Batch{batch}" / f"{name}.avi"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole)

  def place(name):
    return next(root.glob(f"Batch*/{name}.avi"))

  place("0XB2").write_bytes(b"")
  place("0XB3").write_bytes(b"<html>not found</html>")
  place("0XB4").write_bytes(whole[: len(whole) // 2])
  (root / "Batch4" / "deep").mkdir()
  (root / "Batch4" / "deep" / "0XA1.AVI").write_bytes(whole)
  (root / "Batch4" / "0XB8.avi").write_bytes(whole + b"more")
  (root / "Batch3" / "extra.avi").write_bytes(whole)
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
    if f"echonet_lvh:{name}" in ids:
      return videos[ids.index(f"echonet_lvh:{name}")]
  raise LookupError(name)


def test_counts_add_up(report, ledger):
  """Every named video, nameless row and file is in the ledger once."""
  named = {text.split(",")[1].removesuffix(".avi") for text in LINES} - {""}
  nameless, further, unlisted = 1, 2, 1
  assert report.found == len(named) + nameless + further + unlisted
  assert report.found == report.written + report.rejected
  ended = ledger[ledger["status"] != "noted"]
  assert len(ended) == report.found
  assert ended["item"].is_unique
  assert set(ended[ended["status"] == "rejected"]["item"]) == set(REJECTED)


@pytest.mark.parametrize(("item", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, item, reason):
  rows = ledger[(ledger["item"] == item) & (ledger["status"] == "rejected")]
  assert rows["reason"].item().startswith(reason)


@pytest.mark.parametrize(("item", "note"), NOTED.items())
def test_what_is_odd_is_kept_with_a_note(ledger, item, note):
  rows = ledger[ledger["item"] == item]
  assert "written" in set(rows["status"])
  notes = rows["reason"].tolist()
  assert any(note in said for said in notes), notes


def test_a_sound_video_has_no_note(ledger):
  for item in ("0XA1", "0XA2", "0XA3"):
    assert set(ledger[ledger["item"] == item]["status"]) == {"written"}


@pytest.mark.parametrize(
  ("name", "split"),
  [("0XA1", "train"), ("0XA2", "validation"), ("0XA3", "test")],
)
def test_split_is_the_owners_and_a_video_is_a_patient(report, name, split):
  record = record_of(report, name)
  assert record["split"] == split
  ids = {record[key] for key in ("video_id", "study_id", "patient_id")}
  assert ids == {f"echonet_lvh:{name}"} and record["patient_known"] == 0


def test_record_of_a_video(report):
  record = record_of(report, "0XA1")
  assert (record["view"], record["kind"]) == ("PLAX", "cine")
  assert record["frames_shape"].tolist() == [ROWS, COLUMNS, 1]
  assert record["lvidd_mm"] == pytest.approx(50 * SPACING_MM)
  assert record["lvpwd_mm"] == pytest.approx(14 * SPACING_MM)
  assert record["ivsd_mm"] == pytest.approx(12 * SPACING_MM)
  assert record["lvids_mm"] == pytest.approx(35 * SPACING_MM)
  assert np.isnan([record["ivss_mm"], record["lvpws_mm"]]).all()
  assert record["caliper_name"] == "LVPWd,LVIDd,IVSd,LVIDs"
  assert record["caliper_frame"].tolist() == [1, 1, 1, 4]
  np.testing.assert_array_equal(record["caliper_px"][1], [60, 66, 60, 16])
  assert (record["ed_frame"], record["es_frame"]) == (1, 4)
  np.testing.assert_allclose(record["spacing_mm"], SPACING_MM, rtol=1e-3)
  assert np.isnan(record["ef_pct"]) and record["ef_method"] == ""


@pytest.mark.parametrize("name", NO_SPACING)
def test_spacing_is_unknown_where_calipers_do_not_agree(report, name):
  assert np.isnan(record_of(report, name)["spacing_mm"]).all()


@pytest.mark.parametrize("name", ["0XC3", "0XC6", "0XC7", "0XC8", "0XE3"])
def test_spacing_needs_no_caliper_that_cannot_be_read(report, name):
  spacing = record_of(report, name)["spacing_mm"]
  np.testing.assert_allclose(spacing, SPACING_MM, rtol=1e-3)


def test_one_bad_cell_costs_no_more_than_itself(report):
  word, outside = record_of(report, "0XC3"), record_of(report, "0XC4")
  assert np.isnan(word["ivsd_mm"]) and word["lvidd_mm"] == pytest.approx(40)
  assert np.isnan(outside["lvidd_mm"]) and outside["ivsd_mm"] > 0
  frameless = record_of(report, "0XC5")
  assert frameless["lvids_mm"] == pytest.approx(28)
  assert frameless["caliper_name"] == "LVPWd,LVIDd,IVSd"
  assert (frameless["ed_frame"], frameless["es_frame"]) == (1, -1)


def test_a_measurement_listed_again_keeps_the_first_value(report):
  record = record_of(report, "0XC2")
  assert record["lvidd_mm"] == pytest.approx(40)
  assert record["caliper_name"].count("LVIDd") == 2


def test_calipers_of_another_picture_are_not_used(report):
  """In a resized copy the table still counts pixels of the original."""
  record = record_of(report, "0XD3")
  assert record["caliper_name"] == "" and not len(record["caliper_px"])
  assert record["lvidd_mm"] == pytest.approx(40)
  assert (record["ed_frame"], record["es_frame"]) == (-1, -1)


def test_size_moves_calipers_and_spacing_along(source, report, tmp_path):
  made = dataset(source, size=(ROWS // 2, COLUMNS // 4))
  (item,) = (item for item in made.items if item.name == "0XA1")
  record, _ = made.read(item)
  whole = record_of(report, "0XA1")
  scale = np.array([0.25, 0.5, 0.25, 0.5])
  wanted = (whole["caliper_px"] + 0.5) * scale - 0.5
  np.testing.assert_allclose(record["caliper_px"], wanted, atol=1e-4)
  np.testing.assert_allclose(
    record["spacing_mm"], whole["spacing_mm"] * [2, 4], rtol=1e-5
  )
  # The caliper is as long as before, in millimetres.
  dx, dy = record["caliper_px"][1, 2:] - record["caliper_px"][1, :2]
  rows_mm, columns_mm = record["spacing_mm"]
  length = np.hypot(dx * columns_mm, dy * rows_mm)
  assert length == pytest.approx(40, rel=1e-3)


def test_spacing_by_hand():
  """60 mm over 100 px and 12 mm over 21 px: 72 mm over 121 px."""
  long = Caliper("LVIDd", 6.0, 0, (0.0, 0.0, 60.0, 80.0))
  short = Caliper("IVSd", 1.2, 0, (0.0, 0.0, 0.0, 21.0))
  assert spacing_mm((long, short), []) == pytest.approx(72 / 121)


@pytest.mark.parametrize(
  ("length_px", "agrees"),
  # 1 mm a pixel of the long one: 20 px wanted, 2 px allowed; then 5 %.
  [(21, True), (18.2, True), (23, False), (17, False)],
)
def test_tolerance_of_short_calipers_is_two_pixels(length_px, agrees):
  long = Caliper("LVIDd", 1000.0, 0, (0.0, 0.0, 0.0, 10_000.0))
  short = Caliper("IVSd", 2.0, 0, (0.0, 0.0, 0.0, float(length_px)))
  assert np.isfinite(spacing_mm((long, short), [])) == agrees


@pytest.mark.parametrize(("length_px", "agrees"), [(104, True), (108, False)])
def test_tolerance_of_long_calipers_is_five_percent(length_px, agrees):
  long = Caliper("LVIDd", 1000.0, 0, (0.0, 0.0, 0.0, 10_000.0))
  other = Caliper("LVIDs", 10.0, 0, (0.0, 0.0, 0.0, float(length_px)))
  assert np.isfinite(spacing_mm((long, other), [])) == agrees


def tiny(root, lines=None, header=HEADER):
  write_table(root, lines or video("0XA1"), header=header)
  (root / "Batch1").mkdir()
  write_avi(root / "Batch1" / "0XA1.avi", CLIP)
  return root


def test_columns_are_read_by_name_in_any_order(tmp_path):
  """The owner's page calls the last one Split, the file split."""
  first = tiny(tmp_path / "a")
  names = HEADER.split(",")
  order = [names[i] for i in (13, 3, 6, 7, 8, 9, 10, 11, 12, 5, 4, 2, 1)]
  cells = [dict(zip(names, text.split(","), strict=True))
           for text in video("0XA1")]  # fmt: skip
  lines = [",".join(cell[name] for name in order) for cell in cells]
  header = ",".join(order).replace("split", "Split")
  second = tiny(tmp_path / "b", lines, header)
  made = [dataset(root).items[0].facts for root in (first, second)]
  assert made[0]["calipers"] == made[1]["calipers"]
  assert made[0]["listed"] == made[1]["listed"]
  assert made[0]["values_mm"] == made[1]["values_mm"]


def test_a_batch_on_another_disk_may_be_a_link(tmp_path):
  root = tiny(tmp_path / "a")
  (root / "Batch1").rename(tmp_path / "disk")
  (root / "Batch1").symlink_to(tmp_path / "disk")
  found = dataset(root)
  assert [item.name for item in found.items] == ["0XA1"] and not found.refused


def test_missing_column_is_named(tmp_path):
  tiny(tmp_path / "a", header=HEADER.replace("CalcValue", "Value"))
  message = "MeasurementsList.csv has no column CalcValue;"
  with pytest.raises(ValueError, match=message):
    dataset(tmp_path)


def test_missing_table_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="no MeasurementsList.csv in"):
    dataset(tmp_path)


def test_command_line(tmp_path, capsys):
  root = tiny(tmp_path / "lvh")
  command = ["build", "echonet_lvh", "--source", str(root), "--data-dir",
             str(tmp_path / "data"), "--size", "48", "64"]  # fmt: skip
  assert main(command) == 0
  assert "1 found = 1 written + 0 rejected" in capsys.readouterr().out


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(dataset(source))
