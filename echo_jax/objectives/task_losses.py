"""The loss of every kind of target; a label that is unknown weighs nothing.

Axes: b clip, o output, u label (a column of truth), i target.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from echo_jax.objectives.outputs import (
  Standardisation,
  cumulative_logits,
  standardised,
)
from echo_jax.targets import KINDS, Target, layout

ERRORS: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  "l1": lambda output, wanted: jnp.abs(output - wanted),
  "l2": lambda output, wanted: jnp.square(output - wanted),
  "huber": optax.huber_loss,
}


def loss_of(target: Target, loss: str) -> str:
  """The loss a target is trained by: its own, the run's or its kind's."""
  if target.kind == "regression":
    return target.loss or loss
  return target.loss or KINDS[target.kind].losses[0]


def target_losses(
  output: Float[Array, "b o"],
  truth: Float[Array, "b u"],
  targets: Sequence[Target],
  scale: Standardisation,
  loss: str,
  known: Int[Array, "i"] | None = None,
) -> Float[Array, "i"]:
  """Mean loss of each target over its labels that are known; 0 if none is.

  Where these are some rows of a batch, `known` counts the labels of all of it.

  Regression is measured on standardised values, so that millilitres and
  percent weigh alike; binary and multilabel targets use cross-entropy on
  logits, multiclass ones that of a softmax.  Ordinal ones: the mean over
  thresholds k of the cross-entropy of "grade > k" (Cao et al. 2020; they take
  the sum, the mean weighs tasks of many grades like others).
  """
  known = count_known(truth, targets) if known is None else known
  return jnp.stack([
    _total_loss(
      target, output[:, place.output],
      standardised(target, truth[:, place.label], mean, std),
      loss_of(target, loss),
    ) / jnp.maximum(known[i], 1)
    for i, (target, place, mean, std) in enumerate(zip(
      targets, layout(targets), scale.mean, scale.std, strict=True
    ))
  ])  # fmt: skip


def count_known(
  truth: Float[Array, "b u"], targets: Sequence[Target]
) -> Int[Array, "i"]:
  """Known labels of each target: what its loss is the mean over."""
  known = (~jnp.isnan(truth)).sum(axis=0)
  return jnp.stack([known[place.label].sum() for place in layout(targets)])


def _total_loss(
  target: Target, output: Float[Array, "b o"], truth: Float[Array, "b u"],
  loss: str,
) -> Float[Array, ""]:  # fmt: skip
  """Sum over the known labels of one target, whose numbers are standard."""
  known = ~jnp.isnan(truth)
  truth = jnp.where(known, truth, 0.0)
  if target.kind == "regression":
    each = ERRORS[loss](output, truth)
  elif target.kind in ("binary", "multilabel"):
    each = optax.sigmoid_binary_cross_entropy(output, truth)
  elif target.kind == "multiclass":
    each = optax.softmax_cross_entropy_with_integer_labels(
      output, truth[:, 0].astype(jnp.int32)
    )[:, None]
  else:
    above = truth > jnp.arange(target.outputs)  # b o: is the grade above k?
    each = optax.sigmoid_binary_cross_entropy(
      cumulative_logits(output), above.astype(output.dtype)
    ).mean(axis=1, keepdims=True)
  return (each * known).sum()
