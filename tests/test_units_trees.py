"""Units by hand; names, masks and averages of parameter trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax import trees, units

TREE = {
  "encoder": {"block_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}},
  "output": {"kernel": jnp.full((3, 1), 2.0)},
}


def test_units_by_hand():
  assert units.ms_from_s(1.4) == 1400
  assert units.s_from_ms(250) == 0.25
  assert units.ms_from_bpm(75) == 800
  assert units.mm_from_cm(0.031) == pytest.approx(0.31)
  assert units.ml_from_mm3(120_000) == 120
  assert units.ef_pct(120, 60) == 50
  assert units.ef_pct(np.array([100, 80]), np.array([40, 60])).tolist() == [
    60, 25
  ]  # fmt: skip


def test_units_of_unknown_stay_unknown():
  for convert in (units.ms_from_s, units.ms_from_bpm, units.mm_from_cm):
    assert np.isnan(convert(float("nan")))
  assert np.isnan(units.ef_pct(float("nan"), 60.0))


def test_units_are_exact_at_float32_times():
  """Times are stored as float32; converting must not round them again."""
  times = np.float32([33.333332, 1e6 + 0.0625])
  assert (units.ms_from_s(units.s_from_ms(times)) == times).all()


def test_leaves_have_slash_names_in_tree_order():
  assert list(trees.named_leaves(TREE)) == [
    "encoder/block_0/bias", "encoder/block_0/kernel", "output/kernel"
  ]  # fmt: skip
  lengths = trees.map_named(lambda name, leaf: len(name) + leaf.size, TREE)
  assert lengths["output"]["kernel"] == len("output/kernel") + 3


def test_parameters_are_counted_of_arrays_and_of_shapes():
  shapes = jax.eval_shape(lambda: TREE)
  assert trees.count_parameters(TREE) == trees.count_parameters(shapes) == 12


def test_average_against_numpy_over_many_steps():
  rng = np.random.default_rng(0)
  average, wanted = {"w": jnp.zeros(4)}, np.zeros(4)
  for _ in range(20):
    new = rng.normal(size=4).astype(np.float32)
    average = trees.update_average(average, {"w": jnp.asarray(new)}, 0.9)
    wanted = 0.9 * wanted + 0.1 * new
  np.testing.assert_allclose(average["w"], wanted, rtol=1e-5, atol=1e-6)
