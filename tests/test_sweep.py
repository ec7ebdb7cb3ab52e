"""A sweep ends every item, goes on after a kill, and says which failed."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest

from echo_jax.cli import main
from echo_jax.commands import sweep
from echo_jax.training.writers import locked

MODULE = """
from experiments.ef_finetune import build, get_config, tiny


def sweep():
  yield {"head.name": "moments", "loss": "l2"}
  yield {"head.name": "moments", "loss": "wrong"}
"""


@pytest.fixture
def words(tmp_path, data_dir):
  path = tmp_path / "two.py"
  path.write_text(MODULE)
  return [
    "sweep", str(path), "--tiny", "--workdir", str(tmp_path / "runs"),
    "--clips", "1", "--data-dir", str(data_dir), "--config.run.steps=2",
  ]  # fmt: skip


def test_items_end_in_folders_of_their_own_and_are_not_done_twice(
  words, tmp_path, capsys
):
  assert main(words) == 1
  told = capsys.readouterr()
  assert "2 items = 1 done + 1 failed" in told.out
  assert "failed: " in told.err and "loss=wrong" in told.err
  good, bad = tmp_path / "runs" / "loss=l2", tmp_path / "runs" / "loss=wrong"
  assert (good / "metrics.json").exists()
  assert "loss 'wrong' is not one of" in (bad / "output.txt").read_text()
  said = json.loads((good / "item.json").read_text())
  assert said["status"] == "done" and said["settings"]["loss"] == "l2"
  before = (good / "output.txt").read_text()
  assert main(words) == 1
  assert "2 items, 1 done before" in capsys.readouterr().out
  assert (good / "output.txt").read_text() == before


# In place of a training: it saves when SIGTERM comes, and ends at a word.
WORK = """
import os, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[1])

def save(number, frame):
  (folder / "saved").write_text("")
  sys.exit(143)

signal.signal(signal.SIGTERM, save)
(folder / "pid").write_text(str(os.getpid()))
with (folder / "starts").open("a") as file:
  file.write("x")
for _ in range(1200):
  if (folder.parent / "go").exists():
    sys.exit(0)
  time.sleep(0.05)
sys.exit("nobody said go")
"""
SWEEP = """
import signal, sys, types
from pathlib import Path
sys.modules["echo_jax.experiment"] = types.ModuleType("experiment")  # is slow
from echo_jax.commands import sweep

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
root, work = Path(sys.argv[1]), sys.argv[2]
items = [
  sweep.Item(root / n, {}, ((sys.executable, "-c", work, str(root / n)),))
  for n in "abcd"
]
sys.exit(len(sweep.run_items(items, sweep.on_this_machine(1))))
"""


def items_in(root, names="abcd", work=WORK):
  return [
    sweep.Item(root / n, {}, ((sys.executable, "-c", work, str(root / n)),))
    for n in names
  ]


def start_sweep(root):
  return subprocess.Popen(
    [sys.executable, "-c", SWEEP, str(root), WORK], start_new_session=True
  )


def wait_for(path):
  until = time.monotonic() + 120
  while not (path.exists() and path.read_text()):
    assert time.monotonic() < until, path
    time.sleep(0.02)


def check_that_it_ends(root, starts):
  """The same sweep, given again, ends them all; how often each was started."""
  (root / "go").write_text("")
  items = items_in(root)
  assert sweep.run_items(items, sweep.on_this_machine(1)) == []
  assert [sweep.status_of(item) for item in items] == ["done"] * 4
  found = [(item.folder / "starts").read_text() for item in items]
  assert found == starts


@pytest.mark.parametrize(
  ("number", "kill", "code"),
  [
    (signal.SIGINT, os.killpg, -signal.SIGINT),  # as Ctrl-C does
    (signal.SIGTERM, os.kill, 143),
  ],
)
def test_a_sweep_told_to_end_saves_starts_no_more_and_goes_on_later(
  tmp_path, number, kill, code
):
  first, *others = items_in(tmp_path)
  sweeping = start_sweep(tmp_path)
  wait_for(first.folder / "starts")
  kill(sweeping.pid, number)
  assert sweeping.wait(60) == code
  assert (first.folder / "saved").exists()
  assert sweep.status_of(first) == "begun"
  assert not any(item.folder.exists() for item in others)
  with locked(first.folder / sweep.LOCK) as lock:
    assert lock  # no process is left at it
  check_that_it_ends(tmp_path, ["xx", "x", "x", "x"])


def test_what_a_killed_sweep_left_running_is_not_run_twice(tmp_path, capsys):
  first = items_in(tmp_path)[0]
  sweeping = start_sweep(tmp_path)
  wait_for(first.folder / "starts")
  sweeping.kill()
  sweeping.wait()
  assert sweep.status_of(first) == "begun"
  (second,) = items_in(tmp_path, "a", "")
  assert sweep.run_items([second], sweep.on_this_machine(1)) == []
  assert "another process is at it" in capsys.readouterr().err
  assert (first.folder / "starts").read_text() == "x"
  os.kill(int((first.folder / "pid").read_text()), signal.SIGKILL)
  with locked(first.folder / sweep.LOCK, wait=True):
    pass
  check_that_it_ends(tmp_path, ["xx", "x", "x", "x"])


def test_an_item_whose_process_was_killed_fails_and_is_run_again(tmp_path):
  first = items_in(tmp_path)[0]
  sweeping = start_sweep(tmp_path)
  wait_for(first.folder / "starts")
  (tmp_path / "go").write_text("")
  os.kill(int((first.folder / "pid").read_text()), signal.SIGKILL)
  assert sweeping.wait(60) == 1
  assert sweep.status_of(first) == "failed"
  check_that_it_ends(tmp_path, ["xx", "x", "x", "x"])


def test_an_item_whose_process_was_asked_to_end_goes_on_later(tmp_path):
  first = items_in(tmp_path)[0]
  sweeping = start_sweep(tmp_path)
  wait_for(first.folder / "starts")
  os.kill(int((first.folder / "pid").read_text()), signal.SIGTERM)
  wait_for(tmp_path / "b" / "starts")
  (tmp_path / "go").write_text("")
  assert sweeping.wait(60) == 1
  assert sweep.status_of(first) == "begun"
  check_that_it_ends(tmp_path, ["xx", "x", "x", "x"])


# Each ends when the other has begun.
TOGETHER = """
import sys, time
from pathlib import Path

folder = Path(sys.argv[1])
(folder / "here").write_text("")
other = folder.parent / ("b" if folder.name == "a" else "a") / "here"
for _ in range(600):
  if other.exists():
    sys.exit(0)
  time.sleep(0.05)
sys.exit("alone")
"""


def sweep_words(monkeypatch, root, items):
  monkeypatch.setattr(sweep, "plan_items", lambda args: items)
  return ["sweep", "any", "--workdir", str(root)]


def test_two_jobs_run_at_the_same_time(tmp_path, monkeypatch):
  items = items_in(tmp_path, "ab", TOGETHER)
  words = sweep_words(monkeypatch, tmp_path, items)
  assert main([*words, "--jobs", "2"]) == 0
  assert [sweep.status_of(item) for item in items] == ["done", "done"]


def test_what_another_process_is_at_is_left_to_it(
  tmp_path, monkeypatch, capsys
):
  """Not failed; and where the other ends it first, it is not run again."""
  (tmp_path / "go").write_text("")
  items = items_in(tmp_path, "ab")
  words = sweep_words(monkeypatch, tmp_path, items)
  with locked(items[0].folder / sweep.LOCK):
    assert main(words) == 1  # one is left
    assert main([*words, "--slurm"]) == 1  # no time is given
  told = capsys.readouterr()
  assert "2 items = 1 done + 0 failed + 1 with other processes" in told.out
  assert f"{items[0].folder}: another process is at it" in told.err
  assert not (items[0].folder / "starts").exists()
  assert sweep.run_items(items, sweep.on_this_machine(1)) == []
  assert (items[1].folder / "starts").read_text() == "x"


@pytest.fixture
def slurm(monkeypatch):
  """A cluster that runs a job when `run` is called; `ended` are gone."""
  cluster = types.SimpleNamespace(queue=[], ended={}, options={})

  class SlurmJob:
    def __init__(self, folder, job_id):
      self.job_id = job_id

    def done(self):
      return self.job_id in cluster.ended

    def result(self):
      while not self.done():
        time.sleep(0.02)
      return cluster.ended[self.job_id]

  class SlurmExecutor:
    def __init__(self, folder):
      self.folder = folder

    def update_parameters(self, **options):
      cluster.options = options

    def submit(self, function, *args):
      cluster.queue.append((function, args))
      return SlurmJob(self.folder, str(len(cluster.queue)))

  def run(job_id):
    function, args = cluster.queue[int(job_id) - 1]
    cluster.ended[job_id] = function(*args)

  cluster.run, cluster.executor = run, SlurmExecutor
  module = types.ModuleType("submitit")
  module.SlurmJob, module.SlurmExecutor = SlurmJob, SlurmExecutor
  monkeypatch.setitem(sys.modules, "submitit", module)
  return cluster


def place_on_slurm(root):
  args = argparse.Namespace(slurm_option=["time=720"], workdir=root)
  return sweep.on_slurm(args)


def test_a_job_that_has_not_ended_is_not_submitted_again(
  slurm, tmp_path, capsys
):
  (tmp_path / "go").write_text("")
  (item,) = items_in(tmp_path, "a")
  before = place_on_slurm(tmp_path).start(item)
  assert json.loads((item.folder / "item.json").read_text()) == {
    "settings": {}, "status": "begun", "seconds": 0.0,
  }  # fmt: skip
  assert (item.folder / "job.txt").read_text() == "1"
  again = place_on_slurm(tmp_path).start(item)
  assert len(slurm.queue) == 1 and not again.done()
  assert "waits for Slurm job 1, submitted before" in capsys.readouterr().err
  slurm.run("1")
  assert before.result(60) == again.result(60) == "done"
  # Nor one that ended after the list of items was made.
  assert place_on_slurm(tmp_path).start(item).result(60) == "done"
  assert sweep.status_of(item) == "done" and len(slurm.queue) == 1


def test_an_item_whose_job_ended_too_early_is_submitted_again(slurm, tmp_path):
  (item,) = items_in(tmp_path, "a")
  place_on_slurm(tmp_path).start(item)
  slurm.ended["1"] = None  # as by Slurm, at the end of its time
  place_on_slurm(tmp_path).start(item)
  assert len(slurm.queue) == 2
  assert (item.folder / "job.txt").read_text() == "2"
  slurm.ended["2"] = None
  with locked(item.folder / sweep.LOCK):  # somebody is at it here
    assert place_on_slurm(tmp_path).start(item).result(60) == sweep.HELD
  assert len(slurm.queue) == 2


def test_a_sweep_on_slurm_ends_and_keeps_what_its_jobs_say(
  slurm, tmp_path, monkeypatch
):
  (tmp_path / "go").write_text("")
  items = items_in(tmp_path, "ab")
  submit = slurm.executor.submit

  def at_once(executor, *args):
    job = submit(executor, *args)
    slurm.run(job.job_id)
    return job

  monkeypatch.setattr(slurm.executor, "submit", at_once)
  words = sweep_words(monkeypatch, tmp_path, items)
  words += ["--slurm", "--slurm-option", "time=720"]
  assert main([*words, "--slurm-option", "gres=gpu:1"]) == 0
  assert slurm.options == {"time": 720, "gres": "gpu:1"}
  assert [sweep.status_of(item) for item in items] == ["done", "done"]


@pytest.mark.parametrize("option", ["gres=gpu:1", "time=12:00:00", "time"])
def test_slurm_wants_minutes(slurm, tmp_path, monkeypatch, capsys, option):
  words = sweep_words(monkeypatch, tmp_path, items_in(tmp_path))
  assert main([*words, "--slurm", "--slurm-option", option]) == 1
  told = capsys.readouterr().err
  assert "want NAME=VALUE" in told or "--slurm-option time=720" in told
  assert not slurm.queue


def test_why_an_item_could_not_be_run_is_said(tmp_path, capsys):
  blocked = tmp_path / "file"
  blocked.write_text("")
  item = sweep.Item(blocked / "a", {}, ())
  assert sweep.run_items([item], sweep.on_this_machine(1)) == [item]
  assert "NotADirectoryError" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("body", "says"),
  [
    ("", "has no sweep"),
    ("def sweep():\n  yield {'loss': 'l2'}\n  yield {'loss': 'l2'}\n", "alike"),
    ("def sweep():\n  yield {'lose': 'l2'}\n", "cannot set lose"),
  ],
)
def test_a_sweep_that_cannot_be_run_is_refused(tmp_path, capsys, body, says):
  path = tmp_path / "wrong.py"
  start = "from experiments.ef_finetune import build, get_config\n"
  path.write_text(start + body)
  assert main(["sweep", str(path), "--workdir", str(tmp_path / "runs")]) == 1
  assert says in capsys.readouterr().err


def test_jobs_must_be_some(words, capsys):
  assert main([*words, "--jobs", "0"]) == 1
  assert "--jobs is 0" in capsys.readouterr().err


def test_a_second_data_dir_is_refused(words, capsys):
  assert main([*words, "--config.data.dir=elsewhere"]) == 1
  assert "give one of them" in capsys.readouterr().err


def test_folders_tell_items_apart():
  varied = {"a", "b"}
  name = sweep.folder_name({"a": 1, "b": "x/y", "c": 3}, varied)
  assert name.startswith("a=1,b=x_y-")
  other = sweep.folder_name({"a": 1, "b": "x:y", "c": 3}, varied)
  assert other != name
  assert sweep.folder_name({"a": 0.5}, varied) == "a=0.5"
  assert len(sweep.folder_name({"a": "long" * 99}, varied)) < 120
