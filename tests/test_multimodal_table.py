"""The recorded study of modalities: its table is what its results say."""

import json
from pathlib import Path

from experiments import multimodal_table

FOLDER = Path(__file__).parents[1] / "results" / "multimodal"


def test_the_table_is_made_of_the_results_and_nothing_else():
  plain = json.loads((FOLDER / "results.json").read_text())
  table = multimodal_table.format_results(plain)
  assert table == (FOLDER / "table.md").read_text()


def test_every_run_of_the_study_has_three_seeds_and_every_task():
  plain = json.loads((FOLDER / "results.json").read_text())
  tasks = set(plain["scores"]["joint"])
  for name, of in plain["scores"].items():
    assert set(of) == tasks, name
    assert all(len(seeds) == 3 for seeds in of.values()), name
