"""Named leaves of parameter trees: paths, masks by path, counts, averages."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Tree = Any


def path_name(path: tuple) -> str:
  """`encoder/block_0/attention/query/kernel` for a key path of JAX."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Tree) -> dict[str, Any]:
  """Every leaf under its slash-separated name, in tree order."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {path_name(path): leaf for path, leaf in leaves}


def map_named(function: Callable[[str, Any], Any], tree: Tree) -> Tree:
  """Applies `function(name, leaf)` to every leaf."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: function(path_name(path), leaf), tree
  )


def count_parameters(tree: Tree) -> int:
  """Number of scalars in a tree of arrays or of shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def digest(tree: Tree) -> str:
  """Short digest of the names and values of a tree of arrays."""
  found = hashlib.sha256()
  for name, leaf in named_leaves(tree).items():
    found.update(f"{name} {leaf.shape} {leaf.dtype}".encode())
    found.update(np.asarray(leaf).tobytes())
  return found.hexdigest()[:16]


def update_average(average: Tree, tree: Tree, decay: float) -> Tree:
  """Exponential moving average: decay * average + (1 - decay) * tree."""
  # In this form rounding does not pull a steady average towards zero.
  return jax.tree.map(
    lambda old, new: old + (1 - decay) * (new - old), average, tree
  )
