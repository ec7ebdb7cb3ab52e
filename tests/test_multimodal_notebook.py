"""The notebook of one patient in all modalities runs in its tiny setting."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "colabs" / "multimodal.ipynb"


@pytest.fixture(scope="module")
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_is_kept_without_outputs(notebook):
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert cell.outputs == [] and cell.execution_count is None


def test_one_patient_is_seen_and_predicted_with_each_modality_removed(
  notebook, tmp_path, monkeypatch
):
  monkeypatch.setenv("ECHO_JAX_TINY", "1")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  client = NotebookClient(
    notebook, kernel_name="python3", timeout=600,
    resources={"metadata": {"path": str(tmp_path)}},
  )  # fmt: skip
  client.execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
  ]
  printed = "".join(
    o.text for o in outputs if o.output_type == "stream" and o.name == "stdout"
  )
  assert "(severe)" in printed and "written + 0 rejected" in printed
  assert "nt_probnp_pg_ml" in printed and "carrier_ttn" in printed
  grades = printed[printed.index("\nas_grade: true") :]
  said = [line for line in grades.splitlines() if line.startswith("  all")]
  assert len(said) == 3  # grade, rhythm, EF
  assert "without video" in grades and "without clinical" in grades
  pictures = [o for o in outputs if "image/png" in o.get("data", {})]
  assert len(pictures) == 4  # cines, spectra, leads, chances
