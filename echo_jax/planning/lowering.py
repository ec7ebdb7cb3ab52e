"""The experiment's own train step, lowered for devices that are not here.

The one file of this room that knows how a step is spread over a mesh: as
`experiment.run` does it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding

from echo_jax.data.pipeline import arrays_of
from echo_jax.experiment import Experiment, state_shapes, train_step_of
from echo_jax.training import sharding
from echo_jax.training.sharding import MeshShape

Shapes = Mapping[str, jax.ShapeDtypeStruct]


def lowered_step(
  experiment: Experiment,
  devices: Sequence[Any],
  shape: MeshShape,
  rows: Shapes,
) -> jax.stages.Lowered:
  """The step of one global batch on a mesh of those devices.

  `rows` are the arrays of the global batch, see `batch_shapes`.

  Raises:
    ValueError: the mesh is not of all devices, or does not divide the batch.
  """
  shape = shape.over(len(devices))
  clips = next(iter(rows.values())).shape[0]
  check_batch(shape, clips, experiment.accumulate)
  mesh = _mesh(shape, devices)
  state = sharding.lay_out(state_shapes(experiment), mesh)
  split = NamedSharding(mesh, sharding.ROWS)
  batch = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split)
    for name, leaf in rows.items()
  }
  return train_step_of(experiment).lower(state, batch)


def _mesh(shape: MeshShape, devices: Sequence[Any]) -> Mesh:
  """The mesh of a run; of a single device too, which is not the one here."""
  return sharding.make_mesh(shape, devices) or jax.make_mesh(
    (1, 1, 1), sharding.AXES, devices=devices,
    axis_types=(AxisType.Auto,) * len(sharding.AXES),
  )  # fmt: skip


def check_batch(shape: MeshShape, clips: int, accumulate: int) -> None:
  """Refuses a batch that a mesh does not divide, in so many parts.

  Raises:
    ValueError: says what would do.
  """
  chips = shape.data * shape.fsdp
  parts = chips * accumulate
  if clips % parts:
    raise ValueError(
      f"a batch of {clips} does not divide into compute.accumulate {accumulate}"
      f" parts over data x fsdp = {chips} chips; use a multiple of {parts}, as "
      f"--config.run.batch_size={parts}, or --batch-per-chip"
    )


def batch_shapes(experiment: Experiment, clips: int) -> Shapes:
  """Shapes of a training batch of so many rows, from one that is read.

  Raises:
    ValueError: an array of the batch that does not have a row for each clip.
  """
  batch = arrays_of(next(iter(experiment.batches(0))))
  for name, array in batch.items():
    if array.shape[:1] != (experiment.batch_size,):
      raise ValueError(
        f"{name} {array.shape} of a batch has no {experiment.batch_size} rows"
      )
  return {
    name: jax.ShapeDtypeStruct((clips, *array.shape[1:]), array.dtype)
    for name, array in batch.items()
  }
