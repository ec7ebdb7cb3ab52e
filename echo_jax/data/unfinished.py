"""The folder of a build that is under way: locked, resumable, hidden.

    .<name>-<version>-unfinished/
      lock             held by the one process that builds
      plan.json        digests of what the shards come from
      shards-<digest>/ finished shards, see shards.py
      jobs/            shards for the workers of Apache Beam, see beam.py
      whole/           the data set as it will be, made anew each time
      finished         `whole` is complete and only has to be moved
      replaced/        the data set that --overwrite takes out of the way
"""

import errno
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import TextIO

from echo_jax.data.plan import BuildFailed, Plan, Shard
from echo_jax.data.shards import PART, is_finished, sync, write_text


class Unfinished:
  """The hidden folder beside a data set; a context that holds its lock."""

  def __init__(self, final: Path):
    self.final = final
    name = f".{final.parent.name}-{final.name}-unfinished"
    self.folder = final.parent.parent / name
    self.whole = self.folder / "whole"

  def __enter__(self) -> "Unfinished":
    self._lock = lock(self.folder)
    self._recover()
    return self

  def __exit__(self, *error: object) -> None:
    for part in self.folder.glob(f"shards-*/*{PART}"):
      part.unlink()
    if not any(self.folder.glob("shards-*/*.json")):
      self.remove()
    self._lock.close()

  def _recover(self) -> None:
    """Undoes or completes a move that was broken off."""
    finished, replaced = self.folder / "finished", self.folder / "replaced"
    if replaced.exists() and not self.final.exists() and self.whole.exists():
      replaced.rename(self.final)
    if finished.exists() and not self.whole.exists():
      self.clear()  # the data set was moved; only the sweeping is left
    finished.unlink(missing_ok=True)

  def start(self, plan: Plan) -> list[Shard]:
    """Prepares the folder for a plan; returns the shards that are to do."""
    name = f"{self.final.parent.name} {self.final.name}"
    stated = self.folder / "plan.json"
    if stated.exists():
      before = json.loads(stated.read_text(encoding="utf-8"))
      changed = [k for k, v in plan.digests.items() if before.get(k) != v]
      if changed:
        print(
          f"{name}: there is an unfinished build, but its "
          f"{' and '.join(changed)} changed; it is started anew"
        )
        self.clear()
    # The digest is in the name: a worker of a killed build that still lives
    # can move its shard into the old folder only, which is gone.
    self.shards(plan).mkdir(exist_ok=True)
    write_text(stated, json.dumps(dict(plan.digests)))
    done = {shard.number for shard in self.finished(plan)}
    if done:
      print(
        f"{name}: going on with an unfinished build, {len(done):,} of "
        f"{len(plan.shards):,} shards are there (to start anew, remove "
        f"{self.folder})"
      )
    return [shard for shard in plan.shards if shard.number not in done]

  def shards(self, plan: Plan) -> Path:
    """Where the shards of a plan lie."""
    return self.folder / f"shards-{plan.digest}"

  def finished(self, plan: Plan) -> list[Shard]:
    """The shards that are whole."""
    folder = self.shards(plan)
    return [shard for shard in plan.shards if is_finished(folder, shard)]

  def size_bytes(self, plan: Plan) -> int:
    """What the finished shards take."""
    files = self.shards(plan).glob("*")
    return sum(f.stat().st_size for f in files if f.suffix != PART)

  def move(self) -> None:
    """Puts `whole` in its place; a kill leaves the old one or the new one."""
    for file in self.whole.iterdir():
      sync(file)
    self.final.parent.mkdir(parents=True, exist_ok=True)
    (self.folder / "finished").touch()
    if self.final.exists():  # aside in one move, never half removed
      self.final.rename(self.folder / "replaced")
    self.whole.rename(self.final)
    self.clear()

  def clear(self) -> None:
    """Removes everything but the lock; the mark that all is done goes last."""
    found = list(self.folder.iterdir())
    for path in sorted(found, key=lambda path: path.name == "finished"):
      if path.is_dir():
        _remove(path)
      elif path.name != "lock":
        path.unlink()

  def remove(self) -> None:
    """Removes the folder."""
    _remove(self.folder)


def _remove(folder: Path, wait_s: float = 10.0) -> None:
  """Removes a folder, though a worker of a killed build may still write there.

  Such a worker ends as soon as it sees that its parent is gone.
  """
  until = time.monotonic() + wait_s
  while True:
    try:
      return shutil.rmtree(folder)
    except OSError as error:
      if error.errno != errno.ENOTEMPTY or time.monotonic() > until:
        raise
    time.sleep(0.1)


def lock(folder: Path) -> TextIO:
  """Takes the lock of a build; the system frees it when the process ends."""
  while True:
    folder.mkdir(parents=True, exist_ok=True)
    try:
      file = (folder / "lock").open("w", encoding="utf-8")
    except FileNotFoundError:  # a build has just ended and swept up
      continue
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.close()
      raise BuildFailed(
        f"another build is at work in {folder}; wait for its end"
      ) from error
    except OSError as error:
      if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
        raise
      print(f"{folder} cannot be locked; let no second build run there")
      return file
    if _is_there(file, folder / "lock"):
      return file
    file.close()


def _is_there(file: TextIO, path: Path) -> bool:
  """Whether an open file still is the one of that path."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False
