"""What is not known or not real changes no loss and no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import TokenGrid, patchify
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.mae import make_mae, normalised_tubelets
from echo_jax.objectives.masks import MaskRule, make_mask, tokens_inside
from echo_jax.objectives.objective import Aux
from echo_jax.objectives.outputs import Standardisation, predictions_of
from echo_jax.objectives.supervised import make_supervised, standardise_from
from echo_jax.objectives.task_losses import target_losses
from echo_jax.targets import target_named

EF, VOLUME, LOW = (
  target_named(name) for name in ("ef_pct", "edv_ml", "ef_below_50")
)
SCALE = Standardisation((55.0, 120.0, 0.0), (12.0, 30.0, 1.0))
GRID = TokenGrid.of((1, 4, 8, 8, 1), 2, 4)


@pytest.fixture(scope="module")
def mae():
  """(compiled loss and gradients of a batch, batch) for masks in a sector."""
  model = EchoVideoMAE(
    VideoViT(width=8, depth=1, heads=2, patch=4, channels=1),
    MAEDecoder(width=8, depth=1, heads=2),
  )
  rule = MaskRule(0.5, in_sector=True)

  def scale(raw):
    return raw.astype(jnp.float32) / 255

  rng = np.random.default_rng(1)
  sector = np.ones((3, 8, 8), bool)
  sector[:, :, 4:] = False
  batch = {
    "video": jnp.asarray(rng.integers(0, 255, (3, 4, 8, 8, 1), np.uint8)),
    "frame_valid": jnp.asarray([[True] * 4, [True] * 4, [False] * 4]),
    "sector": jnp.asarray(sector),
  }
  inside = tokens_inside(batch["sector"], GRID)
  mask = make_mask(jax.random.key(0), rule, GRID, 3, inside=inside)
  params = jax.jit(model.init)(jax.random.key(1), scale(batch["video"]), mask)
  both = jax.jit(
    jax.value_and_grad(make_mae(model, scale, rule, GRID), has_aux=True),
    static_argnums=4,
  )

  def losses(batch):
    (loss, (metrics, _)), gradients = both(
      params["params"], Aux(), batch, jax.random.key(2), True
    )
    return float(loss), gradients, metrics

  return losses, batch


def test_a_clip_without_a_real_frame_weighs_nothing(mae):
  losses, batch = mae
  loss, gradients, metrics = losses(batch)
  assert np.isfinite(loss)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
  other = batch | {"video": batch["video"].at[2].set(200)}
  again, other_gradients, _ = losses(other)
  assert again == loss
  jax.tree.map(np.testing.assert_array_equal, gradients, other_gradients)
  assert float(metrics["hidden_tokens"]) == 2 * GRID.t  # 1 of 2 places, 2 clips


def test_a_batch_of_padding_alone_gives_zero_and_no_nan(mae):
  losses, batch = mae
  nothing = batch | {"frame_valid": jnp.zeros((3, 4), bool)}
  loss, gradients, metrics = losses(nothing)
  assert loss == 0 and float(metrics["hidden_tokens"]) == 0
  assert all((g == 0).all() for g in jax.tree.leaves(gradients))


def test_a_black_tubelet_has_a_finite_target():
  black = jnp.zeros((1, 4, 8, 8, 1))
  target = normalised_tubelets(patchify(black, 2, 4), channels=1)
  assert np.isfinite(target).all() and (target == 0).all()


def test_targets_are_numpys_for_every_tubelet_and_channel():
  rng = np.random.default_rng(0)
  video = rng.normal(3, 2, (2, 4, 8, 8, 3)).astype(np.float32)
  got = np.asarray(
    normalised_tubelets(patchify(jnp.asarray(video), 2, 4), channels=3)
  )
  n = 0
  for t in range(2):
    for h in range(2):
      for w in range(2):
        cell = video[:, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4]
        cell = cell.reshape(2, -1, 3)
        mean = cell.mean(axis=1, keepdims=True)
        wanted = (cell - mean) / cell.std(axis=1, keepdims=True, ddof=1)
        np.testing.assert_allclose(
          got[:, n].reshape(2, -1, 3), wanted, atol=2e-4
        )
        n += 1
  assert n == GRID.n


@pytest.mark.parametrize("loss", ["l1", "l2", "huber"])
def test_unknown_targets_have_no_gradient_and_no_nan(loss):
  truth = jnp.array([[60.0, jnp.nan, 1.0], [jnp.nan, jnp.nan, jnp.nan]])

  def total(output):
    return target_losses(
      output, truth, (EF, VOLUME, LOW), SCALE, loss
    ).sum()

  gradient = jax.grad(total)(jnp.full((2, 3), 0.7))
  known = ~np.isnan(truth)
  assert (np.asarray(gradient)[~known] == 0).all()
  assert (np.asarray(gradient)[known] != 0).all()
  assert total(jnp.zeros((2, 3))) > 0


def test_each_loss_by_hand():
  output, truth = jnp.array([[0.5]]), jnp.array([[55.0 + 12 * 3.0]])  # off 2.5
  for loss, wanted in (("l1", 2.5), ("l2", 6.25), ("huber", 2.0)):
    scale = Standardisation(SCALE.mean[:1], SCALE.std[:1])
    got = target_losses(output, truth, (EF,), scale, loss)
    assert float(got[0]) == pytest.approx(wanted)


def test_entropy_by_hand_also_far_out():
  scale = Standardisation((0.0,), (1.0,))
  logits = jnp.array([[2.0], [-3.0], [80.0], [-80.0]])
  truth = jnp.array([[1.0], [1.0], [0.0], [1.0]])
  got = target_losses(logits, truth, (LOW,), scale, "l2")
  by_hand = [np.log1p(np.exp(-2)), np.log1p(np.exp(3)), 80, 80]
  assert float(got[0]) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_predictions_undo_the_standardisation():
  truth = np.array([[43.0, 90.0, 1.0], [67.0, 150.0, 0.0]], np.float32)
  targets = (EF, VOLUME, LOW)
  scale = standardise_from(targets, truth)
  output = jnp.asarray((truth - scale.mean) / scale.std, jnp.float32)
  got = np.asarray(predictions_of(output, targets, scale))
  np.testing.assert_allclose(got[:, :2], truth[:, :2], rtol=1e-5)
  np.testing.assert_allclose(got[:, 2], 1 / (1 + np.exp([-1.0, 0.0])))


def test_standardisation_needs_values_that_differ():
  with pytest.raises(ValueError, match="ef_pct: 3 known values .* all alike"):
    standardise_from((EF,), np.full((3, 1), 55.0))
  with pytest.raises(ValueError, match="ef_below_50"):
    standardise_from((LOW,), np.zeros((3, 1)))


def test_an_unknown_loss_is_refused():
  with pytest.raises(ValueError, match="loss 'mse' is not one of"):
    make_supervised(VideoViT(), lambda x: x, (EF,), SCALE, "mse")
