"""The quickstart notebook runs from an empty folder, in its tiny setting."""

import csv
import json

import made_notebooks
import pytest


@pytest.fixture(scope="module")
def notebook():
  return made_notebooks.read("quickstart.ipynb")


def test_notebook_is_kept_without_outputs(notebook):
  made_notebooks.check_without_outputs(notebook)


def test_notebook_gives_results(notebook, tmp_path, monkeypatch):
  printed, pictures = made_notebooks.run(notebook, tmp_path, monkeypatch)
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

  assert pictures == 2  # the clip, and its reconstruction

  finding = printed[printed.index("pydicom:examples_ybr_color") :]
  assert "the training domain" in finding and "limit" in finding
  assert "edv_ml: withheld (pixel spacing unknown" in finding
  # An interval holds inside the training domain only.
  within = "within the training domain" in finding
  assert "ef_pct: " in finding and ("95 % interval" in finding) == within
