"""Contrast by cardiac phase: moments of equal phase in different beats agree.

The idea is that of EchoFM (Kim et al., IEEE TMI 2025): frames one beat apart
show the same anatomy.  It takes triplets, whose phase it reads off the
similarity of pixels or embeddings; here the phase is measured when the clip is
made (`data/phase.py`) and all pairs of a clip enter one loss, the supervised
contrast of Khosla et al. (NeurIPS 2020, equation 2) with phase as the label.
Axes: b clip, T frame, t u slice, e embedding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.contrast import SliceEmbedding
from echo_jax.models.tokens import TokenGrid, token_valid
from echo_jax.objectives.contrastive import unit
from echo_jax.objectives.masks import MaskRule, mask_of
from echo_jax.objectives.objective import Additive, Arrays, Aux, Outcome


def slice_beats(
  beat: Float[Array, "b T"], frame_valid: Bool[Array, "b T"], tubelet: int
) -> Float[Array, "b t"]:
  """Beats since a common moment at the middle of each slice; NaN if unknown.

  A slice with a frame that is padding or of unknown phase is unknown.
  """
  beat = jnp.where(frame_valid, beat, jnp.nan)
  return beat.reshape(len(beat), -1, tubelet).mean(axis=-1)


def phase_pairs(
  beat: Float[Array, "b t"], tolerance: float
) -> tuple[Bool[Array, "b t t"], Bool[Array, "b t t"]]:
  """(positive, negative) pairs of slices, none with an unknown slice.

  Of two slices that are d beats apart, d is rounded to whole beats n.  They
  are of equal phase where |d - n| <= `tolerance`: positive if n is not 0,
  neither if it is (neighbours in one beat).  All others are negative.
  """
  apart = beat[:, :, None] - beat[:, None, :]
  whole = jnp.round(apart)
  equal = jnp.abs(apart - whole) <= tolerance
  known = ~jnp.isnan(apart)
  return known & equal & (whole != 0), known & ~equal


def phase_contrast(
  embedding: Float[Array, "b t e"],
  positive: Bool[Array, "b t t"],
  negative: Bool[Array, "b t t"],
  temperature: float,
) -> Float[Array, "b t"]:
  """Loss of each slice, 0 for one that lacks positives or negatives.

  Of slice i with positives P and negatives N, and cosine similarities s:

    -1/|P| sum_{p in P} log( exp(s_ip / T) / sum_{j in P or N} exp(s_ij / T) )
  """
  z = unit(embedding)
  logits = jnp.einsum("bte,bue->btu", z, z) / temperature
  others = positive | negative
  # Finite, so that no gradient of a slice without others is NaN.
  all_of = jax.nn.logsumexp(jnp.where(others, logits, -1e9), axis=-1)
  log_share = logits - all_of[..., None]
  count = jnp.maximum(positive.sum(axis=-1), 1)
  loss = -jnp.where(positive, log_share, 0).sum(axis=-1) / count
  return jnp.where(anchors_of(positive, negative), loss, 0)


def anchors_of(
  positive: Bool[Array, "b t t"], negative: Bool[Array, "b t t"]
) -> Bool[Array, "b t"]:
  """Slices that have both a positive and a negative."""
  return positive.any(axis=-1) & negative.any(axis=-1)


def make_periodic(
  model: SliceEmbedding,
  normalise: Callable[[jax.Array], jax.Array],
  grid: TokenGrid,
  rule: MaskRule | None = None,
  temperature: float = 0.1,
  tolerance: float = 0.1,
) -> Additive:
  """Contrast the slices of each clip by `batch["beat"]` [b T].

  The loss is the mean over the slices of the batch that have positives and
  negatives.  A clip without one (phase unknown, or no second beat) has no
  part in it; metrics say how many clips have and how many have not.

  Args:
    model: embeds slices.
    normalise: raw video to what the model takes.
    grid: of tokens.
    rule: the encoder sees the kept tokens only; the same places in each slice.
    temperature: T.
    tolerance: of phase, in beats.

  Raises:
    ValueError: a setting outside of its range.
  """
  if not temperature > 0:
    raise ValueError(f"temperature is {temperature}, wants more than 0")
  if not 0 < tolerance < 0.5:
    raise ValueError(f"tolerance is {tolerance} beats, wants 0 to 0.5")
  if rule is not None and rule.scheme == "token":
    raise ValueError(
      "contrast by phase compares whole slices; use mask scheme 'tube' or "
      "'blocks', which keep the same places in each"
    )

  def pairs_of(batch: Arrays) -> tuple[Bool[Array, "b t t"], ...]:
    beat = slice_beats(batch["beat"], batch["frame_valid"], grid.tubelet)
    return phase_pairs(beat, tolerance)

  def settle(
    batch: Arrays, key: jax.Array, train: bool
  ) -> tuple[Arrays, Int[Array, ""]]:
    del train
    anchors = anchors_of(*pairs_of(batch)).sum()
    if rule is None:
      return batch, anchors
    return {**batch, "kept": mask_of(batch, key, rule, grid).kept}, anchors

  def of_rows(
    params: Any, aux: Aux, batch: Arrays, total: Any, train: bool
  ) -> Outcome:
    embedding, _ = model.apply(
      {"params": params}, normalise(batch["video"]), batch.get("kept"),
      token_valid(batch["frame_valid"], grid), train=train,
    )  # fmt: skip
    pairs = pairs_of(batch)
    loss = phase_contrast(embedding, *pairs, temperature)
    real = batch["frame_valid"].any(axis=1)
    with_phase = anchors_of(*pairs).any(axis=1)
    metrics = {
      "slices": anchors_of(*pairs).sum(),
      "clips_with_phase": with_phase.sum(),
      "clips_without_phase": (real & ~with_phase).sum(),
    }
    return loss.sum() / jnp.maximum(total, 1), (metrics, aux.collections)

  return Additive(settle, of_rows)
