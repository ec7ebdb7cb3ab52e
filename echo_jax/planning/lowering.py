"""The experiment's own train step, lowered for devices that are not here.

The one file of this room that knows how a step is spread over a mesh.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echo_jax.data.pipeline import arrays_of
from echo_jax.experiment import Experiment, state_shapes
from echo_jax.training.step import make_train_step

AXES = ("data", "fsdp", "model")
Shapes = Mapping[str, jax.ShapeDtypeStruct]
MeshShape = tuple[int, int, int]


def lowered_step(
  experiment: Experiment,
  devices: Sequence[Any],
  mesh_shape: MeshShape,
  rows: Shapes,
) -> jax.stages.Lowered:
  """The step of one global batch on data x fsdp x model devices.

  `rows` are the arrays of the global batch, see `batch_shapes`.

  Raises:
    ValueError: the mesh is not of all devices, or does not divide the batch.
  """
  clips = next(iter(rows.values())).shape[0]
  check_mesh(mesh_shape, len(devices), clips)
  if mesh_shape[2] != 1:
    raise ValueError(f"a mesh of {mesh_shape} parts weights along model")
  ordered = mesh_utils.create_device_mesh(
    mesh_shape, devices, allow_split_physical_axes=True
  )
  mesh = Mesh(ordered, AXES)

  def placed(leaf: Any, spec: P) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
    )

  state = jax.tree.map(
    lambda leaf: placed(leaf, _parted(leaf.shape, mesh_shape[1])),
    state_shapes(experiment),
  )
  batch = {
    name: placed(leaf, P(("data", "fsdp"))) for name, leaf in rows.items()
  }
  key = placed(jax.eval_shape(lambda: jax.random.key(0)), P())
  step = make_train_step(
    experiment.objective, experiment.optimizer, seed=experiment.seed,
    average_decay=experiment.average_decay,
  )  # fmt: skip
  return step.func.lower(key, state, batch)


def _parted(shape: tuple[int, ...], parts: int) -> P:
  """A matrix lies in parts along its first dimension that they divide."""
  if parts > 1 and len(shape) > 1:
    for axis, size in enumerate(shape):
      if size % parts == 0:
        return P(*(None,) * axis, "fsdp")
  return P()


def check_mesh(mesh_shape: MeshShape, devices: int, clips: int) -> None:
  """Refuses a mesh of other devices, or one that does not divide a batch.

  Raises:
    ValueError: says what would do.
  """
  if math.prod(mesh_shape) != devices:
    raise ValueError(
      f"a mesh of data {mesh_shape[0]} x fsdp {mesh_shape[1]} x model "
      f"{mesh_shape[2]} is not one of {devices} chips"
    )
  parts = mesh_shape[0] * mesh_shape[1]
  if clips % parts:
    raise ValueError(
      f"a batch of {clips} does not divide over data x fsdp = {parts} chips; "
      f"use a multiple of {parts}, as --config.run.batch_size={parts} or "
      "--batch-per-chip 1"
    )


def batch_shapes(experiment: Experiment, clips: int) -> Shapes:
  """Shapes of a training batch of so many rows, from one that is read.

  Raises:
    ValueError: an array of the batch that does not have a row for each clip.
  """
  batch = arrays_of(next(iter(experiment.batches(0))))
  count = experiment.config["run"]["batch_size"]
  for name, array in batch.items():
    if array.shape[:1] != (count,):
      raise ValueError(f"{name} {array.shape} of a batch has no {count} rows")
  return {
    name: jax.ShapeDtypeStruct((clips, *array.shape[1:]), array.dtype)
    for name, array in batch.items()
  }
