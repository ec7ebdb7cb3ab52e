"""AdamW's rule: what decays, what is scaled, what is frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from echo_jax import trees
from echo_jax.training.optimizers import (
  AdamWRule,
  decay_mask,
  layer_scale,
  make_adamw,
  rate_schedule,
)

PARAMS = {
  "encoder": {
    "embed": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "block_0": {"mlp": {"kernel": jnp.ones((2, 2))}},
    "norm": {"scale": jnp.ones(2)},
  },
  "output": {"kernel": jnp.ones((2, 1))},
}


def updated(rule):
  """Parameters after three steps with gradient 1."""
  tx, params = make_adamw(rule), PARAMS
  state, ones = tx.init(params), jax.tree.map(jnp.ones_like, params)
  for _ in range(3):
    updates, state = tx.update(ones, state, params)
    params = optax.apply_updates(params, updates)
  return trees.named_leaves(params)


def test_matrices_decay_and_tokens_do_not():
  pool = {"value": jnp.ones((2, 2)), "score": jnp.ones(2)}
  others = {"joint_pool": pool, "mask_token": jnp.ones((1, 2))}
  decayed = trees.named_leaves(decay_mask(others))
  assert [name for name, yes in decayed.items() if yes] == ["joint_pool/value"]


def test_only_kernels_decay():
  decayed = trees.named_leaves(decay_mask(PARAMS))
  assert {name for name, yes in decayed.items() if yes} == {
    "encoder/embed/kernel", "encoder/block_0/mlp/kernel", "output/kernel"
  }  # fmt: skip


def test_frozen_parameters_stay_bit_equal_and_the_rest_moves():
  moved = updated(AdamWRule(0.1, 10, freeze="^encoder/"))
  for name, value in moved.items():
    assert (np.asarray(value) == 1).all() == name.startswith("encoder/")


def test_layer_decay_by_hand():
  rule = AdamWRule(
    0.1, 10, weight_decay=0.0, clip_norm=0.0, layer_decay=0.5, encoder_depth=1
  )
  plain = AdamWRule(0.1, 10, weight_decay=0.0, clip_norm=0.0)
  scaled, full = updated(rule), updated(plain)
  step = {n: float((1 - scaled[n]).mean() / (1 - full[n]).mean()) for n in full}
  assert step["output/kernel"] == pytest.approx(1.0)
  assert step["encoder/block_0/mlp/kernel"] == pytest.approx(0.5, rel=1e-4)
  assert step["encoder/embed/kernel"] == pytest.approx(0.25, rel=1e-4)
  assert layer_scale("encoder/norm/scale", 0.5, 1) == 1.0


def test_schedule_at_its_corners():
  rate = rate_schedule(AdamWRule(1.0, 100, 10, start_rate=0.1, end_rate=0.01))
  assert float(rate(0)) == pytest.approx(0.1)
  assert float(rate(10)) == pytest.approx(1.0)
  assert float(rate(55)) == pytest.approx(0.505, abs=1e-3)
  assert float(rate(100)) == pytest.approx(0.01)


def test_moving_average_by_hand():
  old, new = {"a": jnp.array(1.0)}, {"a": jnp.array(3.0)}
  average = trees.update_average(old, new, 0.9)
  assert float(average["a"]) == pytest.approx(1.2)


@pytest.mark.parametrize("decay", ["matrices", "all"])
def test_what_decays_by_hand(decay):
  """Without a gradient a decayed parameter is only scaled."""
  rule = AdamWRule(0.1, 10, weight_decay=0.5, decay=decay)
  tx = make_adamw(rule)
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
  moved = trees.named_leaves(optax.apply_updates(PARAMS, updates))
  for name, value in moved.items():
    decays = decay == "all" or name.endswith("kernel")
    np.testing.assert_allclose(value, 0.95 if decays else 1.0, err_msg=name)
  with pytest.raises(ValueError, match="decay is 'biases', wants one of"):
    AdamWRule(0.1, 10, decay="biases")
