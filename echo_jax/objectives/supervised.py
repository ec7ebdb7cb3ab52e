"""Named targets of every kind from a clip.

Axes: b clip, o output, u label (a column of truth), i target.  A label that is
unknown (NaN) carries no weight.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from echo_jax.objectives.objective import Additive, Arrays, Aux, Outcome
from echo_jax.objectives.outputs import Standardisation
from echo_jax.objectives.task_losses import ERRORS, count_known, target_losses
from echo_jax.objectives.weighting import (
  ALIKE,
  PARAMETERS,
  Weighting,
  weigh,
)
from echo_jax.targets import Target, layout
from echo_jax.units import MS_PER_S

SCALES = ("training", "hundredths")
Normalise = Callable[[jax.Array], jax.Array]
Arguments = tuple[tuple, dict[str, Any]]


def standardise_from(
  targets: Sequence[Target], truth: Float[np.ndarray, "N u"],
  scale: str = "training",
) -> Standardisation:  # fmt: skip
  """Mean and deviation by which each regression target is standardised.

  By `scale` "training" those of the training split's truth, in the targets'
  own units; by "hundredths" 0 and 100, of logarithms 0 and 1: the released
  Echo-Vision-FM code regresses EF / 100 and ln(ml).  A class, or a label's 0
  or 1, that the split does not hold is warned of.

  Raises:
    ValueError: another scale, a target with no known or no varying value, or
      the logarithm of what is not above 0.
  """
  if scale not in SCALES:
    raise ValueError(f"scale {scale!r} is not one of {SCALES}")
  mean, std = [], []
  for target, place in zip(targets, layout(targets), strict=True):
    columns = [column[~np.isnan(column)] for column in truth[:, place.label].T]
    # Not by the deviation, which rounding keeps from being 0.
    if all(len(known) < 2 or np.ptp(known) == 0 for known in columns):
      raise ValueError(
        f"{target.name}: {sum(map(len, columns))} known values in the "
        "training split, all alike or too few to learn from"
      )
    if absent := _never_seen(target, columns):
      warnings.warn(
        f"{target.name}: the training split has no {', no '.join(absent)}",
        stacklevel=2,
      )
    about, deviation = 0.0, 1.0
    if target.kind == "regression":
      about, deviation = _spread(target, columns[0], scale)
    mean.append(about)
    std.append(deviation)
  return Standardisation(tuple(mean), tuple(std))


def _spread(
  target: Target, known: Float[np.ndarray, "N"], scale: str
) -> tuple[float, float]:
  """Mean and deviation of a regression target's known values."""
  if target.link == "log":
    if known.min() <= 0:
      raise ValueError(
        f"{target.name}: a value is {known.min():g} {target.unit}, which has "
        "no logarithm; take the target out of in_logarithm"
      )
    known = np.log(known)
  if scale == "training":
    return float(known.mean()), float(known.std())
  return 0.0, 1.0 if target.logarithm or target.link == "log" else 100.0


def _never_seen(target: Target, columns: Sequence[np.ndarray]) -> list[str]:
  """What of a target of several classes the known values do not hold."""
  if target.kind == "multilabel":
    return [
      f"{name} that is {value}"
      for name, known in zip(target.classes, columns, strict=True)
      for value in (0, 1)
      if value not in known
    ]
  return [n for k, n in enumerate(target.classes) if k not in columns[0]]


def clip_arguments(batch: Arrays, normalise: Normalise) -> Arguments:
  """What a model of single clips is called with."""
  return (normalise(batch["video"]),), {
    "frame_time_s": batch["frame_time_ms"] / MS_PER_S,
    "frame_index": batch["frame_index"],
    "frame_valid": batch["frame_valid"],
  }


def study_arguments(batch: Arrays, normalise: Normalise) -> Arguments:
  """What a model of whole studies is called with."""
  if "video" in batch:
    batch = {**batch, "video": normalise(batch["video"])}
  return (batch,), {}


def predict_outputs(
  model: nn.Module,
  normalise: Normalise,
  params: Any,
  aux: Aux,
  batch: Arrays,
  *,
  key: jax.Array | None = None,
  train: bool = False,
  arguments: Callable[[Arrays, Normalise], Arguments] = clip_arguments,
) -> tuple[tuple[Float[Array, "b o"], dict], Mapping[str, Any]]:
  """(output, features) of a batch, and the collections after it.

  `arguments` says what a batch is for the model: (args, keywords).
  """
  given, named = arguments(batch, normalise)
  (output, features), changed = model.apply(
    {"params": params, **aux.collections},
    *given,
    **named,
    train=train,
    rngs=None if key is None else {"dropout": key},
    mutable=list(aux.collections) if train else [],
  )
  return (output.astype(jnp.float32), features), {**aux.collections, **changed}


def make_supervised(
  model: nn.Module,
  normalise: Normalise,
  targets: Sequence[Target],
  scale: Standardisation,
  loss: str = "huber",
  weighting: Weighting = ALIKE,
  arguments: Callable[[Arrays, Normalise], Arguments] = clip_arguments,
) -> Additive:
  """Predict `batch["target"]` [b, u] from `batch["video"]` (uint8).

  With `study_arguments`, from all that a batch of studies holds.

  The model has `count_outputs(targets)` outputs.  The loss is what `weighting`
  makes of the targets' losses: by default the mean over those of which a label
  is known.  The metrics hold each target's own loss (NaN if none is known),
  how many labels that is the mean of, and a learned log variance.

  Raises:
    ValueError: no such loss, or weights that do not fit the targets.
  """
  if loss not in ERRORS:
    raise ValueError(f"loss {loss!r} is not one of {tuple(ERRORS)}")
  weighting.check(targets)

  def settle(batch: Arrays, key: jax.Array, train: bool) -> tuple[Arrays, Any]:
    del train
    truth = batch["target"]
    return batch, (count_known(truth, targets), len(truth), key)

  def of_rows(
    params: Any, aux: Aux, batch: Arrays, totals: Any, train: bool
  ) -> Outcome:
    known, rows, key = totals
    (output, _), collections = predict_outputs(
      model, normalise, params, aux, batch, key=key, train=train,
      arguments=arguments,
    )  # fmt: skip
    truth, share = batch["target"], len(batch["target"]) / rows
    each = target_losses(output, truth, targets, scale, loss, known)
    total = weigh(each, known, weighting, params, targets, loss, share)
    shown = {
      "loss": jnp.where(known > 0, each, jnp.nan),
      "known": count_known(truth, targets),
    }
    if weighting.by == "uncertainty":
      shown["log_variance"] = share * params[PARAMETERS]["log_variance"]
    metrics = {
      f"{what}_{target.name}": values[i]
      for what, values in shown.items()
      for i, target in enumerate(targets)
    }
    return total, (metrics, collections)

  return Additive(settle, of_rows)
