"""The command and its rules on small made files."""

import csv
import json
import stat

import numpy as np
import pydicom
import pytest
from planted import plant

from echo_jax.cli import main
from echo_jax.privacy import text
from echo_jax.privacy.keys import Key, make_key, read_key
from echo_jax.privacy.private_map import PrivateMap
from echo_jax.privacy.tags import clean_header

pytest.importorskip("rapidocr", reason="needs the extra [deid]")
KEY = Key(b"0123456789abcdef-secret")


def header(**more):
  dataset = pydicom.Dataset()
  known = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "Modality": "US",
    "SOPInstanceUID": "1.2.3.1", "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4", "PatientID": "4711",
    "PatientName": "Muster^Anna", "StudyDate": "20200110",
    "PatientAge": "061Y", "PatientSex": "F", "PatientSize": "1.71",
    "DeviceSerialNumber": "SN-0815",
  }  # fmt: skip
  for name, value in (known | more).items():
    setattr(dataset, name, value)
  return dataset


def cleaned(keep_device=False, key=KEY, **more):
  return clean_header(header(**more), key, keep_device, "file").dataset


def test_marks_of_the_standard():
  new = cleaned()
  assert new.PatientIdentityRemoved == "YES"
  assert new.BurnedInAnnotation == "NO"
  assert new.LongitudinalTemporalInformationModified == "MODIFIED"
  codes = {c.CodeValue for c in new.DeidentificationMethodCodeSequence}
  assert codes == {"113100", "113101", "113107", "113108"}
  assert new.DeidentificationMethod
  with_device = cleaned(keep_device=True)
  assert with_device.DeviceSerialNumber == "SN-0815"
  assert "DeviceSerialNumber" not in new or not new.DeviceSerialNumber
  codes = {c.CodeValue for c in with_device.DeidentificationMethodCodeSequence}
  assert "113109" in codes


def test_a_file_without_an_identity_of_its_own_gets_one():
  bare = header(SOPInstanceUID="")
  del bare.SOPInstanceUID
  one, again, other = (
    clean_header(bare, KEY, False, file).dataset.SOPInstanceUID
    for file in ("file", "file", "another")
  )
  assert one == again != other and pydicom.uid.UID(one).is_valid


def test_intervals_between_studies_stay_and_dates_do_not():
  def day(text):
    return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}")

  first, second = cleaned(), cleaned(StudyDate="20210315")
  assert first.StudyDate != "20200110"
  assert day(second.StudyDate) - day(first.StudyDate) == np.timedelta64(430)
  other = cleaned(PatientID="4712")
  assert other.StudyDate != first.StudyDate


def test_pseudonyms_are_those_of_the_key():
  one, two = cleaned(), cleaned(SOPInstanceUID="1.2.3.2")
  assert one.PatientID == two.PatientID != "4711"
  assert one.StudyInstanceUID == two.StudyInstanceUID != "1.2.3"
  assert one.SOPInstanceUID != two.SOPInstanceUID
  other = cleaned(key=Key(b"another key of 16+ bytes"))
  assert other.PatientID != one.PatientID
  assert other.StudyInstanceUID != one.StudyInstanceUID


@pytest.mark.parametrize(
  ("age", "wanted"),
  [
    ("061Y", "061Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("091Y", "090Y"),
    ("999M", "999M"),
  ],
)  # fmt: skip
def test_ages_over_89_become_90(age, wanted):
  assert cleaned(PatientAge=age).PatientAge == wanted
  new = cleaned(PatientAge=age)
  assert (new.PatientSex, float(new.PatientSize)) == ("F", 1.71)


def test_a_key_is_private_and_never_shown(tmp_path):
  path = tmp_path / "key"
  key = make_key(path)
  secret = path.read_text().strip()
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert secret not in repr(key) and secret not in key.name
  with pytest.raises(FileExistsError):
    make_key(path)
  path.chmod(0o644)
  with pytest.raises(ValueError, match="chmod 600"):
    read_key(path)
  (tmp_path / "short").write_text("abc")
  (tmp_path / "short").chmod(0o600)
  with pytest.raises(ValueError, match="wants 16 or more"):
    read_key(tmp_path / "short")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
  """An archive of two files, notes and a broken one, cleaned once."""
  home = tmp_path_factory.mktemp("house")
  archive = home / "archive"
  files = [plant(archive, number, 3) for number in (0, 12)]
  (archive / "notes.txt").write_text("Frau Muster, Zimmer 7")
  data = files[0].path.read_bytes()
  (archive / "cut.dcm").write_bytes(data[: len(data) // 2])
  key = home / "key"
  make_key(key)
  words = [
    "deid", archive, home / "copies", "--key-file", key, "--figure",
    home / "look",
  ]  # fmt: skip
  words = [str(word) for word in words]
  return home, files, words, main(words)


def test_counts_add_up_and_what_was_refused_fails_the_command(house, capsys):
  home, files, words, code = house
  assert code == 1
  assert len(list((home / "copies").rglob("*.dcm"))) == len(files)
  with (home / "copies" / "ledger.csv").open() as file:
    rows = list(csv.DictReader(file))
  kinds = [row["status"] for row in rows if row["status"] != "noted"]
  assert sorted(kinds) == ["rejected", "rejected", "written", "written"]
  assert main(words) == 1  # again: nothing is done twice
  assert "0 written, 2 kept from an earlier run" in capsys.readouterr().out


def test_what_leaves_the_house_holds_no_names_and_no_paths(house):
  home, files, _, _ = house
  kept = [
    path for path in (home / "copies").rglob("*") if path.suffix != ".dcm"
  ]
  said = "".join(p.read_text() for p in kept if p.is_file())
  said = said.lower()
  words = [
    word.lower() for file in files for place in file.texts.values()
    for word in place if len(word) > 3
  ]  # fmt: skip
  assert len(words) > 100
  assert not [word for word in words if word in said]
  assert "notes.txt" not in said
  for file in files:
    assert file.path.stem.lower() not in said
  record = next((home / "copies" / "audit").rglob("*.json"))
  audit = json.loads(record.read_text())
  assert {"outcome", "settings", "checks"} <= set(audit)


def test_the_map_stays_at_home_for_its_owner_alone(house):
  home, files, _, _ = house
  path = home / "archive.deid-map.csv"
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert str(files[0].path) in path.read_text()
  (home / "other.csv").write_text("a,b\n")
  with pytest.raises(ValueError, match="not a map of ours"):
    PrivateMap(home / "other.csv")


def test_figures_are_private_too(house):
  home, _, _, _ = house
  figures = list((home / "look").glob("*.png"))
  assert len(figures) >= 2
  assert {stat.S_IMODE(p.stat().st_mode) for p in figures} == {0o600}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (("--key-file", "copies/key"), "the key file lies inside"),
    (("--map", "copies/map.csv"), "the map of pseudonyms lies inside"),
    (("--figure", "copies/look"), "the folder of figures lies inside"),
    (("--key-file", "archive/key"), "the key file lies inside"),
    (("--map", "archive/map.csv"), "the map of pseudonyms lies inside"),
  ],
)
def test_secrets_never_lie_in_the_output(house, change, message, capsys):
  home, _, words, _ = house
  option, place = change
  words = [*words, option, str(home / place)]
  assert main(words) == 1
  assert message in capsys.readouterr().err


def test_copies_and_originals_lie_apart(house, capsys):
  """Else a second run would clean the copies, or copies leave with names."""
  home, _, words, _ = house
  rest = [*words[3:], "--map", str(home / "map.csv")]
  archive = str(home / "archive")
  for places, what in (
    ([archive, archive + "/copies"], "the output lies inside"),
    ([archive + "/part", archive], "the input lies inside"),
  ):
    assert main(["deid", *places, *rest]) == 1
    assert what in capsys.readouterr().err


def test_without_ocr_nothing_is_written(house, monkeypatch, capsys):
  home, _, words, _ = house
  monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
  words = [w.replace("copies", "none") for w in words]
  assert main(words) == 1
  assert "no OCR" in capsys.readouterr().err
  assert not list((home / "none").rglob("*.dcm"))
