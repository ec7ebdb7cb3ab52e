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


def test_no_path_of_a_machine_is_in_the_results():
  record = dict.fromkeys(
    ("commit", "echo_jax", "python", "packages", "devices", "data"), "known"
  )
  given = record | {"init_from": {"workdir": "/a/machine/runs/mae", "step": 3,
                                   "config": {"dir": "/a/machine"}}}
  origin = multimodal_table.origin_of(given)
  assert origin == record | {"init_from": {"workdir": "mae", "step": 3}}
  scratch = record | {"init_from": None}
  assert multimodal_table.origin_of(scratch) == scratch
  written = json.loads((FOLDER / "results.json").read_text())["origin"]
  assert "/" not in written["init_from"]["workdir"]
