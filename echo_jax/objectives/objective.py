"""What every objective looks like to the train step.

An objective is a function
  (params, aux, batch, key, train) -> (loss, (metrics, collections))
`aux` holds what a loss needs beside the parameters that are differentiated.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax

from echo_jax import trees

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


Objective = Callable[
  [Any, Aux, Mapping[str, jax.Array], jax.Array, bool],
  tuple[jax.Array, tuple[Metrics, Mapping[str, Any]]],
]


def hold_fixed(objective: Objective, pattern: str) -> Objective:
  """No gradient for parameters whose name matches; "" holds none.

  Their backward pass then costs nothing.  An optimiser must leave them alone
  too, since weight decay needs no gradient.
  """
  if not pattern:
    return objective

  def held(params, aux, batch, key, train):
    params = trees.map_named(
      lambda name, leaf: jax.lax.stop_gradient(leaf)
      if re.search(pattern, name)
      else leaf,
      params,
    )
    return objective(params, aux, batch, key, train)

  return held
