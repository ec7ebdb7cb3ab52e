"""Masked autoencoder: what leaks, what does not, and its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import mask_from_bool
from echo_jax.models.video_vit import VideoViT
from echo_jax.trees import count_parameters

MODEL = EchoVideoMAE(
  VideoViT(width=24, depth=1, heads=2, patch=8, channels=1),
  MAEDecoder(width=16, depth=1, heads=2),
)
HIDDEN = np.array([[0, 1, 1, 0, 1, 1, 0, 1], [1, 1, 0, 1, 0, 0, 1, 1]], bool)


@pytest.fixture(scope="module")
def video():
  return np.random.default_rng(0).random((2, 4, 16, 16, 1), np.float32)


@pytest.fixture(scope="module")
def params(video, fill):
  return fill(MODEL, video, HIDDEN)["params"]


@pytest.fixture(scope="module")
def reconstruct():
  return jax.jit(
    lambda p, video, mask, valid=None: MODEL.apply(
      {"params": p}, video, mask, valid=valid
    )
  )


def test_bool_and_indices_are_the_same_mask(params, video, reconstruct):
  logits, features = MODEL.apply({"params": params}, video, HIDDEN)
  jitted, _ = reconstruct(params, video, mask_from_bool(HIDDEN))
  assert logits.shape == (2, 5, 2 * 8 * 8)
  assert {"tokens", "block_0", "decoder_block_0"} <= set(features)
  np.testing.assert_allclose(logits, jitted, atol=1e-5)


def test_hidden_pixels_never_reach_the_model(params, video, reconstruct):
  mask = mask_from_bool(HIDDEN)
  other = video.copy()
  other[0, 0:2, :8, 8:] = 7.0  # token 1 of clip 0, hidden
  before, _ = reconstruct(params, video, mask)
  after, _ = reconstruct(params, other, mask)
  np.testing.assert_array_equal(before, after)
  other[0, 0:2, :8, :8] = 7.0  # token 0, kept
  after, _ = reconstruct(params, other, mask)
  assert np.abs(before[0] - after[0]).max() > 1e-4
  np.testing.assert_array_equal(before[1], after[1])


def test_logits_follow_the_order_of_hidden_indices(
  params, video, reconstruct
):
  mask = mask_from_bool(HIDDEN)
  turned = mask._replace(
    kept=mask.kept[:, ::-1].copy(), hidden=mask.hidden[:, ::-1].copy()
  )
  logits, _ = reconstruct(params, video, mask)
  reversed_logits, _ = reconstruct(params, video, turned)
  np.testing.assert_allclose(logits, reversed_logits[:, ::-1], atol=1e-5)


def test_invalid_tokens_change_nothing(params, video, reconstruct):
  """What stands in a clip's padding does not reach the other tokens."""
  valid = np.tile(np.arange(8) < 4, (2, 1))
  other = video.copy()
  other[:, 2:] = 3.0
  mask = mask_from_bool(HIDDEN)
  rows = [[0, 1], [0, 1, 2]]  # hidden tokens 1 2 and 0 1 3 are valid
  before, _ = reconstruct(params, video, mask, valid)
  after, _ = reconstruct(params, other, mask, valid)
  for b, row in enumerate(rows):
    index = np.array(row)
    np.testing.assert_allclose(before[b, index], after[b, index], atol=1e-5)


def test_tubelets_cut_out_before_are_the_same(params, video, reconstruct):
  mask = mask_from_bool(HIDDEN)
  cells = video.reshape(2, 2, 2, 2, 8, 2, 8).transpose(0, 1, 3, 5, 2, 4, 6)
  cells = cells.reshape(2, 8, 128)  # token, then what is in it
  seen = np.take_along_axis(cells, mask.kept[..., None], axis=1)

  def fill_in(params, seen, shape=video.shape):
    return MODEL.apply(
      {"params": params}, seen, mask, shape, method="fill_in"
    )

  found, _ = jax.jit(fill_in)(params, seen)
  want, _ = reconstruct(params, video, mask)
  np.testing.assert_allclose(found, want, atol=1e-6)
  with pytest.raises(ValueError, match="3 channels"):
    fill_in(params, jnp.asarray(seen), (2, 4, 16, 16, 3))


def test_encoder_parameters_fit_the_encoder(params, video):
  tokens, _ = MODEL.encoder.apply({"params": params["encoder"]}, video)
  assert tokens.shape == (2, 8, 24)
  assert set(params) == {"encoder", "decoder"}


def test_refusals(params, video):
  with pytest.raises(TypeError, match="mask_from_bool on the host"):
    jax.jit(MODEL.apply)({"params": params}, video, jnp.asarray(HIDDEN))
  with pytest.raises(ValueError, match="the video has 8"):
    MODEL.apply({"params": params}, video, HIDDEN[:, :-1] | True)


def test_decoder_of_the_paper_has_7_98_million_parameters():
  """Decoder counted with the map into it and the mask token."""
  decoder = MAEDecoder()
  tokens = jax.ShapeDtypeStruct((1, 392, 768), jnp.float32)
  mask = mask_from_bool(np.arange(1568)[None] >= 392)
  shapes = jax.eval_shape(
    lambda key, x: decoder.init(key, x, mask, 1536), jax.random.key(0), tokens
  )
  count = count_parameters(shapes)
  assert count / 1e6 == pytest.approx(7.98, abs=0.02)
