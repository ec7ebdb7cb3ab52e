"""The full demo at its tiny size: every model, both cohorts, table and page."""

import json

import pytest

from experiments.demo.full import COHORTS, run_full, trainings_of
from experiments.demo.recipe import STANDARD, TINY


@pytest.mark.parametrize("recipe", [STANDARD, TINY])
def test_few_labels_are_fewer_than_there_are(recipe):
  """Of the training patients each has one study or more."""
  assert 1 < recipe.few_labels < int(recipe.patients * recipe.shares[0])


@pytest.mark.long
def test_every_model_is_in_table_and_page(tmp_path):
  run_full(tmp_path, tiny=True, seeds=(0,))
  plain = json.loads((tmp_path / "results.json").read_text())
  table = (tmp_path / "table.md").read_text()
  for cohort in COHORTS:
    found = plain["cohorts"][cohort]["estimates"]
    names = {one.name for one in trainings_of(cohort, TINY.few_labels)}
    assert names <= set(found)
    for name, seeds in found.items():
      assert len(seeds) == 1 and f"| {name} |" in table
  page = (tmp_path / "independent" / "seed_0" / "demo.html").read_text()
  assert all(
    one.name in page for one in trainings_of("independent", TINY.few_labels)
  )
