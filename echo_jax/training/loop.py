"""The training loop, always in one order: step, log, evaluate, save."""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

from echo_jax.data.pipeline import arrays_of, item_ids
from echo_jax.training import processes
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.speed import UNTRACED, Watch, Watching
from echo_jax.training.state import TrainState
from echo_jax.training.step import TrainStep
from echo_jax.training.writers import Writers, open_writers


class Diverged(ValueError):
  """The loss is not a number; the message names the step and the clips."""


class Stopped(SystemExit):
  """The run was asked to end (SIGTERM) and saves its state first.

  Uncaught it ends the process with 143, as shells count signals.
  """

  def __init__(self) -> None:
    super().__init__(128 + signal.SIGTERM)


@dataclass(frozen=True)
class Pace:
  """How long a run is and when it logs, validates and saves (in steps)."""

  steps: int
  log_every: int = 20
  validate_every: int = 100
  save_every: int = 100
  keep: int = 2

  def __post_init__(self) -> None:
    for name, steps in vars(self).items():
      if steps < 1:
        raise ValueError(f"{name} is {steps}, wants 1 or more")


def fit(
  state: TrainState,
  train_step: TrainStep,
  batches: Callable[[int], Iterator[Mapping[str, Any]]],
  workdir: Path,
  pace: Pace,
  *,
  validate: Callable[[TrainState], dict[str, float]],
  metric: str = "loss",
  tensorboard: bool = False,
  progress: bool = True,
  watching: Watching = UNTRACED,
  place: Callable[[Mapping[str, Any]], Any] = arrays_of,
) -> TrainState:
  """Trains from the newest checkpoint in `workdir`, or from `state`.

  Args:
    state: where a new run starts; where a checkpoint is there, its shapes do.
      Both say on which devices it lies.
    train_step: (state, batch arrays) -> (state, metrics).
    batches: from a step number to the batches from there on.
    workdir: gets `checkpoints/`, `log.jsonl` and `speed.jsonl`.
    pace: length of the run and intervals.
    validate: numbers of the validation split; holds `metric`.
    metric: which of them ranks checkpoints; lower is better.
    watching: what to time and trace.
    place: a batch -> arrays on the devices that the state lies on.

  Raises:
    Diverged: a loss is not finite; nothing of that stretch was saved.
    Stopped: SIGTERM came; the state was saved.
    ValueError: the batches ended before the run did.
  """
  with (
    StopSignal() as stop,  # around the last save: a second one may come then
    Checkpoints(
      workdir / "checkpoints", metric, pace.keep, mend=True
    ) as checkpoints,
  ):
    # ---- restore
    state = checkpoints.restore_newest(state)
    first = int(state.step)
    with (
      open_writers(
        workdir, first, pace.steps, tensorboard=tensorboard, progress=progress
      ) as writers,
      processes.name_the_lost(),
      Watch(workdir, watching) as watch,
    ):
      pending = Pending(writers)
      for step, batch in zip(
        range(first + 1, pace.steps + 1), watch.timed(batches(first)),
        strict=False,
      ):  # fmt: skip
        # ---- step
        rows = place(batch)
        watch.step(step, state, rows)
        state, metrics = train_step(state, rows)
        pending.add(step, clip_names(batch), metrics)
        stopping = stop.at(step)  # once a step: it may come while we save
        judging = step == pace.steps or step % pace.validate_every == 0
        # What was validated is saved too, so that the best can be kept.
        saving = stopping or judging or step % pace.save_every == 0
        # ---- log
        if saving or step % pace.log_every == 0:
          pending.flush()
          watch.lap(step)
          checkpoints.check()
        # ---- evaluate
        scores = None
        if judging:
          scores = validate(state)
          if not math.isfinite(scores[metric]):
            raise Diverged(
              f"validation {metric} is {scores[metric]} at step {step}"
            )
          writers.write(step, "validation", scores)
        # ---- save
        if saving:
          checkpoints.save(state, scores)
          watch.restart()
        if stopping:
          print(f"asked to stop at step {step} of {pace.steps}: saving it")
          raise Stopped
  if int(state.step) < pace.steps:
    raise ValueError(
      f"the batches ended at step {int(state.step)} of {pace.steps}"
    )
  return state


def clip_names(batch: Mapping[str, Any]) -> list[str]:
  """Video and start of each clip, as in `set:7 from 350 ms`; or the studies."""
  if "start_ms" not in batch:
    return item_ids(batch)
  return [
    f"{video_id} from {start:.0f} ms"
    for video_id, start in zip(
      batch["video_id"], batch["start_ms"], strict=True
    )
  ]


class Pending:
  """Metrics still on the device, with the clips they came from."""

  def __init__(self, writers: Writers):
    self._writers = writers
    self._steps: list[tuple[int, list[str], Mapping[str, jax.Array]]] = []

  def add(
    self, step: int, clips: list[str], metrics: Mapping[str, jax.Array]
  ) -> None:
    """Keeps one step's metrics without waiting for them."""
    self._steps.append((step, clips, metrics))

  def flush(self) -> None:
    """Writes what is pending; stops at the first that is no number."""
    steps, self._steps = self._steps, []
    for step, clips, metrics in steps:
      numbers = {name: float(value) for name, value in metrics.items()}
      # A finite loss may leave parameters that are no numbers.
      name = "loss" if not math.isfinite(numbers["loss"]) else "gradient_norm"
      if not math.isfinite(numbers.get(name, 0.0)):
        raise Diverged(
          f"{name} is {numbers[name]} at step {step}; clips: "
          f"{', '.join(clips)}. Lower the learning rate or look at them "
          "with `echo-jax inspect`; the last checkpoint is from before"
        )
      self._writers.write(step, "train", numbers)
    if steps:
      self._writers.advance(steps[-1][0], numbers["loss"])


class StopSignal:
  """Notices SIGTERM, so that the loop can save before it ends.

  Of several processes one may be told first: JAX notices the signal then, and
  finds a step at which all of them can stop.
  """

  def __init__(self) -> None:
    self._together = jax.process_count() > 1
    self._asked = False
    self._before: Any = None

  def at(self, step: int) -> bool:
    """Whether to stop after this step; to be asked once a step."""
    if self._together:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._asked

  def _ask(self, number: int, frame: FrameType | None) -> None:
    self._asked = True

  def __enter__(self) -> "StopSignal":
    if not self._together:
      self._before = signal.signal(signal.SIGTERM, self._ask)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if not self._together:
      signal.signal(signal.SIGTERM, self._before)
