"""Tables of tensors: their names here, their names there, the way between.

An import is a table read from right to left, an export one read back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Shaped

from echo_jax.trees import named_leaves

Tensor = Shaped[np.ndarray, "..."]


class Row(NamedTuple):
  """One tensor: its path here, its name there, and the way between."""

  path: str
  name: str
  load: Callable[[Tensor], Tensor]
  export: Callable[[Tensor], Tensor]


def same(path: str, name: str) -> Row:
  """A tensor that is alike on both sides."""
  return Row(path, name, lambda x: x, lambda x: x)


def matrix(path: str, name: str) -> Row:
  """A linear map, which PyTorch keeps as (out, in)."""
  return Row(path, name, np.transpose, np.transpose)


def linear(here: str, there: str) -> Iterator[Row]:
  """A linear map and its bias."""
  yield matrix(f"{here}/kernel", f"{there}.weight")
  yield same(f"{here}/bias", f"{there}.bias")


def norm(here: str, there: str) -> Iterator[Row]:
  """Scale and bias of a norm."""
  yield same(f"{here}/scale", f"{there}.weight")
  yield same(f"{here}/bias", f"{there}.bias")


def convolution(path: str, name: str) -> Row:
  """A convolution [out, in, T, H, W] there, [T, H, W, in, out] here."""
  return Row(
    path, name, lambda x: x.transpose(2, 3, 4, 1, 0),
    lambda x: x.transpose(4, 3, 0, 1, 2),
  )  # fmt: skip


def tubelets(
  path: str, name: str, shape: tuple[int, int, int, int]
) -> Row:
  """A strided 3-D convolution, here a linear map of a tubelet's values.

  `shape` is that of a tubelet (T, H, W, c).
  """
  return Row(
    path, name,
    lambda x: x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0]),
    lambda x: x.reshape(*shape, -1).transpose(4, 3, 0, 1, 2),
  )  # fmt: skip


def check_names(wanted: Iterable[str], found: Iterable[str]) -> None:
  """Raises ValueError that lists what is missing and what is unexpected."""
  wanted, found = set(wanted), set(found)
  complaints = [
    f"{len(names)} {what}: " + ", ".join(sorted(names))
    for what, names in (
      ("missing", wanted - found), ("unexpected", found - wanted)
    )
    if names
  ]
  if complaints:
    raise ValueError("tensors do not fit: " + "; ".join(complaints))


def load(
  table: Sequence[Row], tensors: Mapping[str, Tensor],
  shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:  # fmt: skip
  """A tree of float32 arrays from the tensors of a table, by their paths.

  Args:
    table: rows of every path of `shapes`.
    tensors: by their names there; each has its row.
    shapes: of the leaves of the tree, by path.

  Raises:
    ValueError: names what is missing or unexpected, of another shape, or no
      floats.
  """
  check_names((row.name for row in table), tensors)
  leaves = {}
  for row in table:
    tensor = np.asarray(tensors[row.name])
    wanted = row.export(np.empty(shapes[row.path], np.int8)).shape
    if tensor.shape != wanted:
      raise ValueError(
        f"tensor {row.name} has shape {tensor.shape}, the configuration "
        f"asks for {wanted}"
      )
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
      raise ValueError(f"tensor {row.name} holds {tensor.dtype}, not floats")
    leaves[row.path] = jnp.asarray(row.load(tensor.astype(np.float32)))
  return unflatten_dict(leaves, sep="/")


def export(table: Sequence[Row], tree: Mapping[str, Any]) -> dict[str, Tensor]:
  """Tensors by their names there: the inverse of `load`, bit for bit."""
  leaves = named_leaves(tree)
  check_names((row.path for row in table), leaves)
  return {
    row.name: np.ascontiguousarray(row.export(np.asarray(leaves[row.path])))
    for row in table
  }


def shapes_of(make: Callable[[], Any]) -> dict[str, tuple[int, ...]]:
  """Shape of every leaf of what a function makes, which is not run."""
  leaves = named_leaves(jax.eval_shape(make))
  return {path: leaf.shape for path, leaf in leaves.items()}
