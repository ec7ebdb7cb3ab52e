"""Masked reconstruction of tubelets.

Axes: b clip, n token, q hidden token, p values per tubelet.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from echo_jax.axes import Video
from echo_jax.models.tokens import TokenGrid, patchify, token_valid
from echo_jax.objectives.masks import MaskRule, make_mask, tokens_inside
from echo_jax.objectives.objective import Aux, Metrics, Objective


def masked_mse(
  pred: Float[Array, "b q p"],
  target: Float[Array, "b q p"],
  weight: Float[Array, "b q"],
) -> Float[Array, ""]:
  """Mean squared error over hidden tokens that count (He et al. 2022)."""
  per_token = jnp.square(pred - target).mean(axis=-1)  # b q
  return (per_token * weight).sum() / jnp.maximum(weight.sum(), 1)


def normalised_tubelets(
  video: Video, grid: TokenGrid, epsilon: float = 1e-6
) -> Float[Array, "b n p"]:
  """Tubelets with zero mean and unit variance a tubelet and channel.

  The variance is the unbiased one, as in VideoMAE (Tong et al. 2022).
  """
  channels = video.shape[-1]
  values = patchify(video, grid.tubelet, grid.patch)
  values = values.reshape(*values.shape[:2], -1, channels)
  mean = values.mean(axis=2, keepdims=True)
  std = values.std(axis=2, keepdims=True, ddof=1)
  scaled = (values - mean) / (std + epsilon)
  return scaled.reshape(*scaled.shape[:2], -1)


def make_mae(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  rule: MaskRule,
  grid: TokenGrid,
) -> Objective:
  """Reconstruct the hidden tubelets of `batch["video"]` (uint8).

  Targets are normalised a tubelet and channel.  `batch["frame_valid"]` takes
  padded frames out; `batch["sector"]` is needed when masks stay inside it.
  """

  def objective(
    params: Any,
    aux: Aux,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    train: bool,
  ) -> tuple[jax.Array, tuple[Metrics, Mapping[str, Any]]]:
    video = normalise(batch["video"])
    valid = token_valid(batch["frame_valid"], grid)
    inside = (
      tokens_inside(batch["sector"], grid) if rule.in_sector else None
    )
    mask = make_mask(
      key, rule, grid, video.shape[0], inside=inside, valid=valid
    )
    logits, _ = model.apply(
      {"params": params}, video, mask, valid=valid, train=train
    )
    target = normalised_tubelets(video, grid)
    target = jnp.take_along_axis(target, mask.hidden[..., None], axis=1)
    loss = masked_mse(logits.astype(jnp.float32), target, mask.weight)
    return loss, ({"hidden_tokens": mask.weight.sum()}, aux.collections)

  return objective
