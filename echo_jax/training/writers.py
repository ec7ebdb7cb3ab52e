"""Where the numbers of a run go: a JSON-lines log, TensorBoard, a bar."""

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from echo_jax.training import processes

LOG_NAME = "log.jsonl"


class Writers:
  """Writes each step's numbers once, also after a run was resumed.

  The log is cut to `first_step` on opening: lines of steps that will be done
  again are dropped, so an interrupted run ends with the log of an unbroken
  one.  Every line is {"step": …, "part": "train" or "validation", numbers}.

  Args:
    workdir: folder of the run.
    first_step: steps already done and kept.
    steps: steps of the whole run, for the bar.
    tensorboard: also write TensorBoard events (extra `[tensorboard]`).
    progress: show a bar.
  """

  def __init__(
    self,
    workdir: Path,
    first_step: int,
    steps: int,
    *,
    tensorboard: bool = False,
    progress: bool = True,
  ):
    path = workdir / LOG_NAME
    cut_log(path, first_step)
    self._log = path.open("a", buffering=1, encoding="utf-8")  # by line
    self._events = _event_writer(workdir) if tensorboard else None
    if tensorboard:
      for line in read_log(path):
        self._show(line)
    self._bar = tqdm(
      total=steps, initial=first_step, desc=workdir.name, unit="step",
      disable=not progress,
    )  # fmt: skip

  def write(self, step: int, part: str, numbers: Mapping[str, float]) -> None:
    """One line of the log; `step` counts finished steps.

    A number that is NaN, as the loss of a target that no clip of the batch
    has a label of, is null: JSON has no other word for it.
    """
    known = {
      name: None if math.isnan(value) else value
      for name, value in numbers.items()
    }
    line = {"step": step, "part": part, **known}
    self._log.write(json.dumps(line) + "\n")
    self._show(line)

  def _show(self, line: Mapping[str, Any]) -> None:
    """One line of the log as TensorBoard has it."""
    if self._events is None:
      return
    part, step = line["part"], line["step"]
    for name in line.keys() - {"part", "step"}:
      if line[name] is None:
        continue
      self._events.add_scalar(f"{part}/{name}", line[name], step)

  def advance(self, step: int, loss: float) -> None:
    """Moves the bar to `step`."""
    self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    self._bar.update(step - self._bar.n)

  def __enter__(self) -> "Writers":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._log.close()
    self._bar.close()
    if self._events is not None:
      self._events.close()


class Unwritten(Writers):
  """What the other processes of a run have: the first one writes for all."""

  def __init__(self) -> None:
    pass

  def write(self, step: int, part: str, numbers: Mapping[str, float]) -> None:
    """Writes nothing."""

  def advance(self, step: int, loss: float) -> None:
    """Shows nothing."""

  def __exit__(self, *ended: Any) -> None:
    pass


def open_writers(workdir: Path, *of_run: int, **shown: bool) -> Writers:
  """The writers of this process; arguments as of `Writers`."""
  if not processes.is_first():
    return Unwritten()
  return Writers(workdir, *of_run, **shown)


def _event_writer(workdir: Path):
  """A writer into an empty folder.

  A kill loses what tensorboardX still holds in its queue, so the events of a
  run that goes on are written again from its log.
  """
  from tensorboardX import SummaryWriter  # an extra, so not at the top

  folder = workdir / "tensorboard"
  shutil.rmtree(folder, ignore_errors=True)
  return SummaryWriter(str(folder))


def cut_log(path: Path, first_step: int) -> None:
  """Drops log lines after `first_step` and a half-written last line."""
  if not path.exists():
    return
  kept = [
    json.dumps(line) + "\n"
    for line in read_log(path)
    if line["step"] <= first_step
  ]
  write_whole(path, "".join(kept))


def write_whole(path: Path, content: str | bytes) -> None:
  """Replaces a file so that it holds all of this or what it held before.

  Of several processes that write it at once, the last one's stays.
  """
  data = content.encode("utf-8") if isinstance(content, str) else content
  unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  unfinished.write_bytes(data)
  os.replace(unfinished, path)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[TextIO | None]:
  """Holds a lock; None if another process does and `wait` is not set.

  The system frees it when the process ends, however it does, and those that it
  let inherit the file.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      yield None
      return
    except OSError as error:
      if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
        raise
      print(f"{path} cannot be locked; let no second process work there")
    yield file


def read_log(path: Path) -> list[dict]:
  """Lines of a log; a last line that was cut off by a kill is left out."""
  text = path.read_text(encoding="utf-8")
  whole, _, _ = text.rpartition("\n")
  return [json.loads(line) for line in whole.splitlines()]
