"""Processes that work through shards, and outlive a reader that crashes.

A decoder may end its process (segmentation fault, killed for want of memory).
The shard is then done again at the end, alone in a fresh process; an item at
which a process died twice, the second time alone, is rejected.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tqdm import tqdm

from echo_jax.data.plan import BuildFailed, Read, Shard
from echo_jax.data.shards import run_shard

Progress = Callable[[int], None]  # told how many items more, or fewer


def run_here(
  read: Read, folder: Path, shards: Iterable[Shard], progress: Progress
) -> None:
  """Works through shards in this process; a crash ends it."""
  for shard in shards:
    run_shard(
      read, folder, shard, lambda number: progress(number is not None)
    )


@dataclass(frozen=True)
class _Begun:
  number: int | None  # of the item in the listing; None: all are read


@dataclass(frozen=True)
class _Failed:
  error: BaseException
  trace: str


@dataclass(frozen=True)
class _Died:
  number: int | None  # of the item that was read; None: between items
  how: str


class _Done:
  pass


class Crew:
  """Worker processes for the shards of one data set."""

  def __init__(self, read: Read, folder: Path, workers: int):
    self._make = lambda: _Worker(read, folder)
    self._workers = workers
    self._idle: list[_Worker] = []
    self._busy: dict[Connection, _Worker] = {}

  def run(self, shards: Iterable[Shard], progress: Progress) -> None:
    """Works through all shards.

    Raises:
      BuildFailed: processes die where no item can be blamed.
      Exception: what a reader raised, with its traceback as a note.
    """
    again: list[tuple[Shard, _Died]] = []
    queue = deque(shards)
    while queue or self._busy:
      while queue and len(self._busy) < self._workers:
        worker = self._idle.pop() if self._idle else self._make()
        self._busy[worker.connection] = worker
        worker.begin(queue.popleft())
      for connection in wait(list(self._busy)):
        worker = self._busy[connection]
        message = worker.receive(progress)
        if isinstance(message, _Done):
          self._idle.append(self._busy.pop(connection))
        elif isinstance(message, _Died):
          del self._busy[connection]
          again.append((worker.shard, message))
          tqdm.write(
            f"a reading process died ({message.how}); its shard will be done "
            "again at the end, alone"
          )
    if again:
      self.close()  # frees their memory: the want of it may be the cause
    for shard, died in again:
      self._run_alone(shard, died, progress)

  def _run_alone(self, shard: Shard, died: _Died, progress: Progress) -> None:
    """Does a shard in fresh processes until it is whole."""
    deaths = Counter([died.number])
    while True:
      with contextlib.closing(self._make()) as worker:
        worker.begin(shard)
        message = None
        while message is None:
          message = worker.receive(progress)
      if isinstance(message, _Done):
        return
      deaths[message.number] += 1
      if deaths[message.number] < 2:
        continue
      if message.number is None:
        raise BuildFailed(
          f"processes that read die before or between items ({message.how}); "
          "see what they printed. A script that builds needs "
          '`if __name__ == "__main__":`'
        )
      crashed = dict(shard.crashed) | {message.number: message.how}
      shard = replace(shard, crashed=crashed)

  def close(self) -> None:
    """Ends all processes, also those at work."""
    for worker in (*self._idle, *self._busy.values()):
      worker.close()
    self._idle, self._busy = [], {}

  def __enter__(self) -> "Crew":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()


class _Worker:
  """A process that does one shard after the other, seen from outside."""

  def __init__(self, read: Read, folder: Path):
    spawn = multiprocessing.get_context("spawn")
    self.connection, theirs = spawn.Pipe()
    # Daemon: an interpreter that exits does not wait for it.
    self._process = spawn.Process(
      target=_serve, args=(theirs, read, folder), daemon=True
    )
    self._process.start()
    theirs.close()  # so that its death ends the connection
    self.shard: Shard | None = None
    self._item: int | None = None
    self._begun = 0

  def begin(self, shard: Shard) -> None:
    """Hands over a shard."""
    self.shard, self._item, self._begun = shard, None, 0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      self.connection.send(shard)  # if it is dead, `receive` says so

  def receive(self, progress: Progress) -> "_Done | _Died | None":
    """The next news; None while the shard is under way."""
    try:
      message = self.connection.recv()
    except (EOFError, OSError):
      self._process.join()
      progress(-self._begun)
      how = _how_it_ended(self._process.exitcode)
      self.connection.close()
      return _Died(self._item, how)
    if isinstance(message, _Failed):
      message.error.add_note(message.trace)
      raise message.error
    if not isinstance(message, _Begun):
      return message
    self._item = message.number
    if message.number is not None:
      self._begun += 1
      progress(1)
    return None

  def close(self) -> None:
    """Ends the process."""
    self.connection.close()
    self._process.kill()
    self._process.join()


def _how_it_ended(code: int | None) -> str:
  if code is not None and code < 0:
    return signal.Signals(-code).name
  return f"exit code {code}"


def _serve(connection: Connection, read: Read, folder: Path) -> None:
  """The life of a worker process."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
  threading.Thread(target=_die_with_parent, daemon=True).start()
  while True:
    try:
      shard = connection.recv()
    except (EOFError, OSError):
      return  # the parent has ended
    try:
      run_shard(
        read, folder, shard, lambda number: _tell(connection, _Begun(number))
      )
    except Exception as error:
      _tell(connection, _Failed(_sendable(error), traceback.format_exc()))
    else:
      _tell(connection, _Done())


def _tell(connection: Connection, news: "_Begun | _Failed | _Done") -> None:
  try:
    connection.send(news)
  except OSError:
    os._exit(1)  # nobody listens: the parent was killed


def _die_with_parent() -> None:
  """A parent that was killed cannot end its children; they must see to it."""
  wait([multiprocessing.parent_process().sentinel])
  os._exit(1)


def _sendable(error: Exception) -> Exception:
  """The error itself if it survives the way, else its words."""
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:  # whatever a foreign class does when it is copied
    return RuntimeError(f"{type(error).__name__}: {error}")
  return error
