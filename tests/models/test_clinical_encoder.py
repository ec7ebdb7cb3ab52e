"""Clinical encoder: a missing value is a statement of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.clinical import MISSING, ClinicalEncoder, NumberTokens
from echo_jax.models.trunk import Trunk

TRUNK = Trunk(width=8, depth=1, heads=2, mlp_ratio=2.0)
MODEL = ClinicalEncoder(TRUNK, numbers=3, classes=(2, 4))
NAN = np.float32(np.nan)
NUMBERS = np.float32([[0.5, -1, 2], [NAN, 0, 0], [0, NAN, NAN], [1, 1, 1]])
CODES = np.int32([[0, 3], [1, MISSING], [MISSING, 0], [0, 1]])


@pytest.fixture(scope="module")
def encoder(fill):
  return fill(MODEL, NUMBERS, CODES), jax.jit(MODEL.apply)


def test_shapes_and_parameters_by_hand(encoder):
  variables, call = encoder
  embedding, features = call(variables, NUMBERS, CODES)
  assert embedding.shape == (4, 8) and embedding.dtype == jnp.float32
  assert features["tokens"].shape == (4, 5, 8)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables))
  attention, mlp, norms = 4 * 64 + 3 * 8, 2 * 128 + 16 + 8, 3 * 16
  assert count == 3 * 3 * 8 + 3 * 8 + 5 * 8 + attention + mlp + norms


def test_tokens_by_hand(encoder):
  """Weight * number + bias; the column's missing token."""
  variables, _ = encoder
  params = variables["params"]["number"]
  tokens = NumberTokens(8).apply({"params": params}, jnp.asarray(NUMBERS))
  weight, bias, missing = params["weight"], params["bias"], params["missing"]
  np.testing.assert_allclose(tokens[0, 1], -weight[1] + bias[1], atol=1e-6)
  np.testing.assert_array_equal(tokens[1, 0], missing[0])
  np.testing.assert_array_equal(tokens[2, 2], missing[2])


def test_missing_is_neither_the_mean_nor_a_class(encoder):
  variables, call = encoder
  numbers, codes = np.zeros((4, 3), np.float32), np.zeros((4, 2), np.int32)
  numbers[1, 0] = NAN
  codes[2, 1], codes[3, 1] = MISSING, 3
  embedding = np.asarray(call(variables, numbers, codes)[0])
  apart = np.abs(embedding[:, None] - embedding[None]).max(axis=-1)
  assert (apart[~np.eye(4, dtype=bool)] > 1e-3).all()


def test_a_code_that_no_class_has_gives_nan(encoder):
  """Also 2 of two classes, which is the place of the missing token."""
  variables, call = encoder
  codes = np.int32([[2, 0], [0, 4], [-2, 0], [1, 3]])
  embedding, _ = call(variables, NUMBERS, codes)
  np.testing.assert_array_equal(
    np.isnan(embedding).all(axis=1), [True, True, True, False]
  )


def test_gradient_reaches_every_parameter(encoder):
  variables, _ = encoder
  slope = jax.jit(
    jax.grad(lambda v: jnp.square(MODEL.apply(v, NUMBERS, CODES)[0] - 1).sum())
  )(variables)
  flat = jax.tree_util.tree_leaves_with_path(slope)
  assert all(np.isfinite(leaf).all() for _, leaf in flat)
  assert not [path for path, leaf in flat if not np.abs(leaf).max() > 0]
  assert slope["params"]["number"]["missing"].any(axis=1).all()


def test_half_precision_keeps_parameters_and_output_whole(encoder):
  variables, call = encoder
  half = MODEL.clone(trunk=TRUNK.clone(dtype=jnp.bfloat16))
  shapes = jax.eval_shape(half.init, jax.random.key(0), NUMBERS, CODES)
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  embedding, _ = jax.jit(half.apply)(variables, NUMBERS, CODES)
  assert embedding.dtype == jnp.float32
  whole, _ = call(variables, NUMBERS, CODES)
  np.testing.assert_allclose(embedding, whole, atol=0.1)


def test_another_table_is_refused(encoder):
  variables, _ = encoder
  with pytest.raises(ValueError, match="2 number and 2 category.*for 3 and 2"):
    MODEL.apply(variables, NUMBERS[:, :2], CODES)
