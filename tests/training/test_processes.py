"""Two real processes on this machine train as one; one killed stops both."""

import dataclasses
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

import echo_jax
from echo_jax import experiment, trees
from echo_jax.training import processes
from echo_jax.training.checkpoint import Checkpoints, saved_steps
from echo_jax.training.speed import read_speed
from echo_jax.training.writers import read_log

STEPS = 12
ADDRESS = "JAX_COORDINATOR_ADDRESS"


def command(workdir, data_dir):
  settings = (
    f"data.dir={data_dir}", f"run.steps={STEPS}", "run.save_every=3",
    "run.validate_every=6", "run.log_every=1",
  )  # fmt: skip
  return [
    sys.executable, "-m", "echo_jax", "train", "experiments.mae_pretrain",
    "--tiny", "--workdir", str(workdir),
    *(f"--config={setting}" for setting in settings),
  ]  # fmt: skip


def free_port():
  with socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    return listening.getsockname()[1]


def by_variables(port, number):
  return {
    ADDRESS: f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": str(number),
  }


def by_slurm(port, number):
  """What srun says in a job of two nodes with one task each."""
  return {
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_NODELIST": "127.0.0.1,node2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": str(number),
    "SLURM_LOCALID": "0",
    "JAX_COORDINATOR_PORT": str(port),
  }


def start_both(words, logs, more=((), ()), told=by_variables):
  """Two processes of one run, their words in files; `more` words of each."""
  port, running = free_port(), []
  for number in range(2):
    environment = os.environ | told(port, number)
    with (logs / f"{number}.txt").open("w") as said:
      running.append(
        subprocess.Popen(
          [*words, *more[number]], env=environment, stdout=said, stderr=said
        )
      )
  return running


@pytest.fixture(scope="module")
def ended(data_dir, tmp_path_factory):
  """A run of one process; one of two that was killed, and then ended."""
  folder = tmp_path_factory.mktemp("processes")
  subprocess.run(command(folder / "one", data_dir), check=True)
  words = command(folder / "two", data_dir)
  first, second = start_both(words, folder)
  while not saved_steps(folder / "two" / "checkpoints"):
    assert first.poll() is None, (folder / "0.txt").read_text()
    time.sleep(0.05)
  second.send_signal(signal.SIGKILL)
  killed = time.monotonic()
  code = first.wait(timeout=120)
  waited_s = time.monotonic() - killed
  said, step = (folder / "0.txt").read_text(), killed_at(folder / "two")
  again = start_both(words, folder)
  assert [one.wait(timeout=300) for one in again] == [0, 0], (
    (folder / "0.txt").read_text() + (folder / "1.txt").read_text()
  )
  return folder, code, waited_s, said, step


def killed_at(workdir):
  return max(saved_steps(workdir / "checkpoints"))


def test_when_one_is_killed_the_other_ends_and_names_it(ended):
  _, code, waited_s, said, step = ended
  assert code != 0
  assert waited_s < 60
  # The runtime's own words, or ours where the computation failed first.
  assert "Task 1 heartbeat" in said or "process 1 of 2 is gone" in said or (
    "unhealthy (stopped sending heartbeats):\n1\n" in said
  )
  assert 0 < step < STEPS


# As a run meets others, without a model.
TOGETHER = """
import jax
from echo_jax.training import processes
processes.join_others()
with processes.end_at_once(), processes.name_the_lost():
  processes.wait_for_all("start")
  print("GPUs:", jax.config.values["jax_cuda_visible_devices"])
  print("together", flush=True)
  while True:
    processes.wait_for_all("turn")
"""


@pytest.fixture(scope="module")
def without_the_first(tmp_path_factory):
  """Code and words of the second of two processes, the first being killed.

  Slurm tells them of each other.
  """
  folder = tmp_path_factory.mktemp("without")
  first, second = start_both(
    [sys.executable, "-c", TOGETHER], folder, told=by_slurm
  )
  said = folder / "1.txt"
  while "together" not in said.read_text():
    assert second.poll() is None, said.read_text()
    time.sleep(0.05)
  first.kill()
  return second.wait(timeout=60), said.read_text()


def test_when_the_first_is_killed_the_other_ends_and_names_it(
  without_the_first
):
  code, said = without_the_first
  assert code != 0
  # The runtime's own words, or ours where the computation failed first.
  assert "leader task was preempted/died" in said or (
    "process 0 of 2 is gone" in said
  )


def test_the_only_process_of_a_node_sees_all_its_gpus(without_the_first):
  """JAX alone would give it the one of its SLURM_LOCALID."""
  _, said = without_the_first
  assert "GPUs: all\n" in said


@pytest.mark.parametrize(
  ("environment", "devices"),
  [
    ({}, None),
    ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, []),
    ({"SLURM_STEP_NUM_TASKS": "32", "SLURM_STEP_NUM_NODES": "4"}, None),
    ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
    ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, None),
    ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "JAX_LOCAL_DEVICE_IDS": "2"}, None),
  ],
)
def test_who_is_alone_on_its_host_takes_all_devices(environment, devices):
  assert processes.own_devices(environment) == devices


def test_the_first_is_named_where_it_does_not_answer(monkeypatch):
  def unanswered(devices):
    raise jax.errors.JaxRuntimeError("UNAVAILABLE: Socket closed")

  monkeypatch.setattr(jax, "process_count", lambda: 4)
  monkeypatch.setattr(jax, "process_index", lambda: 2)
  monkeypatch.setattr(multihost_utils, "live_devices", unanswered)
  with pytest.raises(processes.ProcessLost, match="process 0 of 4 is gone"):
    with processes.name_the_lost():
      raise ValueError("UNKNOWN: Gloo AllGather failed: Connection closed")


def test_two_processes_end_as_one(ended):
  folder, _, _, _, _ = ended
  logs = [read_log(folder / name / "log.jsonl") for name in ("one", "two")]
  assert len(logs[0]) == STEPS + 2
  for one, two in zip(*logs, strict=True):
    assert (one.pop("part"), one["step"]) == (two.pop("part"), two["step"])
    assert two == pytest.approx(one, rel=1e-6)
  one, two = (
    trees.named_leaves(restored(folder / name)) for name in ("one", "two")
  )
  for name, leaf in one.items():
    np.testing.assert_allclose(two[name], leaf, atol=1e-5, err_msg=name)


def test_each_reads_half_of_the_rows(ended):
  """Ending as one, above, both halves are there."""
  folder, *_ = ended
  for number in range(2):
    said = (folder / f"{number}.txt").read_text()
    read, whole = map(int, re.search(r"(\d+) of (\d+) rows", said).groups())
    assert 2 * read == whole


def test_the_run_goes_on_from_its_last_checkpoint(ended):
  folder, _, _, _, step = ended
  (again,) = experiment.read_record(folder / "two")["resumed"]
  assert again["step"] == step
  # No step up to there was done twice.
  done = [line["step"] for line in read_speed(folder / "two")]
  assert sorted(s for s in done if s <= step) == list(range(1, step + 1))


def restored(workdir):
  """Saved by two processes, read by one."""
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    return checkpoints.restore_tree(STEPS)["params"]


def test_only_the_first_writes(ended):
  folder, _, _, _, _ = ended
  assert "step/s" in (folder / "0.txt").read_text()
  assert "step/s" not in (folder / "1.txt").read_text()


def test_hosts_that_differ_are_refused_at_once_with_both_values(
  data_dir, tmp_path
):
  words = command(tmp_path / "run", data_dir)
  both = start_both(words, tmp_path, ((), ("--config=run.seed=7",)))
  assert [one.wait(timeout=300) for one in both] == [1, 1]
  for number in range(2):
    said = (tmp_path / f"{number}.txt").read_text()
    assert "processes 0 and 1 differ in their settings" in said
    assert '"run.seed": 0' in said and '"run.seed": 7' in said
    assert f"process {number} of 2 failed" in said
  assert not (tmp_path / "run" / "run.json").exists()


@pytest.fixture
def differ(monkeypatch):
  """A function of the two hosts' experiments and folders: how it ends."""

  def compare(one, other, alter=lambda: None):
    said = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
      processes, "_texts", lambda mine: said.append(mine) or [mine, mine]
    )
    experiment.refuse_other_hosts(*one)
    first = iter(said)
    monkeypatch.setattr(processes, "_texts", lambda mine: [next(first), mine])
    alter()
    experiment.refuse_other_hosts(*other)

  return compare


@pytest.fixture(scope="module")
def built(data_dir):
  return experiment.prepare(
    "experiments.mae_pretrain", (f"data.dir={data_dir}",), tiny=True
  )


def test_hosts_with_other_data_or_another_checkpoint_are_refused(
  built, differ, tmp_path
):
  here = built, tmp_path / "here"
  differ(here, here)  # the same is not refused
  data = [{**one, "fingerprint": "0"} for one in built.data]
  assert data != built.data
  with pytest.raises(ValueError, match="differ in their data: from .*: .0"):
    differ(here, (dataclasses.replace(built, data=data), tmp_path / "here"))
  (tmp_path / "there" / "checkpoints" / "3").mkdir(parents=True)
  with pytest.raises(ValueError, match="newest checkpoint: from null .* 3 on"):
    differ(here, (built, tmp_path / "there"))


@pytest.mark.parametrize(
  ("where", "name", "part"),
  [
    (experiment, "code_commit", "code"),
    (experiment, "code_digest", "code"),
    (importlib.metadata, "version", "packages"),
  ],
)
def test_hosts_with_other_code_or_packages_are_refused(
  built, differ, tmp_path, monkeypatch, where, name, part
):
  def alter():
    monkeypatch.setattr(where, name, lambda *_: "another")

  with pytest.raises(ValueError, match=f"differ in their {part}: .*another"):
    differ((built, tmp_path), (built, tmp_path), alter)


def test_the_digest_is_of_all_code_of_a_run(tmp_path, monkeypatch):
  """Of a lone file; of all of a package; of ours."""
  digest = experiment.code_digest.__wrapped__
  (tmp_path / "owner" / "deep").mkdir(parents=True)
  for name in ("lone", "owner/__init__", "owner/parts", "owner/deep/__init__",
               "owner/deep/made", "ours"):  # fmt: skip
    (tmp_path / f"{name}.py").write_text("WIDTH = 1\n")
  lone, made = (str(tmp_path / f"{n}.py") for n in ("lone", "owner/deep/made"))
  before = digest(lone), digest(made)
  assert digest(lone) == before[0] != before[1]
  (tmp_path / "owner" / "parts.py").write_text("WIDTH = 2\n")
  assert digest(lone) == before[0] and digest(made) != before[1]
  (tmp_path / "lone.py").write_text("WIDTH = 2\n")
  assert digest(lone) != before[0]
  packaged = digest("experiments.mae_pretrain")
  assert packaged == digest("")  # the packaged ones are always in it
  monkeypatch.setattr(echo_jax, "__file__", str(tmp_path / "ours.py"))
  assert digest("experiments.mae_pretrain") != packaged


def test_an_environment_that_says_half_is_refused():
  with pytest.raises(ValueError, match="NUM_PROCESSES and JAX_PROCESS_ID is"):
    processes.join_others({ADDRESS: "10.0.0.1:1234"})
  with pytest.raises(ValueError, match="ADDRESS is missing"):
    processes.join_others({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "1"})


@pytest.mark.parametrize(
  ("environment", "several"),
  [
    ({}, False),
    ({"SLURM_STEP_NUM_TASKS": "1"}, False),
    ({"SLURM_STEP_NUM_TASKS": "8"}, True),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ({"TPU_WORKER_HOSTNAMES": "host-0,host-1"}, True),
    ({"MEGASCALE_COORDINATOR_ADDRESS": "10.0.0.1"}, True),
  ],
)
def test_clusters_are_known_by_their_environment(environment, several):
  assert processes.in_a_cluster(environment) is several
