"""The quickstart notebook runs from an empty folder, in its tiny setting."""

import csv
import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "colabs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_is_kept_without_outputs(notebook):
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert cell.outputs == [] and cell.execution_count is None


def test_notebook_gives_results(notebook, tmp_path, monkeypatch):
  monkeypatch.setenv("ECHO_JAX_TINY", "1")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  client = NotebookClient(
    notebook, kernel_name="python3", timeout=600,
    resources={"metadata": {"path": str(tmp_path)}},
  )  # fmt: skip
  client.execute()
  printed = "".join(
    output.text
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
    if output.output_type == "stream" and output.name == "stdout"
  )
  run = tmp_path / "runs" / "quickstart_tiny" / "ef"
  assert "written + 0 rejected" in printed

  metrics = json.loads((run / "metrics.json").read_text())
  mae = [e for e in metrics["estimates"] if e["name"] == "mae"]
  assert {e["target"] for e in mae} == {"ef_pct", "edv_ml", "esv_ml"}
  assert all(e["low"] <= e["value"] <= e["high"] for e in mae)
  assert "single clip" in printed and "bootstrap by patient" in printed
  with (run / "predictions.csv").open(newline="") as file:
    splits = {row["split"] for row in csv.DictReader(file)}
  assert splits == {"validation", "test"}

  pictures = [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
    if "image/png" in output.get("data", {})
  ]
  assert len(pictures) == 2  # the clip, and its reconstruction

  finding = printed[printed.index("pydicom:examples_ybr_color") :]
  assert "the training domain" in finding and "limit" in finding
  assert "edv_ml: withheld (pixel spacing unknown" in finding
  # An interval holds inside the training domain only.
  within = "within the training domain" in finding
  assert "ef_pct: " in finding and ("95 % interval" in finding) == within
