"""Pooling heads by hand, their invariances, and the streaming of the GRU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.heads import MaxPool, MeanPool, Moments
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
