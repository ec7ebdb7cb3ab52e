"""Fusion: what is absent has no influence, and one contract for four kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from echo_jax.models.fusion import (
  BottleneckFusion,
  CrossAttentionFusion,
  GatedFusion,
  LateFusion,
  drop_modalities,
)

NAMES = ("video", "ecg", "records")
SIZE = {"modalities": NAMES, "outputs": 2, "width": 8}
ATTENTION = {"heads": 2, "mlp_ratio": 2.0}
KINDS = {
  "late": LateFusion(**SIZE),
  "gated": GatedFusion(**SIZE),
  "bottleneck": BottleneckFusion(**SIZE, **ATTENTION, bottlenecks=2),
  "cross": CrossAttentionFusion(**SIZE, **ATTENTION, queries=2),
}
EVERY_WAY = np.array(
  [[i & 1, i & 2, i & 4] for i in range(8)], bool
)  # all eight patterns of presence
# By hand: two norms and maps of each modality (2e + ed + d) and its output
# (do + o), the gates (2d + 1), blocks of width 8 (attention 4 * 64 + 3 * 8,
# MLP 2 * 128 + 16 + 8, norms 2 * 16), bottleneck or queries, codes, `nothing`.
PROJECT, OUTPUT, BLOCK = 3 * (2 * 6 + 6 * 8 + 8), 8 * 2 + 2, 280 + 280 + 32
PARAMETERS = {
  "late": PROJECT + 3 * OUTPUT + 2,
  "gated": PROJECT + OUTPUT + 3 * 17 + 2,
  "bottleneck": PROJECT + OUTPUT + 2 * 3 * BLOCK + 2 * 8 + 16 + 2,
  "cross": PROJECT + OUTPUT + BLOCK + 16 + 2 * 8 + 3 * 8 + 16 + 2,
}


@pytest.fixture(scope="module")
def embeddings():
  return np.random.default_rng(0).normal(size=(8, 3, 6)).astype(np.float32)


@pytest.fixture(scope="module", params=list(KINDS))
def fusion(request, embeddings, fill):
  """(name, model, variables, compiled call)."""
  model = KINDS[request.param]
  variables = fill(model, embeddings, EVERY_WAY)
  return request.param, model, variables, jax.jit(model.apply)


def test_shapes_and_parameters_by_hand(fusion, embeddings):
  name, _, variables, call = fusion
  output, features = call(variables, embeddings, EVERY_WAY)
  assert output.shape == (8, 2) and output.dtype == jnp.float32
  np.testing.assert_array_equal(features["output"], output)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables))
  assert count == PARAMETERS[name]


@pytest.mark.parametrize("filling", [0.0, 1e6, np.nan, np.inf])
def test_what_an_absent_modality_holds_is_nothing(fusion, embeddings, filling):
  _, _, variables, call = fusion
  base, _ = call(variables, embeddings, EVERY_WAY)
  filled = np.where(EVERY_WAY[..., None], embeddings, np.float32(filling))
  output, _ = call(variables, filled, EVERY_WAY)
  np.testing.assert_array_equal(output, base)
  changed = np.where(EVERY_WAY[..., None], embeddings**2, filled)
  other, _ = call(variables, changed, EVERY_WAY)
  assert (np.abs(other - base).max(axis=1) > 1e-4)[1:].all()


def test_masked_is_the_same_as_left_out(fusion, embeddings):
  """With two of three: marked absent, or not handed over at all."""
  _, _, variables, call = fusion
  present = np.tile([True, False, True], (8, 1))
  masked, _ = call(variables, embeddings, present)
  given = {"video": embeddings[:, 0], "records": embeddings[:, 2]}
  left_out, _ = call(variables, given, present | True)
  np.testing.assert_allclose(left_out, masked, atol=1e-6)


def test_mapping_of_tokens_is_the_same_as_array(fusion, embeddings):
  """Any order of names; of two tokens of the ECG, one is padding."""
  _, _, variables, call = fusion
  given = {name: embeddings[:, i] for i, name in enumerate(NAMES)}
  padding = np.full_like(given["ecg"], np.nan)
  given["ecg"] = np.stack([padding, given["ecg"]], axis=1)
  valid = {"ecg": np.tile([False, True], (8, 1))}
  output, _ = call(
    variables, dict(reversed(given.items())), EVERY_WAY, token_valid=valid
  )
  alone, _ = call(variables, embeddings, EVERY_WAY)
  np.testing.assert_allclose(output, alone, atol=1e-6)


def test_nothing_at_all_has_an_output_of_its_own(fusion, embeddings):
  _, _, variables, call = fusion
  output, _ = call(variables, embeddings * np.nan, EVERY_WAY & False)
  np.testing.assert_array_equal(
    output, np.tile(variables["params"]["nothing"], (8, 1))
  )


def test_gradient_reaches_every_parameter_and_no_absent_content(
  fusion, embeddings
):
  """`nothing` alone learns from rows without any modality, and only there."""
  _, model, variables, _ = fusion

  def loss(variables, x, present):
    return jnp.square(model.apply(variables, x, present)[0] - 1).sum()

  slope = jax.jit(jax.grad(loss, argnums=(0, 1)))
  all_there, _ = slope(variables, embeddings, EVERY_WAY | True)
  none_there, content = slope(
    variables, embeddings * np.nan, EVERY_WAY & False
  )
  nothing = all_there["params"].pop("nothing")
  assert not nothing.any() and none_there["params"]["nothing"].all()
  flat = jax.tree_util.tree_leaves_with_path(all_there)
  assert not [path for path, leaf in flat if not np.abs(leaf).max() > 0]
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(none_there))
  assert not content.any()


def test_jit_changes_nothing(fusion, embeddings):
  _, model, variables, call = fusion
  np.testing.assert_allclose(
    model.apply(variables, embeddings, EVERY_WAY)[0],
    call(variables, embeddings, EVERY_WAY)[0],
    atol=1e-5,
  )


def test_half_precision_keeps_parameters_and_outputs_whole(fusion, embeddings):
  _, model, variables, call = fusion
  half = model.clone(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(half.init, jax.random.key(0), embeddings, EVERY_WAY)
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  output, _ = jax.jit(half.apply)(variables, embeddings, EVERY_WAY)
  assert output.dtype == jnp.float32
  whole, _ = call(variables, embeddings, EVERY_WAY)
  np.testing.assert_allclose(output, whole, atol=0.1)
  assert np.abs(output - whole).max() > 0


def test_an_untrained_fusion_predicts_the_training_mean(embeddings):
  (output, _), _ = jax.jit(KINDS["late"].init_with_output)(
    jax.random.key(0), embeddings, EVERY_WAY
  )
  np.testing.assert_array_equal(output, np.zeros((8, 2)))


def test_other_modalities_are_refused(fusion, embeddings):
  _, model, variables, _ = fusion
  with pytest.raises(ValueError, match="no modality is given"):
    model.apply(variables, {}, EVERY_WAY)
  with pytest.raises(ValueError, match="2 modalities.*made for 3"):
    model.apply(variables, embeddings[:, :2], EVERY_WAY[:, :2])
  with pytest.raises(ValueError, match="genes"):
    model.apply(variables, {"genes": embeddings[:, 0]}, EVERY_WAY)


@pytest.mark.parametrize("fusion", ["late"], indirect=True)
def test_late_fusion_is_the_mean_by_hand(fusion, embeddings):
  _, _, variables, call = fusion
  params = jax.tree.map(np.float64, variables["params"])
  each = []
  for i, name in enumerate(NAMES):
    x = embeddings[:, i].astype(np.float64)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(
      x.var(1, keepdims=True) + 1e-6
    )
    norm, linear = params[f"norm_{name}"], params[f"project_{name}"]
    x = (x * norm["scale"] + norm["bias"]) @ linear["kernel"] + linear["bias"]
    x = x * (1 + erf(x / np.sqrt(2))) / 2
    last = params[f"output_{name}"]
    each.append(x @ last["kernel"] + last["bias"])
  output, features = call(variables, embeddings, EVERY_WAY)
  both = (each[0] + each[2])[5] / 2  # row 5: video and records
  np.testing.assert_allclose(output[5], both, atol=1e-5)
  np.testing.assert_allclose(output[7], np.mean(each, axis=0)[7], atol=1e-5)
  np.testing.assert_allclose(output[2], each[1][2], atol=1e-5)
  assert not features["modality_outputs"][2, [0, 2]].any()


@pytest.mark.parametrize("fusion", ["gated"], indirect=True)
def test_gates_add_up_to_one_over_those_there(fusion, embeddings):
  _, _, variables, call = fusion
  _, features = call(variables, embeddings, EVERY_WAY)
  gates = np.asarray(features["gates"])
  np.testing.assert_allclose(gates[1:].sum(axis=1), 1, atol=1e-6)
  np.testing.assert_array_equal(gates > 0, EVERY_WAY)


@pytest.mark.parametrize("fusion", ["bottleneck"], indirect=True)
def test_modalities_speak_through_the_bottleneck(fusion, embeddings):
  """What the ECG says comes out in the shared tokens, if it is there."""
  _, model, variables, call = fusion
  other = embeddings * np.float32([[[1], [-1], [1]]])
  before, after = (
    np.asarray(call(variables, x, EVERY_WAY)[1]["bottleneck"])
    for x in (embeddings, other)
  )
  moved = np.abs(after - before).max(axis=(1, 2))
  np.testing.assert_array_equal(moved > 1e-3, EVERY_WAY[:, 1])
  with pytest.raises(ValueError, match="depth of 2"):
    model.clone(depth=1).apply(variables, embeddings, EVERY_WAY)


def test_modality_dropout_never_adds_and_never_drops_all():
  present = np.tile(EVERY_WAY, (500, 1))
  for rate in (0.0, 0.3, 1.0):
    kept = np.asarray(drop_modalities(jax.random.key(1), present, rate))
    assert not (kept & ~present).any()
    np.testing.assert_array_equal(kept.any(axis=1), present.any(axis=1))
    if rate == 0:
      np.testing.assert_array_equal(kept, present)
    if rate == 1:
      assert kept.sum(axis=1).max() == 1


@pytest.mark.parametrize("rate", [0.2, 0.6, 1.0])
def test_modality_dropout_rates_by_hand(rate):
  """Of three, each is dropped at r, less a third of r**3 (all would be)."""
  kept = drop_modalities(jax.random.key(2), np.ones((40_000, 3), bool), rate)
  dropped = 1 - np.asarray(kept).mean(axis=0)
  np.testing.assert_allclose(dropped, rate - rate**3 / 3, atol=0.01)


def test_modality_dropout_refuses_what_is_no_rate():
  with pytest.raises(ValueError, match="rate is 30"):
    drop_modalities(jax.random.key(0), np.ones((2, 3), bool), 30.0)
