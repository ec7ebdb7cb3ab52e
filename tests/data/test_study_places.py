"""Which folders are of one study each."""

from made_ecg import twelve, write_ecg
from made_files import drawn_clip, region, write_dicom

from echo_jax.data.study_places import find_studies

CLIP = drawn_clip(2)


def cine(path, study, patient="4711"):
  path.parent.mkdir(parents=True, exist_ok=True)
  whose = {"StudyInstanceUID": study, "PatientID": patient}
  return write_dicom(path, CLIP, [region()], FrameTime="33", **whose)


def test_a_folder_with_a_recording_is_one_study_whatever_is_below(tmp_path):
  """So that the files of two patients in it are refused, not parted."""
  cine(tmp_path / "1", "1.2.3")
  cine(tmp_path / "below" / "2", "1.2.4", "4712")
  assert find_studies(tmp_path) == ([tmp_path], [])


def test_a_study_in_parts_stays_one(tmp_path):
  """An ECG has a StudyInstanceUID of its own."""
  cine(tmp_path / "a" / "1", "1.2.3")
  cine(tmp_path / "b" / "2", "1.2.3")
  (tmp_path / "c").mkdir()
  write_ecg(tmp_path / "c" / "3", [twelve()], StudyInstanceUID="1.2.9")
  (tmp_path / "records.csv").write_text("age_years\n60\n")
  assert find_studies(tmp_path) == ([tmp_path], [])


def test_folders_of_patients_and_of_studies_are_parted(tmp_path):
  places = [tmp_path / p / s for p in ("p1", "p2") for s in ("s1", "s2")]
  for number, place in enumerate(places):
    cine(place / "1", f"1.2.{number}", place.parent.name)
  (tmp_path / "truth.csv").write_text("sex\nF\n")
  (tmp_path / "p1" / "note.txt").write_text("a note")
  (tmp_path / "empty").mkdir()
  (tmp_path / "p1" / "back").symlink_to(tmp_path)
  studies, left = find_studies(tmp_path)
  assert studies == places
  assert [path.name for path in left] == ["truth.csv", "note.txt"]
