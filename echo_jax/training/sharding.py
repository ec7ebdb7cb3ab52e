"""Where the arrays of a run lie on several devices, and in several processes.

A mesh has three axes: batches are parted along `data` and `fsdp`, weights (and
what the optimiser and the average keep of them) along `fsdp` and `model`.
Models know none of this: they are given `split_rows` and `gather_weights`,
which do nothing where no mesh is set.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echo_jax import trees

AXES = ("data", "fsdp", "model")
ROWS = P(("data", "fsdp"))
# First match wins.  A spec is of the last dimensions of a leaf: the kernel of a
# convolution is parted like that of a linear map.  An axis that does not divide
# its dimension is left out.
RULES = (
  (r"attention/(query|key|value)/kernel$", P("fsdp", "model")),
  (r"attention/output/kernel$", P("model", "fsdp")),
  (r"mlp/expand/kernel$", P("fsdp", "model")),
  (r"mlp/reduce/kernel$", P("model", "fsdp")),
  (r"slice_mixer/kernel$", P("fsdp", "model")),
  (r"(attention/(query|value)|mlp/expand)/bias$", P("model")),
  (r"(^|/)(kernel|gate|value)$", P("fsdp", None)),
  (r"(^|/)(bias|scale|mean|var|count|step|query|score|weight|missing)$", P()),
  (r"(^|/)(code(_\w+)?|nothing|bottleneck|log_variance|\w*token)$", P()),
  (r"(^|/)position$", P()),
)


@dataclass(frozen=True)
class MeshShape:
  """Devices along each axis; `data` 0 takes all that the others leave."""

  data: int = 0
  fsdp: int = 1
  model: int = 1

  def over(self, devices: int) -> "MeshShape":
    """The same with `data` known.

    Raises:
      ValueError: that many devices are not there, or some would be idle.
    """
    others = self.fsdp * self.model
    if others < 1 or self.data < 0:
      raise ValueError(f"{self}: axes are 1 or more, data 0 or more")
    shape = MeshShape(self.data or devices // others, self.fsdp, self.model)
    if shape.data * others != devices:
      raise ValueError(
        f"a mesh of data {self.data or 'the rest'} x fsdp {self.fsdp} x model "
        f"{self.model} does not use all of {devices} devices and no more; "
        "change compute.data, compute.fsdp or compute.model"
      )
    return shape


def make_mesh(shape: MeshShape, devices: Any = None) -> Mesh | None:
  """The mesh over devices (all there are); None where there is one device."""
  devices = jax.devices() if devices is None else list(devices)
  sizes = shape.over(len(devices))
  if len(devices) == 1:
    return None
  return jax.make_mesh(
    (sizes.data, sizes.fsdp, sizes.model), AXES, devices=devices,
    axis_types=(AxisType.Auto,) * len(AXES),
  )  # fmt: skip


def mesh_of(tree: Any) -> Mesh | None:
  """The mesh that the arrays of a tree lie on; None for a single device."""
  for leaf in jax.tree.leaves(tree):
    if isinstance(getattr(leaf, "sharding", None), NamedSharding):
      return leaf.sharding.mesh
  return None


# ---- weights


def spec_of(name: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> P:
  """How a leaf of that name is parted on a mesh of those sizes.

  Raises:
    ValueError: no rule for the name, or one of more dimensions than it has.
  """
  spec = next((s for pattern, s in RULES if re.search(pattern, name)), None)
  if spec is None:
    raise ValueError(f"{name} {shape}: no rule in sharding.RULES names it")
  if len(spec) > len(shape):
    raise ValueError(f"{name} {shape} is parted by {spec}, of more dimensions")
  spec = (None,) * (len(shape) - len(spec)) + tuple(spec)
  return P(*(
    axis if axis and size % sizes[axis] == 0 else None
    for axis, size in zip(spec, shape, strict=True)
  ))  # fmt: skip


def state_shardings(state: Any, mesh: Mesh) -> Any:
  """The sharding of every leaf of a state, or of its shapes."""
  return trees.map_named(
    lambda name, leaf: NamedSharding(
      mesh, spec_of(name, leaf.shape, mesh.shape)
    ),
    state,
  )


def lay_out(state: Any, mesh: Mesh | None) -> Any:
  """A state, or its shapes, on the mesh.

  Every process gives the same whole arrays and keeps its own parts of them.
  """
  if mesh is None:
    return state
  return jax.tree.map(_put, state, state_shardings(state, mesh))


def _put(leaf: Any, sharding: NamedSharding) -> Any:
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  whole = np.asarray(leaf)
  return jax.make_array_from_callback(
    whole.shape, sharding, lambda index: whole[index]
  )


def keep_laid_out(state: Any) -> Any:
  """Inside a compiled step: its new state lies like the one it was given."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return state
  return trees.map_named(
    lambda name, leaf: jax.lax.with_sharding_constraint(
      leaf, spec_of(name, leaf.shape, mesh.shape)
    ),
    state,
  )


def gather_weights(weights: Any) -> Any:
  """Inside a compiled step: weights of a block whole along `fsdp`."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return weights
  return trees.map_named(
    lambda name, leaf: jax.lax.with_sharding_constraint(
      leaf, _without_fsdp(spec_of(name, leaf.shape, mesh.shape))
    ),
    weights,
  )


def _without_fsdp(spec: P) -> P:
  return P(*(None if axis == "fsdp" else axis for axis in spec))


# ---- rows


def split_rows(tree: Any) -> Any:
  """Inside a compiled step: arrays parted along their first axis, the rows."""
  if jax.sharding.get_abstract_mesh().empty:
    return tree
  return jax.tree.map(
    lambda leaf: jax.lax.with_sharding_constraint(leaf, ROWS), tree
  )


def on_each_device(function: Any) -> Any:
  """Inside a compiled step: calls it with each device's own clips and heads.

  Of (query, key, value [b n a e], valid [b u] or None); clips are parted along
  `data` and `fsdp`, heads along `model`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return function
  apart = P(*ROWS, None, "model", None)

  def call(query: Any, key: Any, value: Any, valid: Any) -> Any:
    if query.shape[2] % mesh.shape["model"]:
      raise ValueError(
        f"{query.shape[2]} heads do not divide by compute.model "
        f"{mesh.shape['model']}; use a divisor of the heads"
      )
    specs = (apart, apart, apart, None if valid is None else ROWS)
    # Pallas' calls do not say on which axes their results vary.
    return jax.shard_map(
      function, in_specs=specs, out_specs=apart, check_vma=False
    )(query, key, value, valid)

  return call


def rows_here(
  mesh: Mesh | None, batch_size: int, accumulate: int = 1
) -> tuple[int, ...]:
  """Positions of the rows of a batch that this process reads, ascending.

  They need not be in one piece: a mesh follows the wires between chips, not the
  numbers of hosts.  Processes that share rows, as along `model`, all read them.

  Raises:
    ValueError: the batch, or a part of it, does not divide over the mesh.
  """
  pieces = 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]
  if batch_size % (pieces * accumulate):
    raise ValueError(
      f"run.batch_size is {batch_size} and does not divide into "
      f"compute.accumulate {accumulate} parts over data x fsdp = {pieces} "
      f"devices; use a multiple of {pieces * accumulate}"
    )
  if mesh is None:
    return tuple(range(batch_size))
  places = NamedSharding(mesh, ROWS).addressable_devices_indices_map(
    (batch_size,)
  )
  here = {
    row for (rows,) in places.values()
    for row in range(*rows.indices(batch_size))
  }  # fmt: skip
  return tuple(sorted(here))


def own_rows(
  batch: Mapping[str, np.ndarray], mesh: Mesh | None, rows: tuple[int, ...],
  batch_size: int,
) -> Any:  # fmt: skip
  """Global arrays of a batch, of which each process has read its own rows."""
  if mesh is None:
    return batch
  sharding = NamedSharding(mesh, ROWS)

  def place(array: np.ndarray) -> jax.Array:
    def part(index: tuple[slice, ...]) -> np.ndarray:
      wanted = range(*index[0].indices(batch_size))
      return array[np.searchsorted(rows, wanted)]

    return jax.make_array_from_callback(
      (batch_size, *array.shape[1:]), sharding, part
    )

  return {name: place(array) for name, array in batch.items()}


def all_rows(batch: Mapping[str, np.ndarray], mesh: Mesh | None) -> Any:
  """Global arrays of rows that every process has read all of."""
  if mesh is None:
    return batch
  rows = NamedSharding(mesh, ROWS)
  return {name: _put(array, rows) for name, array in batch.items()}


def split_in_parts(batch: Any, parts: int) -> Any:
  """[b, ...] to [parts, b / parts, ...], each part spread over all devices.

  Raises:
    ValueError: the batch does not divide.
  """

  def split(leaf: jax.Array) -> jax.Array:
    if leaf.shape[0] % parts:
      raise ValueError(
        f"a batch of {leaf.shape[0]} does not divide by compute.accumulate "
        f"{parts}"
      )
    # Neighbours go to different parts: those of a device stay on it.
    leaf = leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:])
    return split_rows(leaf).swapaxes(0, 1)

  return jax.tree.map(split, batch)


# ---- calls


def call_on(mesh: Mesh | None, function: Any, *arguments: Any) -> Any:
  """Calls a compiled function with the mesh set."""
  if mesh is None:
    return function(*arguments)
  with jax.set_mesh(mesh):
    return function(*arguments)


def on_host(array: Any) -> np.ndarray:
  """A whole array in the memory of every process."""
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    return multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def describe(state: Any, mesh: Mesh | None) -> str:
  """One line for people: devices, and how much of a state each holds."""
  if mesh is None:
    return f"1 device ({jax.devices()[0].device_kind})"
  whole = sum(_bytes(leaf.shape, leaf) for leaf in jax.tree.leaves(state))
  each = sum(
    _bytes(leaf.sharding.shard_shape(leaf.shape), leaf)
    for leaf in jax.tree.leaves(state)
  )
  axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
  return (
    f"{mesh.size} devices ({axes}) of {jax.process_count()} processes; state "
    f"{whole / 2**20:.1f} MiB, {each / 2**20:.1f} MiB a device"
  )


def _bytes(shape: tuple[int, ...], leaf: Any) -> int:
  return math.prod(shape) * leaf.dtype.itemsize
