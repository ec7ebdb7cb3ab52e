"""Regression and classification of named targets from a clip.

Axes: b clip, o target.  A target that is unknown (NaN) carries no weight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from echo_jax.objectives.objective import Aux, Metrics, Objective
from echo_jax.targets import Target
from echo_jax.units import MS_PER_S

LOSSES = ("l1", "l2", "huber")


@dataclass(frozen=True)
class Standardisation:
  """Mean and standard deviation of each target on the training split only.

  Binary targets have mean 0 and deviation 1.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]


def standardise_from(
  targets: Sequence[Target], truth: Float[np.ndarray, "N o"]
) -> Standardisation:
  """Statistics of the training split's truth, in the targets' own units.

  Raises:
    ValueError: a target with no known or no varying value, or of several
      classes.
  """
  check_trainable(targets)
  mean, std = [], []
  for target, column in zip(targets, truth.T, strict=True):
    known = column[~np.isnan(column)]
    if len(known) < 2 or known.std() == 0:
      raise ValueError(
        f"{target.name}: {len(known)} known values in the training split, "
        "all alike or too few to learn from"
      )
    binary = target.kind == "binary"
    mean.append(0.0 if binary else float(known.mean()))
    std.append(1.0 if binary else float(known.std()))
  return Standardisation(tuple(mean), tuple(std))


def check_trainable(targets: Sequence[Target]) -> None:
  """Refuses targets that a head of one number a target cannot learn.

  Raises:
    ValueError: a target of several classes.
  """
  for target in targets:
    if target.kind == "multiclass":
      raise ValueError(
        f"{target.name} has {len(target.classes)} classes: it can be scored, "
        "but no head is trained for several classes yet; train on a "
        "regression or binary target"
      )


def predictions_of(
  output: Float[Array, "b o"],
  targets: Sequence[Target],
  scale: Standardisation,
) -> Float[Array, "b o"]:
  """Model output to the targets' own units, or to P(positive)."""
  plain = output * jnp.asarray(scale.std) + jnp.asarray(scale.mean)
  binary = jnp.asarray([target.kind == "binary" for target in targets])
  return jnp.where(binary, jax.nn.sigmoid(output), plain)


def target_losses(
  output: Float[Array, "b o"],
  truth: Float[Array, "b o"],
  targets: Sequence[Target],
  scale: Standardisation,
  loss: str,
) -> Float[Array, "o"]:
  """Mean loss of each target over the clips in which it is known.

  Regression is measured on standardised values, so that millilitres and
  percent weigh alike; binary targets use cross-entropy on logits.
  """
  known = ~jnp.isnan(truth)
  scaled = (truth - jnp.asarray(scale.mean)) / jnp.asarray(scale.std)
  scaled = jnp.where(known, scaled, 0.0)
  error = {
    "l1": lambda: jnp.abs(output - scaled),
    "l2": lambda: jnp.square(output - scaled),
    "huber": lambda: optax.huber_loss(output, scaled),
  }[loss]()
  entropy = optax.sigmoid_binary_cross_entropy(output, scaled)
  binary = jnp.asarray([target.kind == "binary" for target in targets])
  each = jnp.where(binary, entropy, error) * known
  return each.sum(axis=0) / jnp.maximum(known.sum(axis=0), 1)


def predict_outputs(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  params: Any,
  aux: Aux,
  batch: Mapping[str, jax.Array],
  *,
  key: jax.Array | None = None,
  train: bool = False,
) -> tuple[tuple[Float[Array, "b o"], dict], Mapping[str, Any]]:
  """(output, features) of a batch, and the collections after it."""
  (output, features), changed = model.apply(
    {"params": params, **aux.collections},
    normalise(batch["video"]),
    frame_time_s=batch["frame_time_ms"] / MS_PER_S,
    frame_index=batch["frame_index"],
    frame_valid=batch["frame_valid"],
    train=train,
    rngs=None if key is None else {"dropout": key},
    mutable=list(aux.collections) if train else [],
  )
  return (output.astype(jnp.float32), features), {**aux.collections, **changed}


def make_supervised(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  targets: Sequence[Target],
  scale: Standardisation,
  loss: str = "huber",
) -> Objective:
  """Predict `batch["target"]` [b, o] from `batch["video"]` (uint8).

  The loss is the mean over targets; the metrics hold each target's own.

  Raises:
    ValueError: no such loss, or a target of several classes.
  """
  check_trainable(targets)
  if loss not in LOSSES:
    raise ValueError(f"loss {loss!r} is not one of {LOSSES}")

  def objective(
    params: Any,
    aux: Aux,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    train: bool,
  ) -> tuple[jax.Array, tuple[Metrics, Mapping[str, Any]]]:
    (output, _), collections = predict_outputs(
      model, normalise, params, aux, batch, key=key, train=train
    )
    each = target_losses(
      output, batch["target"], targets, scale, loss
    )
    metrics = {
      f"loss_{target.name}": value
      for target, value in zip(targets, each, strict=True)
    }
    return each.mean(), (metrics, collections)

  return objective
