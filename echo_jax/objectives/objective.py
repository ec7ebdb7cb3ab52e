"""What every objective looks like to the train step.

An objective is a function
  (params, aux, batch, key, train) -> (loss, (metrics, collections))
`aux` holds what a loss needs beside the parameters that are differentiated.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax

from echo_jax import trees

Arrays = Mapping[str, Any]
Metrics = Mapping[str, jax.Array]


@flax.struct.dataclass
class Aux:
  """State of a model that no gradient flows into.

  Attributes:
    collections: flax collections other than "params" (batch statistics).
    average: exponential moving average of the parameters, or None.
  """

  collections: Any = flax.struct.field(default_factory=dict)
  average: Any = None


Outcome = tuple[jax.Array, tuple[Metrics, Mapping[str, Any]]]
Objective = Callable[[Any, Aux, Arrays, jax.Array, bool], Outcome]


@dataclasses.dataclass(frozen=True)
class Additive:
  """An objective whose loss is a sum over rows, so that parts of a batch add.

  Both are done for the whole batch before it is parted: what is random is
  drawn, and what the loss divides by is counted.  Then losses, metrics and
  gradients of the parts add up to those of the batch.

  Attributes:
    settle: (batch, key, train) -> (batch with what was drawn, totals).
    loss: (params, aux, rows of that batch, totals, train) -> as an objective.
  """

  settle: Callable[[Arrays, jax.Array, bool], tuple[Arrays, Any]]
  loss: Callable[[Any, Aux, Arrays, Any, bool], Outcome]

  def __call__(
    self, params: Any, aux: Aux, batch: Arrays, key: jax.Array, train: bool
  ) -> Outcome:
    """The loss of a whole batch."""
    batch, totals = self.settle(batch, key, train)
    return self.loss(params, aux, batch, totals, train)


def hold_fixed(objective: Additive, pattern: str) -> Additive:
  """No gradient for parameters whose name matches; "" holds none.

  Their backward pass then costs nothing.  An optimiser must leave them alone
  too, since weight decay needs no gradient.
  """
  if not pattern:
    return objective

  def held(params, aux, batch, totals, train):
    params = trees.map_named(
      lambda name, leaf: jax.lax.stop_gradient(leaf)
      if re.search(pattern, name)
      else leaf,
      params,
    )
    return objective.loss(params, aux, batch, totals, train)

  return dataclasses.replace(objective, loss=held)
