"""Pooling heads by hand, their invariances, and the streaming of the GRU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.heads import (
  AttentivePool,
  MaxPool,
  MeanPool,
  Moments,
  block_means,
)
from echo_jax.models.recurrent import Carry, GRUHead
from echo_jax.models.tokens import TokenGrid

GRID = TokenGrid(t=4, h=2, w=2, tubelet=2, patch=8)
TIMES = np.float32([[0, 30, 60, 90, 120, 190, 260, 330]]) / 1000


@pytest.fixture(scope="module")
def tokens():
  return jnp.asarray(
    np.random.default_rng(0).normal(size=(1, GRID.n, 6)), jnp.float32
  )


def pool(head, tokens, valid=None, params=None, times=TIMES):
  variables = {} if params is None else {"params": params}
  return head.apply(
    variables,
    tokens,
    grid=GRID,
    frame_time_s=jnp.asarray(times),
    frame_index=jnp.arange(8)[None],
    valid=None if valid is None else jnp.asarray(valid),
  )[0]


def test_moments_by_hand():
  """One channel; slices have means 1, 3, 3, 5: std is the root of 2."""
  slices = np.repeat(np.float32([1, 3, 3, 5]), 4)
  tokens = slices + np.tile(np.float32([-1, 1, 0, 0]), 4)
  embedding = pool(Moments(), jnp.asarray(tokens.reshape(1, 16, 1)))
  np.testing.assert_allclose(embedding, [[3, 2**0.5, 5, 1]], rtol=1e-5)


def test_max_and_mean_by_hand(tokens):
  np.testing.assert_array_equal(pool(MaxPool(), tokens), tokens.max(1))
  np.testing.assert_allclose(
    pool(MeanPool(), tokens), tokens.mean(1), atol=1e-6
  )


@pytest.mark.parametrize("head", [MaxPool(), MeanPool(), Moments()])
def test_invalid_tokens_do_not_count(head, tokens):
  """Three real slices give the same, whatever stands in the fourth."""
  valid = np.arange(16)[None] < 12
  filled = tokens.at[:, 12:].set(100.0)
  emptied = tokens.at[:, 12:].set(-100.0)
  repeated = tokens.at[:, 12:].set(tokens[:, 8:12])
  embedding = pool(head, filled, valid)
  np.testing.assert_allclose(embedding, pool(head, emptied, valid), atol=1e-6)
  if isinstance(head, MaxPool):
    np.testing.assert_array_equal(embedding, pool(head, repeated))
  all_valid = pool(head, tokens, valid | True)
  np.testing.assert_allclose(all_valid, pool(head, tokens), atol=1e-6)


@pytest.mark.parametrize("head", [MaxPool(), MeanPool(), Moments()])
def test_a_clip_without_a_valid_token_stays_finite(head, tokens):
  slope = jax.grad(lambda x: pool(head, x, np.zeros((1, 16), bool)).sum())
  assert np.isfinite(pool(head, tokens, np.zeros((1, 16), bool))).all()
  assert np.isfinite(slope(tokens)).all()


def test_moments_have_a_slope_on_a_still_clip():
  still = jnp.ones((1, 16, 3))
  slope = jax.grad(lambda x: pool(Moments(), x).sum())(still)
  assert np.isfinite(slope).all()


@pytest.fixture(scope="module")
def gru(tokens, fill):
  head = GRUHead(width=5)
  params = fill(
    head,
    tokens,
    grid=GRID,
    frame_time_s=jnp.asarray(TIMES),
    frame_index=jnp.arange(8)[None],
  )["params"]
  return head, params


def stream(head, params, tokens, real, times_s):
  """The clip slice after slice, as a live stream would hand it over."""
  step = jax.jit(
    lambda carry, *x: head.apply({"params": params}, carry, *x, method="step")
  )
  carry = head.apply({"params": params}, 1, method="initial_carry")
  slices = tokens.reshape(1, 4, 4, 6).mean(2)
  for i in range(4):
    time_s = jnp.asarray(times_s[:, 2 * i : 2 * i + 2].mean(1))
    carry, state = step(carry, slices[:, i], time_s, jnp.array([real[i]]))
  assert isinstance(carry, Carry)
  return state


@pytest.mark.parametrize("real", [(1, 1, 1, 1), (1, 1, 0, 0), (0, 1, 0, 1)])
def test_gru_streams_as_it_reads_whole_clips(gru, tokens, real):
  real = np.array(real, bool)
  whole = pool(*gru[:1], tokens, np.repeat(real, 4)[None], gru[1])
  streamed = stream(*gru, tokens, real, TIMES)
  np.testing.assert_allclose(whole, streamed, atol=1e-6)


def test_gru_hears_the_time_between_slices_and_not_its_origin(gru, tokens):
  head, params = gru
  base = pool(head, tokens, params=params)
  later = pool(head, tokens, params=params, times=TIMES + 4.0)
  slower = pool(head, tokens, params=params, times=TIMES * 3.0)
  np.testing.assert_allclose(base, later, atol=1e-5)
  assert np.abs(base - slower).max() > 1e-3


def test_means_over_blocks_by_hand(tokens):
  """Four slices to two, rows to one, columns kept."""
  x = np.asarray(tokens).reshape(4, 2, 2, 6)
  means, real = block_means(tokens, GRID, (2, 1, 2))
  wanted = x.reshape(2, 2, 2, 2, 6).mean(axis=(1, 2)).reshape(4, 6)
  np.testing.assert_allclose(means[0], wanted, atol=1e-6)
  assert real.all()
  same, _ = block_means(tokens, GRID, GRID.shape)
  np.testing.assert_array_equal(same, tokens)
  # Three blocks of four slices: the first is of two.
  uneven, _ = block_means(tokens, GRID, (3, 1, 1))
  wanted = [x[:2].mean((0, 1, 2)), x[2].mean((0, 1)), x[3].mean((0, 1))]
  np.testing.assert_allclose(uneven[0], wanted, atol=1e-6)


def test_blocks_leave_out_what_is_not_valid(tokens):
  valid = np.arange(16)[None] < 6  # a slice and a half
  filled = jnp.where(jnp.asarray(valid)[..., None], tokens, jnp.nan)
  means, real = block_means(filled, GRID, (2, 1, 1), jnp.asarray(valid))
  assert real.tolist() == [[True, False]] and (means[0, 1] == 0).all()
  np.testing.assert_allclose(means[0, 0], tokens[0, :6].mean(0), atol=1e-6)


@pytest.mark.parametrize("blocks", [(5, 1, 1), (1, 3, 1), (1, 1, 0)])
def test_more_blocks_than_tokens_are_refused(tokens, blocks):
  with pytest.raises(ValueError, match="asked of a grid of"):
    block_means(tokens, GRID, blocks)


@pytest.fixture(scope="module")
def attentive(tokens, fill):
  head = AttentivePool(heads=2, mlp_ratio=1.0)
  given = {
    "grid": GRID, "frame_time_s": jnp.asarray(TIMES),
    "frame_index": jnp.arange(8)[None],
  }  # fmt: skip
  return head, fill(head, tokens, **given)["params"], given


def test_one_query_reads_all_valid_tokens_in_any_order(attentive, tokens):
  head, params, _ = attentive
  whole = pool(head, tokens, params=params)
  assert whole.shape == (1, 6)
  turned = pool(head, tokens[:, ::-1], params=params)
  np.testing.assert_allclose(whole, turned, atol=1e-5)
  valid = np.arange(16)[None] < 12
  cut = pool(head, tokens.at[:, 12:].set(9.0), valid, params)
  other = pool(head, tokens.at[:, 12:].set(-9.0), valid, params)
  np.testing.assert_allclose(cut, other, atol=1e-5)
  assert np.abs(cut - whole).max() > 1e-3


def test_attention_of_the_probe_by_hand(attentive, tokens):
  head, params, given = attentive
  _, features = head.apply({"params": params}, tokens, **given)
  weight = features["pool_attention"]
  assert weight.shape == (1, 2, 16)
  at = params["read"]["attention"]

  def norm(x, name):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 1e-6
    )
    return y * params["read"][name]["scale"] + params["read"][name]["bias"]

  query = norm(params["query_token"], "attention_norm") @ at["query"]["kernel"]
  query = (query + at["query"]["bias"]).reshape(2, 3)
  key = norm(tokens, "memory_norm") @ at["key"]["kernel"]
  score = np.einsum("ae,uae->au", query, key.reshape(16, 2, 3)) / 3**0.5
  wanted = np.exp(score) / np.exp(score).sum(-1, keepdims=True)
  np.testing.assert_allclose(weight[0], wanted, atol=1e-5)


def test_the_probe_of_blocks_sees_their_means_only(attentive, tokens):
  head, params, given = attentive
  budget = AttentivePool(heads=2, mlp_ratio=1.0, blocks=(4, 1, 1))
  means, _ = block_means(tokens, GRID, (4, 1, 1))
  small = TokenGrid(t=4, h=1, w=1, tubelet=2, patch=16)
  wanted, _ = head.apply({"params": params}, means, **{**given, "grid": small})
  np.testing.assert_allclose(
    pool(budget, tokens, params=params), wanted, atol=1e-6
  )
