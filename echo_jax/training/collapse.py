"""Whether an encoder still tells clips apart, watched while it trains.

A loss between features can be lowered by features that are all alike, so it
does not tell.  What does is how the clips of the validation split spread:
their variance, and in how many directions.
Axes: N clip of all batches, b clip, d width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from echo_jax.data.pipeline import arrays_of
from echo_jax.models.heads import masked_mean
from echo_jax.models.tokens import token_valid
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.latent import normalised_features
from echo_jax.training import sharding
from echo_jax.training.state import TrainState
from echo_jax.training.step import evaluated_params

Validate = Callable[[TrainState], dict[str, float]]


class Collapsed(ValueError):
  """Clips have come to look alike to the encoder; the message says how much."""


@dataclass(frozen=True)
class Spread:
  """How the features of clips spread.

  Attributes:
    rank: effective number of directions, 1 to the smaller of clips and width.
    variance: over clips, mean over the features.
    clips: that were looked at.
  """

  rank: float
  variance: float
  clips: int


@dataclass(frozen=True)
class Limits:
  """A spread below either means collapse.

  Both chosen from small trials on SynthEcho whose figures were not kept.

  Attributes:
    rank: of at most the smaller of clips and width.
    variance: of features of which every token's have variance 1.
    clips: the most that are looked at.
  """

  rank: float = 1.5
  variance: float = 1e-4
  clips: int = 1024

  def refuse(self, spread: Spread, step: int) -> None:
    """Raises Collapsed where the spread is too small.

    Raises:
      ValueError: so few clips that their rank is small however they spread.
    """
    if spread.clips - 1 < self.rank:
      raise ValueError(
        f"{spread.clips} validation clips are too few to tell whether the "
        f"features collapse: their rank is at most {spread.clips - 1}, the "
        f"limit {self.rank:g}; use a larger data.validation_split, or "
        "collapse.rank=0 to watch the variance alone"
      )
    if spread.rank >= self.rank and spread.variance >= self.variance:
      return
    raise Collapsed(
      f"the features have collapsed at step {step}: over {spread.clips} "
      f"validation clips their effective rank is {spread.rank:.2f} (limit "
      f"{self.rank:g}), their variance {spread.variance:.2g} (limit "
      f"{self.variance:g}), so the encoder hardly tells clips apart. Go back "
      "to the last checkpoint with a lower optimizer.rate, an "
      "run.average_decay nearer to 1, or larger batches; or lower "
      "collapse.rank and collapse.variance if the clips do look alike"
    )


def effective_rank(features: Float[np.ndarray, "N d"]) -> float:
  """RankMe (Garrido et al., ICML 2023) of features without their mean.

  The exponential of the entropy of the singular values' shares.  The mean,
  which the paper leaves in, is one direction that all clips share: with it
  features that hardly differ, in many directions, would have rank 1 too.
  0 where they do not differ at all.
  """
  singular = np.linalg.svd(
    features.astype(np.float64) - features.mean(axis=0, dtype=np.float64),
    compute_uv=False,
  )  # fmt: skip
  # Rounding alone leaves values of this size.
  floor = np.finfo(features.dtype).eps * np.abs(features).max(initial=0)
  singular = singular[singular > floor * np.sqrt(features.size)]
  if not len(singular):
    return 0.0
  share = singular / singular.sum()
  return float(np.exp(-(share * np.log(share)).sum()))


def spread_of(features: Float[np.ndarray, "N d"]) -> Spread:
  """Rank and variance of the features of clips."""
  variance = float(features.var(axis=0, dtype=np.float64).mean())
  return Spread(effective_rank(features), variance, len(features))


def make_feature_step(
  encoder: VideoViT, normalise: Callable[[jax.Array], jax.Array]
) -> Callable[[Any, Mapping[str, Any]], Float[Array, "b d"]]:
  """A compiled (params, batch) -> features of each whole clip.

  The mean of its valid tokens, each with features of mean 0 and variance 1.
  """

  @jax.jit
  def step(params: Any, batch: Mapping[str, Any]) -> Float[Array, "b d"]:
    grid = encoder.token_grid(batch["video"].shape)
    valid = token_valid(batch["frame_valid"], grid)
    tokens, _ = encoder.apply(
      {"params": params["encoder"]}, normalise(batch["video"]), None, valid
    )
    return masked_mean(normalised_features(tokens), valid).astype(jnp.float32)

  return lambda params, batch: sharding.call_on(
    sharding.mesh_of(params), step, params, batch
  )


def watch_collapse(
  validate: Validate,
  feature_step: Callable[[Any, Mapping[str, Any]], Any],
  batches: Callable[[], Iterator[Mapping[str, Any]]],
  limits: Limits,
) -> Validate:
  """The same validation with `feature_rank` and `feature_variance`.

  It raises Collapsed where they are too small.
  """

  def watched(state: TrainState) -> dict[str, float]:
    numbers = validate(state)
    spread = spread_of(_features(state, feature_step, batches(), limits.clips))
    limits.refuse(spread, int(state.step))
    return numbers | {
      "feature_rank": spread.rank, "feature_variance": spread.variance
    }  # fmt: skip

  return watched


def _features(
  state: TrainState, step: Callable, batches: Iterator, most: int
) -> Float[np.ndarray, "N d"]:
  """Features of the first clips, without padding rows."""
  params, found, count = evaluated_params(state), [], 0
  mesh = sharding.mesh_of(params)
  for batch in batches:
    arrays = sharding.all_rows(
      {name: arrays_of(batch)[name] for name in ("video", "frame_valid")}, mesh
    )
    features = sharding.on_host(step(params, arrays))
    found.append(features[batch["frame_valid"].any(axis=1)])
    count += len(found[-1])
    if count >= most:
      break
  return np.concatenate(found)[:most]
