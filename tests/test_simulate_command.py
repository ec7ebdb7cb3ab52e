"""`echo-jax simulate`: a hospital's folder that other commands play through."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pydicom
import pytest

from data_builders import synthetic_echo
from echo_jax.cli import main
from echo_jax.commands import build as build_command
from echo_jax.data import hospital
from echo_jax.data.clinical import CLINICAL, GENETIC, check_row
from echo_jax.data.ingest import read_recording
from echo_jax.privacy.keys import make_key
from echo_jax.simulate import draw_study

SETTING = {
  "cohort": "referral", "patients": 2, "seed": 1, "size": 96,
  "duration_s": 1.0, "views": ("A4C", "PLAX"),
}  # fmt: skip
STUDIES = 3  # of these two patients


def words_for(out, **changed):
  words = ["simulate", "--as", "dicom", "--out", str(out), "--workers", "1"]
  for name, value in (SETTING | changed).items():
    text = ",".join(value) if name == "views" else str(value)
    words += [f"--{name.replace('_', '-')}", text]
  return words


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


@pytest.fixture(scope="module")
def house(tmp_path_factory):
  """A whole folder."""
  out = tmp_path_factory.mktemp("house") / "hospital"
  assert main(words_for(out)) == 0
  return out


def test_counts_are_those_of_the_folder_and_a_second_run_keeps_it(
  house, capsys
):
  before = contents(house)
  kinds = Counter(
    name.rpartition("/")[2].split("-")[0].split(".")[0]
    for name in before
    if name.endswith(".dcm")
  )
  assert main(words_for(house)) == 0
  said = capsys.readouterr().out
  assert f"2 patients, {STUDIES} studies = 0 written + {STUDIES} there" in said
  assert (
    f"{sum(kinds.values())} DICOM files = {kinds['cine']} cines + "
    f"{kinds['doppler']} Doppler stills + {kinds['ecg']} ECGs"
  ) in said
  assert contents(house) == before


def test_another_process_makes_the_same_bytes(house, tmp_path):
  """And one that was killed on the way ends with them too."""
  out = tmp_path / "hospital"
  code = (
    "import os, signal, sys; from echo_jax import cli\n"
    "from echo_jax.data import hospital\n"
    "sync, calls = hospital.sync, []\n"
    "def count(path):\n"
    "  calls.append(path)\n"
    "  if len(calls) == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
    "  sync(path)\n"
    "hospital.sync = count\n"
    "cli.main(sys.argv[1:])\n"
  )
  ended = subprocess.run(
    [sys.executable, "-c", code, *words_for(out)], capture_output=True
  )
  assert ended.returncode == -signal.SIGKILL
  left, whole = contents(out), contents(house)
  there = [name for name in left if name.startswith("studies")]
  assert 0 < len(there) < len(whole) - 2 and "truth.csv" not in left
  assert {name: whole[name] for name in there} == {
    name: left[name] for name in there
  }
  assert any(name.startswith(".unfinished") for name in left)
  assert main(words_for(out)) == 0
  assert contents(out) == whole


@pytest.mark.parametrize(
  "changed",
  [
    {"seed": 2}, {"patients": 3}, {"size": 128}, {"views": ("A4C",)},
    {"duration_s": 1.5}, {"cohort": "clinic_like"}, {"studies": 1},
    {"site_shift": 0.5},
  ],
)  # fmt: skip
def test_another_setting_is_refused(house, changed, capsys):
  before = contents(house)
  assert main(words_for(house, **changed)) == 1
  said = capsys.readouterr().err
  name = "switches" if "site_shift" in changed else next(iter(changed))
  assert f"was made with {name} " in said
  assert contents(house) == before


def test_foreign_folders_bad_numbers_and_idle_options_are_refused(
  tmp_path, capsys
):
  (tmp_path / "thesis.txt").write_text("mine")
  for words, message in (
    (words_for(tmp_path), "holds other files"),
    (words_for(tmp_path / "a", patients=0), "patients is 0, wants 1"),
    (words_for(tmp_path / "a", duration_s=900), "duration_s is 900, wants"),
    (words_for(tmp_path / "a", views=("A9C",)), "A9C"),
    (words_for(tmp_path / "a", label_noise=1.0), "--label-noise has no effect"),
    ([*words_for(tmp_path / "a"), "--overwrite"], "--overwrite has no effect"),
  ):
    assert main(words) == 1
    assert message in capsys.readouterr().err
  assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_a_study_that_lost_a_file_is_named(house, capsys):
  path = next(house.rglob("ecg.dcm"))
  data = path.read_bytes()
  path.unlink()
  try:
    assert main(words_for(house)) == 1
    assert "not as it was written: ecg.dcm; remove" in capsys.readouterr().err
  finally:
    path.write_bytes(data)


def test_a_full_disk_keeps_whole_studies(house, tmp_path, monkeypatch, capsys):
  out, calls, sync = tmp_path / "hospital", [], hospital.sync

  def fill(path):
    calls.append(path)
    if len(calls) > 14:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sync(path)

  monkeypatch.setattr(hospital, "sync", fill)
  assert main(words_for(out)) == 1
  said = capsys.readouterr().err
  assert f"no space left for {out}; 1 of 3 studies (" in said
  assert "run the same command to go on" in said
  assert not (out / hospital.UNFINISHED).exists()  # room is given back
  monkeypatch.undo()
  assert main(words_for(out)) == 0
  assert contents(out) == contents(house)


def read_csv(path):
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def test_records_are_what_the_clinic_knows(house):
  """As the table of records reads them; a gap stays one."""
  table = (*CLINICAL, *GENETIC)
  seen = 0
  for path in sorted(house.rglob("records.csv")):
    (row,) = read_csv(path)
    header = pydicom.dcmread(path.with_name("cine-a4c-0.dcm"))
    assert row.pop("patient_id") == header.PatientID
    assert list(row) == [column.name for column in table]
    check_row(row, table)
    patient, number = int(header.PatientID[-5:]), int(header.StudyID) - 1
    condition = draw_study(1, patient, number, "referral").condition
    for name, value in (condition.record | condition.genes).items():
      assert row[name] == ("" if value is None else f"{value}".removesuffix(
        ".0"
      ))  # fmt: skip
      seen += value is None
  assert seen > 0


def test_truth_is_a_row_a_study_and_lies_apart(house):
  rows = read_csv(house / "truth.csv")
  folders = {path.parent for path in house.rglob("records.csv")}
  assert {house / row["folder"] for row in rows} == folders
  for row in rows:
    header = pydicom.dcmread(house / row["folder"] / "cine-a4c-0.dcm")
    assert row["study_instance_uid"] == header.StudyInstanceUID
    assert row["patient_id"] == header.PatientID
    study = draw_study(
      1, int(row["patient_id"][-5:]), int(header.StudyID) - 1, "referral"
    )
    assert row["disease"] == study.condition.disease
    assert row["device"] == header.ManufacturerModelName
    if study.heart.rhythm == "sinus":
      assert float(row["ef_pct"]) == pytest.approx(study.heart.ef_pct)
  assert not list((house / "studies").rglob("truth*"))


def test_the_ecg_has_the_beats_of_the_four_chamber_cine(house):
  for path in house.rglob("ecg.dcm"):
    ecg = pydicom.dcmread(path)
    cine = pydicom.dcmread(path.with_name("cine-a4c-0.dcm"))
    begun = cine.AcquisitionDate + cine.AcquisitionTime
    assert ecg.AcquisitionDateTime == begun
    waves = read_recording(path.with_name("cine-a4c-0.dcm")).r_wave_ms
    mv = ecg.waveform_array(0)
    size = np.abs(np.diff(mv, axis=0)).sum(axis=1)
    quiet = np.median(size)
    for wave in waves[waves > 60]:
      at = round(wave / 2)  # 500 Hz
      assert size[at - 20 : at + 20].max() > 4 * quiet


def test_build_dicom_folder_takes_every_picture(house, tmp_path, capsys):
  code = main([
    "build", "dicom_folder", "--source", str(house / "studies"), "--data-dir",
    str(tmp_path), "--name", "ward", "--workers", "1", "--splits", "train=1",
  ])  # fmt: skip
  assert code == 0
  said = capsys.readouterr().out
  pictures = [*house.rglob("cine-*.dcm"), *house.rglob("doppler-*.dcm")]
  others = [*house.rglob("ecg.dcm"), *house.rglob("records.csv")]
  assert (
    f"{len(pictures) + len(others)} found = {len(pictures)} written + "
    f"{len(others)} rejected"
  ) in said
  rows = read_csv(next(tmp_path.rglob("ledger.csv")))
  refused = {r["item"]: r["reason"] for r in rows if r["status"] == "rejected"}
  assert {name.rpartition("/")[2] for name in refused} == {
    "ecg.dcm", "records.csv",
  }  # fmt: skip


def test_deid_removes_the_names_that_were_burned_in(house, tmp_path):
  pytest.importorskip("rapidocr", reason="needs the extra [deid]")
  source = next(house.rglob("cine-plax-0.dcm"))
  make_key(tmp_path / "key")
  words = ["deid", source, tmp_path / "out", "--key-file", tmp_path / "key"]
  words += ["--map", tmp_path / "map.csv"]
  assert main([str(word) for word in words]) == 0
  (copy,) = (tmp_path / "out").rglob("*.dcm")
  before, after = pydicom.dcmread(source), read_recording(copy)
  # the kept area is a little wider than the sector
  top = before.SequenceOfUltrasoundRegions[0].RegionLocationMinY0 - 8
  assert read_recording(source).frames[:, :top].max() > 150
  assert after.frames[:, :top].max() == 0 < after.frames.max()
  header = str(pydicom.dcmread(copy, stop_before_pixels=True))
  names = [
    *str(before.PatientName).split("^"), before.PatientID,
    before.InstitutionName, "Referrer", before.StudyDate,
    before.PatientBirthDate,
  ]  # fmt: skip
  assert not [name for name in names if name in header]


def test_as_tfds_is_the_build_of_synthetic_echo(tmp_path, monkeypatch):
  asked = []

  def build(dataset, data_dir, **how):
    asked.append((dataset, data_dir, how))
    return "built"

  monkeypatch.setattr(build_command, "build", build)
  shared = ["--patients", "20", "--seed", "3", "--cohort", "clinic_like"]
  out = ["--as", "tfds", "--out", str(tmp_path)]
  assert main(["simulate", *out, *shared]) == 0
  words = ["build", "synthetic_echo", "--data-dir", str(tmp_path), *shared]
  assert main(words) == 0
  (made, *where), (wanted, *there) = asked
  assert where == there
  assert made.items == wanted.items and made.settings == wanted.settings
  plain = synthetic_echo.dataset(patients=20, seed=3, cohort="clinic_like")
  assert made.settings == plain.settings


def test_settings_say_what_the_folder_is(house):
  stated = json.loads((house / "settings.json").read_text())
  assert stated["version"] == hospital.VERSION
  assert tuple(stated["views"]) == SETTING["views"]
  assert stated["switches"]["site_shift"] == 0
