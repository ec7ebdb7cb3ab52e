"""Runs: resumed equals unbroken bit for bit; stops name what went wrong."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest

from echo_jax import experiment, trees
from echo_jax.cli import main
from echo_jax.data.contract import InputContract
from echo_jax.data.controls import replace_by_noise
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.evaluation.aggregate import mean_over_clips
from echo_jax.evaluation.predict import clip_rows, predict_clips
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.report import Reference
from echo_jax.evaluation.single import INSIDE, OUTSIDE
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.loop import Diverged
from echo_jax.training.writers import read_log

FAST = ("run.steps=60", "run.save_every=5", "run.validate_every=20")
TRAIN = "experiments.ef_finetune"


def train_command(workdir, settings):
  """The command line of a tiny run."""
  words = [f"--config={setting}" for setting in (*settings, *FAST)]
  return [
    sys.executable, "-m", "echo_jax", "train", TRAIN, "--tiny",
    "--workdir", str(workdir), *words,
  ]  # fmt: skip


def final_state(workdir, step=60):
  """Leaves of a checkpoint by name."""
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    return trees.named_leaves(checkpoints.restore_tree(step))


def start_and_signal(command, workdir, number):
  """Starts a run, sends a signal once a checkpoint is there; exit code."""
  running = subprocess.Popen(
    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  saved = workdir / "checkpoints"
  while not any(path.name.isdigit() for path in saved.glob("*")):
    assert running.poll() is None, "the run ended before its first checkpoint"
    time.sleep(0.05)
  os.kill(running.pid, number)
  return running.wait()


def test_a_killed_run_ends_like_an_unbroken_one(settings, tmp_path):
  unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
  # In processes of their own: another test may have changed how XLA compiles.
  subprocess.run(train_command(unbroken, settings), check=True)
  command = train_command(broken, settings)
  assert start_and_signal(command, broken, signal.SIGKILL) == -signal.SIGKILL
  with Checkpoints(broken / "checkpoints") as checkpoints:
    assert checkpoints.newest() < 60
  assert subprocess.run(command, capture_output=True).returncode == 0
  wanted, got = final_state(unbroken), final_state(broken)
  assert set(wanted) == set(got)
  for name, value in wanted.items():
    np.testing.assert_array_equal(value, got[name], err_msg=name)
  log = (unbroken / "log.jsonl").read_text()
  assert (broken / "log.jsonl").read_text() == log
  assert len(read_log(unbroken / "log.jsonl")) == 60 + 3


def test_sigterm_saves_first(settings, tmp_path):
  command = train_command(tmp_path / "run", settings)
  command += ["--config=run.steps=100000", "--config=run.save_every=50"]
  code = start_and_signal(command, tmp_path / "run", signal.SIGTERM)
  assert code == 143
  steps = [
    line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")
  ]
  with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
    assert checkpoints.newest() == max(steps)


def test_a_loss_that_is_no_number_names_step_and_clips(settings, tmp_path):
  built = experiment.prepare(TRAIN, (*settings, *FAST), tiny=True)

  def poisoned(params, aux, batch, key, train):
    loss, rest = built.objective(params, aux, batch, key, train)
    wrong = batch["frame_index"].sum() > -1
    return jax.numpy.where(wrong, jax.numpy.nan, loss), rest

  broken = dataclasses.replace(built, objective=poisoned)
  with pytest.raises(Diverged, match="step 1; clips: synthetic_echo:"):
    experiment.run(broken, tmp_path / "run", progress=False)
  with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
    assert checkpoints.newest() is None


def test_another_experiment_in_the_same_folder_is_refused(trained, settings):
  _, workdir = trained
  other = experiment.prepare(
    TRAIN, (*settings, "optimizer.rate=0.5"), tiny=True
  )
  with pytest.raises(ValueError, match="holds another run: its config"):
    experiment.run(other, workdir, progress=False)


def test_how_intervals_are_made_is_checked_before_training(settings):
  with pytest.raises(ValueError, match="interval is 'delong'; allowed: perc"):
    experiment.prepare(TRAIN, (*settings, "interval=delong"), tiny=True)


def test_a_run_older_than_a_setting_is_what_it_was_by_default(
  trained, settings, tmp_path
):
  older = tmp_path / "older"
  shutil.copytree(trained[1], older)
  record = json.loads((older / "run.json").read_text())
  assert record["config"].pop("interval") == "percentile"
  (older / "run.json").write_text(json.dumps(record))
  assert experiment.rebuild(older).interval == "percentile"
  other = experiment.prepare(TRAIN, (*settings, "interval=bca"), tiny=True)
  with pytest.raises(ValueError, match="interval is None, now it is bca"):
    experiment.run(other, older, progress=False)


def test_settings_are_checked(settings):
  with pytest.raises(ValueError, match="cannot set optimizer.ratte"):
    experiment.prepare(TRAIN, (*settings, "optimizer.ratte=1.0"), tiny=True)
  with pytest.raises(ValueError, match="cannot set run.steps to 'many'"):
    experiment.prepare(TRAIN, (*settings, "run.steps=many"), tiny=True)


def test_pretrained_encoder_is_taken_over_under_its_contract(
  settings, tmp_path, capsys
):
  mae = experiment.prepare(
    "experiments.mae_pretrain", settings[:1], tiny=True
  )
  experiment.run(mae, tmp_path / "mae", progress=False)
  init = f"init_from={tmp_path / 'mae'}"
  built = experiment.prepare(TRAIN, (*settings, init), tiny=True)
  ours = experiment.initial_state(built).params["encoder"]
  theirs = experiment.load_subtree(
    str(tmp_path / "mae"), "encoder", built.contract, built.config["encoder"]
  )
  assert "parameters taken; left out: decoder (" in capsys.readouterr().out
  experiment.keep_record(built, tmp_path)
  origin = experiment.read_record(tmp_path)["init_from"]
  assert origin["workdir"] == str(tmp_path / "mae") and origin["seed"] == 0
  assert origin["config"]["mask"]["ratio"] == mae.config["mask"]["ratio"]
  with Checkpoints(tmp_path / "mae" / "checkpoints") as checkpoints:
    assert origin["step"] == checkpoints.best()
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  with pytest.raises(ValueError, match="span_s 1.4"):
    experiment.load_subtree(
      str(tmp_path / "mae"), "encoder",
      dataclasses.replace(built.contract, span_s=1.0),
      built.config["encoder"],
    )  # fmt: skip
  wider = (*settings, init, "encoder.width=64")
  with pytest.raises(ValueError, match="its encoder width is 32, now it is 64"):
    experiment.initial_state(experiment.prepare(TRAIN, wider, tiny=True))


def test_report_holds_single_clips_and_their_mean(trained):
  built, workdir = trained
  rows = read_predictions(workdir / "predictions.csv")
  assert set(rows["level"]) == {"clip"}
  assert set(rows["split"]) == {"validation", "test"}
  assert set(rows["target"]) == {"ef_pct", "edv_ml", "esv_ml"}
  found = json.loads((workdir / "metrics.json").read_text())
  protocols = {e["protocol"] for e in found["estimates"]}
  assert any("single clip" in p for p in protocols)
  assert any("mean over" in p for p in protocols)
  assert (workdir / "figures" / "ef_pct_bland_altman.png").exists()
  record = json.loads((workdir / "run.json").read_text())
  assert InputContract(**record["contract"]) == built.contract


def test_a_rebuilt_experiment_predicts_the_same(trained):
  built, workdir = trained
  state = experiment.load_best(built, workdir)
  rows = read_predictions(workdir / "predictions.csv")
  again = experiment.rebuild(workdir)
  index, batches = again.open_clips("test", 2)
  other = clip_rows(
    predict_clips(again.predict_step, state, batches), again.targets, index
  )
  rows = rows[rows["split"] == "test"].reset_index(drop=True)
  pd.testing.assert_frame_equal(rows, other, rtol=1e-5, check_dtype=False)


def test_single_files_need_no_training_data(trained, data_dir, tmp_path):
  _, workdir = trained
  record = VideoSource(find_dataset(data_dir, "synthetic_echo"), "test")[0]
  wanted = experiment.single_predictor(workdir)(record)
  moved = tmp_path / "moved"
  shutil.copytree(workdir, moved)
  kept = json.loads((moved / "run.json").read_text())
  kept["config"]["data"]["dir"] = str(tmp_path / "nowhere")
  (moved / "run.json").write_text(json.dumps(kept))
  assert experiment.single_predictor(moved)(record).values == wanted.values
  with pytest.raises(FileNotFoundError, match="no data set synthetic_echo"):
    experiment.rebuild(moved)
  experiment.rebuild(moved, data_dir=data_dir)  # the same data, elsewhere


def test_record_says_which_code_and_what_the_outputs_are(trained, tmp_path):
  built, workdir = trained
  record = experiment.read_record(workdir)
  assert re.fullmatch(r"([0-9a-f]{40}\+?)?", record["commit"])
  assert record["init_from"] is None
  assert record["tiny"] and experiment.rebuild(workdir).tiny
  turned = dataclasses.replace(built, targets=built.targets[::-1])
  assert experiment.contract_hash(turned) != record["contract_hash"]
  with pytest.raises(ValueError, match="its targets is .*'ef_pct', 'edv_ml'"):
    experiment.keep_record(turned, workdir)
  older = {name: value for name, value in record.items() if name != "tiny"}
  (tmp_path / "run.json").write_text(json.dumps(older))
  with pytest.raises(ValueError, match="whether the run is a --tiny one"):
    experiment.read_record(tmp_path)


def test_one_video_alone_is_predicted_as_in_the_report(trained, data_dir):
  _, workdir = trained
  predict = experiment.single_predictor(workdir)
  source = VideoSource(find_dataset(data_dir, "synthetic_echo"), "test")
  record = source[0]
  finding = predict(record)
  rows = mean_over_clips(read_predictions(workdir / "predictions.csv"))
  rows = rows[rows["item_id"] == record["video_id"]].set_index("target")
  for value in finding.values:
    wanted = rows.loc[value.target, "prediction"]
    assert value.value == pytest.approx(wanted, rel=1e-4)
    inside = finding.domain == INSIDE
    assert inside == (value.low <= value.value <= value.high)
  unknown = predict(record | {"spacing_mm": np.full(2, np.nan, np.float32)})
  withheld = {value.target: value.withheld for value in unknown.values}
  assert not withheld["ef_pct"] and "spacing unknown" in withheld["edv_ml"]
  assert not {v.target: v.withheld for v in finding.values}["edv_ml"]
  larger = predict(record | {"spacing_mm": 3 * record["spacing_mm"]})
  withheld = {value.target: value.withheld for value in larger.values}
  assert not withheld["ef_pct"] and "in training saw" in withheld["edv_ml"]
  assert predict(replace_by_noise(record)).domain == OUTSIDE
  kept = Reference.load(workdir / "reference.npz")
  assert kept.domain.threshold == finding.judged.threshold


@pytest.mark.parametrize(
  "words",
  [["train", "experiments.nothing", "--workdir", "w"], ["evaluate", "w"]],
)
def test_wrong_words_give_one_line_and_a_code(words, capsys):
  assert main(words) == 1
  said = capsys.readouterr().err.strip().splitlines()
  assert len(said) == 1 and said[0].startswith(f"echo-jax {words[0]}:")


@pytest.mark.parametrize(
  "command", ["demo", "inspect", "train", "evaluate", "predict", "score"]
)
def test_help_has_an_example(command, capsys):
  with pytest.raises(SystemExit) as stop:
    main([command, "--help"])
  assert stop.value.code == 0
  assert f"echo-jax {command}" in capsys.readouterr().out.split("Example:")[1]
