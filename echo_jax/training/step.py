"""The line that takes the gradient, and its companion for validation."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import optax

from echo_jax import trees
from echo_jax.objectives.objective import Objective
from echo_jax.training.state import TrainState

Arrays = Mapping[str, jax.Array]
TrainStep = Callable[[TrainState, Arrays], tuple[TrainState, Arrays]]


def make_train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  average_decay: float = 0.0,
) -> TrainStep:
  """A pure, compiled step (state, batch) -> (state, metrics).

  Randomness is a function of (seed, step).  `average_decay` above 0 keeps an
  exponential moving average of the parameters in `state.aux.average`.
  """

  def train_step(
    seeded: jax.Array, state: TrainState, batch: Arrays
  ) -> tuple[TrainState, Arrays]:
    key = jax.random.fold_in(seeded, state.step)
    (loss, (metrics, collections)), gradients = jax.value_and_grad(
      objective, has_aux=True
    )(state.params, state.aux, batch, key, True)
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
    return state, {
      "loss": loss,
      "gradient_norm": optax.global_norm(gradients),
      **metrics,
    }

  # An argument, so that runs of several seeds are one compiled program.
  compiled = jax.jit(train_step, donate_argnums=1)
  return partial(compiled, jax.random.key(seed))


def make_loss_step(objective: Objective, *, seed: int) -> Callable:
  """A compiled (params, aux, batch, number) -> metrics without an update.

  The same batch number draws the same mask, so that validation losses of
  different steps can be compared.
  """

  def loss_step(params, aux, batch, number) -> Arrays:
    key = jax.random.fold_in(jax.random.key(seed), number)
    loss, (metrics, _) = objective(params, aux, batch, key, False)
    return {"loss": loss, **metrics}

  return jax.jit(loss_step)


def evaluated_params(state: TrainState):
  """The parameters to judge: the moving average where one is kept."""
  return state.params if state.aux.average is None else state.aux.average
