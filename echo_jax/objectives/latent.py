"""Latent prediction: features of hidden tokens, from those that are seen.

I-JEPA (Assran et al., CVPR 2023), V-JEPA (Bardes et al., TMLR 2024) and V-JEPA
2 (Assran et al. 2025).  The features that are to be predicted are those of the
average encoder on the whole clip.
Axes: b clip, n token, q hidden token, d width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from echo_jax.axes import Video
from echo_jax.models.latent import LatentPredictor
from echo_jax.models.tokens import TokenGrid, take_tokens, token_valid
from echo_jax.objectives.masks import MaskRule, mask_of
from echo_jax.objectives.objective import Additive, Arrays, Aux, Outcome
from echo_jax.objectives.task_losses import ERRORS

EPSILON = 1e-5  # PyTorch's for a layer norm, which V-JEPA takes


def normalised_features(
  tokens: Float[Array, "*b d"],
) -> Float[Array, "*b d"]:
  """Each token's features with mean 0 and variance 1, in float32.

  A layer norm without weights: a target could not shrink to be hit.
  """
  tokens = tokens.astype(jnp.float32)
  centred = tokens - tokens.mean(axis=-1, keepdims=True)
  variance = jnp.square(centred).mean(axis=-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + EPSILON)


def target_features(
  encoder: nn.Module, average: Any, video: Video, valid: Any
) -> Float[Array, "b n d"]:
  """What the average encoder makes of whole clips; no gradient flows back.

  Raises:
    ValueError: no average is kept.
  """
  if average is None:
    raise ValueError(
      "latent prediction predicts the features of the average encoder, and "
      "none is kept; set run.average_decay above 0, as 0.99925"
    )
  params = jax.lax.stop_gradient(average["encoder"])
  tokens, _ = encoder.apply({"params": params}, video, None, valid)
  return jax.lax.stop_gradient(normalised_features(tokens))


def make_latent(
  model: LatentPredictor,
  normalise: Callable[[jax.Array], jax.Array],
  rules: Sequence[MaskRule],
  grid: TokenGrid,
  loss: str = "l1",
) -> Additive:
  """Predict the average encoder's features of the hidden tokens.

  The loss is the mean over `rules` of the mean error over hidden tokens that
  count; each rule's mask is predicted by itself, from one target.  `loss` is
  one of `ERRORS`: V-JEPA takes "l1", I-JEPA "huber" (smooth L1).

  Raises:
    ValueError: no rule, or no such loss.
  """
  if not rules:
    raise ValueError("latent prediction needs a mask rule")
  if loss not in ERRORS:
    raise ValueError(f"loss {loss!r} is not one of {tuple(ERRORS)}")

  def settle(
    batch: Arrays, key: jax.Array, train: bool
  ) -> tuple[Arrays, tuple[Float[Array, ""], ...]]:
    del train  # validation hides as much as training
    masks = tuple(
      mask_of(batch, jax.random.fold_in(key, number), rule, grid)
      for number, rule in enumerate(rules)
    )
    totals = tuple(mask.weight.sum() for mask in masks)
    return {**batch, "masks": masks}, totals

  def of_rows(
    params: Any, aux: Aux, batch: Arrays, totals: Any, train: bool
  ) -> Outcome:
    video, masks = normalise(batch["video"]), batch["masks"]
    valid = token_valid(batch["frame_valid"], grid)
    target = target_features(model.encoder, aux.average, video, valid)
    errors = []
    for mask, total in zip(masks, totals, strict=True):
      predicted, _ = model.apply(
        {"params": params}, video, mask, valid=valid, train=train
      )
      wanted = take_tokens(target, mask.hidden)
      error = ERRORS[loss](predicted, wanted).mean(axis=-1)  # b q
      errors.append((error * mask.weight).sum() / jnp.maximum(total, 1))
    counted = sum(mask.weight.sum() for mask in masks)
    return sum(errors) / len(rules), (
      {"hidden_tokens": counted}, aux.collections
    )  # fmt: skip

  return Additive(settle, of_rows)
