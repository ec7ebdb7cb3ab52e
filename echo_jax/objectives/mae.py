"""Masked reconstruction of tubelets.

Axes: b clip, n token, q hidden token, p values per tubelet.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from echo_jax.models.tokens import (
  TokenGrid,
  patchify,
  take_tokens,
  token_valid,
)
from echo_jax.objectives.masks import MaskRule, make_mask, tokens_inside
from echo_jax.objectives.objective import Additive, Arrays, Aux, Outcome


def masked_mse(
  pred: Float[Array, "b q p"],
  target: Float[Array, "b q p"],
  weight: Float[Array, "b q"],
  total: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
  """Mean squared error over hidden tokens that count (He et al. 2022).

  Where these are some rows of a batch, `total` is the weight of all of it.
  """
  per_token = jnp.square(pred - target).mean(axis=-1)  # b q
  total = weight.sum() if total is None else total
  return (per_token * weight).sum() / jnp.maximum(total, 1)


def normalised_tubelets(
  tubelets: Float[Array, "b n p"], channels: int, epsilon: float = 1e-6
) -> Float[Array, "b n p"]:
  """Tubelets with zero mean and unit variance a tubelet and channel.

  The variance is the unbiased one, as in VideoMAE (Tong et al. 2022).
  """
  count = tubelets.shape[-1] // channels
  channel = jnp.arange(tubelets.shape[-1]) % channels  # of each value

  def sum_by_channel(values: Float[Array, "b n p"]) -> Float[Array, "b n p"]:
    # Channels are told apart where they lie: on a TPU an axis of their own
    # means several copies of all pixels as float32.
    total = jnp.zeros_like(values)
    for number in range(channels):
      here = channel == number
      of_one = jnp.where(here, values, 0).sum(axis=-1, keepdims=True)
      total = jnp.where(here, of_one, total)
    return total

  centred = tubelets - sum_by_channel(tubelets) / count
  variance = sum_by_channel(jnp.square(centred)) / (count - 1)
  return centred / (jnp.sqrt(variance) + epsilon)


def make_mae(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  rule: MaskRule,
  grid: TokenGrid,
) -> Additive:
  """Reconstruct the hidden tubelets of `batch["video"]` (uint8).

  `normalise` scales grey levels one by one; their last axis is the channel.
  Targets are normalised a tubelet and channel.  `batch["frame_valid"]` takes
  padded frames out; `batch["sector"]` is needed when masks stay inside it.
  """

  def settle(
    batch: Arrays, key: jax.Array, train: bool
  ) -> tuple[Arrays, Float[Array, ""]]:
    del train  # validation hides as much as training
    inside = (
      tokens_inside(batch["sector"], grid) if rule.in_sector else None
    )
    valid = token_valid(batch["frame_valid"], grid)
    clips = batch["video"].shape[0]
    mask = make_mask(key, rule, grid, clips, inside=inside, valid=valid)
    return {**batch, "mask": mask}, mask.weight.sum()

  def loss(
    params: Any, aux: Aux, batch: Arrays, total: Any, train: bool
  ) -> Outcome:
    del train  # nothing in the model behaves otherwise in training
    video, mask = batch["video"], batch["mask"]
    channels = video.shape[-1]
    valid = token_valid(batch["frame_valid"], grid)
    tubelets = patchify(video, grid.tubelet, grid.patch)  # bytes, until taken

    def take(index: Int[Array, "b k"]) -> Float[Array, "b k p"]:
      taken = take_tokens(tubelets, index)
      values = normalise(taken.reshape(*index.shape, -1, channels))
      return values.reshape(taken.shape)

    logits, _ = model.apply(
      {"params": params}, take(mask.kept), mask, video.shape, valid=valid,
      method="fill_in",
    )  # fmt: skip
    target = normalised_tubelets(take(mask.hidden), channels)
    error = masked_mse(logits.astype(jnp.float32), target, mask.weight, total)
    return error, ({"hidden_tokens": mask.weight.sum()}, aux.collections)

  return Additive(settle, loss)
