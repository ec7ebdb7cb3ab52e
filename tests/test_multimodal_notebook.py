"""The notebook of all modalities runs from an empty folder, as a tiny one."""

import json
import math
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from echo_jax.models.multimodal import MODALITIES

NOTEBOOK = Path(__file__).parents[1] / "colabs" / "multimodal.ipynb"
CLASSES = 1 + 4 + 4  # EF, grades of aortic stenosis, rhythms


@pytest.fixture(scope="module")
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_is_kept_without_outputs(notebook):
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert cell.outputs == [] and cell.execution_count is None


def test_notebook_shows_a_patient_and_what_the_model_says(
  notebook, tmp_path, monkeypatch
):
  monkeypatch.setenv("ECHO_JAX_TINY", "1")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  NotebookClient(
    notebook, kernel_name="python3", timeout=600,
    resources={"metadata": {"path": str(tmp_path)}},
  ).execute()  # fmt: skip
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
  ]
  pictures = [o for o in outputs if "image/png" in o.get("data", {})]
  assert len(pictures) == 3  # cines, spectra, ECG
  printed = "".join(
    o.text for o in outputs
    if o.output_type == "stream" and o.name == "stdout"
  )  # fmt: skip
  head, *rows = printed[printed.index("truth") :].splitlines()
  names = ["truth", "all", *(f"no {name}" for name in MODALITIES)]
  assert head.split() == " ".join(names).split()
  rows = [row.split() for row in rows if row.split()[-1:] != ["class"]]
  values = [[float(v) for v in row[-len(names) :]] for row in rows[1:]]
  values = [row for row in values if len(row) == len(names)]
  assert len(values) == CLASSES
  assert all(math.isfinite(v) for row in values for v in row)
  # With each of them gone this patient is predicted anew.
  run = tmp_path / "runs" / "multimodal_tiny" / "joint"
  for name in MODALITIES:
    folder = run / f"without_{name}"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["about"]["removed"] == name
    files = [one / "predictions.csv" for one in (run, folder)]
    assert files[0].read_text() != files[1].read_text()
