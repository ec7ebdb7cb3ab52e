"""Checkpoints of the whole train state, through Orbax.

Orbax writes into a temporary folder and renames it, so that a save that was
killed is never taken for a whole one.  The last few and the best one by a
named validation metric are kept.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from echo_jax import trees
from echo_jax.training import processes
from echo_jax.training.state import TrainState

CHECKSUMS = "checksums"  # of the leaves of a saved state
ANEW = "none is left to go on from; to start anew, use another --workdir"


class SaveFailed(OSError):
  """A checkpoint could not be written; the message says where and why."""


class OtherState(ValueError):
  """A checkpoint is not of this model; the message says what differs."""


class Checkpoints:
  """The checkpoints of one run.

  Args:
    folder: where they lie; made if needed.
    metric: name of the validation metric that ranks them; lower is better.
    keep: how many of the newest stay beside the best.
    mend: puts damaged checkpoints aside, as only the run itself may.

  Raises:
    ValueError: a damaged one, of which Orbax opens nothing, without `mend`.
  """

  def __init__(
    self, folder: Path, metric: str = "loss", keep: int = 2,
    mend: bool = False,
  ):  # fmt: skip
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
    self._need = 0  # bytes of a state
    damaged = _unreadable_metrics(self._folder)
    if damaged:
      step, error = damaged[0]
      what = f"checkpoint {step} in {self._folder} is damaged ({error}); "
      if len(damaged) == len(saved_steps(self._folder)):
        raise ValueError(what + ANEW)
      if not mend:
        raise ValueError(
          what + "start the run again, which puts it aside and uses another"
        )
    self._put_aside(damaged)
    self._manager = ocp.CheckpointManager(
      self._folder, options=options,
      item_handlers=ocp.StandardCheckpointHandler(),
    )  # fmt: skip

  def save(
    self, state: TrainState, metrics: Mapping[str, float] | None
  ) -> None:
    """Saves in the background; without metrics it is never the best one.

    Raises:
      SaveFailed: this step could not be saved, or the one before.
    """
    step = int(state.step)
    what = ocp.args.StandardSave(state)
    self._need = _bytes_of(state)
    with self._failures():
      if not self._manager.save(
        step, args=what, metrics=metrics,
        custom_metadata={CHECKSUMS: checksums(state)},
      ):
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
        f"no space left for a checkpoint in {self._folder}: it needs about "
        f"{self._need / 2**20:.4g} MiB, {free / 2**20:.4g} MiB are free; make "
        "room and start again: the run goes on from the last whole checkpoint"
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
    """The state saved at a step, on the devices that `like` lies on.

    Whatever number of devices or processes saved it, on whatever mesh.
    `like` may be shapes; those without a sharding go to the first device.
    """
    shapes = jax.tree.map(_place, like)
    saved = self._manager.item_metadata(step)
    if not jax.tree.leaves(saved):
      raise ValueError("its list of arrays cannot be read")
    _refuse_other(saved, shapes)
    state = self._manager.restore(
      step, args=ocp.args.StandardRestore(shapes)
    )
    self._verify(step, state)
    return state

  def _verify(self, step: int, state: Any) -> None:
    """Raises ValueError where a leaf is not what was saved."""
    about = self._manager.metadata(step).custom_metadata or {}
    saved, found = about.get(CHECKSUMS, {}), checksums(state)
    if not saved:
      print(
        f"checkpoint {step} in {self._folder} has no checksums: it is of an "
        "earlier version, or they are damaged; its arrays are not verified",
        file=sys.stderr,
      )
    changed = [n for n in saved.keys() & found if saved[n] != found[n]]
    if changed:
      raise ValueError(
        f"{len(changed)} arrays are not what was saved, such as {min(changed)}"
      )

  def restore_newest(self, like: TrainState) -> TrainState:
    """The newest state that can be read, or `like` itself if there is none.

    One that is damaged is named and put aside, once an older one was read.

    Raises:
      OtherState: the newest is of another model.
      ValueError: there are checkpoints, but none can be read.
    """
    self._need = _bytes_of(like)
    damaged = []
    for step in sorted(self.steps(), reverse=True):
      try:
        state = self._read_twice(step, like)
      except OtherState:
        raise
      except Exception as error:
        # Orbax says so of arrays that it cannot read, with this very class.
        known = isinstance(error, (OSError, ValueError, KeyError))
        if not known and type(error) is not Exception:
          raise
        damaged.append((step, error))
      else:
        if damaged:
          self._put_aside(damaged)
          self._manager.reload()
        return state
    for step, error in damaged:
      print(f"checkpoint {step}: {_first_line(error)}", file=sys.stderr)
    if damaged:
      raise ValueError(f"all checkpoints in {self._folder} are damaged; {ANEW}")
    return like

  def _read_twice(self, step: int, like: TrainState) -> TrainState:
    """Tries again where storage failed for a moment."""
    try:
      return self.restore(step, like)
    except OSError:
      return self.restore(step, like)

  def _put_aside(self, damaged: Sequence[tuple[int, Exception]]) -> None:
    """Moves damaged checkpoints away, says so, and leaves their steps free."""
    if not damaged:
      return
    processes.wait_for_all("damage")  # all have looked
    aside = self._folder.with_name(f"{self._folder.name}_damaged")
    for step, error in damaged:
      print(
        f"checkpoint {step} in {self._folder} cannot be read "
        f"({_first_line(error)}); it is kept in {aside}, and another one is "
        "used",
        file=sys.stderr,
      )

    def move() -> None:
      for step, _ in damaged:
        # In a folder of its own: an earlier one of that step stays.
        aside.mkdir(exist_ok=True)
        free = Path(tempfile.mkdtemp(prefix=f"{step}_", dir=aside))
        (self._folder / str(step)).rename(free / str(step))

    processes.first_writes(move)

  def restore_tree(self, step: int) -> dict[str, Any]:
    """A saved state as nested dicts of NumPy arrays, whatever the model."""
    saved = self._manager.item_metadata(step)
    shapes = jax.tree.map(
      lambda leaf: _place(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)), saved
    )
    tree = self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
    self._verify(step, tree)
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


def saved_steps(folder: Path) -> list[int]:
  """Steps of the whole checkpoints of a run, without opening them."""
  return sorted(ocp.utils.checkpoint_steps(folder)) if folder.exists() else []


def _first_line(error: Exception) -> str:
  return (str(error).strip() or repr(error)).splitlines()[0][:300]


def _refuse_other(saved: Any, like: Any) -> None:
  """Raises OtherState where names, shapes or kinds of numbers differ."""
  found, wanted = (
    {
      name: (tuple(leaf.shape), str(leaf.dtype))
      for name, leaf in trees.named_leaves(tree).items()
    }
    for tree in (saved, like)
  )
  for name in {**wanted, **found}:
    if found.get(name) != wanted.get(name):
      raise OtherState(
        f"the checkpoint is of another model or optimiser: {name} is "
        f"{found.get(name, 'absent')} there and {wanted.get(name, 'absent')} "
        "here; use another --workdir, or the code and settings it began with"
      )


def _unreadable_metrics(folder: Path) -> list[tuple[int, ValueError]]:
  """Steps whose metrics are damaged: Orbax opens no folder that has one."""
  found = []
  for step in saved_steps(folder):
    path = folder / str(step) / "metrics" / "metrics"
    try:
      if path.exists():
        json.loads(path.read_bytes())
    except ValueError as error:
      found.append((step, error))
  return found


def checksums(state: Any) -> dict[str, int]:
  """One number a leaf, the same on whatever devices it lies."""
  leaves = trees.named_leaves(state)
  return {name: int(_checksum(leaf)) for name, leaf in leaves.items()}


@jax.jit
def _checksum(leaf: jax.Array) -> jax.Array:
  """Sum of the leaf's words, each times an odd number of its place.

  Whole numbers add up to the same in any order, and a change of one word
  changes the sum.
  """
  if jnp.issubdtype(leaf.dtype, jnp.floating):
    bits = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    leaf = jax.lax.bitcast_convert_type(leaf, bits)
  # Not flattened, which would gather a leaf that lies on several devices.
  place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
  for axis in reversed(range(leaf.ndim)):
    along = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    place = place + jnp.uint32(stride % 2**32) * along
    stride *= leaf.shape[axis]
  words = leaf.astype(jnp.uint32)
  return (words * (2 * place + 1)).sum(dtype=jnp.uint32)


def _bytes_of(state: Any) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _place(leaf: Any) -> jax.ShapeDtypeStruct:
  """Shape of a leaf, on its devices or the first one here."""
  where = getattr(leaf, "sharding", None)
  where = where or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
