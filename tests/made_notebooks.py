"""Runs a notebook of `colabs` in its tiny setting and gives what it shows."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "colabs"


def read(name):
  """The notebook as it is kept."""
  return nbformat.read(FOLDER / name, as_version=4)


def check_without_outputs(notebook):
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert cell.outputs == [] and cell.execution_count is None


def run(notebook, folder, monkeypatch):
  """(all that it printed, number of its pictures), run in `folder`."""
  monkeypatch.setenv("ECHO_JAX_TINY", "1")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  client = NotebookClient(
    notebook, kernel_name="python3", timeout=600,
    resources={"metadata": {"path": str(folder)}},
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
  return printed, sum("image/png" in o.get("data", {}) for o in outputs)
