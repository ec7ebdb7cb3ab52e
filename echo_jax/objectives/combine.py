"""Several objectives as one: the weighted sum of their losses.

All of them see one batch and one tree of parameters, of which each takes what
its model has; what they share (the encoder) gets the gradient of the sum.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from echo_jax.objectives.objective import (
  Additive,
  Arrays,
  Aux,
  Objective,
  Outcome,
)

DRAWN = "drawn"  # what each objective drew, in the batch


def combine(
  objectives: Mapping[str, Objective], weights: Mapping[str, float]
) -> Objective:
  """The sum of weight x loss, each objective with randomness of its own.

  Metrics are each one's, with its name before them, and its loss without the
  weight.  Additive if all are.

  Raises:
    ValueError: weights that are not of these objectives, or not above 0.
  """
  if not objectives or set(weights) != set(objectives):
    raise ValueError(
      f"objectives {sorted(objectives)} with weights for {sorted(weights)}; "
      "give each of one or more its weight"
    )
  if not all(weight > 0 for weight in weights.values()):
    raise ValueError(
      f"weights are {dict(weights)}; each wants more than 0, and what weighs "
      "nothing is left out"
    )

  def total(loss_of: Callable[[str, Aux], Outcome], aux: Aux) -> Outcome:
    losses, metrics = [], {}
    for name in objectives:
      loss, (own, collections) = loss_of(name, aux)
      aux = aux.replace(collections=collections)
      losses.append(weights[name] * loss)
      metrics |= {f"{name}_loss": loss}
      metrics |= {f"{name}_{what}": value for what, value in own.items()}
    return jnp.sum(jnp.stack(losses)), (metrics, aux.collections)

  def keys_of(key: jax.Array) -> dict[str, jax.Array]:
    return dict(
      zip(objectives, jax.random.split(key, len(objectives)), strict=True)
    )

  def whole(
    params: Any, aux: Aux, batch: Arrays, key: jax.Array, train: bool
  ) -> Outcome:
    keys = keys_of(key)
    return total(
      lambda name, aux: objectives[name](
        params, aux, batch, keys[name], train
      ),
      aux,
    )

  def settle(batch: Arrays, key: jax.Array, train: bool) -> tuple[Arrays, Any]:
    drawn, totals = {}, {}
    for name, own_key in keys_of(key).items():
      settled, totals[name] = objectives[name].settle(batch, own_key, train)
      drawn[name] = {
        what: value
        for what, value in settled.items()
        if value is not batch.get(what)
      }
    return {**batch, DRAWN: drawn}, totals

  def of_rows(
    params: Any, aux: Aux, batch: Arrays, totals: Any, train: bool
  ) -> Outcome:
    drawn = batch[DRAWN]
    return total(
      lambda name, aux: objectives[name].loss(
        params, aux, {**batch, **drawn[name]}, totals[name], train
      ),
      aux,
    )

  if all(isinstance(one, Additive) for one in objectives.values()):
    return Additive(settle, of_rows)
  return whole
