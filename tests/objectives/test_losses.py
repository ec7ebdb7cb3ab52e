"""Reconstruction and supervised losses against hand calculations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import median_filter
from sklearn.metrics import log_loss

from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import TokenGrid, patchify
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.mae import (
  PixelTarget,
  make_mae,
  masked_mse,
  normalised_tubelets,
  pixel_targets,
)
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.objectives.objective import Aux, hold_fixed
from echo_jax.objectives.outputs import Standardisation, predictions_of
from echo_jax.objectives.supervised import standardise_from
from echo_jax.objectives.task_losses import target_losses
from echo_jax.targets import target_named

EF, VOLUME, LOW = (
  target_named(name) for name in ("ef_pct", "edv_ml", "ef_below_50")
)
MAE = EchoVideoMAE(
  VideoViT(width=16, depth=1, heads=2, patch=4, channels=1),
  MAEDecoder(width=8, depth=1, heads=2),
)


def test_masked_mse_by_hand():
  pred = jnp.array([[[1.0, 3.0], [0.0, 0.0], [5.0, 5.0]]])
  weight = jnp.array([[1.0, 1.0, 0.0]])
  loss = masked_mse(pred, jnp.zeros_like(pred), weight)
  assert float(loss) == pytest.approx((5.0 + 0.0) / 2)


def test_tubelets_are_normalised_by_channel_with_unbiased_deviation():
  video = np.random.default_rng(0).normal(size=(1, 2, 4, 4, 3))
  got = normalised_tubelets(
    patchify(jnp.asarray(video, jnp.float32), 2, 4), channels=3
  )
  flat = video.reshape(32, 3)
  wanted = (flat - flat.mean(0)) / flat.std(0, ddof=1)
  np.testing.assert_allclose(got[0, 0].reshape(32, 3), wanted, atol=1e-4)


@pytest.fixture(scope="module")
def mae():
  """(objective, params, batch) of a minute masked autoencoder."""
  grid, rule = TokenGrid.of((1, 4, 8, 8, 1), 2, 4), MaskRule(0.5)
  video = np.random.default_rng(1).integers(0, 255, (2, 4, 8, 8, 1), np.uint8)
  valid = np.array([[True] * 4, [True, True, False, False]])
  scale = lambda raw: raw.astype(jnp.float32) / 255  # noqa: E731
  mask = make_mask(jax.random.key(0), rule, grid, 2)
  params = MAE.init(jax.random.key(1), scale(jnp.asarray(video)), mask)
  batch = {"video": jnp.asarray(video), "frame_valid": jnp.asarray(valid)}
  return make_mae(MAE, scale, rule, grid), params["params"], batch


def test_padded_frames_change_no_loss(mae):
  objective, params, batch = mae
  loss = jax.jit(lambda video: objective(
    params, Aux(), batch | {"video": video}, jax.random.key(2), True
  )[0])  # fmt: skip
  noisy = batch["video"].at[1, 2:].set(255 - batch["video"][1, 2:])
  assert float(loss(noisy)) == float(loss(batch["video"]))
  real = batch["video"].at[1, :2].set(255 - batch["video"][1, :2])
  assert float(loss(real)) != float(loss(batch["video"]))


@pytest.mark.parametrize("median_px", [0, 3])
@pytest.mark.parametrize("normalised", [True, False])
def test_what_is_wanted_of_pixels(normalised, median_px):
  video = np.random.default_rng(1).integers(0, 256, (2, 4, 8, 8, 1), np.uint8)
  hidden = jnp.asarray([[3, 0, 6], [1, 7, 2]])
  got = pixel_targets(
    jnp.asarray(video), hidden, lambda raw: raw.astype(jnp.float32) / 255,
    TokenGrid.of(video.shape, 2, 4), PixelTarget(normalised, median_px),
  )  # fmt: skip
  if median_px:
    video = median_filter(video, (1, 1, 3, 3, 1), mode="nearest")
  cells = (video / 255).reshape(2, 2, 2, 2, 4, 2, 4)
  cells = cells.transpose(0, 1, 3, 5, 2, 4, 6).reshape(2, 8, 32)
  if normalised:
    cells = cells - cells.mean(-1, keepdims=True)
    cells /= cells.std(-1, keepdims=True, ddof=1)
  cells = np.take_along_axis(cells, np.asarray(hidden)[..., None], axis=1)
  np.testing.assert_allclose(got, cells, atol=1e-4)


def test_a_median_of_another_size_is_refused():
  with pytest.raises(ValueError, match="median_px is 4; there are 0"):
    PixelTarget(median_px=4)


def test_jit_changes_nothing_and_held_parameters_get_no_gradient(mae):
  objective, params, batch = mae
  held = hold_fixed(objective, "^encoder/")
  both = jax.value_and_grad(held, has_aux=True)
  args = params, Aux(), batch, jax.random.key(2), True
  (plain, _), gradients = both(*args)
  (compiled, _), _ = jax.jit(both, static_argnums=4)(*args)
  assert float(plain) == pytest.approx(float(compiled), rel=1e-5)
  assert all((g == 0).all() for g in jax.tree.leaves(gradients["encoder"]))
  assert any((g != 0).any() for g in jax.tree.leaves(gradients["decoder"]))


def test_the_loss_is_that_of_the_whole_video_scaled_first(mae):
  objective, params, batch = mae
  args = batch, jax.random.key(2), True
  loss, _ = objective(params, Aux(), *args)
  settled, total = objective.settle(*args)
  mask, video = settled["mask"], np.float32(batch["video"]) / 255
  valid = np.array([[True] * 8, [True] * 4 + [False] * 4])
  logits, _ = MAE.apply({"params": params}, video, mask, valid=valid)
  cells = video.reshape(2, 2, 2, 2, 4, 2, 4).transpose(0, 1, 3, 5, 2, 4, 6)
  cells = cells.reshape(2, 8, 32)
  centred = cells - cells.mean(-1, keepdims=True)
  target = centred / cells.std(-1, ddof=1, keepdims=True)
  target = np.take_along_axis(target, np.asarray(mask.hidden)[..., None], 1)
  per_token = np.square(np.asarray(logits) - target).mean(-1)
  weighed = (per_token * np.asarray(mask.weight)).sum() / float(total)
  assert float(loss) == pytest.approx(weighed, rel=1e-5)


def test_standardisation_uses_known_values_only():
  truth = np.array([[40.0, np.nan, 1.0], [60.0, 100.0, 0.0], [50, 200, 0]])
  scale = standardise_from((EF, VOLUME, LOW), truth)
  assert scale.mean == (50.0, 150.0, 0.0)
  assert scale.std == pytest.approx((np.std([40, 60, 50]), 50.0, 1.0))
  with pytest.raises(ValueError, match="edv_ml: 1 known values"):
    standardise_from((VOLUME,), np.array([[1.0], [np.nan]]))


def test_losses_by_hand_and_unknown_targets_weigh_nothing():
  scale = Standardisation((50.0, 0.0), (10.0, 1.0))
  output = jnp.array([[0.5, 2.0], [0.0, -1.0], [3.0, 0.3]])
  truth = jnp.array([[60.0, 1.0], [np.nan, 1.0], [50.0, np.nan]])
  l1 = target_losses(output, truth, (EF, LOW), scale, "l1")
  chance = 1 / (1 + np.exp([-2.0, 1.0]))
  assert float(l1[0]) == pytest.approx((0.5 + 3.0) / 2)
  assert float(l1[1]) == pytest.approx(
    log_loss([1, 1], chance, labels=[0, 1]), rel=1e-5
  )
  huber = target_losses(output, truth, (EF, LOW), scale, "huber")
  assert float(huber[0]) == pytest.approx((0.125 + 2.5) / 2)


def test_predictions_come_in_units_and_as_probability():
  scale = Standardisation((50.0, 0.0), (10.0, 1.0))
  got = predictions_of(jnp.array([[1.5, 0.0]]), (EF, LOW), scale)
  assert got.tolist() == [[65.0, 0.5]]
