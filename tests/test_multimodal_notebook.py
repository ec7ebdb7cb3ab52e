"""The notebook of one patient in all modalities runs in its tiny setting."""

import made_notebooks
import pytest


@pytest.fixture(scope="module")
def notebook():
  return made_notebooks.read("multimodal.ipynb")


def test_notebook_is_kept_without_outputs(notebook):
  made_notebooks.check_without_outputs(notebook)


def test_one_patient_is_seen_and_predicted_with_each_modality_removed(
  notebook, tmp_path, monkeypatch
):
  printed, pictures = made_notebooks.run(notebook, tmp_path, monkeypatch)
  assert "(severe)" in printed and "written + 0 rejected" in printed
  assert "nt_probnp_pg_ml" in printed and "carrier_ttn" in printed
  grades = printed[printed.index("\nas_grade: true") :]
  said = [line for line in grades.splitlines() if line.startswith("  all")]
  assert len(said) == 3  # grade, rhythm, EF
  assert "without video" in grades and "without clinical" in grades
  assert pictures == 4  # cines, spectra, leads, chances
