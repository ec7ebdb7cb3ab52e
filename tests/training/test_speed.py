"""What a run says of its time; and that nothing compiles after the start."""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import pytest
from test_loop import batches, train

from echo_jax import experiment
from echo_jax.commands.train import read_steps
from echo_jax.objectives.objective import Aux
from echo_jax.training.flops import peak_flops_s, step_flops
from echo_jax.training.loop import Pace
from echo_jax.training.speed import Watch, Watching, read_speed
from echo_jax.training.state import TrainState


def test_nothing_compiles_after_the_first_step(settings, tmp_path):
  words = (*settings, "run.steps=6", "run.log_every=1", "run.save_every=3",
           "run.validate_every=3")  # fmt: skip
  built = experiment.prepare("experiments.ef_finetune", words, tiny=True)
  experiment.run(built, tmp_path, progress=False)
  lines = read_speed(tmp_path)
  assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
  assert lines[0]["compiled"] >= 1 and lines[0]["compile_s"] > 0
  # After step 3 it validates and saves for the first time.
  assert [lines[i]["compiled"] for i in (1, 2, 4, 5)] == [0, 0, 0, 0]
  assert all("mfu" not in line for line in lines)  # no peak of a CPU is known


def test_waiting_for_data_is_told_from_stepping(tmp_path):
  def slow(first):
    for batch in batches(first):
      time.sleep(0.05)
      yield batch

  train(tmp_path, Pace(6, 2, 6, 6), data=slow)
  for line in read_speed(tmp_path)[1:]:
    assert line["step_s"] >= 0.05
    assert line["waiting_share"] > 0.5


def test_steps_up_to_a_save_have_a_line(tmp_path):
  train(tmp_path, Pace(9, log_every=4, validate_every=7, save_every=3))
  lines = read_speed(tmp_path)
  assert [line["step"] for line in lines] == [3, 4, 6, 7, 8, 9]


def test_a_compilation_is_counted_and_utilisation_is_a_ratio(tmp_path, capsys):
  half = Watching(None, lambda state, batch: 50, 100.0)
  with Watch(tmp_path, half) as watch:
    watch.step(1, None, None)
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    watch.lap(1)
  (line,) = read_speed(tmp_path)
  assert line["compiled"] >= 1
  assert line["mfu"] == pytest.approx(0.5 / line["step_s"])
  assert "compiled" in capsys.readouterr().out


def test_a_trace_of_named_steps_is_written(tmp_path, capsys):
  with Watch(tmp_path, Watching(profile=(2, 3))) as watch:
    for step in range(1, 6):
      watch.step(step, None, None)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert "trace of the steps" in capsys.readouterr().out


def test_a_trace_of_steps_that_were_done_before_is_said_to_be_missing(
  tmp_path, capsys
):
  with Watch(tmp_path, Watching(profile=(2, 3))) as watch:
    watch.step(4, None, None)
  assert "no trace: step 2" in capsys.readouterr().out
  assert not (tmp_path / "profile").exists()


def test_steps_of_a_trace_are_read_and_checked():
  assert read_steps("10-12") == (10, 12) and read_steps("7") == (7, 7)
  with pytest.raises(argparse.ArgumentTypeError, match="FIRST-LAST"):
    read_steps("ten")
  for wrong in ((3, 2), (0, 1)):
    with pytest.raises(ValueError, match="first and last"):
      Watching(profile=wrong)


def test_timings_are_not_in_the_log(tmp_path):
  train(tmp_path, Pace(2, 1, 2, 2))
  for line in (tmp_path / "log.jsonl").read_text().splitlines():
    assert not {"step_s", "waiting_share"} & set(json.loads(line))


def test_what_no_gradient_flows_through_is_counted_once():
  """Of two products of 2 x 3 x 4 one is of the average, as a target is."""

  def objective(params, aux, batch, key, train):
    target = batch @ aux.average
    return jnp.square(batch @ params - target).sum(), ({}, {})

  weights = jax.ShapeDtypeStruct((3, 4), jnp.float32)
  state = TrainState(0, weights, None, Aux(average=weights))
  rows = jax.ShapeDtypeStruct((2, 3), jnp.float32)
  product = 2 * 2 * 3 * 4
  assert step_flops(objective, state, rows) == (3 + 1) * product


def test_peaks_add_up_where_all_are_known():
  class Chip:
    device_kind = "TPU v5 lite"

  assert peak_flops_s([Chip()] * 4) == pytest.approx(4 * 197e12)
  assert peak_flops_s([Chip(), *jax.devices()]) is None
