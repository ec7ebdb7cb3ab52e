"""What the numbers of a head mean: values in units and probabilities.

Axes: b clip, o output, y predicted value (one a class).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from echo_jax.targets import Target, layout


@dataclass(frozen=True)
class Standardisation:
  """Mean and standard deviation of each target on the training split only.

  Of the logarithm, where the target's link is "log".  Targets other than
  regression have mean 0 and deviation 1.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]


def cumulative_logits(output: Float[Array, "b o"]) -> Float[Array, "b o"]:
  """Logits of P(grade > k) for k = 0 … o-1, which never rise with k.

  A cumulative link model (McCullagh, JRSS B 1980): the first output is the
  logit of the lowest threshold, each further one the distance to the next,
  made positive by softplus.  So grades are consistent by construction, which
  Cao, Mirjalili & Raschka (Pattern Recognition Letters 2020) reach by sharing
  weights.  The distances may depend on the clip: proportional odds are where
  training starts, not a condition.
  """
  first, gaps = output[:, :1], jax.nn.softplus(output[:, 1:])
  return jnp.concatenate([first, first - jnp.cumsum(gaps, axis=1)], axis=1)


def predictions_of(
  output: Float[Array, "b o"],
  targets: Sequence[Target],
  scale: Standardisation,
) -> Float[Array, "b y"]:
  """Model output to the targets' own units, or to probabilities.

  P(positive) of a binary target and of each label, one P a class of a
  multiclass or ordinal target; columns as in `layout`.
  """
  return jnp.concatenate(
    [
      _values(target, output[:, place.output], mean, std)
      for target, place, mean, std in zip(
        targets, layout(targets), scale.mean, scale.std, strict=True
      )
    ],
    axis=1,
  )


def standardised(
  target: Target, truth: Float[Array, "b u"], mean: float, std: float
) -> Float[Array, "b u"]:
  """Truth as a model regresses it: the inverse of what `predictions_of` does.
  """
  if target.link == "log":
    truth = jnp.log(truth)
  return (truth - mean) / std


def _values(
  target: Target, output: Float[Array, "b o"], mean: float, std: float
) -> Float[Array, "b y"]:
  """Of one target."""
  if target.kind == "regression":
    value = output * std + mean
    return jnp.exp(value) if target.link == "log" else value
  if target.kind in ("binary", "multilabel"):
    return jax.nn.sigmoid(output)
  if target.kind == "multiclass":
    return jax.nn.softmax(output, axis=1)
  above = jax.nn.sigmoid(cumulative_logits(output))
  sure = jnp.ones_like(above[:, :1])
  ends = jnp.concatenate([sure, above, 0 * sure], axis=1)
  # Rounding may let two equal ends differ by an ulp the wrong way round.
  return jnp.maximum(ends[:, :-1] - ends[:, 1:], 0.0)
