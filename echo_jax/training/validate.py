"""Validation: the mean loss over every clip of a split."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from echo_jax.data.pipeline import arrays_of
from echo_jax.training import sharding
from echo_jax.training.state import TrainState
from echo_jax.training.step import evaluated_params


def mean_loss(
  loss_step: Callable,
  batches: Callable[[], Iterator[Mapping[str, Any]]],
  weight: str,
) -> Callable[[TrainState], dict[str, float]]:
  """A function of the state: each metric's mean over what the loss counts.

  A batch weighs what its metric of the name `weight` says, which leaves
  padding out: its rows hold no valid frame.
  """

  def validate(state: TrainState) -> dict[str, float]:
    rows = _metrics_of(loss_step, state, batches())
    weights = [row.pop(weight) for row in rows]
    return {
      name: float(np.average([row[name] for row in rows], weights=weights))
      for name in rows[0]
    }

  return validate


def mean_losses(
  loss_step: Callable,
  batches: Callable[[], Iterator[Mapping[str, Any]]],
  weights: Mapping[str, float],
  counts: Mapping[str, str],
) -> Callable[[TrainState], dict[str, float]]:
  """The same of several objectives, each by what it counts itself.

  Of objective `name`, `<name>_<counts[name]>` is what its loss is the mean
  over; of that, and of its metrics `clips_...`, the sum is given, of others
  the mean.  `loss` is the sum of `weights` x losses.

  Raises (when called):
    ValueError: an objective has nothing to count in any batch.
  """

  def validate(state: TrainState) -> dict[str, float]:
    rows, numbers = _metrics_of(loss_step, state, batches()), {"loss": 0.0}
    for name, weight in weights.items():
      count = f"{name}_{counts[name]}"
      each = [row[count] for row in rows]
      if not sum(each):
        raise ValueError(
          f"validation has no {counts[name]} for the objective {name}; use "
          "longer videos or a shorter clip, a larger run.batch_size, another "
          f"data.validation_split, or weight 0 for {name}"
        )
      for metric in rows[0]:
        if not metric.startswith(f"{name}_"):
          continue
        values = [row[metric] for row in rows]
        summed = metric == count or metric.startswith(f"{name}_clips_")
        numbers[metric] = (
          sum(values) if summed else float(np.average(values, weights=each))
        )
      numbers["loss"] += weight * numbers[f"{name}_loss"]
    return numbers

  return validate


def _metrics_of(
  loss_step: Callable, state: TrainState, batches: Iterator[Mapping[str, Any]]
) -> list[dict[str, float]]:
  """Metrics of each batch, by the parameters that are judged."""
  params = evaluated_params(state)
  mesh = sharding.mesh_of(params)
  return [
    {
      name: float(value)
      for name, value in loss_step(
        params, state.aux, sharding.all_rows(arrays_of(batch), mesh), number
      ).items()
    }
    for number, batch in enumerate(batches)
  ]


def rank_by_age(
  validate: Callable[[TrainState], dict[str, float]], steps: int
) -> Callable[[TrainState], dict[str, float]]:
  """The same with `steps_left` of a run of so many steps, 0 for the newest.

  To rank checkpoints by where a loss does not: that of a target which moves
  may rise while features get better.
  """
  return lambda state: validate(state) | {
    "steps_left": float(steps - int(state.step))
  }
