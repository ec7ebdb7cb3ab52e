"""The line that takes the gradient, and its companion for validation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from echo_jax import trees
from echo_jax.objectives.objective import Additive, Arrays, Objective
from echo_jax.training import sharding
from echo_jax.training.state import TrainState

TrainStep = Callable[[TrainState, Arrays], tuple[TrainState, Arrays]]


@dataclass(frozen=True)
class CompiledStep:
  """A pure step (state, batch) -> (state, metrics), on the state's devices.

  Attributes:
    compiled: (seed, state, batch) -> the same, through `jax.jit`.
    seed: of all that is random.
  """

  compiled: Any
  seed: int

  def __call__(
    self, state: TrainState, batch: Arrays
  ) -> tuple[TrainState, Arrays]:
    """One step; the state that was given is used up."""
    return sharding.call_on(
      sharding.mesh_of(state.params), self.compiled, np.uint32(self.seed),
      state, batch,
    )  # fmt: skip

  def lower(self, state: TrainState, batch: Arrays) -> jax.stages.Lowered:
    """The program for shapes of a state and a batch, on their devices."""
    return sharding.call_on(
      sharding.mesh_of(state.params), self.compiled.lower,
      np.uint32(self.seed), state, batch,
    )  # fmt: skip


def make_train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  average_decay: float = 0.0,
  accumulate: int = 1,
) -> CompiledStep:
  """A pure, compiled step (state, batch) -> (state, metrics).

  Randomness is a function of (seed, step).  `average_decay` above 0 keeps an
  exponential moving average of the parameters in `state.aux.average`.
  `accumulate` is in how many parts, one after another, the batch is taken; the
  step is the same, and holds the activations of one part.

  Raises:
    ValueError: accumulation of an objective whose parts do not add up.
  """
  if accumulate > 1 and not isinstance(objective, Additive):
    raise ValueError(
      f"compute.accumulate is {accumulate}, but this objective compares the "
      "rows of a batch and wants all of them at once; use 1"
    )

  def train_step(
    seed: jax.Array, state: TrainState, batch: Arrays
  ) -> tuple[TrainState, Arrays]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    if accumulate == 1:
      (loss, (metrics, collections)), gradients = jax.value_and_grad(
        objective, has_aux=True
      )(state.params, state.aux, batch, key, True)
    else:
      loss, metrics, gradients = add_parts(
        objective, state, batch, key, accumulate
      )
      collections = state.aux.collections
    updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    average = state.aux.average
    if average is not None:
      average = trees.update_average(average, params, average_decay)
    state = TrainState(
      step=state.step + 1,
      params=params,
      opt_state=opt_state,
      aux=state.aux.replace(collections=collections, average=average),
    )
    return sharding.keep_laid_out(state), {
      "loss": loss,
      "gradient_norm": optax.tree.norm(gradients),
      **metrics,
    }

  # The seed is an argument: runs of several seeds are one compiled program.
  return CompiledStep(jax.jit(train_step, donate_argnums=1), seed)


def add_parts(
  objective: Additive, state: TrainState, batch: Arrays, key: jax.Array,
  parts: int,
) -> tuple[jax.Array, Arrays, Any]:  # fmt: skip
  """(loss, metrics, gradients) of a batch, one part after another.

  Raises:
    ValueError: a model with statistics of the batch, which parts have not.
  """
  if jax.tree.leaves(state.aux.collections):
    raise ValueError(
      f"compute.accumulate is {parts}, but the model normalises by statistics "
      "of the whole batch; use group normalisation, or 1"
    )
  batch, totals = objective.settle(batch, key, True)
  gradient = jax.value_and_grad(objective.loss, has_aux=True)

  def of_part(rows: Arrays) -> tuple[jax.Array, Arrays, Any]:
    rows = sharding.split_rows(rows)
    (loss, (metrics, _)), gradients = gradient(
      state.params, state.aux, rows, totals, True
    )
    return loss, metrics, gradients

  def add(total: Any, rows: Arrays) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, of_part(rows)), None

  rows = sharding.split_in_parts(batch, parts)
  first, rest = (
    jax.tree.map(lambda leaf, of=of: leaf[of], rows)
    for of in (0, slice(1, None))
  )
  return jax.lax.scan(add, of_part(first), rest)[0]


def make_loss_step(objective: Objective, *, seed: int) -> Callable:
  """A compiled (params, aux, batch, number) -> metrics without an update.

  The same batch number draws the same mask, so that validation losses of
  different steps can be compared.
  """

  def loss_step(params, aux, batch, number) -> Arrays:
    key = jax.random.fold_in(jax.random.key(seed), number)
    loss, (metrics, _) = objective(params, aux, batch, key, False)
    return {"loss": loss, **metrics}

  compiled = jax.jit(loss_step)
  return lambda params, *rest: sharding.call_on(
    sharding.mesh_of(params), compiled, params, *rest
  )


def evaluated_params(state: TrainState):
  """The parameters to judge: the moving average where one is kept."""
  return state.params if state.aux.average is None else state.aux.average
