"""Losses and probabilities of every kind of target, and their weighting."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from echo_jax.objectives.outputs import (
  Standardisation,
  cumulative_logits,
  predictions_of,
)
from echo_jax.objectives.supervised import standardise_from
from echo_jax.objectives.task_losses import (
  count_known,
  loss_of,
  target_losses,
)
from echo_jax.objectives.weighting import ALIKE, Weighting, weigh
from echo_jax.targets import Target, count_outputs, layout, target_named
from echo_jax.training.optimizers import decay_mask

EF, LOW, STENOSIS = (
  target_named(name) for name in ("ef_pct", "ef_below_50", "as_tmed3")
)
GRADE = Target(
  "grade", "ordinal", "", "as_tmed5",
  classes=("no_AS", "mild_AS", "mildtomod_AS", "moderate_AS", "severe_AS"),
)  # fmt: skip
WALLS = Target(
  "walls", "multilabel", "", ("ivsd_mm", "lvpwd_mm"), at_least=11.0,
  classes=("septum", "posterior"),
)  # fmt: skip
ALL = (STENOSIS, EF, GRADE, WALLS, LOW)  # single ones are not in one piece
NONE = jnp.nan
SCALE = Standardisation((0.0, 50.0, 0.0, 0.0, 0.0), (1.0, 10.0, 1.0, 1.0, 1.0))
TRUTH = jnp.array([
  # STENOSIS EF GRADE septum posterior LOW
  [2, 60, 3, 1, NONE, 0],
  [0, NONE, NONE, 0, 1, 1],
  [NONE, 40, 0, NONE, NONE, NONE],
])  # fmt: skip


@pytest.fixture(scope="module")
def output():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(3, count_outputs(ALL))), jnp.float32)


@pytest.fixture(scope="module")
def compiled():
  """(output, truth) -> losses, gradient of their sum, values; compiled once.
  """

  @jax.jit
  def all_of(output, truth):
    def losses(output):
      each = target_losses(output, truth, ALL, SCALE, "l1")
      return each.sum(), each

    (_, each), slope = jax.value_and_grad(losses, has_aux=True)(output)
    return each, slope, predictions_of(output, ALL, SCALE)

  return all_of


def parts_of(table, what):
  return [
    np.asarray(table[:, getattr(place, what)], np.float64)
    for place in layout(ALL)
  ]


def test_probabilities_by_hand(output, compiled):
  raw = parts_of(output, "output")
  got = parts_of(compiled(output, TRUTH)[2], "value")
  odds = np.exp(raw[0])
  np.testing.assert_allclose(got[0], odds / odds.sum(1, keepdims=True), 1e-5)
  np.testing.assert_allclose(got[1], 50 + 10 * raw[1], rtol=1e-5)
  gaps = np.log1p(np.exp(raw[2][:, 1:])).cumsum(1)
  above = expit(raw[2][:, :1] - np.pad(gaps, ((0, 0), (1, 0))))
  ends = np.pad(above, ((0, 0), (1, 1)), constant_values=(1, 0))
  ends[:, -1] = 0
  np.testing.assert_allclose(got[2], -np.diff(ends, axis=1), atol=1e-6)
  np.testing.assert_allclose(got[3], expit(raw[3]), rtol=1e-5)
  np.testing.assert_allclose(got[4], expit(raw[4]), rtol=1e-5)
  for place in (0, 2):
    np.testing.assert_allclose(got[place].sum(1), 1, rtol=1e-5)


def test_grades_are_in_order_however_far_out():
  wild = np.random.default_rng(1).normal(0, 40, (200, 4)).astype(np.float32)
  logits = np.asarray(cumulative_logits(jnp.asarray(wild)))
  assert (np.diff(logits, axis=1) <= 0).all()
  scale = Standardisation((0.0,), (1.0,))
  chance = np.asarray(predictions_of(jnp.asarray(wild), (GRADE,), scale))
  assert (chance >= 0).all() and np.isfinite(chance).all()
  np.testing.assert_allclose(chance.sum(1), 1, atol=1e-6)


def test_losses_are_scikit_learns_on_what_is_known(output, compiled):
  got, _, values = compiled(output, TRUTH)
  chance, raw = parts_of(values, "value"), parts_of(output, "output")
  sure = chance[0][:2] / chance[0][:2].sum(1, keepdims=True)  # of float32
  wanted = log_loss([2, 0], sure, labels=[0, 1, 2])
  assert float(got[0]) == pytest.approx(wanted, rel=1e-5)
  error = np.abs(raw[1][[0, 2], 0] - [1, -1]).mean()
  assert float(got[1]) == pytest.approx(error, rel=1e-5)
  above = 1 - chance[2].cumsum(1)[:, :-1]  # P(grade > k)
  wanted = np.mean([
    log_loss(np.arange(4) < grade, above[row], labels=[0, 1])
    for row, grade in ((0, 3), (2, 0))
  ])  # fmt: skip
  assert float(got[2]) == pytest.approx(wanted, rel=1e-4)
  known = chance[3][0, 0], chance[3][1, 0], chance[3][1, 1]
  wanted = log_loss([1, 0, 1], known)
  assert float(got[3]) == pytest.approx(wanted, rel=1e-5)
  wanted = log_loss([0, 1], chance[4][:2, 0])
  assert float(got[4]) == pytest.approx(wanted, rel=1e-5)
  assert count_known(TRUTH, ALL).tolist() == [2, 2, 2, 3, 2]


def test_each_kind_alone_is_as_among_others(output, compiled):
  """Without compiling, too."""
  together, _, _ = compiled(output, TRUTH)
  for i, (target, place) in enumerate(zip(ALL, layout(ALL), strict=True)):
    alone = target_losses(
      output[:, place.output], TRUTH[:, place.label], (target,),
      Standardisation((SCALE.mean[i],), (SCALE.std[i],)), "l1",
    )  # fmt: skip
    np.testing.assert_allclose(alone[0], together[i], rtol=1e-6)


def test_unknown_labels_have_no_gradient(output, compiled):
  gradient = parts_of(compiled(output, TRUTH)[1], "output")
  for part, truth in zip(gradient, parts_of(TRUTH, "label"), strict=True):
    known = ~np.isnan(truth)  # of classes one label stands for all outputs
    np.testing.assert_array_equal(part != 0, known | np.zeros_like(part, bool))


def test_an_unknown_clip_changes_no_loss(output, compiled):
  unknown = TRUTH.at[2].set(NONE)
  losses, _, _ = compiled(output, unknown)
  other, slope, _ = compiled(output.at[2].add(5), unknown)
  np.testing.assert_array_equal(losses, other)
  assert not slope[2].any()
  nothing, slope, _ = compiled(output, jnp.full(TRUTH.shape, NONE))
  assert not nothing.any() and not slope.any()


def test_a_row_of_the_table_may_name_its_own_loss():
  volume = Target("volume", "regression", "ml", "edv_ml", loss="l2")
  scale = Standardisation((0.0, 0.0), (1.0, 1.0))
  each = target_losses(
    jnp.array([[3.0, 3.0]]), jnp.zeros((1, 2)), (EF, volume), scale, "l1"
  )
  assert each.tolist() == [3.0, 9.0]
  assert loss_of(EF, "huber") == "huber" and loss_of(volume, "huber") == "l2"
  assert loss_of(GRADE, "huber") == "cumulative"


EACH = jnp.array([0.4, 1.3, 0.7], jnp.float32)
THREE = (EF, STENOSIS, GRADE)


def total(each, known, weighting=ALIKE, params=None, loss="huber"):
  return weigh(
    each, jnp.asarray(known), weighting, params or {}, THREE, loss
  )


def test_a_target_that_no_clip_knows_is_not_averaged_in_as_zero():
  each = EACH.at[1].set(0)  # what its loss is without a label
  assert float(total(each, [3, 0, 1])) == pytest.approx((0.4 + 0.7) / 2)
  assert float(total(EACH * 0, [0, 0, 0])) == 0
  gradient = jax.grad(lambda each: total(each, [3, 0, 1]))(each)
  np.testing.assert_allclose(gradient, [0.5, 0, 0.5])
  nothing = jax.grad(lambda each: total(each, [0, 0, 0]))(each)
  assert nothing.tolist() == [0, 0, 0]


def test_where_all_are_known_it_is_the_plain_mean_to_the_last_bit():
  ours = jax.jit(jax.value_and_grad(total))
  plain = jax.jit(jax.value_and_grad(jnp.mean))
  for seed in range(50):
    each = jnp.asarray(np.random.default_rng(seed).gamma(1, size=3), "float32")
    got = ours(each, jnp.array([3, 2, 1]))  # XLA may not know them beforehand
    for one, other in zip(got, plain(each), strict=True):
      np.testing.assert_array_equal(one, other)


def test_fixed_weights_by_hand():
  weighting = Weighting("fixed", (2.0, 1.0, 0.0))
  weighting.check(THREE)
  got = total(EACH, [1, 1, 1], weighting)
  assert float(got) == pytest.approx((2 * 0.4 + 1.3) / 3)
  got = total(EACH, [1, 0, 1], weighting)
  assert float(got) == pytest.approx(0.4)
  assert float(total(EACH, [0, 0, 1], weighting)) == 0


@pytest.mark.parametrize(
  ("weighting", "message"),
  [
    (Weighting("kendall"), "weighting is 'kendall'"),
    (Weighting("fixed", (1.0,)), "want one for each of"),
    (Weighting("fixed", (1.0, -1.0, 1.0)), "0 or more and not all 0"),
    (Weighting("fixed", (0.0, 0.0, 0.0)), "not all 0"),
    (Weighting("uncertainty", (1.0, 1.0, 1.0)), "is learned"),
  ],
)
def test_weights_that_do_not_fit(weighting, message):
  with pytest.raises(ValueError, match=message):
    weighting.check(THREE)


def test_uncertainty_by_hand_and_its_optimum():
  """Kendall's equation 7 for squares; the best variance is the mean square."""
  weighting = Weighting("uncertainty")
  start = weighting.parameters(THREE)
  assert not any(jax.tree.leaves(decay_mask(start)))  # no weight decay
  logs = jnp.array([0.3, -0.8, 1.1])
  params = {"task_weighting": {"log_variance": logs}}
  got = float(total(EACH, [1, 1, 1], weighting, params, "l2"))
  s = np.asarray(logs, np.float64)
  by_hand = np.array([
    0.5 * np.exp(-s[0]) * 0.4 + s[0] / 2,
    np.exp(-s[1]) * 1.3 + s[1] / 2,
    np.exp(-s[2]) * 0.7 + s[2] / 2,
  ])  # fmt: skip
  assert got == pytest.approx(by_hand.mean(), rel=1e-6)
  got = float(total(EACH, [1, 0, 1], weighting, params, "l2"))
  assert got == pytest.approx(by_hand[[0, 2]].mean(), rel=1e-6)

  def of_logs(logs, known, loss):
    params = {"task_weighting": {"log_variance": logs}}
    return total(EACH, known, weighting, params, loss)

  slope = jax.grad(of_logs)
  best = jnp.array([jnp.log(0.4), jnp.log(2 * 1.3), jnp.log(2 * 0.7)])
  np.testing.assert_allclose(slope(best, [1, 1, 1], "l2"), 0, atol=1e-7)
  # Laplace: its width, which is the root of variance, is the mean error.
  best = best.at[0].set(2 * jnp.log(0.4))
  np.testing.assert_allclose(slope(best, [1, 1, 1], "l1"), 0, atol=1e-7)
  assert float(slope(logs, [1, 0, 1], "l2")[1]) == 0  # not pulled to -inf


def test_training_split_without_a_class_is_warned_of():
  truth = np.array([[0.0, 0, 1], [1, 1, 1], [np.nan, 1, np.nan]])
  with pytest.warns(UserWarning, match="as_tmed3: the training split has no "
                    "significant"):  # fmt: skip
    scale = standardise_from((STENOSIS,), truth[:, :1])
  assert scale == Standardisation((0.0,), (1.0,))
  with pytest.warns(UserWarning, match="no posterior that is 0"):
    standardise_from((WALLS,), truth[:, 1:])
  with pytest.raises(ValueError, match="walls: 2 known values .* all alike"):
    standardise_from((WALLS,), np.array([[1.0, 0.0], [np.nan, np.nan]]))


@pytest.fixture(scope="module")
def volume():
  """ESV that is regressed as its logarithm."""
  return dataclasses.replace(target_named("esv_ml"), link="log")


def test_a_logarithm_is_regressed_and_its_value_given_out(volume):
  scale = Standardisation((3.0,), (0.5,))
  truth, output = jnp.array([[20.0], [NONE]]), jnp.array([[0.2], [1.0]])
  loss = target_losses(output, truth, (volume,), scale, "l2")
  assert float(loss[0]) == pytest.approx(((np.log(20) - 3) / 0.5 - 0.2) ** 2)
  values = predictions_of(output, (volume,), scale)[:, 0]
  np.testing.assert_allclose(values, np.exp([3.1, 3.5]), rtol=1e-5)


def test_scales_by_hand(volume):
  truth = np.array([[50.0, 20.0, 3.0, 60.0], [60.0, 40.0, 4.0, 80.0]])
  of = (EF, volume, target_named("edv_ln_ml"), target_named("edv_ml"))
  measured = standardise_from(of, truth)
  logs = np.log([20.0, 40.0])
  np.testing.assert_allclose(measured.mean, [55, logs.mean(), 3.5, 70])
  np.testing.assert_allclose(measured.std, [5, logs.std(), 0.5, 10])
  released = standardise_from(of, truth, "hundredths")
  assert released == Standardisation((0.0,) * 4, (100.0, 1.0, 1.0, 100.0))
  with pytest.raises(ValueError, match="a value is 0 ml, which has no logar"):
    standardise_from((volume,), np.array([[0.0], [1.0]]))
  with pytest.raises(ValueError, match="scale 'percent' is not one of"):
    standardise_from(of, truth, "percent")
