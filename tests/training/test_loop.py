"""The loop on a toy model: what is saved, ranked, logged and never saved."""

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from tensorboardX.proto import event_pb2

from echo_jax.objectives.objective import Aux
from echo_jax.training.checkpoint import Checkpoints, SaveFailed, checksums
from echo_jax.training.loop import Diverged, Pace, Stopped, fit
from echo_jax.training.state import start_state
from echo_jax.training.step import evaluated_params, make_train_step
from echo_jax.training.validate import mean_loss
from echo_jax.training.writers import cut_log, read_log, write_whole

RATE = optax.sgd(0.5)


def pull(params, aux, batch, key, train):
  """Pulls one number towards the batch's; noise shows the key."""
  noise = 0.01 * jax.random.normal(key)
  off = params["w"] - batch["target"].mean() + noise
  loss = 0.5 * jnp.square(off).mean()
  return loss, ({}, aux.collections)


def batches(first):
  """Batch i (from 0) asks for the number i."""
  for i in range(first, 1000):
    number = np.full(1, i, np.float32)
    yield {"video_id": [f"t:{i}"], "start_ms": 100 * number, "target": number}


def score_of(state):
  """A validation metric that falls until step 4 and rises after it."""
  return {"loss": float(abs(int(state.step) - 4))}


def new_state(average=False, size=1):
  params = {"w": jnp.zeros(()) if size == 1 else jnp.zeros(size)}
  return start_state({"params": params}, RATE, average=average)


def train(workdir, pace, *, objective=pull, data=batches, validate=score_of,
          state=None, average_decay=0.0, tensorboard=False):  # fmt: skip
  workdir.mkdir(exist_ok=True)
  state = new_state(average_decay > 0) if state is None else state
  step = make_train_step(
    objective, RATE, seed=3, average_decay=average_decay
  )
  return fit(
    state, step, data, workdir, pace, validate=validate, progress=False,
    tensorboard=tensorboard,
  )  # fmt: skip


def newest(workdir):
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    return checkpoints.newest()


def test_steps_and_average_by_hand(tmp_path):
  def exact(params, aux, batch, key, train):
    loss = 0.5 * jnp.square(params["w"] - batch["target"].mean())
    return loss, ({}, aux.collections)

  state = train(
    tmp_path, Pace(3, 1, 3, 3), objective=exact, average_decay=0.75
  )
  # w: 0 -> 0 (target 0) -> 0.5 (target 1) -> 1.25 (target 2)
  assert float(state.params["w"]) == pytest.approx(1.25)
  # average: 0 -> 0 -> 0.125 -> 0.75 * 0.125 + 0.25 * 1.25
  assert float(state.aux.average["w"]) == pytest.approx(0.40625)
  assert float(evaluated_params(state)["w"]) == pytest.approx(0.40625)
  log = read_log(tmp_path / "log.jsonl")
  losses = [line["loss"] for line in log if line["part"] == "train"]
  assert losses == pytest.approx([0.0, 0.5, 0.5 * 1.5**2])
  assert log[-1] == {"step": 3, "part": "validation", "loss": 1.0}


def test_best_is_the_lowest_metric_and_the_newest_stay(tmp_path):
  train(tmp_path, Pace(9, 1, 1, 1))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.best() == 4 and checkpoints.newest() == 9
  kept = {int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*")}
  assert kept == {4, 8, 9}


def test_a_checkpoint_without_metrics_is_never_the_best(tmp_path):
  train(tmp_path, Pace(6, 1, 3, 1))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.best() == 3


def test_going_on_is_bit_equal_with_average_and_log(tmp_path):
  pace = Pace(8, 3, 4, 2)
  whole = train(tmp_path / "whole", pace, average_decay=0.9)
  for last in (5, 8):

    def some(first, last=last):
      for i, batch in zip(range(first, 1000), batches(first), strict=False):
        if i == last:
          raise ConnectionError("the reader broke")
        yield batch

    try:
      parts = train(tmp_path / "parts", pace, data=some, average_decay=0.9)
    except ConnectionError:
      assert last == 5
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  first, second = (
    (tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")
  )
  assert first == second


def test_a_finished_run_is_left_as_it_is(tmp_path):
  first = train(tmp_path, Pace(4, 2, 2, 2))
  log = (tmp_path / "log.jsonl").read_bytes()
  again = train(tmp_path, Pace(4, 2, 2, 2))
  assert float(first.params["w"]) == float(again.params["w"])
  assert (tmp_path / "log.jsonl").read_bytes() == log


def test_saving_is_not_overtaken_by_the_next_step(tmp_path):
  """Saved in the background, while the next step is given the buffers."""

  def climb(params, aux, batch, key, train):
    return -2.0 * params["w"].sum(), ({}, aux.collections)

  size = 2_000_000
  train(
    tmp_path, Pace(6, 1, 6, 1, keep=6), objective=climb,
    state=new_state(size=size),
  )  # fmt: skip
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    for step in range(1, 7):
      w = checkpoints.restore_tree(step)["params"]["w"]
      np.testing.assert_array_equal(w, np.full(size, step, np.float32))


def diverging(params, aux, batch, key, train):
  """Loss is no number from batch 5 on."""
  loss, rest = pull(params, aux, batch, key, train)
  return jnp.where(batch["target"].mean() >= 5, jnp.nan, loss), rest


def test_divergence_names_step_and_clips_and_saves_nothing_later(tmp_path):
  with pytest.raises(Diverged, match="step 6; clips: t:5 from 500 ms"):
    train(tmp_path, Pace(20, 4, 20, 4), objective=diverging)
  assert newest(tmp_path) == 4
  steps = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
  assert steps == [1, 2, 3, 4, 5]


def test_parameters_that_are_no_numbers_are_never_saved(tmp_path):
  """The loss of a step can be finite and its gradient not."""

  def spoilt(params, aux, batch, key, train):
    early = batch["target"].mean() < 3
    root = jnp.sqrt(params["w"] * 0.0 + early)  # then gradient 0/0
    loss, rest = pull(params, aux, batch, key, train)
    return loss + root, rest

  with pytest.raises(Diverged, match="gradient_norm is nan at step 4; .*t:3"):
    train(tmp_path, Pace(20, 1, 20, 1), objective=spoilt)
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    last = checkpoints.newest()
    assert np.isfinite(checkpoints.restore_tree(last)["params"]["w"])
  for line in (tmp_path / "log.jsonl").read_text().splitlines():
    json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("where", ["batch", "validation"])
def test_sigterm_always_saves_before_it_stops(tmp_path, where):
  """Also when it comes during validation at a step that saves nothing."""

  def data(first):
    for i, batch in zip(range(first, 100), batches(first), strict=False):
      if where == "batch" and i == 2:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  def validate(state):
    if where == "validation":
      os.kill(os.getpid(), signal.SIGTERM)
    return score_of(state)

  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Stopped) as stopped:
    train(tmp_path, Pace(50, 50, 3, 50), data=data, validate=validate)
  assert stopped.value.code == 143
  assert signal.getsignal(signal.SIGTERM) is before
  steps = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
  assert newest(tmp_path) == max(steps)


def test_batches_that_end_early_are_an_error(tmp_path):
  with pytest.raises(ValueError, match="batches ended at step 4 of 10"):
    late = lambda first: batches(first + 996)  # noqa: E731
    train(tmp_path, Pace(10, 1, 10, 10), data=late)


@pytest.mark.parametrize("name", ["steps", "log_every", "validate_every"])
def test_a_pace_of_nothing_is_refused(name):
  with pytest.raises(ValueError, match=f"{name} is 0, wants 1 or more"):
    Pace(**{"steps": 5, name: 0})


def test_a_second_sigterm_waits_for_the_save(tmp_path, monkeypatch):
  """Slurm and clouds send several; the save after the last step is whole."""
  wait = Checkpoints.__exit__

  def signalled(self, *error):
    os.kill(os.getpid(), signal.SIGTERM)
    wait(self, *error)

  monkeypatch.setattr(Checkpoints, "__exit__", signalled)
  train(tmp_path, Pace(3, 1, 3, 3))
  monkeypatch.undo()
  assert newest(tmp_path) == 3


@pytest.mark.parametrize("error", [
  OSError(28, "No space left on device"),
  ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device"),
])  # fmt: skip
def test_a_full_disk_is_named_soon_and_in_one_line(
  tmp_path, monkeypatch, error
):
  train(tmp_path, Pace(2, 1, 2, 2))

  def full(self):
    raise error

  monkeypatch.setattr(ocp.CheckpointManager, "check_for_errors", full)
  message = "space left .*checkpoints: .*needs .* MiB, .* MiB are free"
  with pytest.raises(SaveFailed, match=message):
    train(tmp_path, Pace(50, 1, 50, 50))
  steps = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
  assert max(steps) == 3  # the next log line, not the next save


def test_a_step_is_never_saved_twice(tmp_path):
  train(tmp_path, Pace(2, 1, 2, 2))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    with pytest.raises(SaveFailed, match="already has step 2"):
      checkpoints.save(new_state().replace(step=jnp.asarray(2)), None)


def test_tensorboard_holds_every_step_once_after_a_kill(tmp_path):
  script = textwrap.dedent(KILLED).replace("data=data", DATA_AND_EVENTS)
  here = os.path.dirname(__file__)
  done = subprocess.run(
    [sys.executable, "-c", script, str(tmp_path), here], capture_output=True
  )
  assert done.returncode == -signal.SIGKILL, done.stderr.decode()
  train(tmp_path, Pace(8, 4, 5, 5), tensorboard=True)
  (file,) = (tmp_path / "tensorboard").iterdir()
  assert logged_steps(file) == [1, 2, 3, 4, 5, 6, 7, 8]


def logged_steps(path):
  """Steps of `train/loss` in a file of TensorBoard events."""
  data, at, steps = path.read_bytes(), 0, []
  while at < len(data):  # length, its checksum, event, its checksum
    (size,) = struct.unpack_from("<Q", data, at)
    event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
    at += 12 + size + 4
    if any(value.tag == "train/loss" for value in event.summary.value):
      steps.append(event.step)
  return steps


DATA_AND_EVENTS = "data=data, tensorboard=True"


KILLED = """
  import os, signal, sys, time
  from pathlib import Path
  sys.path.insert(0, sys.argv[2])
  from test_loop import batches, train
  from echo_jax.training.loop import Pace
  workdir = Path(sys.argv[1])

  def data(first):
    for i, batch in zip(range(first, 100), batches(first)):
      if i == 5:
        while not (workdir / "checkpoints" / "5").exists():
          time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
      yield batch

  train(workdir, Pace(8, 4, 5, 5), data=data)
"""


def test_killed_after_a_save_no_line_of_the_log_is_lost(tmp_path):
  """What a checkpoint's step has logged is on disk before the checkpoint."""
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  train(whole, Pace(8, 4, 5, 5))
  here = os.path.dirname(__file__)
  script = textwrap.dedent(KILLED)
  done = subprocess.run(
    [sys.executable, "-c", script, str(killed), here], capture_output=True
  )
  assert done.returncode == -signal.SIGKILL, done.stderr.decode()
  train(killed, Pace(8, 4, 5, 5))
  assert (killed / "log.jsonl").read_text() == (
    whole / "log.jsonl"
  ).read_text()


SAVING = """
  import sys
  from pathlib import Path
  sys.path.insert(0, sys.argv[2])
  from test_loop import MANY, big_state, train

  train(Path(sys.argv[1]), MANY, state=big_state())
"""
MANY = Pace(400, 1, 7, 1)


def big_state():
  """Large enough that a save takes longer than a look at the folder."""
  return start_state({"params": {"w": jnp.zeros(400_000)}}, RATE)


def test_killed_in_the_middle_of_a_save_it_goes_on_to_the_same_end(tmp_path):
  folder, script = tmp_path / "checkpoints", textwrap.dedent(SAVING)
  words = [sys.executable, "-c", script, tmp_path, os.path.dirname(__file__)]
  reached = []
  for wait_s in (0.0, 0.05):
    running = subprocess.Popen(words)
    already = set(folder.glob("*"))
    try:
      while not any(
        "tmp" in p.name and p not in already for p in folder.glob("*")
      ):
        assert running.poll() is None, "it ended before it was killed"
      time.sleep(wait_s)
    finally:
      running.kill()
      running.wait()
    reached.append(newest(tmp_path) or 0)
  assert reached == sorted(reached) and reached[-1] < MANY.steps
  short = Pace(reached[-1] + 20, 1, 7, 10)
  ended = train(tmp_path, short, state=big_state())
  whole = train(tmp_path / "whole", short, state=big_state())
  jax.tree.map(np.testing.assert_array_equal, ended, whole)
  first, second = (
    (part / "log.jsonl").read_text() for part in (tmp_path, tmp_path / "whole")
  )
  cut = [line for line in first.splitlines() if '"train"' in line]
  assert cut == [line for line in second.splitlines() if '"train"' in line]


def test_an_unfinished_checkpoint_is_not_taken_for_a_whole_one(tmp_path):
  train(tmp_path, Pace(4, 4, 4, 4))
  folder = tmp_path / "checkpoints"
  (folder / "7.orbax-checkpoint-tmp-1" / "default").mkdir(parents=True)
  assert newest(tmp_path) == 4
  state = train(tmp_path, Pace(8, 4, 4, 4))
  assert int(state.step) == 8


def flip(path):
  """Changes one bit in the middle of a file."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def halve(path):
  os.truncate(path, path.stat().st_size // 2)


def largest(folder):
  files = folder.rglob("ocdbt.process_0/d/*")
  return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
  ("find", "harm", "says"),
  [
    (largest, flip, "1 arrays are not what was saved, such as"),
    (largest, halve, "error while reading array"),
    (lambda step: step / "default" / "manifest.ocdbt", halve, "DATA_LOSS"),
    (lambda step: step / "default" / "_METADATA", os.remove, "list of arrays"),
    (lambda step: step / "metrics" / "metrics", halve, "line 1 column"),
  ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
  tmp_path, capsys, find, harm, says
):
  broken, whole = tmp_path / "broken", tmp_path / "whole"
  train(broken, Pace(8, 4, 4, 4), state=uneven_state())
  harm(find(broken / "checkpoints" / "8"))
  capsys.readouterr()
  ended = train(broken, Pace(12, 4, 4, 4), state=uneven_state())
  told = capsys.readouterr().err
  assert "checkpoint 8 in" in told and says in told
  assert len(list((broken / "checkpoints_damaged").glob("8_*/8"))) == 1
  unbroken = train(whole, Pace(12, 4, 4, 4), state=uneven_state())
  jax.tree.map(np.testing.assert_array_equal, ended, unbroken)
  logs = [(run / "log.jsonl").read_text() for run in (broken, whole)]
  assert logs[0] == logs[1]


def uneven_state():
  """Values that do not compress away."""
  values = np.random.default_rng(0).normal(size=2000).astype(np.float32)
  return start_state({"params": {"w": jnp.asarray(values)}}, RATE, average=True)


def test_if_no_checkpoint_can_be_read_nothing_starts_anew(tmp_path):
  train(tmp_path, Pace(4, 4, 4, 4), state=uneven_state())
  flip(largest(tmp_path / "checkpoints" / "4"))
  for _ in range(2):  # nor when it is tried again
    with pytest.raises(ValueError, match="all checkpoints in .* none is left"):
      train(tmp_path, Pace(8, 4, 4, 4), state=uneven_state())
  assert (tmp_path / "checkpoints" / "4").exists()


def test_a_lone_checkpoint_with_damaged_metrics_starts_nothing_anew(tmp_path):
  train(tmp_path, Pace(4, 4, 4, 4), state=uneven_state())
  halve(tmp_path / "checkpoints" / "4" / "metrics" / "metrics")
  with pytest.raises(ValueError, match="checkpoint 4 .* is damaged"):
    Checkpoints(tmp_path / "checkpoints")  # to read only
  for _ in range(2):  # nor when it is tried again
    with pytest.raises(ValueError, match="checkpoint 4 .* none is left"):
      train(tmp_path, Pace(8, 4, 4, 4), state=uneven_state())
  assert (tmp_path / "checkpoints" / "4").exists()


def test_metrics_of_one_of_several_are_left_to_the_run_to_mend(tmp_path):
  train(tmp_path, Pace(8, 4, 4, 4), state=uneven_state())
  halve(tmp_path / "checkpoints" / "8" / "metrics" / "metrics")
  with pytest.raises(ValueError, match="start the run again"):
    Checkpoints(tmp_path / "checkpoints")
  assert (tmp_path / "checkpoints" / "8").exists()


def test_a_checkpoint_without_checksums_is_said_to_be_unverified(
  tmp_path, capsys
):
  train(tmp_path, Pace(4, 4, 4, 4), state=uneven_state())
  (tmp_path / "checkpoints" / "4" / "_CHECKPOINT_METADATA").unlink()
  train(tmp_path, Pace(8, 4, 4, 4), state=uneven_state())
  assert "checkpoint 4 in" in (told := capsys.readouterr().err)
  assert "not verified" in told


def test_a_checkpoint_of_another_model_is_refused_and_left_alone(tmp_path):
  train(tmp_path, Pace(4, 4, 4, 4), state=uneven_state())
  for other, says in (
    (new_state(True, size=7), r"params/w is \(\(2000,\), 'float32'\) there"),
    (new_state(False, size=2000), "aux/average/w is .* there and absent here"),
  ):
    with pytest.raises(ValueError, match=says):
      train(tmp_path, Pace(8, 4, 4, 4), state=other)
  assert (tmp_path / "checkpoints" / "4").exists()
  assert not (tmp_path / "checkpoints_damaged").exists()


def test_storage_that_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch):
  train(tmp_path, Pace(4, 4, 4, 4), state=uneven_state())
  real, calls = Checkpoints.restore, []

  def shaky(self, step, like):
    calls.append(step)
    if len(calls) == 1:
      raise OSError(5, "Input/output error")
    return real(self, step, like)

  monkeypatch.setattr(Checkpoints, "restore", shaky)
  train(tmp_path, Pace(8, 4, 4, 4), state=uneven_state())
  assert calls == [4, 4]
  assert not (tmp_path / "checkpoints_damaged").exists()


def test_checksums_by_hand():
  tree = {
    "a": jnp.asarray([1, 2, 3], jnp.int32),
    "b": jnp.asarray([[1.0], [2.0]], jnp.float32),
    "c": jnp.asarray([True, False]),
  }
  one, two = 0x3F800000, 0x40000000
  assert checksums(tree) == {
    "a": 1 + 3 * 2 + 5 * 3, "b": (one + 3 * two) % 2**32, "c": 1
  }  # fmt: skip


def test_log_is_cut_to_the_step_and_to_whole_lines(tmp_path):
  path = tmp_path / "log.jsonl"
  lines = [{"step": s, "part": "train", "loss": 0.1 * s} for s in (1, 2, 3)]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  path.write_text(text + '{"step": 4, "par')
  assert read_log(path) == lines
  cut_log(path, 2)
  assert path.read_text() == "".join(text.splitlines(keepends=True)[:2])
  cut_log(path, 0)
  assert path.read_text() == "" and read_log(path) == []
  cut_log(tmp_path / "absent.jsonl", 2)


def test_two_processes_may_write_one_file_at_once(tmp_path, monkeypatch):
  """The other one begins and ends between our writing and our replacing."""
  path, replace = tmp_path / "a.json", os.replace

  def other_first(*names):
    monkeypatch.setattr(os, "replace", replace)
    with monkeypatch.context() as other:
      other.setattr(os, "getpid", lambda: 1)
      write_whole(path, "theirs")
    replace(*names)

  monkeypatch.setattr(os, "replace", other_first)
  write_whole(path, "ours")
  assert path.read_text() == "ours" and list(tmp_path.iterdir()) == [path]


def test_same_seed_and_step_give_the_same_draw():
  """Randomness is a function of (seed, step) alone."""

  def draw(params, aux, batch, key, train):
    return jax.random.normal(key) + 0 * params["w"], ({}, aux.collections)

  def losses(seed, steps):
    step, state, found = make_train_step(draw, RATE, seed=seed), new_state(), []
    for batch in batches(0):
      if int(state.step) == steps:
        return found
      state, metrics = step(state, {"target": batch["target"]})
      found.append(float(metrics["loss"]))

  assert losses(1, 3) == losses(1, 3)
  assert len(set(losses(1, 3) + losses(2, 3))) == 6


def test_aux_without_average_stays_without():
  state = new_state()
  assert state.aux == Aux({}, None) and evaluated_params(state) is state.params


def test_validation_weighs_a_batch_by_what_its_loss_counts():
  def loss_step(params, aux, batch, number):
    counts = jnp.asarray([3.0, 1.0])[number]
    return {"loss": jnp.asarray([1.0, 5.0])[number], "tokens": counts}

  two = [{"video": np.zeros(1)}] * 2
  validate = mean_loss(loss_step, lambda: iter(two), weight="tokens")
  assert validate(new_state()) == {"loss": pytest.approx(2.0)}
