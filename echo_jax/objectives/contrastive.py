"""Contrast of clips: two of one video are alike, those of others are not.

Axes: b pair of clips, e embedding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.contrast import ClipEmbedding
from echo_jax.models.tokens import TokenGrid, token_valid
from echo_jax.objectives.masks import MaskRule, mask_of
from echo_jax.objectives.objective import Arrays, Aux, Objective, Outcome


def unit(x: Float[Array, "*b e"]) -> Float[Array, "*b e"]:
  """Vectors of length 1; a zero vector stays one, with a finite slope."""
  square = jnp.square(x).sum(axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def info_nce(
  first: Float[Array, "b e"],
  second: Float[Array, "b e"],
  temperature: float,
  counts: Bool[Array, "b"],
  excluded: Bool[Array, "b b"] | None = None,
) -> tuple[Float[Array, ""], Int[Array, ""], Float[Array, ""]]:
  """Symmetric InfoNCE; how many pairs that is the mean of; negatives of each.

  With cosine similarities s_ij of first i and second j it is the mean, over
  the pairs that count and have a negative, and both directions, of

    -log( exp(s_ii / T) / sum_j exp(s_ij / T) )

  (van den Oord et al. 2018; both directions as in Radford et al. 2021).

  Args:
    first, second: embeddings of the clips of each pair.
    temperature: T.
    counts: pairs that are real; others are neither anchors nor negatives.
    excluded: pairs i and j that are no negatives of each other.
  """
  logits = unit(first) @ unit(second).T / temperature
  same = jnp.eye(len(logits), dtype=bool)
  out = ~counts[None, :] | ~counts[:, None]
  if excluded is not None:
    out |= excluded
  logits = jnp.where(out & ~same, -jnp.inf, logits)
  error = (
    jax.nn.logsumexp(logits, axis=0) + jax.nn.logsumexp(logits, axis=1)
  ) / 2 - jnp.diagonal(logits)
  negatives = (~out & ~same).sum(axis=1)
  counts &= negatives > 0
  pairs = counts.sum()
  total = jnp.maximum(pairs, 1)
  return jnp.where(counts, error, 0).sum() / total, pairs, (
    negatives.sum() / total
  )  # fmt: skip


def make_contrastive(
  model: ClipEmbedding,
  normalise: Callable[[jax.Array], jax.Array],
  grid: TokenGrid,
  rule: MaskRule | None = None,
  temperature: float = 0.1,
) -> Objective:
  """InfoNCE between rows 2i and 2i + 1 of a batch, clips of one video or study.

  Negatives are the other pairs of the global batch, however many devices hold
  it, but for those of the same person (`batch["person"]`, if it is given): two
  videos of one heart are no opposites.  For the same reason the batch cannot
  be taken in parts, which the train step refuses.  With `rule` the encoder
  sees the kept tokens only.

  Raises:
    ValueError: a temperature that is not above 0.
  """
  if not temperature > 0:
    raise ValueError(f"temperature is {temperature}, wants more than 0")

  def objective(
    params: Any, aux: Aux, batch: Arrays, key: jax.Array, train: bool
  ) -> Outcome:
    frame_valid = batch["frame_valid"]
    if len(frame_valid) % 2 or len(frame_valid) < 4:
      raise ValueError(
        f"a batch of {len(frame_valid)} clips; contrast needs two or more "
        "pairs: set run.batch_size to an even number of 4 or more"
      )
    kept = None
    if rule is not None:
      kept = mask_of(batch, key, rule, grid).kept
    embedding, _ = model.apply(
      {"params": params}, normalise(batch["video"]), kept,
      token_valid(frame_valid, grid), train=train,
    )  # fmt: skip
    counts = frame_valid.any(axis=1).reshape(-1, 2).all(axis=1)
    excluded = None
    if "person" in batch:
      person = batch["person"][::2]
      excluded = person[:, None] == person[None, :]
    loss, pairs, negatives = info_nce(
      embedding[::2], embedding[1::2], temperature, counts, excluded
    )
    metrics = {"pairs": pairs, "negatives": negatives}
    return loss, (metrics, aux.collections)

  return objective

