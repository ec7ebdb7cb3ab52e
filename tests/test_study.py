"""The study: what it sets exists, what it compares is compared by hand."""

import dataclasses
import json
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest

from echo_jax import experiment
from echo_jax.evaluation.figures import encode_png
from echo_jax.training.collapse import Collapsed
from experiments import study, study_table
from experiments.demo.recipe import TINY, as_words
from experiments.items import Item, first_free, refuse_other, run_items
from experiments.study_table import Question, answers, told

ITEMS = study.list_items((0,))


def test_encoders_come_before_what_needs_them():
  names = [item.name for item in ITEMS]
  assert len(set(names)) == len(names)
  for name, arm in study.arms().items():
    if arm.encoder:
      encoder = names.index(study.encoder_item(arm.encoder))
      assert encoder < names.index(name)


ARMS = [item for item in ITEMS if item.name in study.arms()]
ENCODERS = [item for item in ITEMS if item.name not in study.arms()]


def own_settings(item, folder):
  module, settings = study.settings_of(item, folder, study.RECIPE)
  assert settings["data.name"] == "synthetic_echo_independent"
  return module, settings


@pytest.mark.parametrize("item", ARMS, ids=lambda item: item.name)
def test_every_arm_sets_what_exists(item, tmp_path):
  module, settings = own_settings(item, tmp_path)
  config = experiment.load_module(module).get_config()
  experiment.override(config, as_words(settings))
  # One contract, or an encoder could not be taken over.
  assert config.input.span_s == 1.4 and config.input.size == 64


@pytest.mark.parametrize("item", ENCODERS, ids=lambda item: item.name)
def test_every_encoder_can_be_trained(item, tmp_path, data_dir):
  module, settings = own_settings(item, tmp_path)
  here = {"data.dir": str(data_dir), "data.name": "synthetic_echo"}
  built = experiment.prepare(module, as_words(settings | here))
  assert built.contract.size == 64 and built.contract.span_s == 1.4


def test_every_pre_training_sees_as_many_clips(tmp_path):
  seen = set()
  for item in ENCODERS:
    _, settings = own_settings(item, tmp_path)
    seen.add(settings["run.steps"] * settings["run.batch_size"])
  assert len(seen) == 1


def test_arms_of_a_seed_have_labels_of_the_same_patients(tmp_path):
  for seed in (0, 2):
    for name in study.arms():
      _, settings = study.settings_of(
        Item(name, (), seed), tmp_path, study.RECIPE
      )
      assert settings["data.fraction_seed"] == seed


def test_without_a_device_means_in_pre_training_too(tmp_path):
  device = f"device={study.UNSEEN_DEVICE}"
  names = ("without a device, pre-trained", study.encoder_item(study.APART))
  found = [
    study.settings_of(Item(name, (), 0), tmp_path, study.RECIPE)[1]
    for name in names
  ]
  assert [one["data.without"] for one in found] == [device] * 2
  assert found[0]["init_from"] == str(Item(names[1], (), 0).folder(tmp_path))


def test_what_another_study_trained_is_refused(tmp_path):
  item = Item("pre-trained, 100 % of labels", (), 0)
  module, settings = study.settings_of(item, tmp_path, study.RECIPE)
  config = experiment.load_module(module).get_config()
  experiment.override(config, as_words(settings))
  folder = item.folder(tmp_path)
  folder.mkdir(parents=True)
  record = {"config": config.to_dict(), "tiny": False}
  (folder / "run.json").write_text(json.dumps(record))
  refuse_other(folder, module, as_words(settings))
  longer = as_words(settings | {"run.steps": 641})
  with pytest.raises(ValueError, match="run.steps=640, this study sets 641"):
    refuse_other(folder, module, longer)


def test_every_arm_is_compared():
  asked = study.questions()
  compared = {name for q in asked for name in q.names}
  assert compared == set(study.arms())
  devices = {study.UNSEEN_DEVICE, study.SEEN_DEVICE}
  assert {q.device for q in asked} == {"", *devices}
  assert all(q.first != q.second for q in asked)
  assert len({(q.section, q.name) for q in asked}) == len(asked)
  in_figure = [set(of) for of in study.label_shares().values()]
  assert set.union(*in_figure) < set(study.arms())


EDV = "edv_ml"


def rows_of(errors, target="ef_pct"):
  """Rows of videos of as many patients, half on each device."""
  n = len(errors)
  truth = np.linspace(30, 70, n)
  return pd.DataFrame(
    {
      "level": "video", "item_id": [f"v{i}" for i in range(n)],
      "study_id": "", "site": "", "view": "A4C",
      "patient_id": [f"p{i}" for i in range(n)],
      "device": ["device-a", "device-c"] * (n // 2), "split": "test",
      "target": target, "unit": "ml" if target == EDV else "%",
      "truth": truth,
      "prediction": truth + errors,
    }
  )  # fmt: skip


def test_a_difference_is_of_means_over_seeds_and_of_its_device_only():
  errors = np.tile([1.0, 3.0], 20)
  tables = {
    "one": [rows_of(errors), rows_of(2 * errors)],
    "other": [rows_of(4 * errors), rows_of(4 * errors)],
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


def test_few_patients_of_a_device_are_not_told():
  tables = {name: [rows_of(np.ones(38))] for name in ("one", "other")}
  asked = (
    Question("device", "one", "other", "device-c"),
    Question("device", "one", "other"),
  )
  few, all_of_them = answers(asked, tables, resamples=200)["device"].values()
  assert few["patients"] == 19 and few["value"] is few["p"] is None
  assert "fewer than 20" in few["reason"]
  assert all_of_them["p_adjusted"] == all_of_them["p"]  # of one test, not two
  assert told({"patients": 20, "value": 1.0})["value"] == 1.0


def test_the_table_tells_every_seed_and_what_is_missing():
  one, other = (
    [
      pd.concat([rows_of(x * np.ones(40)), rows_of(10 * x * np.ones(40), EDV)])
      for x in errors
    ]
    for errors in ((1.0, 2.0), (3.0, 5.0))
  )
  few = {"value": None, "patients": 19, "reason": "withheld: few"}
  device = {"mae": few, "r2": few}
  asked = (Question("Labels", "one", "other"),)
  plain = {
    "estimates": {
      name: [study_table.estimates_of(rows, 200) for rows in of]
      for name, of in (("one", one), ("other", other))
    },
    "mae of volumes, ml": {"one": [{EDV: 10.0, "esv_ml": 4.0}]},
    "by device": {"one, on device-c": [device, device]},
    "pre-trainings": {"encoder": {"steps": 1000, "clips": 16000}},
    "seconds of the last start": {"encoder": [3.0, 5.0]},
    "differences": answers(asked, {"one": one, "other": other}, 200),
    "of volumes": {
      EDV: answers(asked, {"one": one, "other": other}, 200, EDV)
    },
    "shares": {"start": {"one": 0.1, "other": 1.0}, "none": {}},
    "labelled patients": {"one": [4, 4]},
    "not done": ["third"],
    "failed": {"fourth, seed 0": "all clips look alike"},
  }  # fmt: skip
  lines = study_table.format_results(plain).splitlines()
  assert "Not done for every seed: third." in lines
  assert "Failed: fourth, seed 0: all clips look alike" in lines
  assert any(line.startswith("| one | 40 | 1.0 (") for line in lines)
  assert "| one, on device-c | 19 | withheld: few | | |" in lines
  assert "| encoder | 1,000 | 16,000 | 4 |" in lines
  told_apart, of_edv = (line for line in lines if "one minus other" in line)
  assert "| -2.5 (" in told_apart and "| -2.0, -3.0 |" in told_apart
  assert "| one | 10.0 | 10.0 | 4.0 | 4.0 |" in lines
  assert study_table.errors_of_volumes(
    pd.concat([rows_of(np.asarray([3.0, -1.0]), of) for of in (EDV, "esv_ml")])
  ) == {EDV: 2.0, "esv_ml": 2.0}
  assert "| -25.0 (" in of_edv and "| -20.0, -30.0 |" in of_edv
  assert "one: 4, 4." in "\n".join(lines)
  assert all(len(encode_png(draw(plain))) > 5_000
             for draw in study_table.FIGURES.values())  # fmt: skip


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
  assert plain["pre-trainings"]["encoder masked"] == {
    "steps": TINY.pretrain_steps,
    "clips": TINY.pretrain_steps * TINY.batch_size,
  }
  longer = dataclasses.replace(TINY, pretrain_steps=7)
  with pytest.raises(ValueError, match="=6, this study sets 7"):
    study.run_study(tmp_path, items, longer)
  table = (tmp_path / "table.md").read_text()
  assert table == study_table.format_results(plain)
  assert "pre-trained, 100 % of labels minus from scratch" in table
  assert (tmp_path / "labels.png").stat().st_size > 5_000


def test_an_item_that_fails_is_told_and_the_rest_goes_on(
  tmp_path, own_programs, capsys
):
  names = ("bad", "needs the bad", "good")
  bad, needy, good = items = [Item(name, (), 0) for name in names]
  tried = []

  def run_item(item):
    tried.append(item)
    item.folder(tmp_path).mkdir(parents=True)
    if item == bad:
      raise Collapsed("all clips look alike")

  def run():
    return run_items(
      tmp_path, items, run_item,
      needs=lambda item: (bad,) if item == needy else (),
    )  # fmt: skip

  assert run() == [good] and tried == [bad, good]
  assert bad.failure(tmp_path) == "all clips look alike"
  told = capsys.readouterr().out
  assert "bad/seed_0/failed.json: all clips look alike" in told
  assert run() == [good] and tried == [bad, good]
  # What is no finding about the item, as a setting that is wrong, ends all.
  (bad.folder(tmp_path) / "failed.json").unlink()
  with pytest.raises(FileExistsError):
    run()


WORKER = """
import sys, time
from pathlib import Path
from experiments.items import Item, run_items

workdir, me = Path(sys.argv[1]), sys.argv[2]
encoder = Item("encoder", (), 0)
items = [encoder, *(Item(f"arm {k}", (), 0) for k in range(3))]

def run_item(item):
  item.folder(workdir).mkdir(parents=True)
  (workdir / "log").open("a").write(f"{item.name} by {me}\\n")
  if me == "killed":
    time.sleep(600)
  time.sleep(0.3)
  (workdir / "log").open("a").write(f"{item.name} ended\\n")

needs = lambda item: () if item == encoder else (encoder,)
print(len(run_items(workdir, items, run_item, needs=needs)))
"""


def start_worker(workdir, name):
  return subprocess.Popen(
    [sys.executable, "-c", WORKER, str(workdir), name],
    stdout=subprocess.PIPE, text=True,
  )  # fmt: skip


def test_two_processes_share_the_items_of_a_study(tmp_path):
  """None is run twice, none before what it needs."""
  both = [start_worker(tmp_path, name) for name in "ab"]
  for worker in both:
    out, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0 and out.splitlines()[-1] == "4"
  lines = (tmp_path / "log").read_text().splitlines()
  begun = [line.split(" by ")[0] for line in lines if " by " in line]
  assert sorted(begun) == ["arm 0", "arm 1", "arm 2", "encoder"]
  assert lines[1] == "encoder ended"


def test_an_item_of_a_killed_process_is_free_again(tmp_path):
  killed = start_worker(tmp_path, "killed")
  while not (tmp_path / "log").exists():
    time.sleep(0.05)
  encoder, arm = Item("encoder", (), 0), Item("arm 0", (), 0)
  with first_free(tmp_path, [encoder, arm]) as item:
    assert item == arm
    with first_free(tmp_path, [encoder, arm]) as none:
      assert none is None
  killed.kill()
  killed.wait()
  with first_free(tmp_path, [encoder, arm]) as item:
    assert item == encoder
