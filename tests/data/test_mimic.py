"""MIMIC-IV-ECHO: a made folder in the owner's form, with its faults."""

import gzip
import re
import shutil

import cv2
import made_builds
import numpy as np
import pandas as pd
import pydicom
import pytest
import wfdb
from made_files import SINGLE_FRAME, drawn_clip, region, write_dicom
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit

from data_builders.mimic_iv_echo import dataset
from data_builders.mimic_iv_echo.linked import Person, nearest_ecg
from data_builders.mimic_iv_echo.measurements import (
  COLUMNS,
  labels_of,
  read_measurements,
)  # fmt: skip
from data_builders.mimic_iv_echo.tables import read_time
from echo_jax.cli import main
from echo_jax.data.build import build
from echo_jax.data.sources import VideoSource, read_index

CLIP = drawn_clip(4)
NEVER = {"PatientID": "10000001", "PatientSex": None}
MEASURES = (  # measurement_id, subject, test, name, result, unit
  ("7001", "10000001", "tte", "lvef", "55", "%"),
  ("7001", "10000001", "tte", "lvef_upper", "60", "%"),
  ("7001", "10000001", "tte", "biplane_lvedv", "120", "mL"),
  ("7001", "10000001", "tte", "biplane_lvesv", "50", "mL"),
  ("7001", "10000001", "tte", "septal_thickness", "1.1", "cm"),
  ("7001", "10000001", "tte", "inf_lat_thickness", "9", "mm"),
  ("7001", "10000001", "tte", "lvedd", "4.8", "furlong"),
  ("7001", "10000001", "tte", "lvesd", "", "cm"),  # not measured
  ("7001", "10000001", "tte", "aortic_stenosis", "Mild", ""),
  ("7002", "10000002", "tte", "lvef", "30", "%"),
  ("7002", "10000002", "tte", "lvef", "45", "%"),
  ("9999", "10000009", "tte", "lvef", "70", "%"),
)
STUDIES = (  # subject, study, hour on the day, measurement_id
  ("10000001", "90000001", 8, "7001.0"),  # as a column with gaps is saved
  ("10000002", "90000002", 9, "7002"),
  ("10000002", "90000002", 9, "7002"),  # a second note gives a second row
  ("10000003", "90000003", 10, ""),
  ("10000008", "90000008", 10, ""),  # has no recording
)
KINDS = {
  "90000001_0001": "cine", "90000001_0002": "colour", "90000001_0003": "pw",
  "90000001_0004": "mmode", "90000001_0005": "still", "90000001_0006": "cw",
  "90000002_0001": "cine", "90000003_0001": "cine", "90000004_0001": "cine",
}  # fmt: skip
REJECTED = {
  "90000001_0099": "not listed: the file is not in echo-record-list.csv",
  "90000002_0002": "truncated DICOM|damaged pixels",
  "90000002_0003": "file absent: it is in echo-record-list.csv",
  "90000002_0004": "dicom_filepath is not of the row's subject_id",
  "90000002_0005": "dicom_filepath is not of the row's subject_id",
  "90000009_0001": "dicom_filepath is not of the row's subject_id",
  "90000002_6": "dicom_filepath is not files/pNN/pSUBJECT/sSTUDY",
}


def place_of(name, subject=""):
  """`90000001_0001` -> where the owner keeps it."""
  study = name.split("_")[0]
  subject = subject or f"1000000{study[-1]}"
  return f"files/p10/p{subject}/s{study}/{name}.dcm"


JPEG, GREY = place_of("90000001_0002"), place_of("90000001_0001")


def spectral(**changes):
  """A region of a spectrum: seconds across, cm/s up."""
  return region(
    RegionSpatialFormat=3, PhysicalUnitsXDirection=4,
    PhysicalUnitsYDirection=7, **changes,
  )  # fmt: skip


def write_jpeg(path, video, **header):
  """A colour clip coded as JPEG baseline, as most of the owner's files are."""
  write_dicom(path, video, [region(RegionDataType=2)], **header)
  file = pydicom.dcmread(path)
  frames = [cv2.imencode(".jpg", frame[..., ::-1])[1] for frame in video]
  file.PixelData = encapsulate([frame.tobytes() for frame in frames])
  file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
  file.PhotometricInterpretation = "YBR_FULL_422"
  file.save_as(path)


def write_files(root):
  colour = np.stack([CLIP, CLIP // 2, CLIP // 4], -1)
  still = {"SOPClassUID": SINGLE_FRAME, "NumberOfFrames": None, **NEVER}
  for name in (*KINDS, "90000001_0099", "90000002_0002"):
    path = root / place_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    match KINDS.get(name, "cine"):
      case "colour":
        write_jpeg(path, colour, FrameTime="33.333", **NEVER)
      case "pw":
        write_dicom(path, CLIP[:1], [spectral(RegionDataType=3)], **still)
      case "cw":
        write_dicom(path, CLIP[:1], [spectral(RegionDataType=4)], **still)
      case "mmode":
        where = region(RegionSpatialFormat=2, PhysicalUnitsXDirection=4)
        write_dicom(path, CLIP[:1], [where], **still)
      case "still":
        write_dicom(path, CLIP[:1], [region()], **still)
      case _:
        who = NEVER
        if name == "90000003_0001":  # of whom patients.csv knows nothing
          who = {"PatientSex": "M", "PatientAge": "070Y"}
        write_dicom(path, CLIP, [region()], FrameTime="33.333", **who)
  cut = root / place_of("90000002_0002")
  cut.write_bytes(cut.read_bytes()[:-5000])
  (root / "files" / "index.html").write_text("<html>")


def write_table(path, rows, line_end="\n", mark="", packed=False):
  text = mark + line_end.join(",".join(row) for row in rows) + line_end
  if packed:
    path = path.with_name(path.name + ".gz")
    path.write_bytes(gzip.compress(text.encode("utf-8")))
  else:
    path.write_bytes(text.encode("utf-8"))


def write_lists(root, release="1.0", **form):
  rows = [("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")]
  for name in (*KINDS, "90000002_0002", "90000002_0003", "90000001_0001"):
    study = name.split("_")[0]
    time = f"2150-01-0{study[-1]} 08:1{name[-1]}:00"
    time = "noon" if name == "90000004_0001" else time
    rows.append((f"1000000{study[-1]} ", study, time, place_of(name)))
  folder = "files/p10/p10000002/s90000002"
  for wrong in (
    place_of("90000002_0004", "10000001"),
    f"files/p11/{folder[10:]}/90000002_0005.dcm",
    f"{folder}/90000009_0001.dcm",
    f"{folder}/../90000002_6.dcm",
  ):
    rows.append(("10000002", "90000002", "2150-01-02 08:00:00", wrong))
  write_table(root / "echo-record-list.csv", rows, **form)
  head = ("subject_id", "study_id", "study_datetime", "note_id", "note_seq")
  head += ("note_charttime",)
  link = ("measurement_id", "measurement_datetime") * (release == "1.0")
  rows = [head + link]
  for number, (subject, study, hour, measurement) in enumerate(STUDIES):
    time = f"2150-01-0{study[-1]} {hour:02}:00:00"
    note = (f"n{number}", "1", time)
    linked = (measurement, time if measurement else "")
    rows.append((subject, study, time, *note) + linked * (release == "1.0"))
  write_table(root / "echo-study-list.csv", rows, **form)
  if release == "1.0":
    rows = [
      ("subject_id", "measurement_id", "measurement_datetime", "test_type",
       "measurement", "measurement_description", "result", "unit")
    ]  # fmt: skip
    for number, subject, test, name, result, unit in MEASURES:
      time = f"2150-01-0{number[-1]} 11:00:00"
      rows.append((subject, number, time, test, name, "", result, unit))
    form = form | {"packed": True}
    write_table(root / "structured-measurement.csv", rows, **form)


def write_ecgs(root):
  """Three records of subject 1, and one of subject 2 without its samples."""
  rows = [("subject_id", "study_id", "file_name", "ecg_time", "path")]
  for subject, study, time in (
    ("10000001", "40000002", "2150-01-01 20:00:00"),
    ("10000001", "40000001", "2150-01-01 06:00:00"),
    ("10000001", "40000007", "2150-01-01 01:00:00"),
    ("10000002", "40000003", "2150-01-02 08:30:00"),
    ("10000003", "40000004", "2150-01-09 08:30:00"),
    ("10000003", "40000005", "noon"),
    ("10000003", "40000006", "2150-01-03 08:30:00"),
  ):
    folder = f"files/p1000/p{subject}/s{study}"
    rows.append((subject, study, study, time, f"{folder}/{study}"))
    (root / folder).mkdir(parents=True, exist_ok=True)
    if study == "40000006":  # would be the nearest, but lies with another
      rows[-1] = (*rows[-1][:4], rows[1][4])
      continue
    t = np.arange(1000) / 500
    wfdb.wrsamp(
      study, fs=500, units=["mV"] * 2, sig_name=["I", "aVR"], fmt=["16"] * 2,
      p_signal=np.stack([np.sin(t), -np.sin(t) * int(study[-1])], -1),
      write_dir=str(root / folder),
    )  # fmt: skip
    if study == "40000003":
      (root / folder / f"{study}.dat").unlink()
  write_table(root / "record_list.csv", rows)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """Release 1.0 in a doubled folder, its ECG and hosp/patients.csv.gz."""
  top = tmp_path_factory.mktemp("physionet")
  root = top / "mimic-iv-echo" / "mimic-iv-echo" / "1.0"
  root.mkdir(parents=True)
  write_files(root)
  write_lists(root, line_end="\r\n", mark="\ufeff")
  ecg = top / "mimic-iv-ecg"
  ecg.mkdir()
  write_ecgs(ecg)
  rows = [
    ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group"),
    ("10000001", "F", "61", "2148", "2014 - 2016"),
    ("10000002", "M", "91", "2150", "2014 - 2016"),
  ]  # fmt: skip
  write_table(top / "patients.csv", rows, packed=True)
  return top


def made(source, **options):
  return dataset(
    source / "mimic-iv-echo", ecg=source / "mimic-iv-ecg",
    patients=source / "patients.csv.gz", **options,
  )  # fmt: skip


@pytest.fixture(scope="module")
def report(source, tmp_path_factory):
  data = tmp_path_factory.mktemp("data")
  return build(made(source, size=(60, 80)), data, progress=False)


@pytest.fixture(scope="module")
def ledger(report):
  return pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")


@pytest.fixture(scope="module")
def records(report):
  index = read_index(report.path)
  return {
    record["video_id"].removeprefix("mimic_iv:"): record
    for split in index["split"].unique()
    for record in VideoSource(report.path, split)
  }


def notes_of(ledger, name):
  rows = ledger[ledger["item"].str.contains(name)]
  return " | ".join(rows[rows["status"] == "noted"]["reason"])


def test_every_row_and_every_file_is_accounted(source, report, ledger):
  root = source / "mimic-iv-echo" / "mimic-iv-echo" / "1.0"
  ended = ledger[ledger["status"] != "noted"]
  files = {
    path.relative_to(root).as_posix() for path in root.rglob("*.dcm")
  }
  assert files < set(ended["item"])
  assert report.written == len(KINDS)
  # One row is there twice; three sums stand for what is no recording.
  assert report.rejected == len(REJECTED) + 1 + 3
  assert report.found == report.written + report.rejected


@pytest.mark.parametrize(("name", "reason"), REJECTED.items())
def test_what_was_rejected_says_why(ledger, name, reason):
  (row,) = ledger[ledger["item"].str.contains(name)].itertuples()
  assert row.status == "rejected" and re.match(reason, row.reason)


def test_a_row_listed_twice_is_written_once(ledger):
  rows = ledger[ledger["item"] == place_of("90000001_0001")]
  kept = rows[rows["status"] != "noted"]
  assert sorted(kept["status"]) == ["rejected", "written"]
  assert kept["reason"].str.startswith("duplicate row").any()


def test_what_is_no_recording_is_summed_up(ledger):
  sums = ledger.set_index("item")["reason"]
  assert sums["files"] == "not DICOM by name: 1 other files were passed over"
  assert sums["echo-study-list.csv"] == "studies without a recording: 1"
  assert sums["record_list.csv"].endswith("another's path: 2")


def test_each_kind_is_kept_and_typed(records):
  assert {name: record["kind"] for name, record in records.items()} == KINDS


def test_jpeg_frames_keep_the_bytes_of_the_owner(source):
  """Unless another coding or size is asked for; what is no JPEG becomes png."""
  whole = made(source)
  file = pydicom.dcmread(whole.read.keywords["root"] + "/" + JPEG)
  coded = [bytes(frame) for frame in generate_frames(file.PixelData)]
  chosen = [one for one in whole.items if one.name in (JPEG, GREY)]
  records = {one.name: whole.read(one) for one in chosen}
  record, notes = records[JPEG]
  assert record["frames_codec"] == "jpeg" and record["colour"]
  assert [frame.rstrip(b"\0") for frame in record["frames"]] == [
    frame.rstrip(b"\0") for frame in coded
  ]
  assert not any("coded as png" in note for note in notes)
  record, notes = records[GREY]
  assert record["frames_codec"] == "png"
  assert any("coded as png" in note for note in notes)
  other = made(source, codec="raw")
  record, notes = other.read(chosen[0])
  assert record["frames_codec"] == "raw"
  assert not any("coded as png" in note for note in notes)


def test_ids_are_those_of_all_mimic(records):
  record = records["90000001_0002"]
  assert record["video_id"] == "mimic_iv:90000001_0002"
  assert record["study_id"] == "mimic_iv:90000001"
  assert record["patient_id"] == "mimic_iv:10000001"
  assert record["patient_known"] == 1


def test_labels_come_from_the_linked_measurement(records, ledger):
  record = records["90000001_0001"]
  assert record["ef_pct"] == 57.5  # the middle of lvef to lvef_upper
  assert record["ef_method"] == "reported"
  assert (record["edv_ml"], record["esv_ml"]) == (120, 50)
  assert record["ivsd_mm"] == pytest.approx(11)  # 1.1 cm
  assert record["lvpwd_mm"] == 9  # said to be in mm
  assert np.isnan(record["lvidd_mm"])
  notes = notes_of(ledger, "90000001_0001")
  assert "lvidd_mm unknown: lvedd has unit 'furlong'" in notes
  assert np.isnan(record["lvids_mm"]) and "lvids" not in notes


def test_values_that_disagree_stay_unknown(records, ledger):
  assert np.isnan(records["90000002_0001"]["ef_pct"])
  assert records["90000002_0001"]["ef_method"] == ""
  notes = notes_of(ledger, "90000002_0001")
  assert "ef_pct unknown: lvef is 30 and 45 pct in one study" in notes


def test_studies_without_measurement_or_row_are_kept_and_noted(records, ledger):
  assert np.isnan(records["90000003_0001"]["ef_pct"])
  assert "no structured measurement" in notes_of(ledger, "90000003_0001")
  assert "study not in echo-study-list" in notes_of(ledger, "90000004_0001")


def test_sex_and_age_follow_the_anchor_year(records):
  first, second = records["90000001_0001"], records["90000002_0001"]
  assert (first["sex"], first["age_years"]) == ("F", 63)  # 61 in 2148
  assert (second["sex"], second["age_years"]) == ("M", 91)
  third, fourth = records["90000003_0001"], records["90000004_0001"]
  assert (third["sex"], third["age_years"]) == ("M", 70)  # by its header
  assert fourth["sex"] == "" and np.isnan(fourth["age_years"])


def test_an_age_that_is_no_number_is_named(source, tmp_path):
  rows = [("subject_id", "gender", "anchor_age", "anchor_year")]
  path = tmp_path / "patients.csv"
  write_table(path, [*rows, ("10000001", "F", "over 89", "2150")])
  with pytest.raises(ValueError, match="patients.csv: anchor_age 'over 89'"):
    dataset(source / "mimic-iv-echo", patients=path)


def test_the_nearest_ecg_of_the_person_goes_with_each_video(records):
  record = records["90000001_0003"]  # taken at 08:13; ECGs at 1, 6 and 20 h
  assert record["ecg_leads"] == "i,avr" and record["ecg_hz"] == 500
  assert record["ecg_after_video_h"] == pytest.approx(-2 - 13 / 60)
  wave = np.sin(np.arange(1000) / 500)
  np.testing.assert_allclose(record["ecg_mv"][:, 0], wave, atol=1e-3)
  np.testing.assert_allclose(record["ecg_mv"][:, 1], -wave, atol=1e-3)


def test_no_ecg_in_the_window_or_a_broken_one_leaves_it_out(records, ledger):
  for name in ("90000002_0001", "90000003_0001"):
    assert records[name]["ecg_mv"].shape == (0, 0)
    assert np.isnan(records[name]["ecg_after_video_h"])
  notes = notes_of(ledger, "90000002_0001")
  assert "ECG left out: ECG signal file absent" in notes
  assert "ECG" not in notes_of(ledger, "90000003_0001")
  assert "is not a time: no ECG linked" in notes_of(ledger, "90000004_0001")


def test_one_patient_is_in_one_split(records):
  splits = {}
  for record in records.values():
    splits.setdefault(record["patient_id"], set()).add(record["split"])
  assert len(splits) == 4 and all(len(of) == 1 for of in splits.values())


def test_the_form_of_the_tables_does_not_matter(source, tmp_path):
  wanted = dataset(source / "mimic-iv-echo")
  root = source / "mimic-iv-echo" / "mimic-iv-echo" / "1.0"
  for number, form in enumerate(({"packed": True}, {"line_end": "\n"})):
    other = tmp_path / str(number)
    other.mkdir()
    write_lists(other, **form)
    (other / "files").symlink_to(root / "files")
    got = dataset(other)
    assert got.items == wanted.items and got.refused == wanted.refused


def test_release_0_1_has_no_labels(source, tmp_path):
  write_lists(tmp_path, release="0.1")
  root = source / "mimic-iv-echo" / "mimic-iv-echo" / "1.0"
  (tmp_path / "files").symlink_to(root / "files")
  first, later = dataset(tmp_path), dataset(source / "mimic-iv-echo")
  assert first.settings["release"] == "0.1"
  assert later.settings["release"] == "1.0"
  assert [one.name for one in first.items] == [one.name for one in later.items]
  assert not any("ef_pct" in one.facts["known"] for one in first.items)
  assert not any("measurement" in " ".join(one.facts["notes"])
                 for one in first.items)  # fmt: skip


def test_without_the_table_of_labels_it_stops_or_is_told_to(source, tmp_path):
  root = source / "mimic-iv-echo" / "mimic-iv-echo" / "1.0"
  write_lists(tmp_path)
  (tmp_path / "structured-measurement.csv.gz").unlink()
  (tmp_path / "files").symlink_to(root / "files")
  with pytest.raises(FileNotFoundError, match="pass --no-labels"):
    dataset(tmp_path)
  assert dataset(tmp_path, labels=False).items


def test_no_file_is_opened_to_list_them(tmp_path):
  write_lists(tmp_path)
  for name in KINDS:
    path = tmp_path / place_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # nothing to read in it
  assert len(dataset(tmp_path).items) == len(KINDS)


@pytest.mark.parametrize(
  ("table", "old", "new", "named"),
  [
    ("echo-record-list.csv", "dicom_filepath", "file", "no column dicom_"),
    ("echo-study-list.csv", "study_datetime", "when", "no column study_dat"),
  ],
)
def test_a_wrong_column_is_named(tmp_path, table, old, new, named):
  write_lists(tmp_path)
  (tmp_path / "files").mkdir()
  path = tmp_path / table
  path.write_text(path.read_text().replace(old, new, 1))
  with pytest.raises(ValueError, match=named) as refused:
    dataset(tmp_path)
  assert new in str(refused.value) and table in str(refused.value)


def test_a_table_that_was_cut_off_is_named(tmp_path):
  write_lists(tmp_path)
  (tmp_path / "files").mkdir()
  path = tmp_path / "structured-measurement.csv.gz"
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match="structured-measurement.*cut off"):
    dataset(tmp_path)


@pytest.mark.parametrize("column", [1, 5])  # one of them is not wanted
def test_rows_that_a_stray_quote_swallows_are_named(tmp_path, column):
  write_lists(tmp_path)
  (tmp_path / "files").mkdir()
  path = tmp_path / "structured-measurement.csv.gz"
  lines = gzip.decompress(path.read_bytes()).decode().split("\n")
  for number, mark in ((2, '"{}'), (4, '{}"')):
    cells = lines[number].split(",")
    cells[column] = mark.format(cells[column])
    lines[number] = ",".join(cells)
  path.write_bytes(gzip.compress("\n".join(lines).encode()))
  with pytest.raises(ValueError, match="csv.gz: a cell that ends in line 3"):
    dataset(tmp_path)


def test_a_wrong_folder_says_what_it_holds(tmp_path, capsys):
  (tmp_path / "elsewhere").mkdir()
  patient = tmp_path / "files" / "p10"  # not looked into: there are thousands
  patient.mkdir(parents=True)
  (patient / "echo-record-list.csv").touch()
  words = ["--source", str(tmp_path), "--data-dir", str(tmp_path / "data")]
  assert main(["build", "mimic_iv_echo", *words]) == 1
  assert "elsewhere" in capsys.readouterr().err
  shutil.rmtree(tmp_path / "files")
  write_lists(tmp_path)
  with pytest.raises(FileNotFoundError, match="no folder files"):
    dataset(tmp_path)
  shutil.copytree(tmp_path, tmp_path / "copies" / "a")
  shutil.copytree(tmp_path / "copies" / "a", tmp_path / "copies" / "b")
  with pytest.raises(ValueError, match="lies in"):
    dataset(tmp_path / "copies")


def labelled(tmp_path, values, method="reported", **changes):
  """Labels and notes of a study whose measurement holds these values."""
  one = {"subject": "1", "test": "tte", "time": "2150-01-01 11:00:00"} | changes
  rows = [COLUMNS] + [
    (one["subject"], "7", one["time"], one["test"], *value) for value in values
  ]
  path = tmp_path / "table.csv"
  write_table(path, rows)
  study_time = read_time("2150-01-01 10:00:00")
  return labels_of(
    {"7"}, "1", study_time, read_measurements(path, {"7"}), method=method,
    window_h=48,
  )  # fmt: skip


@pytest.mark.parametrize(
  ("values", "ef", "note"),
  [
    ([("lvef", "55", "%")], 55, ""),
    ([("lvef", "55%", "")], 55, ""),
    ([("lvef", "55-60", "%")], 57.5, ""),
    ([("lvef", "55 \u2013 60 %", "%")], 57.5, ""),
    ([("lvef", "50 to 60", "%")], 55, ""),
    ([("lvef", "55", "%"), ("lvef", "55.0", "%")], 55, ""),
    ([("lvef", ">55", "%")], None, "open range"),
    ([("lvef", "<= 20", "%")], None, "open range"),
    ([("lvef", "55", "")], None, "has unit ''"),
    ([("lvef", "0.55", "fraction")], None, "has unit 'fraction'"),
    ([("lvef", "normal", "%")], None, "not a number or range"),
    ([("lvef", "55", "%"), ("lvef_upper", "100", "%")], None, "55 to 100 %"),
    ([("lvef", "55", "%"), ("lvef_upper", "50", "%")], None, "55 to 50 %"),
    ([("lvef", "50-55", "%"), ("lvef_upper", "70", "%")], None, "ends at 55"),
    ([("lvef", "155", "%")], None, "wants 0 to 100"),
    ([("lvef_upper", "60", "%")], None, ""),  # an end alone says nothing
    ([("lvef_3d", "48", "%")], 48, ""),
  ],
)
def test_ef_as_it_is_written(tmp_path, values, ef, note):
  labels, notes = labelled(tmp_path, values)
  assert labels.get("ef_pct") == ef
  assert note in " ".join(notes) and bool(notes) == bool(note)


def test_which_ef_counts(tmp_path):
  both = [
    ("lvef", "55", "%"), ("biplane_lvef", "61.5", "%"),
    ("lvedv_3d", "150", "ml"), ("lvesv_3d", "60", "ml"),
    ("biplane_lvedv", "120", "ml"),
  ]  # fmt: skip
  labels, _ = labelled(tmp_path, both)
  assert labels["ef_pct"] == 55 and labels["ef_method"] == "reported"
  # Never one volume of each way of measuring.
  assert labels["edv_ml"] == 120 and "esv_ml" not in labels
  labels, _ = labelled(tmp_path, both, method="biplane")
  assert labels["ef_pct"] == 61.5 and labels["ef_method"] == "biplane"
  labels, notes = labelled(tmp_path, both[1:4])
  assert labels == {"ef_pct": 61.5, "ef_method": "biplane"}
  assert notes == (
    "volumes unknown: EF is biplane_lvef, they are lvedv_3d, lvesv_3d",
  )
  labels, _ = labelled(tmp_path, both[2:4], method="biplane")
  assert labels == {}
  labels, _ = labelled(tmp_path, both[2:4])
  assert labels == {"edv_ml": 150, "esv_ml": 60, "ef_method": "reported"}
  labels, _ = labelled(tmp_path, both[4:])
  assert labels == {"edv_ml": 120, "ef_method": "biplane"}
  labels, notes = labelled(tmp_path, [("lvef_3d", "60", "%"), *both[2:]])
  assert labels == {
    "ef_pct": 60, "ef_method": "reported", "edv_ml": 150, "esv_ml": 60
  }  # fmt: skip
  assert notes == ()
  labels, notes = labelled(tmp_path, [("lvef_3d", "60", "%"), both[4]])
  assert "edv_ml" not in labels and "biplane_lvedv" in notes[0]


def test_volumes_that_contradict_are_unknown_or_noted(tmp_path):
  def volumes(edv, esv):
    return [
      ("biplane_lvef", "60", "%"), ("biplane_lvedv", edv, "ml"),
      ("biplane_lvesv", esv, "ml"),
    ]  # fmt: skip

  labels, notes = labelled(tmp_path, volumes("50", "120"))
  assert labels == {"ef_pct": 60, "ef_method": "biplane"}
  assert notes == ("volumes unknown: ESV 120 ml above EDV 50 ml",)
  labels, notes = labelled(tmp_path, volumes("120", "60"))
  assert labels["edv_ml"] == 120
  assert notes == ("EF 60.0 % but its volumes give 50.0 %",)
  assert labelled(tmp_path, volumes("100", "41"))[1] == ()  # one point


def test_one_measurement_of_two_subjects_or_times_is_not_used(tmp_path):
  rows = [COLUMNS]
  for subject, hour, name in (("1", 11, "lvef"), ("2", 11, "biplane_lvef"),
                              ("1", 12, "lvef_3d")):  # fmt: skip
    time = f"2150-01-01 {hour}:00:00"
    rows.append((subject, "7", time, "tte", name, "55", "%"))
  for chosen, note in (
    (rows[:3], "its rows are of 2 subjects and 1 times"),
    ([*rows[:2], rows[3]], "its rows are of 1 subjects and 2 times"),
  ):
    write_table(tmp_path / "table.csv", chosen)
    measured = read_measurements(tmp_path / "table.csv", {"7"})
    labels, notes = labels_of(
      {"7"}, "1", read_time("2150-01-01 10:00:00"), measured,
      method="reported", window_h=48,
    )  # fmt: skip
    assert not labels and note in notes[0]


@pytest.mark.parametrize(
  ("changes", "note"),
  [
    ({"subject": "2"}, "of another subject"),
    ({"test": "stress"}, "test_type is ['stress']"),
    ({"time": "2150-01-04 11:00:00"}, "it is 73 h from the study"),
    ({"time": "noon"}, "cannot be read"),
  ],
)
def test_measurements_that_do_not_belong_are_not_used(tmp_path, changes, note):
  labels, notes = labelled(tmp_path, [("lvef", "55", "%")], **changes)
  assert not labels and note in " ".join(notes)


def test_a_length_without_a_believable_value_stays_unknown(tmp_path):
  labels, notes = labelled(
    tmp_path, [("septal_thickness", "11", "cm"), ("lvesd", "3.1", "cm")]
  )
  assert labels == {"lvids_mm": 31.0}  # 110 mm is no septum; mm is not guessed
  assert "septal_thickness is 110 mm, wants 1 to 60" in " ".join(notes)


@pytest.mark.parametrize("name", ["label_window_h", "ecg_window_h"])
def test_a_window_below_nothing_is_refused(tmp_path, name):
  with pytest.raises(ValueError, match=f"{name} is -1 h"):
    dataset(tmp_path, **{name: -1.0})


def test_nearest_ecg_looks_both_ways():
  records = [
    (read_time("2150-01-01 06:00:00"), "a"),
    (read_time("2150-01-01 10:00:00"), "b"),
  ]
  assert nearest_ecg(records, read_time("2150-01-01 07:00:00"), 24) == ("a", -1)
  assert nearest_ecg(records, read_time("2150-01-01 09:00:00"), 24) == ("b", 1)
  assert nearest_ecg(records, read_time("2150-01-01 08:00:00"), 24) == ("a", -2)
  assert nearest_ecg(records, read_time("2150-01-01 10:00:00"), 24) == ("b", 0)
  assert nearest_ecg(records, read_time("2150-01-03 10:00:00"), 24) is None
  assert nearest_ecg([], read_time("2150-01-03 10:00:00"), 24) is None


def test_91_stands_for_all_ages_over_89():
  def age(person, year):
    return person.at(read_time(f"{year}-06-01")).get("age_years")

  over = Person("F", 91, 2148)
  assert [age(over, year) for year in (2147, 2148, 2150)] == [None, 91, 91]
  soon = Person("F", 88, 2148)
  ages = [age(soon, year) for year in (2147, 2149, 2150, 2151)]
  assert ages == [87, 89, 91, 91]


def test_an_impossible_age_is_unknown():
  later = read_time("2150-01-01 00:00:00")
  assert Person("F", 60, 2160).at(later) == {"sex": "F", "age_years": 50}
  assert Person("F", 60, 2250).at(later) == {"sex": "F"}
  assert Person("F", 60, 2150).at(None) == {"sex": "F"}


def test_items_say_what_they_are_read_from(source):
  """A build that goes on sees by them what was replaced."""
  made_builds.check_files(made(source))
