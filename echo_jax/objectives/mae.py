"""Masked reconstruction of tubelets.

Axes: b clip, n token, q hidden token, p values per tubelet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Shaped

from echo_jax.models.tokens import (
  TokenGrid,
  patchify,
  take_tokens,
  token_valid,
)
from echo_jax.objectives.masks import MaskRule, mask_of
from echo_jax.objectives.median import SIZES, median_of_frames
from echo_jax.objectives.objective import Additive, Arrays, Aux, Outcome


@dataclass(frozen=True)
class PixelTarget:
  """What is to be predicted of a hidden tubelet.

  Attributes:
    normalised: to zero mean and unit variance a tubelet and channel (He et al.
      2022); False leaves the values that the model is shown.
    median_px: side of the square whose median each pixel becomes first, 3 or
      5; 0 leaves pixels as they are.  EchoCardMAE takes 3 and does not
      normalise: speckle, which cannot be predicted, is no part of its target.
  """

  normalised: bool = True
  median_px: int = 0

  def __post_init__(self) -> None:
    if self.median_px not in (0, *SIZES):
      raise ValueError(
        f"target median_px is {self.median_px}; there are 0 (none), {SIZES}"
      )


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


def scaled_tubelets(
  video: Shaped[Array, "b T H W c"],
  index: Int[Array, "b k"],
  normalise: Callable[[jax.Array], jax.Array],
  grid: TokenGrid,
) -> Float[Array, "b k p"]:
  """Some tubelets of a raw video, as bytes until they are taken out of it."""
  taken = take_tokens(patchify(video, grid.tubelet, grid.patch), index)
  pixels = taken.reshape(*index.shape, -1, video.shape[-1])
  return normalise(pixels).reshape(taken.shape)


def pixel_targets(
  video: Shaped[Array, "b T H W c"],
  hidden: Int[Array, "b q"],
  normalise: Callable[[jax.Array], jax.Array],
  grid: TokenGrid,
  wanted: PixelTarget,
) -> Float[Array, "b q p"]:
  """What is to be predicted of the hidden tubelets of a raw video."""
  if wanted.median_px:
    # Of bytes: normalising changes no order, and floats are four times as many.
    video = median_of_frames(video, wanted.median_px)
  values = scaled_tubelets(video, hidden, normalise, grid)
  if wanted.normalised:
    return normalised_tubelets(values, video.shape[-1])
  return values


def make_mae(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  rule: MaskRule,
  grid: TokenGrid,
  wanted: PixelTarget = PixelTarget(),
) -> Additive:
  """Reconstruct the hidden tubelets of `batch["video"]` (uint8).

  `wanted` says what of them.  `batch["frame_valid"]` takes padded frames out;
  `batch["sector"]` is needed when masks stay inside it.
  """

  def settle(
    batch: Arrays, key: jax.Array, train: bool
  ) -> tuple[Arrays, Float[Array, ""]]:
    del train  # validation hides as much as training
    mask = mask_of(batch, key, rule, grid)
    return {**batch, "mask": mask}, mask.weight.sum()

  def loss(
    params: Any, aux: Aux, batch: Arrays, total: Any, train: bool
  ) -> Outcome:
    del train
    video, mask = batch["video"], batch["mask"]
    valid = token_valid(batch["frame_valid"], grid)
    seen = scaled_tubelets(video, mask.kept, normalise, grid)
    logits, _ = model.apply(
      {"params": params}, seen, mask, video.shape, valid=valid,
      method="fill_in",
    )  # fmt: skip
    target = pixel_targets(video, mask.hidden, normalise, grid, wanted)
    error = masked_mse(logits.astype(jnp.float32), target, mask.weight, total)
    return error, ({"hidden_tokens": mask.weight.sum()}, aux.collections)

  return Additive(settle, loss)
