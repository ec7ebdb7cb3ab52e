"""Study encoder: a set of clips, whatever their number, order and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.study import StudyEncoder

MODEL = StudyEncoder(views=4, width=8, depth=1, heads=2, mlp_ratio=2.0)
VALID = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
VIEW = np.int32([[0, 1, 3, 0], [2, 0, 0, 0], [0, 0, 1, 3]])


@pytest.fixture(scope="module")
def clips():
  return np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(clips, fill):
  return fill(MODEL, clips, VIEW, VALID), jax.jit(MODEL.apply)


def test_shapes_and_parameters_by_hand(encoder, clips):
  variables, call = encoder
  embedding, features = call(variables, clips, VIEW, VALID)
  assert embedding.shape == (3, 8) and embedding.dtype == jnp.float32
  weight = np.asarray(features["study_attention"])
  assert weight.shape == (3, 2, 1, 4)
  np.testing.assert_allclose(weight.sum(axis=-1), 1, atol=1e-6)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables))
  block = 4 * 64 + 3 * 8 + 2 * 128 + 16 + 8 + 2 * 16
  assert count == 12 + 6 * 8 + 8 + 4 * 8 + block + 8 + block + 16 + 16


def test_the_order_of_clips_does_not_matter(encoder, clips):
  variables, call = encoder
  base, _ = call(variables, clips, VIEW, VALID)
  order = [2, 3, 0, 1]
  mixed, _ = call(variables, *(x[:, order] for x in (clips, VIEW, VALID)))
  np.testing.assert_allclose(mixed, base, atol=1e-5)
  other_views, _ = call(variables, clips, VIEW[:, order], VALID)
  assert np.abs(other_views - base).max(axis=1).min() > 1e-3


def test_padding_has_no_influence(encoder, clips):
  """The second study has one clip: alone, or before three of anything."""
  variables, call = encoder
  base, _ = call(variables, clips, VIEW, VALID)
  for filling, view in ((np.nan, 99), (1e6, -1)):
    filled = np.where(VALID[..., None], clips, np.float32(filling))
    views = np.where(VALID, VIEW, np.int32(view))
    output, _ = call(variables, filled, views, VALID)
    np.testing.assert_array_equal(output, base)
  alone, _ = call(variables, clips[1:2, :1], VIEW[1:2, :1], VALID[1:2, :1])
  np.testing.assert_allclose(alone[0], base[1], atol=1e-5)


def test_every_clip_twice_is_the_same_study(encoder, clips):
  variables, call = encoder
  base, _ = call(variables, clips, VIEW, VALID)
  twice, _ = call(
    variables, *(np.concatenate([x, x], axis=1) for x in (clips, VIEW, VALID))
  )
  np.testing.assert_allclose(twice, base, atol=1e-5)


def test_a_study_without_clips_gives_zeros_and_finite_slopes(encoder, clips):
  variables, _ = encoder

  def total(variables, clips):
    return MODEL.apply(variables, clips, VIEW, VALID & False)[0].sum()

  value, slope = jax.jit(jax.value_and_grad(total))(variables, clips * np.nan)
  assert value == 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))


def test_a_view_that_does_not_exist_gives_nan(encoder, clips):
  variables, call = encoder
  for strange in (-1, 4):
    view = VIEW.copy()
    view[0, 1] = strange
    embedding, _ = call(variables, clips, view, VALID)
    assert np.isnan(embedding[0]).all() and np.isfinite(embedding[1:]).all()


def test_gradient_reaches_every_parameter(encoder, clips):
  variables, _ = encoder
  slope = jax.jit(
    jax.grad(
      lambda v: jnp.square(MODEL.apply(v, clips, VIEW, VALID)[0] - 1).sum()
    )
  )(variables)
  flat = jax.tree_util.tree_leaves_with_path(slope)
  assert not [path for path, leaf in flat if not np.abs(leaf).max() > 0]
  assert slope["params"]["view"]["code"].any(axis=1).all()


def test_jit_changes_nothing(encoder, clips):
  variables, call = encoder
  np.testing.assert_allclose(
    MODEL.apply(variables, clips, VIEW, VALID)[0],
    call(variables, clips, VIEW, VALID)[0],
    atol=1e-5,
  )


def test_half_precision_keeps_parameters_and_output_whole(encoder, clips):
  variables, call = encoder
  half = MODEL.clone(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(half.init, jax.random.key(0), clips, VIEW, VALID)
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  embedding, _ = jax.jit(half.apply)(variables, clips, VIEW, VALID)
  assert embedding.dtype == jnp.float32
  whole, _ = call(variables, clips, VIEW, VALID)
  np.testing.assert_allclose(embedding, whole, atol=0.1)
