"""The U-Net and its losses: by hand, and that a disc is learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from echo_jax.models.segmentation import UNet
from echo_jax.objectives.objective import Aux
from echo_jax.objectives.segmentation import make_segmentation, mask_losses

MODEL = UNet(width=4, levels=2, groups=2)


def batch_of_discs(seed):
  """Bright discs on noise, 4 clips of 2 frames of 16 px."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:16, :16]
  at = rng.uniform(4, 12, (4, 2, 2))[..., None, None]
  disc = (y - at[:, :, 0]) ** 2 + (x - at[:, :, 1]) ** 2 < 9
  video = rng.integers(0, 120, disc.shape) + 100 * disc
  return {
    "video": video[..., None].astype(np.uint8),
    "lv_mask": disc,
    "lv_mask_known": np.ones(4, bool),
    "frame_valid": np.ones((4, 2), bool),
  }


@pytest.fixture(scope="module")
def learning():
  """(parameters, compiled loss and gradients) at the start."""
  objective = make_segmentation(MODEL, lambda raw: raw / 255.0 - 0.2)
  frames = jnp.zeros((1, 16, 16, 1))
  params = jax.jit(MODEL.init)(jax.random.key(0), frames)["params"]
  both = jax.jit(
    jax.value_and_grad(
      lambda p, batch: objective(p, Aux(), batch, jax.random.key(0), True),
      has_aux=True,
    )
  )
  return params, both


def test_a_disc_is_learnt(learning):
  params, both = learning
  optimizer = optax.adam(0.03)
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for step in range(25):
    _, gradients = both(params, batch_of_discs(step))
    updates, state = update(gradients, state)
    params = optax.apply_updates(params, updates)
  (_, (metrics, _)), _ = both(params, batch_of_discs(99))
  assert metrics["dice_loss"] < 0.15 and metrics["known"] == 8


@pytest.mark.parametrize("name", ["lv_mask_known", "frame_valid"])
def test_frames_without_a_mask_weigh_nothing(name, learning):
  """Whatever the mask of the last clip says, loss and slope are the same."""
  params, both = learning
  batch = batch_of_discs(0)
  batch[name][-1] = False
  inverted = batch | {"lv_mask": batch["lv_mask"].copy()}
  inverted["lv_mask"][-1] ^= True
  (loss, (metrics, _)), slope = both(params, batch)
  (again, _), same = both(params, inverted)
  assert metrics["known"] == 6 and loss == again
  jax.tree.map(np.testing.assert_array_equal, slope, same)
  fewer = batch | {
    key: value[:-1].repeat([1, 1, 2], axis=0) for key, value in batch.items()
  }
  assert both(params, fewer)[0][0] != loss


def test_losses_by_hand():
  """Chances 1/2, mask of 1 of 4 pixels: 2 * 0.5 + 1 over 2 + 1 + 1."""
  mask = jnp.array([[[True, False], [False, False]]] * 2)
  known = jnp.array([True, False])
  logits = jnp.stack([jnp.zeros((2, 2)), jnp.full((2, 2), 9.0)])
  entropy, dice = mask_losses(logits, mask, known)
  assert float(entropy) == pytest.approx(np.log(2))
  assert float(dice) == pytest.approx(1 - 2 / 4)
  nothing = mask_losses(logits, mask, known & False)
  assert [float(x) for x in nothing] == [0, 0]


def test_frames_do_not_meet_and_keep_their_size(fill):
  frames = np.random.default_rng(0).random((2, 16, 8, 1), np.float32)
  variables = fill(MODEL, frames)
  apply = jax.jit(lambda frames: MODEL.apply(variables, frames))
  logits, features = apply(frames)
  assert logits.shape == (2, 16, 8, 1) and logits.dtype == jnp.float32
  assert features["bottom"].shape == (2, 4, 2, 16)
  other = apply(np.stack([frames[0], frames[1] + 1]))[0]
  np.testing.assert_allclose(other[0], logits[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 18, 16, 1), (1, 16, 16, 3)])
def test_frames_that_do_not_fit_are_refused(shape):
  with pytest.raises(ValueError, match="sides that 4 divides"):
    MODEL.init(jax.random.key(0), np.zeros(shape, np.float32))
