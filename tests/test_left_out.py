"""Training without a device: what is opened, and the table of such runs."""

import json

import numpy as np
import pandas as pd
import pytest

from echo_jax.commands import sweep
from echo_jax.data.sources import find_dataset, read_index
from echo_jax.evaluation.compare import holm
from echo_jax.evaluation.predictions import write_predictions
from experiments import ef_finetune, parts
from experiments.ablations import (
  across_devices,
  across_sites,
  left_out_table,
)


def opened(data_dir, split, **settings):
  """Index of a split under settings of `data`."""
  config = ef_finetune.get_config()
  config.data.dir = str(data_dir)
  for name, value in settings.items():
    config.data[name] = value
  return parts.open_split(config, split, parts.make_targets(config)).index


@pytest.fixture(scope="module")
def train(data_dir):
  rows = read_index(find_dataset(data_dir, "synthetic_echo"), "train")
  return rows[rows["view"] == "A4C"]


def test_a_device_is_left_out_and_counted(data_dir, train, capsys):
  device = train["device"].iloc[0]
  count = int((train["device"] == device).sum())
  rest = opened(data_dir, "train", without=f"device={device}")
  assert len(rest) == len(train) - count and device not in set(rest["device"])
  said = capsys.readouterr().out
  assert f"{count} by device: without {device}" in said
  only = opened(data_dir, "train", only=f"device={device}")
  assert len(only) == count and set(only["device"]) == {device}
  said = capsys.readouterr().out
  assert f"{len(rest)} by device: only {device}" in said
  others = "|".join(sorted(set(train["device"]) - {device}))
  both = opened(data_dir, "train", without=f"device={others}")
  assert list(both["video_id"]) == list(only["video_id"])


def test_it_holds_for_validation_and_never_for_the_test_split(data_dir):
  for split in ("validation", "test"):
    whole = opened(data_dir, split)
    device = whole["device"].iloc[0]
    rest = opened(data_dir, split, without=f"device={device}")
    assert (device in set(rest["device"])) == (split == "test")
    assert (len(rest) == len(whole)) == (split == "test")


@pytest.mark.parametrize(
  ("setting", "says"),
  [
    ("device=device-z", "no video of train has device device-z; there are dev"),
    ("vendor=x", "data.without is 'vendor=x'; wants COLUMN=VALUE"),
    ("device", "data.without is 'device'; wants"),
  ],
)
def test_what_leaves_nothing_out_is_refused(data_dir, setting, says):
  with pytest.raises(ValueError, match=says):
    opened(data_dir, "train", without=setting)


def test_sweeps_leave_each_out_once_a_seed(tmp_path):
  items = list(across_devices.sweep())
  assert len(items) == 4 * 3
  assert {one["data.without"] for one in items} == {
    "", *(f"device=device-{letter}" for letter in "abc")
  }
  assert {one["data.without"] for one in across_sites.sweep()} == {
    "", *(f"site=site-{number}" for number in (1, 2, 3))
  }
  varied = {"data.without", "run.seed"}
  assert sweep.folder_name(items[3], varied) == (
    "data.without=device=device-a,run.seed=0"
  )


SETTINGS = {"targets": ["ef_pct"], "data": {"without": ""}, "run": {"seed": 0}}


def keep_run(folder, without, seed, noise, *, clips=2, rate=1.0):
  """A made run: its record, and predictions of 60 patients on 3 devices."""
  rng = np.random.default_rng(7)
  truth = rng.uniform(20, 70, 60)
  wrong = np.random.default_rng((seed, int(noise))).normal(0, noise, 60)
  device = np.array(["device-a", "device-b", "device-c"])[
    np.repeat([0, 1, 2], [25, 25, 10])
  ]
  frames = [
    pd.DataFrame(
      {
        "level": "clip", "start_ms": 100.0 * clip, "study_id": "",
        "item_id": [f"t:v{i}" for i in range(60)],
        "patient_id": [f"t:p{i}" for i in range(60)], "site": "",
        "device": device, "view": "A4C", "split": "test", "target": "ef_pct",
        "unit": "%", "truth": truth, "prediction": truth + wrong,
      }
    )
    for clip in range(clips)
  ]  # fmt: skip
  folder.mkdir(parents=True)
  write_predictions(folder / "predictions.csv", pd.concat(frames))
  config = SETTINGS | {
    "data": {"without": without}, "run": {"seed": seed, "rate": rate},
  }  # fmt: skip
  record = {
    "config": config, "data": ["made"], "contract_hash": "one", "tiny": False,
  }  # fmt: skip
  (folder / "run.json").write_text(json.dumps(record))
  return np.abs(wrong[device == "device-a"]).mean()


def test_the_table_is_of_the_patients_of_each_device(tmp_path, capsys):
  values = {}
  for left_out, noise in (("", 4), ("device=device-a", 9),
                          ("device=device-c", 6)):  # fmt: skip
    for seed in (0, 1):
      values[left_out, seed] = keep_run(
        tmp_path / f"{left_out or 'all'}_{seed}", left_out, seed, noise
      )
  found = left_out_table.left_out_differences(tmp_path, resamples=200)
  assert [one.group for one in found] == [
    "device: device-a", "device: device-c"
  ]  # fmt: skip
  first, last = found
  means = [
    np.mean([values[left_out, seed] for seed in (0, 1)])
    for left_out in ("device=device-a", "")
  ]
  assert first.value == pytest.approx(means[0] - means[1])
  assert first.patients == 25 and first.low > 0
  assert [name for name, _ in first.by_seed] == [
    "never seen seed 0", "never seen seed 1", "seen seed 0", "seen seed 1"
  ]  # fmt: skip
  assert first.p_adjusted == holm([first.p])[0]
  assert (last.patients, last.reason) == (
    10, "withheld: fewer than 20 patients"
  )  # fmt: skip
  assert left_out_table.main([str(tmp_path)]) == 0
  said = capsys.readouterr().out
  assert f"| {means[0]:.1f} % (" in said and "withheld" in said
  assert left_out_table.main([str(tmp_path), "--json"]) == 0
  assert json.loads(capsys.readouterr().out)[0]["patients"] == 25


def test_runs_of_another_sweep_or_protocol_are_refused(tmp_path):
  keep_run(tmp_path / "a", "", 0, 4)
  with pytest.raises(ValueError, match="1 runs on all groups, 0 groups left o"):
    left_out_table.left_out_differences(tmp_path)
  keep_run(tmp_path / "b", "device=device-a", 0, 4, clips=1)
  with pytest.raises(ValueError, match="PROTOCOLS DIFFER .*evaluate all runs"):
    left_out_table.left_out_differences(tmp_path)
  keep_run(tmp_path / "c", "device=device-b", 0, 4, rate=2.0)
  with pytest.raises(ValueError, match="its run.rate is 2.0, that of a 1.0"):
    left_out_table.left_out_differences(tmp_path)
  (tmp_path / "0").mkdir()
  (tmp_path / "0" / "run.json").write_text("{}")
  with pytest.raises(ValueError, match="was not evaluated"):
    left_out_table.left_out_differences(tmp_path)
