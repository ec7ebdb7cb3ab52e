"""Where the numbers of a run go: a JSON-lines log, TensorBoard, a bar."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

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
    # By line: what led to a checkpoint is on disk before it.
    self._log = path.open("a", buffering=1, encoding="utf-8")
    self._events = _event_writer(workdir, first_step) if tensorboard else None
    self._bar = tqdm(
      total=steps, initial=first_step, desc=workdir.name, unit="step",
      disable=not progress,
    )  # fmt: skip

  def write(self, step: int, part: str, numbers: Mapping[str, float]) -> None:
    """One line of the log; `step` counts finished steps."""
    line = {"step": step, "part": part, **numbers}
    self._log.write(json.dumps(line) + "\n")
    if self._events is not None:
      for name, value in numbers.items():
        self._events.add_scalar(f"{part}/{name}", value, step)

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


def _event_writer(workdir: Path, first_step: int):
  from tensorboardX import SummaryWriter  # an extra, so not at the top

  return SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)


def cut_log(path: Path, first_step: int) -> None:
  """Drops log lines after `first_step` and a half-written last line."""
  if not path.exists():
    return
  kept = [
    json.dumps(line) + "\n"
    for line in read_log(path)
    if line["step"] <= first_step
  ]
  unfinished = path.with_suffix(".tmp")
  unfinished.write_text("".join(kept), encoding="utf-8")
  os.replace(unfinished, path)


def read_log(path: Path) -> list[dict]:
  """Lines of a log; a last line that was cut off by a kill is left out."""
  text = path.read_text(encoding="utf-8")
  whole, _, _ = text.rpartition("\n")
  return [json.loads(line) for line in whole.splitlines()]
