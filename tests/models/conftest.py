"""What the model tests share: parameters without compiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def fill():
  """`fill(model, *args, **given)`: variables of the right shapes, all drawn.

  Nothing stays zero or one, and nothing has to be compiled.
  """

  def draw(path, leaf, rng):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    near = 1.0 if name.endswith(("scale", "var")) else 0.0
    fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
    value = near + rng.normal(size=leaf.shape) / np.sqrt(fan_in)
    return jnp.asarray(np.abs(value) if near else value, leaf.dtype)

  def make(model, *args, **given):
    shapes = jax.eval_shape(
      lambda key: model.init(key, *args, **given), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: draw(path, leaf, rng), shapes
    )

  return make
