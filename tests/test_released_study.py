"""What each difference between text and code does is measured, not guessed."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from echo_jax import experiment
from echo_jax.evaluation.predictions import read_predictions
from experiments import released_study
from experiments.ablations import as_released
from experiments.demo.recipe import TINY
from experiments.items import Item
from experiments.paper.differences import FINETUNING
from experiments.study import RECIPE

ITEMS = released_study.list_items()


def test_every_point_is_run_for_every_seed_and_judged_again_after_the_first():
  names = list(dict.fromkeys(item.name for item in ITEMS))
  assert names == ["described", *(p.name for p in FINETUNING), "released"]
  assert all(sum(i.name == name for i in ITEMS) == 3 for name in names)
  again = {i.name for i in ITEMS if released_study.needs_of(i)}
  assert again == {"threshold", "interval", "validation-as-test"}


@pytest.mark.parametrize("item", ITEMS[::3], ids=lambda item: item.name)
def test_every_item_is_as_described_but_for_its_point(item, tmp_path):
  def settings(one):
    config = as_released.get_config()
    words = released_study.words_of(one, tmp_path, RECIPE)
    experiment.override(config, words)
    return experiment.flat_settings(config.to_dict())

  ours, base = settings(item), settings(ITEMS[0])
  apart = {name for name in ours if ours[name] != base[name]}
  assert apart - {"label"} == {
    name for name, value in item.settings if base[name] != value
  }
  assert bool(apart) == (item != ITEMS[0])


def rows_of(target, errors):
  n = len(errors)
  truth = np.linspace(30, 70, n)
  return pd.DataFrame({
    "level": "video", "item_id": [f"v{i}" for i in range(n)], "study_id": "",
    "site": "", "view": "A4C", "patient_id": [f"p{i}" for i in range(n)],
    "device": "a", "split": "test", "target": target,
    "unit": "%" if target == "ef_pct" else "ml", "truth": truth,
    "prediction": truth + errors,
  })  # fmt: skip


def test_points_are_compared_where_both_have_the_target():
  error = np.full(40, 4.0)
  base = [pd.concat([rows_of("ef_pct", error), rows_of("edv_ml", 2 * error)])]
  tables = {
    "described": base,
    "flips": [pd.concat([rows_of("ef_pct", error - 1), base[0].iloc[40:]])],
    "scored-logarithms": [rows_of("ef_pct", error + 2)],
  }
  of_ef, of_edv = (
    released_study.differences(tables, target, 100)
    for target in ("ef_pct", "edv_ml")
  )
  assert of_ef["flips"]["value"] == pytest.approx(-1)
  assert of_ef["scored-logarithms"]["value"] == pytest.approx(2)
  assert of_edv.keys() == {"flips"} and of_edv["flips"]["value"] == 0
  one = {"value": 4.0, "low": 3.0, "high": 5.0, "method": "m", "rows": 40,
         "patients": 40, "target": "ef_below_50"}  # fmt: skip
  names = *tables, "interval"
  lines = released_study.format_results({
    "judged": {name: [{"mae": one, "f1": one}] for name in names},
    "differences": {"ef_pct": of_ef, "edv_ml": of_edv, "esv_ml": {}},
    "not done": ["axes"], "failed": {"flips, seed 1": "no number"},
  }).splitlines()  # fmt: skip
  flips, logs, interval = (
    next(line for line in lines if line.startswith(f"| {name} |"))
    for name in ("flips", "scored-logarithms", "interval")
  )
  assert "| 4.0 (3.0–5.0) | 4.0 | -1.0 (-1.0 to -1.0) |" in flips
  assert "| 0.0 (0.0 to 0.0) |  | 4.00 (ef_below_50) |" in flips
  assert "| 2.0 (2.0 to 2.0) |" in logs
  assert "|  |  | 4.00 (ef_below_50) |" in logs
  assert interval.startswith("| interval | 40 | 4.0 (3.0–5.0) | 4.0 |  |  |")
  assert "Failed: flips, seed 1: no number" in lines
  assert "Not done for every seed: axes." in lines


@pytest.mark.long
def test_a_run_is_judged_again_with_the_same_weights(tmp_path):
  before = jax.config.jax_compilation_cache_dir
  names = ("described", "threshold", "interval", "validation-as-test")
  items = [
    Item(one.name, one.settings, 0) for one in ITEMS[::3] if one.name in names
  ]  # fmt: skip
  assert released_study.run_study(tmp_path, items, TINY, progress=False)
  jax.config.update("jax_compilation_cache_dir", before)
  workdir = tmp_path / released_study.PARTS
  folders = {one.name: one.folder(workdir) for one in items}
  first, *others = (
    read_predictions(folder / "predictions.csv") for folder in folders.values()
  )
  for other in others[:2]:
    pd.testing.assert_frame_equal(first, other)
  assert not (folders["threshold"] / "run.json").exists()
  plain = json.loads((workdir / "results.json").read_text())
  judged = {name: of[0] for name, of in plain["judged"].items()}
  assert "by patient" in judged["described"]["mae"]["method"]
  assert judged["interval"]["mae"]["method"].startswith("as released")
  apart = judged["validation-as-test"]["mae"]["rows"]
  assert apart != judged["described"]["mae"]["rows"]
  assert (workdir / "table.md").read_text() == released_study.format_results(
    plain
  )
