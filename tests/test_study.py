"""The study: what it sets exists, what it compares is compared by hand."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from echo_jax import experiment
from experiments import study, study_table
from experiments.demo.recipe import TINY, as_words
from experiments.items import Item
from experiments.study_table import Question, answers, questions

ITEMS = study.list_items((0,))


def test_encoders_come_before_what_needs_them():
  names = [item.name for item in ITEMS]
  assert len(set(names)) == len(names)
  for name, arm in study.arms().items():
    if arm.encoder:
      encoder = names.index(study.encoder_item(arm.encoder))
      assert encoder < names.index(name)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_every_item_sets_what_exists(item, tmp_path):
  module, settings = study.settings_of(item, tmp_path, study.RECIPE)
  config = experiment.load_module(module).get_config()
  experiment.override(config, as_words(settings))
  assert config.data.name == "synthetic_echo_independent"
  # One contract, or an encoder could not be taken over.
  assert config.input.span_s == 1.4 and config.input.size == 64


def test_every_arm_is_compared():
  asked = questions(tuple(study.arms()), study.UNSEEN_DEVICE)
  compared = {name for q in asked for name in (q.first, q.second)}
  assert compared == set(study.arms())
  assert {q.device for q in asked} == {"", study.UNSEEN_DEVICE}
  assert all(q.first != q.second for q in asked)


def rows_of(errors):
  """EF rows of videos of as many patients, half on each device."""
  n = len(errors)
  truth = np.linspace(30, 70, n)
  return pd.DataFrame(
    {
      "level": "video", "item_id": [f"v{i}" for i in range(n)],
      "study_id": "", "site": "", "view": "A4C",
      "patient_id": [f"p{i}" for i in range(n)],
      "device": ["device-a", "device-c"] * (n // 2), "split": "test",
      "target": "ef_pct", "unit": "%", "truth": truth,
      "prediction": truth + errors,
    }
  )  # fmt: skip


def test_a_difference_is_of_means_over_seeds_and_of_its_device_only():
  errors = np.tile([1.0, 3.0], 20)
  tables = {
    "one": [rows_of(errors), rows_of(2 * errors)],
    "other": [rows_of(4 * errors)],
  }
  asked = (
    Question("all", "one", "other"),
    Question("device", "one", "other", "device-c"),
  )
  found = answers(asked, tables, resamples=200)
  whole = found["all"]["one minus other"]
  assert whole["value"] == pytest.approx((2 + 4) / 2 - 8)
  there = found["device"]["one minus other, on device-c"]
  assert there["value"] == pytest.approx((3 + 6) / 2 - 12)
  assert there["patients"] == 20 and whole["patients"] == 40
  assert whole["low"] <= whole["value"] <= whole["high"] < 0
  assert whole["p_adjusted"] == whole["p"]  # the only test of its section


@pytest.fixture
def own_programs():
  """A study keeps compiled programs in a folder of its own."""
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.long
def test_a_tiny_study_goes_on_and_makes_its_tables(
  tmp_path, own_programs, capsys
):
  names = ("encoder masked", "pre-trained, 100 % of labels",
           "from scratch, 100 % of labels")  # fmt: skip
  items = [Item(name, (), seed) for seed in (0, 1) for name in names]
  assert not study.run_study(tmp_path, items, TINY, minutes=0)
  assert study.run_study(tmp_path, items, TINY, progress=False)
  assert "6 items, 6 to do" in capsys.readouterr().out
  plain = json.loads((tmp_path / "results.json").read_text())
  assert len(plain["estimates"]["pre-trained, 100 % of labels"]) == 2
  table = (tmp_path / "table.md").read_text()
  assert table == study_table.format_results(plain)
  assert "pre-trained, 100 % of labels minus from scratch" in table
  assert (tmp_path / "labels.png").stat().st_size > 5_000
