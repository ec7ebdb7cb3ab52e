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
    params, rows = evaluated_params(state), []
    mesh = sharding.mesh_of(params)
    for number, batch in enumerate(batches()):
      arrays = sharding.all_rows(arrays_of(batch), mesh)
      metrics = loss_step(params, state.aux, arrays, number)
      rows.append({name: float(value) for name, value in metrics.items()})
    weights = [row.pop(weight) for row in rows]
    return {
      name: float(np.average([row[name] for row in rows], weights=weights))
      for name in rows[0]
    }

  return validate


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
