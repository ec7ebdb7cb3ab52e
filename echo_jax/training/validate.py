"""Validation: the mean loss over every clip of a split."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from echo_jax.data.pipeline import arrays_of
from echo_jax.training.state import TrainState
from echo_jax.training.step import evaluated_params


def mean_loss(
  loss_step: Callable, batches: Callable[[], Iterator[Mapping[str, Any]]]
) -> Callable[[TrainState], dict[str, float]]:
  """A function of the state: each metric's mean, weighted by real clips.

  Padding rows hold no valid frame, so they weigh nothing inside a batch.
  """

  def validate(state: TrainState) -> dict[str, float]:
    params, rows = evaluated_params(state), []
    totals: dict[str, float] = {}
    for number, batch in enumerate(batches()):
      metrics = loss_step(params, state.aux, arrays_of(batch), number)
      rows.append(int(np.sum(batch["row_valid"])))
      for name, value in metrics.items():
        totals[name] = totals.get(name, 0.0) + rows[-1] * float(value)
    return {name: total / sum(rows) for name, total in totals.items()}

  return validate
