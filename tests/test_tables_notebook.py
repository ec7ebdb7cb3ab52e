"""The notebook of all tables makes them from the files that are kept."""

import made_notebooks
import pytest


@pytest.fixture(scope="module")
def notebook():
  return made_notebooks.read("reproduce_tables.ipynb")


def test_notebook_is_kept_without_outputs(notebook):
  made_notebooks.check_without_outputs(notebook)


def test_every_table_is_made_of_its_result_file(
  notebook, tmp_path, monkeypatch
):
  printed, pictures = made_notebooks.run(notebook, tmp_path, monkeypatch)
  assert "echonet_lvef" in printed  # published values
  assert "| doppler alone |" in printed
  assert "moments, from scratch" in printed
  assert "| pretrain ViT-B |" in printed
  assert pictures == 3
