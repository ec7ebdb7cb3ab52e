"""Where the time of a run goes: compiling, waiting for data, stepping.

These numbers differ from run to run, so they have a file of their own beside
the log, which does not.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from echo_jax.training import processes

SPEED_NAME = "speed.jsonl"
PROFILE_NAME = "profile"
_COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass(frozen=True)
class Watching:
  """What to watch of a run.

  Attributes:
    profile: first and last step of a trace for TensorBoard or Perfetto; None
      is no trace.
    flops: (state, batch) -> model FLOPs of a step.
    peak_flops_s: what the devices can do a second; None where that is not
      known, and no utilisation is told then.
  """

  profile: tuple[int, int] | None = None
  flops: Callable[[Any, Any], int] | None = None
  peak_flops_s: float | None = None

  def __post_init__(self) -> None:
    if self.profile and not 1 <= self.profile[0] <= self.profile[1]:
      raise ValueError(
        f"profile {self.profile}: want first and last step, as in 10-12"
      )


UNTRACED = Watching()


class Watch:
  """Times a run and writes what it finds whenever it logs, validates or saves.

  A line of `speed.jsonl` is of the steps since the one before, without
  validation and saving: `step_s` (seconds a step, compiling too),
  `waiting_share` (of that, for data), `compiled` programs and `compile_s`, and
  `mfu`, model FLOPs utilisation, where the peak of the devices is known.
  """

  def __init__(self, workdir: Path, watching: Watching):
    self._workdir, self._watching = workdir, watching
    self._compiled, self._compile_s = 0, 0.0
    self._told = self._tracing = self._traced = False
    self._ideal_s: float | None = None  # of a step, at the peak
    self.restart()

  def restart(self) -> None:
    """From here on it counts."""
    self._since, self._waited_s, self._steps = time.perf_counter(), 0.0, 0

  def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, while it notices how long each is waited for."""
    batches = iter(batches)
    while True:
      began = time.perf_counter()
      try:
        batch = next(batches)
      except StopIteration:
        return
      self._waited_s += time.perf_counter() - began
      yield batch

  def step(self, step: int, state: Any, batch: Any) -> None:
    """A step begins: its trace does too, if one is asked for."""
    self._steps += 1
    if self._ideal_s is None and self._watching.peak_flops_s:
      work = self._watching.flops(state, batch)
      self._ideal_s = work / self._watching.peak_flops_s
    first, last = self._watching.profile or (0, 0)
    if step == first:
      jax.block_until_ready(state)
      jax.profiler.start_trace(self._workdir / PROFILE_NAME)
      self._tracing = self._traced = True
    elif self._tracing and step > last:
      jax.block_until_ready(state)
      self._stop_trace()

  def lap(self, step: int) -> None:
    """Writes a line; the step's results must be there already."""
    step_s = (time.perf_counter() - self._since) / self._steps
    line = {
      "step": step,
      "step_s": step_s,
      "waiting_share": self._waited_s / self._steps / step_s,
      "compiled": self._compiled,
      "compile_s": self._compile_s,
    }
    if self._ideal_s is not None:
      line["mfu"] = self._ideal_s / step_s
    if processes.is_first():
      if not self._told:
        print(f"compiled {self._compiled} programs in {self._compile_s:.1f} s")
      with (self._workdir / SPEED_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    self._told = True
    self._compiled, self._compile_s = 0, 0.0
    self.restart()

  def _count(self, event: str, seconds: float, **about: Any) -> None:
    if event == _COMPILED:
      self._compiled += 1
      self._compile_s += seconds

  def _stop_trace(self) -> None:
    jax.profiler.stop_trace()
    self._tracing = False
    print(f"trace of the steps: {self._workdir / PROFILE_NAME}")

  def __enter__(self) -> "Watch":
    jax.monitoring.register_event_duration_secs_listener(self._count)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._tracing:
      self._stop_trace()
    if self._watching.profile and not self._traced:
      print(f"no trace: step {self._watching.profile[0]} was not among these")
    jax.monitoring.unregister_event_duration_listener(self._count)


def read_speed(workdir: Path) -> list[dict[str, float | int]]:
  """Lines of a run's `speed.jsonl`."""
  text = (workdir / SPEED_NAME).read_text(encoding="utf-8")
  return [json.loads(line) for line in text.splitlines()]
