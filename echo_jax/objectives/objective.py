"""What every objective looks like to the train step.

An objective is a function
  (params, aux, batch, key, train) -> (loss, (metrics, collections))
`aux` holds what a loss needs beside the parameters that are differentiated.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax

Metrics = Mapping[str, jax.Array]


@flax.struct.dataclass
class Aux:
  """State of a model that no gradient flows into.

  Attributes:
    collections: flax collections other than "params" (batch statistics).
    average: exponential moving average of the parameters, or None.
  """

  collections: Mapping[str, Any] = flax.struct.field(default_factory=dict)
  average: Any = None


Objective = Callable[
  [Any, Aux, Mapping[str, jax.Array], jax.Array, bool],
  tuple[jax.Array, tuple[Metrics, Mapping[str, Any]]],
]
