"""Latent prediction: the target by hand, and that no gradient reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.latent import LatentPredictor
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import TokenGrid, token_valid
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.latent import make_latent, normalised_features
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.objectives.objective import Aux

RNG = np.random.default_rng(0)
CLIP = (4, 8, 8, 1)
GRID = TokenGrid.of(CLIP, 2, 4)
RULES = (MaskRule(0.5), MaskRule(0.25, "blocks", block=0.25))
KEY = jax.random.key(1)


def scale(raw):
  return raw.astype(jnp.float32) / 255


MODEL = LatentPredictor(
  VideoViT(width=8, depth=1, heads=2, patch=4, channels=1),
  MAEDecoder(width=4, depth=1, heads=2),
)


@pytest.fixture(scope="module")
def made():
  """(objective, what a compiled function tells, params, average, batch)."""
  objective = make_latent(MODEL, scale, RULES, GRID)
  valid = np.ones((4, 4), bool)
  valid[3, 2:] = False
  batch = {
    "video": jnp.asarray(RNG.integers(0, 256, (4, *CLIP), np.uint8)),
    "frame_valid": jnp.asarray(valid),
  }
  mask = make_mask(KEY, RULES[0], GRID, 4)
  init = jax.jit(MODEL.init)
  params, average = (
    init(jax.random.key(seed), scale(batch["video"]), mask)["params"]
    for seed in (2, 3)
  )

  @jax.jit
  def told(params, average, batch):
    """Loss, metrics, both gradients; losses of halves; parts of the loss."""

    def loss(params, average):
      return objective(params, Aux(average=average), batch, KEY, True)

    whole = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, average)
    settled, totals = objective.settle(batch, KEY, True)
    halves = [
      objective.loss(
        params, Aux(average=average),
        jax.tree.map(lambda x, r=rows: x[r], settled), totals, True,
      )
      for rows in (slice(2), slice(2, None))
    ]  # fmt: skip
    video = scale(batch["video"])
    valid = token_valid(batch["frame_valid"], GRID)
    tokens, _ = MODEL.encoder.apply(
      {"params": average["encoder"]}, video, None, valid
    )
    masks = settled["masks"]
    predicted = [
      MODEL.apply({"params": params}, video, mask, valid=valid)[0]
      for mask in masks
    ]
    return whole, halves, (tokens, masks, predicted)

  return objective, told, params, average, batch


def test_features_have_mean_0_and_variance_1():
  x = RNG.normal(3, 2, (2, 5, 8)).astype(np.float32)
  wanted = (x - x.mean(-1, keepdims=True)) / np.sqrt(
    x.var(-1, keepdims=True) + 1e-5
  )
  got = normalised_features(jnp.asarray(x))
  np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_loss_by_hand(made):
  _, told, *given = made
  ((loss, _), _), _, (tokens, masks, predicted) = told(*given)
  target, wanted = np.asarray(normalised_features(tokens)), []
  for mask, guess in zip(masks, predicted, strict=True):
    index, weight = np.asarray(mask.hidden), np.asarray(mask.weight)
    off = np.abs(guess - target[np.arange(4)[:, None], index]).mean(-1)
    assert 0 < weight.sum() < weight.size  # what is padded does not count
    wanted.append((off * weight).sum() / weight.sum())
  assert float(loss) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_no_gradient_reaches_the_target(made):
  _, told, *given = made
  (_, (slope, of_target)), _, _ = told(*given)
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_target))
  for part in ("encoder", "predictor"):
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(slope[part]))


def test_the_target_is_that_of_the_average_encoder(made):
  _, told, params, average, batch = made
  mixed = {**average, "predictor": params["predictor"]}
  loss, same, other = (
    float(told(params, one, batch)[0][0][0])
    for one in (average, mixed, params)
  )
  assert loss == same != other


def test_padded_frames_change_nothing(made):
  _, told, params, average, batch = made
  noisy = batch | {"video": batch["video"].at[3, 2:].set(99)}
  first, again = (
    float(told(params, average, one)[0][0][0]) for one in (batch, noisy)
  )
  assert first == again


def test_parts_of_a_batch_add_up(made):
  _, told, *given = made
  ((loss, (metrics, _)), _), halves, _ = told(*given)
  assert float(sum(half[0] for half in halves)) == pytest.approx(
    float(loss), rel=1e-5
  )
  counted = sum(half[1][0]["hidden_tokens"] for half in halves)
  assert float(counted) == float(metrics["hidden_tokens"])


def test_what_cannot_be_predicted_is_refused(made):
  objective, _, params, _, batch = made
  with pytest.raises(ValueError, match="set run.average_decay above 0"):
    objective(params, Aux(), batch, KEY, True)
  with pytest.raises(ValueError, match="needs a mask rule"):
    make_latent(MODEL, scale, (), GRID)
  with pytest.raises(ValueError, match="loss 'mse' is not one of"):
    make_latent(MODEL, scale, RULES, GRID, "mse")
