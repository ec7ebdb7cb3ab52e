"""The whole state of a run: what a checkpoint holds and a step returns."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from echo_jax.objectives.objective import Aux


@flax.struct.dataclass
class TrainState:
  """Step number (also the data position), parameters, optimiser, the rest.

  Fields are untyped because pytree tools rebuild them with placeholders.
  """

  step: Any
  params: Any
  opt_state: Any
  aux: Any


def start_state(
  variables: dict[str, Any],
  optimizer: optax.GradientTransformation,
  *,
  average: bool = False,
) -> TrainState:
  """State before the first step; `variables` is what `model.init` gave."""
  collections = dict(variables)
  params = collections.pop("params")
  # The average is a copy: with donated buffers it may not share the params'.
  copy = jax.tree.map(jnp.copy, params) if average else None
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=optimizer.init(params),
    aux=Aux(collections=collections, average=copy),
  )
