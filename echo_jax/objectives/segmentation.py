"""Mask of the ventricle in single frames: cross-entropy and soft Dice.

Axes: b clip or frame, T H W frames and pixels.  A frame that is padding or
whose mask is unknown weighs nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from echo_jax.objectives.objective import Additive, Arrays, Aux, Outcome

SMOOTHING_PX = 1.0  # chosen: an empty mask found empty has a Dice of 1


def make_segmentation(
  model: nn.Module, normalise: Callable[[jax.Array], jax.Array]
) -> Additive:
  """Predict `batch["lv_mask"]` [b T H W] from each frame of `batch["video"]`.

  The loss is the mean cross-entropy of a pixel plus 1 - soft Dice, each the
  mean over the frames that are valid in videos of which `lv_mask_known` [b];
  metrics hold both and how many frames those are.
  """

  def known_frames(batch: Arrays) -> Bool[Array, "b T"]:
    return batch["frame_valid"] & batch["lv_mask_known"][:, None]

  def settle(
    batch: Arrays, key: jax.Array, train: bool
  ) -> tuple[Arrays, Int[Array, ""]]:
    del key, train  # nothing here is random
    return batch, known_frames(batch).sum()

  def loss(
    params: Any, aux: Aux, batch: Arrays, total: Any, train: bool
  ) -> Outcome:
    video, mask = batch["video"], batch["lv_mask"]
    frames = normalise(video.reshape(-1, *video.shape[2:]))
    logits, _ = model.apply({"params": params}, frames, train=train)
    known = known_frames(batch)
    entropy, dice = mask_losses(
      logits[..., 0], mask.reshape(-1, *mask.shape[2:]), known.reshape(-1),
      total,
    )  # fmt: skip
    metrics = {"entropy": entropy, "dice_loss": dice, "known": known.sum()}
    return entropy + dice, (metrics, aux.collections)

  return Additive(settle, loss)


def mask_losses(
  logits: Float[Array, "b H W"],
  mask: Bool[Array, "b H W"],
  known: Bool[Array, " b"],
  total: Int[Array, ""] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Cross-entropy and 1 - soft Dice, means over the known frames; 0 if none.

  Where these are some rows of a batch, `total` counts its known frames.

  Soft Dice of a frame is 2 sum(p m) / (sum(p) + sum(m)) over its pixels, as
  Milletari et al. (3DV 2016) without their squares.
  """
  truth, chance = mask.astype(jnp.float32), jax.nn.sigmoid(logits)
  pixels = (1, 2)
  entropy = optax.sigmoid_binary_cross_entropy(logits, truth).mean(pixels)
  both = (chance * truth).sum(pixels)
  area = chance.sum(pixels) + truth.sum(pixels)
  dice = (2 * both + SMOOTHING_PX) / (area + SMOOTHING_PX)
  count = jnp.maximum(known.sum() if total is None else total, 1)
  return (
    jnp.where(known, entropy, 0).sum() / count,
    jnp.where(known, 1 - dice, 0).sum() / count,
  )
