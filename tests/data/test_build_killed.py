"""Builds that are killed go on, and end as if nothing had happened."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_builds as made
import psutil
import pytest
from test_floors import imported_rooms

import echo_jax
from echo_jax.data import plan, shards
from echo_jax.data.build import BuildFailed, Dataset, build
from echo_jax.data.plan import make_plan
from echo_jax.data.sources import VideoSource
from echo_jax.data.unfinished import Unfinished

ITEMS = 30  # in shards of 6

BUILD = """
import sys
from pathlib import Path
import made_builds as made
from echo_jax.data.build import build
if __name__ == "__main__":
  dataset = made.made_dataset(sys.argv[1], int(sys.argv[2]))
  build(dataset, Path(sys.argv[3]), workers=2, progress=False)
"""
HERE = Path(__file__).parent
# This tree before one that may be installed.
PATHS = os.pathsep.join([str(Path(echo_jax.__file__).parents[1]), str(HERE)])
ENVIRONMENT = os.environ | {"PYTHONPATH": PATHS}


def start(script, log, data_dir):
  """A build with two workers in a process of its own."""
  words = [sys.executable, str(script), str(log), str(ITEMS), str(data_dir)]
  return subprocess.Popen(words, env=ENVIRONMENT)


def kill_after(running, log, count):
  """Kills a build that waits, having begun so many reads in all."""
  until = time.monotonic() + 300
  while len(made.reads(log)) < count:
    assert running.poll() is None and time.monotonic() < until
    time.sleep(0.01)
  running.send_signal(signal.SIGKILL)
  running.wait()


def is_alive(pid):
  with contextlib.suppress(psutil.NoSuchProcess):
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  return False


def test_a_killed_build_goes_on_and_ends_the_same(tmp_path):
  script, log, killed = tmp_path / "b.py", tmp_path / "log", tmp_path / "killed"
  script.write_text(BUILD)
  dataset = made.made_dataset(log, ITEMS)
  whole = build(dataset, tmp_path / "whole", progress=False).path
  log.unlink()
  gate = Path(f"{log}-gate")
  finished, before = set(), 0
  for count in (1, 14, 8):
    gate.write_text(str(before + count))
    kill_after(start(script, log, killed), log, before + count)
    assert not (killed / "toy").exists()
    begun = made.reads(log)
    again = {name for _, name in begun[before:]} & finished
    assert not again, "a finished shard was read again"
    state = Unfinished(killed / "toy" / "1.0.0").finished(make_plan(dataset))
    finished = {item.name for shard in state for _, item in shard.items}
    assert len(finished) >= len({n for _, n in begun}) - 2 * 6
    until = time.monotonic() + 300
    while any(is_alive(int(pid)) for pid, _ in begun):
      assert time.monotonic() < until, "workers outlive their parent"
      time.sleep(0.02)
    before = len(made.reads(log))
  gate.unlink()
  assert 0 < len(finished) < ITEMS
  report = build(dataset, killed, progress=False)
  assert not {name for _, name in made.reads(log)[before:]} & finished
  assert (report.found, report.written) == (ITEMS + 1, ITEMS)
  assert made.files_of(report.path) == made.files_of(whole)
  assert os.listdir(killed) == ["toy"]


@pytest.mark.parametrize(
  ("step", "kills"), [(6, 15), pytest.param(1, 90, marks=pytest.mark.long)]
)
def test_a_kill_before_a_file_operation_does_no_harm(tmp_path, step, kills):
  script = str(HERE / "kill_everywhere.py")
  words = [sys.executable, script, str(tmp_path), str(step)]
  done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
  assert done.returncode == 0, done.stderr[-3000:]
  assert int(done.stdout) > kills


def broken(log, at, count=30):
  """A data set whose reader fails at one item, and the same when mended."""
  names = [(f"i{i}", "train", "read") for i in range(count)]
  bad = list(names)
  bad[at] = (names[at][0], "train", "raise")
  return made.made_dataset(log, bad), made.made_dataset(log, names)


@pytest.mark.parametrize("workers", [0, 2])
def test_after_a_bug_the_finished_shards_are_kept(tmp_path, workers):
  log = tmp_path / "log"
  bad, _ = broken(log, 29)
  with pytest.raises(ZeroDivisionError, match="a bug in the reader") as caught:
    build(bad, tmp_path / "data", workers=workers, progress=False)
  assert "item 29 of the listing" in "".join(caught.value.__notes__)
  first = len(made.reads(log))
  with pytest.raises(ZeroDivisionError):
    build(bad, tmp_path / "data", progress=False)
  again = [name for _, name in made.reads(log)[first:]]
  assert again[-6:] == [f"i{i}" for i in range(24, 30)]
  assert len(again) <= 6 * max(workers, 1)  # shards that were under way


def interrupted(tmp_path):
  """An unfinished build of which one shard is missing."""
  bad, mended = broken(tmp_path / "log", 29)
  with pytest.raises(ZeroDivisionError):
    build(bad, tmp_path / "data", progress=False)
  return bad, mended


@pytest.mark.parametrize(
  "what", ["listing", "settings", "code", "version", "packages"]
)
def test_what_was_changed_is_named_and_all_is_read_again(
  tmp_path, what, capsys, monkeypatch
):
  bad, mended = interrupted(tmp_path)
  first = len(made.reads(tmp_path / "log"))
  changed = vars(mended) | {"items": bad.items[:-1]}
  wanted = {"code": "listing and code", "version": None}.get(what, "listing")
  if what == "settings":
    changed["settings"], wanted = {"size": 5}, "listing and settings"
  elif what == "version":
    changed["version"] = "1.1.0"
  elif what == "packages":
    wanted = "listing and packages"
    monkeypatch.setattr(
      plan.importlib.metadata, "version", lambda name: f"99 of {name}"
    )
  elif what == "code":
    source = Path.read_text
    monkeypatch.setattr(
      Path, "read_text", lambda path, *a, **k: source(path, *a, **k)
      + ("#" if path.suffix == ".py" else ""),
    )  # fmt: skip
  report = build(Dataset(**changed), tmp_path / "data", progress=False)
  assert report.written == 29
  assert len(made.reads(tmp_path / "log")) - first == 29
  said = capsys.readouterr().out
  if wanted:
    assert f"its {wanted} changed; it is started anew" in said
  else:
    assert "anew" not in said


def test_code_of_every_module_that_makes_records_counts():
  """What data and simulate import of this package is hashed with them."""
  house = Path(echo_jax.__file__).parent
  kept = {"data", "simulate", *(name[:-3] for name in plan.MODULES)}
  files = [*house.glob("data/**/*.py"), *house.glob("simulate/**/*.py")]
  # Makes what a model takes out of records, and no record.
  files.remove(house / "data" / "study_contract.py")
  files += [house / name for name in plan.MODULES]
  builders = house.parent / "data_builders"
  for file in (*files, *builders.rglob("*.py")):
    assert imported_rooms(file) <= kept, file
  texts = list(plan._code(made.read_logged))
  for name in plan.MODULES:
    assert (house / name).read_text() in texts


def replaced(tmp_path):
  """Items that are read from a file or a folder each; the last is broken."""
  log = tmp_path / "log"
  bad, mended = broken(log, 29)
  files = [tmp_path / f"f{i}" / "video" for i in range(30)]
  for file in files:
    file.parent.mkdir()
    file.write_text("old")

  def files_of(item):
    file = files[int(item.name[1:])]
    return (file,) if int(item.name[1:]) % 2 else (file.parent,)

  return [dataclasses.replace(d, files=files_of) for d in (bad, mended)], files


@pytest.mark.parametrize("at", [8, 9])
def test_a_shard_of_files_that_were_replaced_is_done_again(tmp_path, at):
  """Rejected or written, what is replaced meanwhile is read again."""
  (bad, mended), files = replaced(tmp_path)
  log, data = tmp_path / "log", tmp_path / "data"
  with pytest.raises(ZeroDivisionError):
    build(bad, data, progress=False)
  first = len(made.reads(log))
  files[at].write_text("another")
  with pytest.raises(ZeroDivisionError):
    build(bad, data, progress=False)
  again = [name for _, name in made.reads(log)[first:]]
  assert again == [f"i{i}" for i in (*range(6, 12), *range(24, 30))]
  first = len(made.reads(log))
  with pytest.raises(ZeroDivisionError):
    build(bad, data, progress=False)
  assert len(made.reads(log)) - first == 6  # the others stay


def test_a_copy_of_the_files_is_the_same_data_set(tmp_path):
  (_, mended), files = replaced(tmp_path)
  first = build(mended, tmp_path / "a", progress=False).path
  for file in files:
    os.utime(file, (1, 1))
  again = build(mended, tmp_path / "b", progress=False).path
  assert made.files_of(first) == made.files_of(again)


def test_going_on_says_how_far_it_is(tmp_path, capsys):
  bad, _ = interrupted(tmp_path)
  with pytest.raises(ZeroDivisionError):
    build(bad, tmp_path / "data", progress=False)
  assert "going on with an unfinished build, 4 of 5" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["cut", "gone", "no account", "half account"])
def test_a_shard_that_is_not_whole_is_done_again(tmp_path, harm):
  bad, _ = interrupted(tmp_path)
  log, data = tmp_path / "log", tmp_path / "data"
  (folder,) = data.glob(".toy*/shards-*")
  records = folder / "000002.array_record"
  account = folder / "000002.json"
  if harm == "cut":
    records.write_bytes(records.read_bytes()[:-1])
  elif harm == "gone":
    records.unlink()
  elif harm == "no account":
    account.unlink()
  else:
    account.write_text(account.read_text()[:10])
  first = len(made.reads(log))
  with pytest.raises(ZeroDivisionError):
    build(bad, data, progress=False)
  again = [name for _, name in made.reads(log)[first:]]
  assert again[:6] == [f"i{i}" for i in range(12, 18)]


def test_two_builds_of_one_data_set_do_not_meet(tmp_path):
  dataset = made.made_dataset(tmp_path / "log", 2)
  with Unfinished(tmp_path / "toy" / "1.0.0"):
    with pytest.raises(BuildFailed, match="another build is at work"):
      build(dataset, tmp_path, progress=False)
  assert build(dataset, tmp_path, progress=False).written == 2


class FullDisk:
  """A writer of records that finds the disk full when it closes a file."""

  def __init__(self, path, options):
    self._full = "000003" in path
    self._writer = true_writer(path, options)

  def write(self, record):
    self._writer.write(record)

  def close(self):
    self._writer.close()
    if self._full:  # as array_record says it
      raise RuntimeError(
        "write() failed: No space left on device; writing x; Failed to close"
      )


true_writer = shards.ArrayRecordWriter


def test_a_full_disk_is_explained_and_the_build_goes_on(tmp_path, monkeypatch):
  log, data = tmp_path / "log", tmp_path / "data"
  _, dataset = broken(log, 0)
  with monkeypatch.context() as patched:
    patched.setattr(shards, "ArrayRecordWriter", FullDisk)
    with pytest.raises(BuildFailed) as caught:
      build(dataset, data, progress=False)
  said = str(caught.value)
  assert f"no space left for {data}/toy/1.0.0" in said
  assert "needed for the other 12 of 30 items: about " in said
  assert "3 of 5 shards (" in said and "run the same command to go on" in said
  assert not list(data.rglob("*.part"))
  first = len(made.reads(log))
  report = build(dataset, data, progress=False)
  assert [name for _, name in made.reads(log)[first:]] == [
    f"i{i}" for i in range(18, 30)
  ]
  whole = build(dataset, tmp_path / "whole", progress=False)
  assert made.files_of(report.path) == made.files_of(whole.path)


def test_where_files_cannot_have_two_names_they_are_moved(
  tmp_path, monkeypatch
):
  _, dataset = broken(tmp_path / "log", 0)
  whole = build(dataset, tmp_path / "whole", progress=False)

  def refuse(*_, **__):
    raise OSError(errno.EPERM, "Operation not permitted")

  monkeypatch.setattr(os, "link", refuse)
  report = build(dataset, tmp_path / "data", progress=False)
  assert made.files_of(report.path) == made.files_of(whole.path)
  assert len(VideoSource(report.path, "train")) == 30
  assert json.loads((report.path / "counts.json").read_text())["written"] == 30


def test_a_worker_that_still_writes_keeps_no_folder(tmp_path, monkeypatch):
  """It writes while the folder is being removed, and once only."""
  state = Unfinished(tmp_path / "toy" / "1.0.0")
  shards_dir = state.folder / "shards-ab"
  shards_dir.mkdir(parents=True)
  (shards_dir / "part").touch()
  late, rmdir = [shards_dir / "late"], os.rmdir

  def written_to(path, **how):
    if late and Path(path).name == shards_dir.name:
      late.pop().touch()
    return rmdir(path, **how)

  monkeypatch.setattr(os, "rmdir", written_to)
  state.remove()
  assert not late and not state.folder.exists()
