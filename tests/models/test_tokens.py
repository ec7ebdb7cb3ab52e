"""Tubelets and masks: hand-counted orders, and refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.tokens import (
  TokenGrid,
  mask_from_bool,
  patchify,
  slice_valid,
  take_tokens,
  token_valid,
  unpatchify,
)


def test_patchify_order_by_hand():
  """2 frames of 2x4 px, 2 channels: values count t, y, x, c in that order."""
  video = jnp.arange(2 * 2 * 4 * 2).reshape(1, 2, 2, 4, 2)
  tokens = patchify(video, tubelet=2, patch=2)
  left = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]
  np.testing.assert_array_equal(tokens[0, 0], left)
  np.testing.assert_array_equal(tokens[0, 1], np.add(left, 4))


def test_patchify_orders_tokens_by_time_row_column():
  video = jnp.zeros((1, 4, 4, 6, 1)).at[0, 2:, 2:, 4:].set(1)
  tokens = patchify(video, tubelet=2, patch=2)  # grid 2 x 2 x 3
  assert tokens.shape == (1, 12, 8)
  np.testing.assert_array_equal(tokens[0].sum(-1), 11 * [0] + [8])


@pytest.mark.parametrize("tubelet, patch, c", [(2, 4, 3), (1, 2, 1), (4, 8, 3)])
def test_unpatchify_inverts(tubelet, patch, c):
  video = np.random.default_rng(0).random((2, 4, 8, 16, c), np.float32)
  grid = TokenGrid.of(video.shape, tubelet, patch)
  tokens = patchify(jnp.asarray(video), tubelet, patch)
  assert tokens.shape[1] == grid.n
  np.testing.assert_array_equal(unpatchify(tokens, grid), video)


def test_grid_refuses_a_rest():
  assert TokenGrid.of((16, 224, 224, 3), 2, 16).shape == (8, 14, 14)
  for shape in ((15, 64, 64, 1), (16, 60, 64, 1), (16, 64, 72, 1)):
    with pytest.raises(ValueError, match="does not divide"):
      TokenGrid.of(shape, 2, 16)


def test_mask_from_bool_is_boolean_indexing():
  hidden = np.array([[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]], bool)
  mask = mask_from_bool(hidden)
  np.testing.assert_array_equal(mask.kept, [[1, 2], [0, 3]])
  np.testing.assert_array_equal(mask.hidden, [[0, 3, 4], [1, 2, 4]])
  assert mask.kept.dtype == mask.hidden.dtype == np.int32
  np.testing.assert_array_equal(mask.weight, np.ones((2, 3), np.float32))


def test_mask_from_bool_refuses_unequal_rows():
  with pytest.raises(ValueError, match=r"same number.*\[1, 2\]"):
    mask_from_bool(np.array([[1, 0, 0], [1, 1, 0]], bool))


def test_token_is_valid_if_one_of_its_frames_is():
  grid = TokenGrid.of((6, 2, 4, 1), 2, 2)  # 3 x 1 x 2
  frames = np.array([[1, 1, 1, 0, 0, 0]], bool)
  valid = token_valid(frames, grid)
  np.testing.assert_array_equal(valid, [[1, 1, 1, 1, 0, 0]])
  np.testing.assert_array_equal(slice_valid(valid, grid), [[1, 1, 0]])


def test_take_tokens_with_and_without_features():
  x = jnp.arange(12).reshape(1, 4, 3)
  index = np.array([[3, 1]], np.int32)
  np.testing.assert_array_equal(take_tokens(x, index), x[:, [3, 1]])
  np.testing.assert_array_equal(
    take_tokens(x[..., 0], index), x[:, [3, 1], 0]
  )
