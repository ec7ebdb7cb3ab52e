"""Checkpoints of the whole train state, through Orbax.

Orbax writes into a temporary folder and renames it, so that a save that was
killed is never taken for a whole one.  The last few and the best one by a
named validation metric are kept.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from echo_jax.training.state import TrainState


class SaveFailed(OSError):
  """A checkpoint could not be written; the message says where and why."""


class Checkpoints:
  """The checkpoints of one run.

  Args:
    folder: where they lie; made if needed.
    metric: name of the validation metric that ranks them; lower is better.
    keep: how many of the newest stay beside the best.
  """

  def __init__(self, folder: Path, metric: str = "loss", keep: int = 2):
    self._folder = folder.absolute()
    self._metric = metric
    policies = [
      managers.LatestN(keep),
      managers.BestN(
        get_metric_fn=lambda metrics: metrics[metric],
        reverse=True,
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
    options = ocp.CheckpointManagerOptions(
      preservation_policy=managers.AnyPreservationPolicy(policies),
      best_fn=lambda metrics: metrics[metric],
      best_mode="min",
    )
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def save(
    self, state: TrainState, metrics: Mapping[str, float] | None
  ) -> None:
    """Saves in the background; without metrics it is never the best one.

    Raises:
      SaveFailed: this step could not be saved, or the one before.
    """
    step = int(state.step)
    what = ocp.args.StandardSave(state)
    with self._failures():
      if not self._manager.save(step, args=what, metrics=metrics):
        raise SaveFailed(f"{self._folder} already has step {step}")

  def check(self) -> None:
    """Raises SaveFailed if a save in the background has failed."""
    with self._failures():
      self._manager.check_for_errors()

  @contextlib.contextmanager
  def _failures(self) -> Iterator[None]:
    """Names the folder and its free space where Orbax says the disk is full.

    TensorStore reports it as a ValueError, the file system as an OSError.
    """
    try:
      yield
    except (OSError, ValueError) as error:
      if os.strerror(errno.ENOSPC) not in str(error):
        raise
      free = shutil.disk_usage(self._folder).free
      raise SaveFailed(
        f"no space left for a checkpoint in {self._folder} "
        f"({free / 2**20:.0f} MiB free); make room and start again: the run "
        "goes on from the last whole checkpoint"
      ) from error

  def newest(self) -> int | None:
    """Step of the newest checkpoint."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """Step of the checkpoint with the lowest ranking metric."""
    return self._manager.best_step()

  def steps(self) -> list[int]:
    """Steps of all checkpoints that are kept."""
    return list(self._manager.all_steps())

  def restore(self, step: int, like: TrainState) -> TrainState:
    """The state saved at a step, laid out as `like`."""
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    return self._manager.restore(
      step, args=ocp.args.StandardRestore(shapes)
    )

  def restore_tree(self, step: int) -> dict[str, Any]:
    """A saved state as nested dicts of NumPy arrays, whatever the model."""
    tree = self._manager.restore(step, args=ocp.args.StandardRestore())
    return jax.tree.map(np.asarray, tree)

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    try:
      with self._failures():
        self._manager.wait_until_finished()
    finally:
      self._manager.close()
