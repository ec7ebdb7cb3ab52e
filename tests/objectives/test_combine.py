"""Sums of objectives by hand: weights, keys, parts of a batch."""

import jax
import jax.numpy as jnp
import pytest

from echo_jax.objectives.combine import combine
from echo_jax.objectives.objective import Additive, Aux

BATCH = {"video": jnp.arange(4.0)}
KEY = jax.random.key(0)


def toy(power):
  """The mean over rows of (params x row)^power, and what was drawn."""

  def settle(batch, key, train):
    noise = jax.random.uniform(key, batch["video"].shape)
    return {**batch, "noise": noise}, len(batch["video"])

  def loss(params, aux, batch, total, train):
    each = (params * batch["video"]) ** power
    metrics = {"rows": jnp.array(len(each)), "noise": batch["noise"].sum()}
    return each.sum() / total, (metrics, aux.collections)

  return Additive(settle, loss)


def plain(params, aux, batch, key, train):
  """An objective that needs the whole batch at once."""
  metrics = {"noise": jax.random.uniform(key)}
  return params * batch["video"].max(), (metrics, {"seen": jnp.ones(())})


BOTH = combine({"a": toy(1), "b": toy(2)}, {"a": 0.8, "b": 0.2})


def test_losses_and_gradients_are_the_weighted_sum():
  # 0.8 p mean(0, 1, 2, 3) + 0.2 p^2 mean(0, 1, 4, 9) at p = 2
  (loss, (metrics, _)), slope = jax.value_and_grad(BOTH, has_aux=True)(
    2.0, Aux(), BATCH, KEY, True
  )
  assert float(loss) == pytest.approx(0.8 * 3 + 0.2 * 14)
  assert float(slope) == pytest.approx(0.8 * 1.5 + 0.2 * 2 * 2 * 3.5)
  assert float(metrics["a_loss"]) == 3 and float(metrics["b_loss"]) == 14
  assert metrics["b_rows"] == 4


def test_each_draws_for_itself():
  _, (metrics, _) = BOTH(2.0, Aux(), BATCH, KEY, True)
  assert metrics["a_noise"] != metrics["b_noise"]


def test_parts_of_a_batch_add_up():
  batch, totals = BOTH.settle(BATCH, KEY, True)
  whole, (metrics, _) = BOTH.loss(2.0, Aux(), batch, totals, True)
  halves = [
    BOTH.loss(2.0, Aux(), jax.tree.map(lambda x, h=h: x[h], batch), totals,
              True)
    for h in (slice(2), slice(2, None))
  ]  # fmt: skip
  assert float(halves[0][0] + halves[1][0]) == pytest.approx(float(whole))
  for name, value in metrics.items():
    parts = sum(float(half[1][0][name]) for half in halves)
    assert parts == pytest.approx(float(value)), name


def test_one_that_needs_the_whole_batch_makes_the_sum_need_it():
  mixed = combine({"a": toy(1), "c": plain}, {"a": 1.0, "c": 0.5})
  assert isinstance(BOTH, Additive) and not isinstance(mixed, Additive)
  loss, (metrics, collections) = mixed(2.0, Aux(), BATCH, KEY, True)
  assert float(loss) == pytest.approx(3 + 0.5 * 6)
  assert set(metrics) == {"a_loss", "a_rows", "a_noise", "c_loss", "c_noise"}
  assert collections == {"seen": 1}


@pytest.mark.parametrize(
  "weights", [{}, {"a": 1.0, "b": 1.0}, {"a": 0.0}, {"a": -1.0}]
)
def test_weights_that_do_not_fit_are_refused(weights):
  with pytest.raises(ValueError, match="weight"):
    combine({"a": toy(1)}, weights)
