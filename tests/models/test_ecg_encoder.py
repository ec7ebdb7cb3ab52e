"""ECG encoder: any rate, any leads, and nothing from what is not valid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_signals import made_ecg

from echo_jax.data.signals import LEADS, prepare_ecg
from echo_jax.models.ecg import ECGEncoder
from echo_jax.models.trunk import Trunk

TRUNK = Trunk(width=8, depth=1, heads=2, mlp_ratio=2.0)
MODEL = ECGEncoder(TRUNK, hz=250.0, patch=25)
SPAN = {"to_hz": 250.0, "span_s": 2.0}


def given(prepared):
  return (
    prepared.ecg_mv[None], prepared.lead_valid[None],
    prepared.sample_valid[None],
  )  # fmt: skip


@pytest.fixture(scope="module")
def ecg():
  return given(prepare_ecg(made_ecg(500), 500.0, LEADS, **SPAN))


@pytest.fixture(scope="module")
def encoder(ecg, fill):
  """(variables, compiled call of all twelve places)."""
  return fill(MODEL, *ecg), jax.jit(MODEL.apply)


def test_shapes_and_parameters_by_hand(encoder, ecg):
  """2 s in patches of 0.1 s, twelve leads: 240 tokens."""
  variables, call = encoder
  embedding, features = call(variables, *ecg)
  assert embedding.shape == (1, 8) and embedding.dtype == jnp.float32
  assert features["tokens"].shape == (1, 240, 8)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables))
  attention, mlp, norms = 4 * 64 + 3 * 8, 2 * 128 + 16 + 8, 3 * 16
  assert count == 50 * 8 + 8 + 12 * 8 + attention + mlp + norms


def test_patches_lie_at_seconds_by_hand():
  """0.1 s a patch: samples 0 to 24 at 250 Hz have their middle at 0.048 s."""
  np.testing.assert_allclose(MODEL.patch_time_s(3), [0.048, 0.148, 0.248])
  finer = MODEL.clone(hz=500.0, patch=50)
  np.testing.assert_allclose(finer.patch_time_s(3), [0.049, 0.149, 0.249])


@pytest.mark.parametrize("hz", [250, 360, 1000])
def test_the_sampling_rate_does_not_show(encoder, ecg, hz):
  variables, call = encoder
  base, _ = call(variables, *ecg)
  same = prepare_ecg(made_ecg(hz), float(hz), LEADS, **SPAN)
  slower = prepare_ecg(made_ecg(500), 360.0, LEADS, **SPAN)  # wrong rate
  difference = np.abs(call(variables, *given(same))[0] - base).max()
  wrong = np.abs(call(variables, *given(slower))[0] - base).max()
  assert difference < 1e-4 and wrong > 100 * difference


def test_what_is_not_valid_has_no_influence(encoder, ecg):
  """An absent lead, a gap that ends in a patch, padding from 1.5 s on."""
  variables, call = encoder
  mv, leads, samples = (x.copy() for x in ecg)
  leads[:, 3] = False
  samples[:, 60:140, 5] = False
  samples[:, 375:] = False
  valid = samples & leads[:, None]
  base, features = call(variables, mv, leads, samples)
  assert np.isfinite(base).all()
  for filling in (np.nan, 1e6):
    filled = np.where(valid, mv, np.float32(filling))
    np.testing.assert_array_equal(
      call(variables, filled, leads, samples)[0], base
    )
  # The gap, 60 to 140, hides patches 3 and 4 (75 to 125) and no other.
  lead_5 = features["token_valid"].reshape(20, 12)[:, 5]
  np.testing.assert_array_equal(np.flatnonzero(~lead_5), [3, 4, *range(15, 20)])
  louder = np.where(valid, 2 * mv, mv)
  assert np.abs(call(variables, louder, leads, samples)[0] - base).max() > 1e-3


def test_a_lost_sample_is_not_zero_millivolts(encoder, ecg):
  variables, call = encoder
  mv, leads, samples = (x.copy() for x in ecg)
  mv[:, 30:40] = 0.0
  zero, _ = call(variables, mv, leads, samples)
  gap = (np.arange(500) >= 30) & (np.arange(500) < 40)
  lost, _ = call(variables, mv, leads, samples & ~gap[:, None])
  assert np.abs(zero - lost).max() > 1e-4


def test_masked_leads_and_padding_are_the_same_as_none(encoder, ecg):
  """Leads II and V1 for 1 s, alone, or among twelve places and 2 s."""
  variables, call = encoder
  mv, leads, samples = (x.copy() for x in ecg)
  leads[:] = np.isin(np.arange(12), (1, 6))
  samples[:, 250:] = False
  among, _ = call(variables, mv, leads, samples)
  alone, _ = jax.jit(MODEL.apply, static_argnames="lead")(
    variables, mv[:, :250, [6, 1]], leads[:, [6, 1]], lead=(6, 1)
  )
  np.testing.assert_allclose(alone, among, atol=1e-5)
  other, _ = call(variables, np.roll(mv, 1, axis=2), np.roll(leads, 1), samples)
  assert np.abs(other - among).max() > 1e-4  # the same signals as III and V2


def test_no_lead_at_all_gives_zeros_and_finite_slopes(encoder, ecg):
  variables, _ = encoder

  def total(variables, mv):
    return MODEL.apply(variables, mv, ecg[1] & False, ecg[2])[0].sum()

  value, slope = jax.jit(jax.value_and_grad(total))(variables, ecg[0] * np.nan)
  assert value == 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))


def test_gradient_reaches_every_parameter(encoder, ecg):
  variables, _ = encoder
  slope = jax.jit(
    jax.grad(lambda v: jnp.square(MODEL.apply(v, *ecg)[0] - 1).sum())
  )(variables)
  flat = jax.tree_util.tree_leaves_with_path(slope)
  assert not [path for path, leaf in flat if not np.abs(leaf).max() > 0]
  assert slope["params"]["lead"]["code"].any(axis=1).all()


def test_half_precision_keeps_parameters_and_output_whole(encoder, ecg):
  variables, call = encoder
  half = MODEL.clone(trunk=TRUNK.clone(dtype=jnp.bfloat16))
  shapes = jax.eval_shape(half.init, jax.random.key(0), *ecg)
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  embedding, features = jax.jit(half.apply)(variables, *ecg)
  assert embedding.dtype == jnp.float32
  assert features["tokens"].dtype == jnp.bfloat16
  np.testing.assert_allclose(embedding, call(variables, *ecg)[0], atol=0.05)


def test_shapes_that_do_not_fit_are_refused(encoder, ecg):
  variables, _ = encoder
  mv, leads, samples = ecg
  with pytest.raises(ValueError, match="260 samples.*patches of 25"):
    MODEL.apply(variables, mv[:, :260], leads, samples[:, :260])
  with pytest.raises(ValueError, match="2 leads has lead="):
    MODEL.apply(variables, mv[..., :2], leads[:, :2], samples[..., :2])
  with pytest.raises(ValueError, match="outside of 0 to 11"):
    MODEL.apply(variables, mv[..., :1], leads[:, :1], lead=(12,))
