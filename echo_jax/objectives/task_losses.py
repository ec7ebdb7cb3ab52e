"""The loss of every kind of target; a label that is unknown weighs nothing.

Axes: b clip, o output, u label (a column of truth), i target.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from echo_jax.objectives.outputs import (
  SINGLE,
  Standardisation,
  cumulative_logits,
  take_columns,
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
) -> Float[Array, "i"]:
  """Mean loss of each target over its labels that are known; 0 if none is.

  Regression is measured on standardised values, so that millilitres and
  percent weigh alike; binary and multilabel targets use cross-entropy on
  logits, multiclass ones that of a softmax.  Ordinal ones: the mean over
  thresholds k of the cross-entropy of "grade > k" (Cao et al. 2020; they take
  the sum, the mean weighs tasks of many grades like others).
  """
  places = layout(targets)
  single = [i for i, one in enumerate(targets) if one.kind in SINGLE]
  found: dict[int, jax.Array] = {}
  if single:
    each = _single_losses(
      take_columns(output, [places[i].output.start for i in single]),
      take_columns(truth, [places[i].label.start for i in single]),
      [targets[i] for i in single], scale.part(single), loss,
    )  # fmt: skip
    if len(single) == len(targets):
      return each
    found = {i: each[n] for n, i in enumerate(single)}
  for i, target in enumerate(targets):
    if i not in found:
      found[i] = _class_loss(
        target, output[:, places[i].output], truth[:, places[i].label]
      )
  return jnp.stack([found[i] for i in range(len(targets))])


def count_known(
  truth: Float[Array, "b u"], targets: Sequence[Target]
) -> Int[Array, "i"]:
  """Known labels of each target: what its loss is the mean over."""
  known = (~jnp.isnan(truth)).sum(axis=0)
  if all(target.labels == 1 for target in targets):
    return known
  return jnp.stack([known[place.label].sum() for place in layout(targets)])


def _single_losses(
  output: Float[Array, "b i"],
  truth: Float[Array, "b i"],
  targets: Sequence[Target],
  scale: Standardisation,
  loss: str,
) -> Float[Array, "i"]:
  known = ~jnp.isnan(truth)
  scaled = (truth - jnp.asarray(scale.mean)) / jnp.asarray(scale.std)
  scaled = jnp.where(known, scaled, 0.0)
  error = ERRORS[loss](output, scaled)
  for other in sorted({one.loss for one in targets} & (set(ERRORS) - {loss})):
    own = jnp.asarray([target.loss == other for target in targets])
    error = jnp.where(own, ERRORS[other](output, scaled), error)
  entropy = optax.sigmoid_binary_cross_entropy(output, scaled)
  binary = jnp.asarray([target.kind == "binary" for target in targets])
  each = jnp.where(binary, entropy, error) * known
  return each.sum(axis=0) / jnp.maximum(known.sum(axis=0), 1)


def _class_loss(
  target: Target, output: Float[Array, "b o"], truth: Float[Array, "b u"]
) -> Float[Array, ""]:
  known = ~jnp.isnan(truth)
  truth = jnp.where(known, truth, 0.0)
  if target.kind == "multilabel":
    each = optax.sigmoid_binary_cross_entropy(output, truth)  # b o = b u
  elif target.kind == "multiclass":
    each = optax.softmax_cross_entropy_with_integer_labels(
      output, truth[:, 0].astype(jnp.int32)
    )[:, None]
  else:
    above = truth > jnp.arange(target.outputs)  # b o: is the grade above k?
    each = optax.sigmoid_binary_cross_entropy(
      cumulative_logits(output), above.astype(output.dtype)
    ).mean(axis=1, keepdims=True)
  return (each * known).sum() / jnp.maximum(known.sum(), 1)
