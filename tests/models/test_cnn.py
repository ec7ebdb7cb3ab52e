"""VideoCNN: a drop-in encoder; padding, batches and refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.cnn import VideoCNN
from echo_jax.models.heads import MeanPool, Moments
from echo_jax.models.predictor import Predictor
from echo_jax.models.stf_net import STFNet

ENCODER = VideoCNN(width=4, depth=2, groups=2)
HEADS = [
  MeanPool(),
  Moments(),
  STFNet(norm="group", attention_hidden=8, groups=2, slice_mixer="pool_dense"),
]


def clip(frames):
  rng = np.random.default_rng(0)
  return {
    "video": rng.random((2, 8, 16, 16, 1), np.float32)[:, :frames],
    "frame_time_s": np.tile(np.arange(frames, dtype=np.float32) / 50, (2, 1)),
    "frame_index": np.tile(np.arange(frames, dtype=np.int32), (2, 1)),
  }


@pytest.fixture(scope="module")
def encoder(fill):
  """(variables, compiled function of video and token validity)."""
  variables = fill(ENCODER, clip(8)["video"])
  return variables, jax.jit(lambda *given: ENCODER.apply(variables, *given))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_padding_a_short_clip_changes_nothing(head, fill):
  """6 real frames give the same alone and followed by 2 that are not."""
  model = Predictor(ENCODER, head, outputs=3)
  short, padded = clip(6), clip(8)
  padded["video"][:, 6:] = 5.0
  variables = fill(model, **short)
  predict = jax.jit(lambda given: model.apply(variables, **given)[0])
  valid = np.tile(np.arange(8) < 6, (2, 1))
  alone = predict(short)
  masked = predict({**padded, "frame_valid": valid})
  unmasked = predict({**padded, "frame_valid": valid | True})
  assert alone.shape == (2, 3) and np.abs(alone).max() > 1e-3
  np.testing.assert_allclose(masked, alone, atol=1e-4)
  assert np.abs(unmasked - alone).max() > 1e-3


@pytest.mark.parametrize("tubelet", [1, 2])
def test_its_convolutions_are_those_of_r2plus1d(tubelet, fill):
  """A 3-D convolution of 1 x 3 x 3 and one of 3 x 1 x 1, strides as told."""
  cnn = ENCODER.clone(tubelet=tubelet)
  variables = fill(cnn, clip(8)["video"])
  weights = variables["params"]["block_0"]

  def convolved(x, name, kernel, strides):
    kernel = (*kernel, x.shape[-1], cnn.width)
    w = jnp.reshape(weights[name]["kernel"], kernel)
    return jax.lax.conv_general_dilated(
      x, w, strides, [(size // 2, size // 2) for size in kernel[:3]],
      dimension_numbers=("NTHWC", "THWIO", "NTHWC"),
    )  # fmt: skip

  def normed(x, name):
    return nn.GroupNorm(cnn.groups).apply({"params": weights[name]}, x)

  x = y = clip(8)["video"]
  for i, (in_space, in_time) in enumerate(((2, tubelet), (1, 1))):
    y = convolved(y, f"space_{i}", (1, 3, 3), (1, in_space, in_space))
    y = jax.nn.relu(normed(y, f"space_norm_{i}"))
    y = convolved(y, f"time_{i}", (3, 1, 1), (in_time, 1, 1))
    y = normed(y, f"time_norm_{i}")
    y = y if i else jax.nn.relu(y)
  skip = convolved(x, "skip", (1, 1, 1), (tubelet, 2, 2))
  y = jax.nn.relu(y + normed(skip, "skip_norm"))
  _, features = cnn.apply(variables, x)
  np.testing.assert_allclose(y, features["block_0"], atol=1e-5)
  _, rounded = cnn.clone(dtype=jnp.bfloat16).apply(variables, x)
  assert rounded["block_0"].dtype == jnp.bfloat16
  np.testing.assert_allclose(y, rounded["block_0"], atol=0.1)


def test_tokens_are_places_of_the_grid(encoder):
  variables, encode = encoder
  tokens, features = encode(clip(8)["video"])
  grid = ENCODER.token_grid((2, 8, 16, 16, 1))
  assert grid.shape == (4, 4, 4) and (grid.tubelet, grid.patch) == (2, 4)
  assert tokens.shape == (2, grid.n, 8)
  assert features["block_0"].shape == (2, 4, 8, 8, 4)
  assert set(features) == {"block_0", "block_1", "tokens"}
  assert set(variables["params"]) == {"block_0", "block_1"}


def test_a_token_sees_its_own_place_most(encoder):
  """Time first, then rows, then columns, as `tokens.patchify` has them."""
  _, encode = encoder
  video = np.zeros((1, 8, 16, 16, 1), np.float32)
  before = encode(video)[0]
  # A copy: JAX may still be reading the first array.
  changed = video.copy()
  changed[0, 6:, :2, 12:] = 1.0
  moved = np.abs(encode(changed)[0] - before).sum(-1)[0]
  # A receptive field reaches 7 slices and places: the largest change counts.
  t, h, w = np.unravel_index(moved.argmax(), (4, 4, 4))
  assert t >= 2 and h <= 1 and w >= 2


def test_clips_of_a_batch_do_not_meet(encoder):
  _, encode = encoder
  video = clip(8)["video"]
  other = np.stack([video[0], video[1] + 1])
  np.testing.assert_allclose(
    encode(video)[0][0], encode(other)[0][0], atol=1e-5
  )


def test_the_order_of_frames_matters(encoder):
  _, encode = encoder
  video = clip(8)["video"]
  forth, back = encode(video)[0], encode(video[:, ::-1].copy())[0]
  assert np.abs(forth.mean(1) - back.mean(1)).max() > 1e-3


def test_a_clip_without_a_real_frame_stays_finite(encoder):
  variables, _ = encoder
  nothing = jnp.zeros((2, 64), bool)

  def total(params):
    return ENCODER.apply({"params": params}, clip(8)["video"], None, nothing)[
      0
    ].sum()

  value, slope = jax.jit(jax.value_and_grad(total))(variables["params"])
  assert value == 0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
  ("encoder", "shape", "words"),
  [
    (ENCODER, (1, 8, 16, 16, 3), "3 channels and the encoder was made for 1"),
    (ENCODER, (1, 8, 18, 16, 1), "does not divide"),
    (VideoCNN(tubelet=3), (1, 9, 16, 16, 1), r"tubelet is 3; allowed: \(1, 2"),
  ],
)
def test_clips_that_do_not_fit_are_refused(encoder, shape, words):
  with pytest.raises(ValueError, match=words):
    encoder.token_grid(shape)


def test_it_refuses_to_leave_tokens_out():
  with pytest.raises(ValueError, match="cannot leave tokens out"):
    kept = np.zeros((2, 3), np.int32)
    ENCODER.init(jax.random.key(0), clip(8)["video"], kept)
