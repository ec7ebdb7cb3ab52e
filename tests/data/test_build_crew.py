"""Readers that end their process: the culprit is rejected, the rest stays."""

import os
import signal
import threading
import time

import made_builds as made
import pandas as pd
import pytest

from echo_jax.data.build import BuildFailed, Dataset, Item, build
from echo_jax.data.sources import read_index


def reasons(report):
  ledger = pd.read_csv(report.path / "ledger.csv").set_index("item")
  return ledger[ledger["status"] == "rejected"]["reason"].drop("gone.avi")


def test_the_item_that_kills_its_reader_twice_is_rejected(tmp_path, capsys):
  """i1 always dies, i5 leaves with a code, i9 dies the first time only."""
  names = [(f"i{i}", "train", "read") for i in range(16)]  # in shards of 4
  names[1] = ("i1", "train", "die")
  names[5] = ("i5", "train", "exit")
  names[9] = ("i9", "train", "die once")
  log = tmp_path / "log"
  dataset = made.made_dataset(log, names)
  report = build(dataset, tmp_path / "data", workers=2, progress=False)
  assert (report.found, report.written, report.rejected) == (17, 14, 3)
  assert reasons(report).to_dict() == {
    "i1": "reader crashed: SIGSEGV", "i5": "reader crashed: exit code 3",
  }  # fmt: skip
  assert report.reasons["reader crashed"] == 2
  wanted = [f"t:i{i}" for i in range(16) if i not in (1, 5)]
  assert read_index(report.path)["video_id"].tolist() == wanted
  begun = [name for _, name in made.reads(log)]
  assert [begun.count(f"i{i}") for i in (1, 5, 9)] == [2, 2, 2]
  # The second time it was alone: sound shards had been done before.
  assert begun.index("i15") < len(begun) - 1 - begun[::-1].index("i1")
  assert "a reading process died (SIGSEGV)" in capsys.readouterr().out
  sound = [name for name in names if name[0] not in ("i1", "i5")]
  ids = made.made_dataset(log, sound)
  same = build(ids, tmp_path / "sound", progress=False)
  assert read_index(same.path).equals(read_index(report.path))


def kill_a_worker(log, pids):
  """SIGKILL to the first process that reads, as the system does when memory
  runs out."""
  until = time.monotonic() + 300
  while not made.reads(log) and time.monotonic() < until:
    time.sleep(0.01)
  pids.append(int(made.reads(log)[0][0]))
  os.kill(pids[0], signal.SIGKILL)
  log.with_name("log-gate").unlink()


def test_a_worker_that_is_killed_costs_nothing(tmp_path):
  log, pids = tmp_path / "log", []
  log.with_name("log-gate").write_text("1")
  dataset = made.made_dataset(log, 12)
  killer = threading.Thread(target=kill_a_worker, args=(log, pids))
  killer.start()
  report = build(dataset, tmp_path / "data", workers=2, progress=False)
  killer.join()
  assert pids and report.written == 12
  whole = build(dataset, tmp_path / "whole", progress=False)
  assert made.files_of(report.path) == made.files_of(whole.path)


class Unloadable:
  """Ends the process that receives it, as a broken library may on import."""

  def __call__(self, item):
    raise AssertionError("never read")

  def __reduce__(self):
    return os._exit, (7,)


def test_processes_that_cannot_start_end_the_build(tmp_path):
  dataset = Dataset(
    "toy", "1.0.0", "toy", {}, (Item("a", "train"),), Unloadable()
  )
  with pytest.raises(BuildFailed, match=r"die before .* \(exit code 7\)"):
    build(dataset, tmp_path, workers=1, progress=False)


class Fussy(Exception):
  """An error that cannot be made again from its words."""

  def __init__(self, one, two):
    super().__init__(one + two)


def read_fussily(item):
  raise Fussy("no ", "such codec")


def test_an_error_that_cannot_travel_arrives_in_words(tmp_path):
  dataset = Dataset(
    "toy", "1.0.0", "toy", {}, (Item("a", "train"),), read_fussily
  )
  with pytest.raises(RuntimeError, match="Fussy: no such codec") as caught:
    build(dataset, tmp_path, workers=1, progress=False)
  assert "read_fussily" in "".join(caught.value.__notes__)
