"""Hugging Face weights: same numbers out, same bits back, clear refusals."""

import json
import runpy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.interop.videomae import (
  export_pretraining,
  import_pretraining,
  model_from_config,
)

HERE = Path(__file__).parent
maker = runpy.run_path(str(HERE / "make_golden_videomae.py"))


@pytest.fixture(scope="module")
def golden():
  with np.load(HERE / "golden_videomae.npz") as file:
    return dict(file)


@pytest.fixture(scope="module")
def config(golden):
  return json.loads(str(golden["config"]))


@pytest.fixture(scope="module")
def state(golden):
  stem = "state/"
  return {
    name.removeprefix(stem): tensor
    for name, tensor in golden.items()
    if name.startswith(stem)
  }


def without_norm(state):
  return {k: v for k, v in state.items() if "videomae.layernorm" not in k}


def assert_same(found, wanted):
  assert set(found) == set(wanted)
  for name, tensor in wanted.items():
    assert found[name].dtype == tensor.dtype
    np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("norm", [True, False])
def test_golden_logits(golden, config, state, norm):
  """A tiny model run by transformers; `use_mean_pooling` has no last norm."""
  state = state if norm else without_norm(state)
  model, params = import_pretraining(
    state, {**config, "use_mean_pooling": not norm}
  )
  assert model.encoder.final_norm == norm
  video = maker["make_video"](1, 4, 32, 32, 3)
  logits, _ = model.apply({"params": params}, video, golden["hidden"])
  want = golden["logits_with_norm" if norm else "logits_without_norm"]
  np.testing.assert_allclose(logits, want, atol=1e-5)
  assert_same(export_pretraining(model, params), state)


def test_golden_file_is_small():
  assert (HERE / "golden_videomae.npz").stat().st_size < 200 * 1024


def rename_to_release_4(state):
  return {
    name.replace("attention.query.bias", "attention.q_bias").replace(
      "attention.value.bias", "attention.v_bias"
    ): tensor
    for name, tensor in state.items()
  }


def test_names_of_release_4_and_5_go_in_and_out(config, state):
  """Checkpoints on the hub say q_bias, v_bias and qkv_bias."""
  older = rename_to_release_4(state)
  older_config = {k: v for k, v in config.items() if k != "qv_bias"}
  model, params = import_pretraining(older, {**older_config, "qkv_bias": True})
  assert_same(export_pretraining(model, params), older)
  assert_same(export_pretraining(model, params, "query.bias"), state)


def test_without_query_and_value_bias(config, state):
  bare = {
    name: tensor
    for name, tensor in state.items()
    if not name.endswith(("query.bias", "value.bias"))
  }
  model, params = import_pretraining(bare, {**config, "qv_bias": False})
  assert "bias" not in params["encoder"]["block_0"]["attention"]["query"]
  assert_same(export_pretraining(model, params), bare)


def test_a_model_of_our_own_goes_out_and_comes_back(config, state):
  """Every layer gets its own tensor: a bijection, checked with new values."""
  model, params = import_pretraining(state, config)
  rng = np.random.default_rng(0)
  fresh = {
    name: rng.normal(size=x.shape).astype(np.float32)
    for name, x in export_pretraining(model, params).items()
  }
  assert_same(
    export_pretraining(*import_pretraining(fresh, config)), fresh
  )


@pytest.mark.parametrize(
  "change, complaint",
  [
    ({"hidden_act": "relu"}, "hidden_act='relu'.*only 'gelu'"),
    ({"hidden_dropout_prob": 0.1}, "hidden_dropout_prob=0.1"),
    ({"model_type": "vit"}, "model_type='vit'"),
    ({"patch_size": [8, 4]}, "not square"),
    ({"num_frames": 5}, "does not divide"),
    ({"num_channels": 1}, r"projection.weight has shape \(24, 3, 2, 8, 8\)"),
    ({"num_hidden_layers": 3}, "15 missing: .*encoder.layer.2"),
    ({"use_mean_pooling": True}, "2 unexpected: videomae.layernorm.bias"),
  ],
)
def test_what_does_not_fit_is_refused(config, state, change, complaint):
  with pytest.raises(ValueError, match=complaint):
    import_pretraining(state, {**config, **change})


def test_incomplete_input_is_refused(config, state):
  with pytest.raises(ValueError, match="lacks hidden_size, layer_norm_eps"):
    partial = {
      k: v
      for k, v in config.items()
      if k not in ("hidden_size", "layer_norm_eps")
    }
    import_pretraining(state, partial)
  fewer = {k: v for k, v in state.items() if k != "mask_token"}
  with pytest.raises(ValueError, match="1 missing: mask_token"):
    import_pretraining({**fewer, "extra": state["mask_token"]}, config)
  whole_numbers = {**state, "mask_token": state["mask_token"].astype(int)}
  with pytest.raises(ValueError, match="mask_token holds int64"):
    import_pretraining(whole_numbers, config)
  model, params = import_pretraining(state, config)
  del params["decoder"]["mask_token"]
  with pytest.raises(ValueError, match="missing: decoder/mask_token"):
    export_pretraining(model, params)


def test_positions_of_another_grid_are_refused(config, state):
  model, params = import_pretraining(state, config)
  video = jnp.zeros((1, 4, 16, 16, 3))
  with pytest.raises(ValueError, match="grid=None"):
    model.apply({"params": params}, video, np.arange(8)[None] < 4)
  assert model_from_config({**config, "image_size": (16, 16)}).encoder.grid == (
    2, 2, 2
  )  # fmt: skip


BASE = {}  # the library's defaults are ViT-B
SMALL = {
  "image_size": 64,
  "num_frames": 8,
  "hidden_size": 128,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "intermediate_size": 512,
  "decoder_hidden_size": 64,
  "decoder_num_hidden_layers": 2,
  "decoder_num_attention_heads": 2,
  "decoder_intermediate_size": 256,
}


@pytest.mark.oracle
@pytest.mark.parametrize("mean_pooling", [False, True])
@pytest.mark.parametrize("size", ["small", "base"])
@pytest.mark.parametrize("perturbed", [False, True])
def test_live_parity(size, mean_pooling, perturbed):
  """Random weights, alone and with 0.05 N(0, 1) added, within 1e-4."""
  pytest.importorskip("transformers")
  config = dict(SMALL if size == "small" else BASE)
  config["use_mean_pooling"] = mean_pooling
  theirs = maker["perturbed_model"](config, scale=0.05 if perturbed else 0.0)
  full = theirs.config.to_dict()
  video = maker["make_video"](
    1, full["num_frames"], *(full["image_size"],) * 2, 3
  )
  tokens = full["num_frames"] // 2 * (full["image_size"] // 16) ** 2
  hidden = maker["make_hidden"](1, tokens, int(0.85 * tokens))
  want = maker["run"](theirs, video, hidden)
  state = maker["state_of"](theirs)
  model, params = import_pretraining(state, full)
  logits, _ = model.apply({"params": params}, video, hidden)
  difference = np.abs(np.asarray(logits) - want).max()
  print(
    f"\n{size} mean_pooling={mean_pooling} perturbed={perturbed}: "
    f"max |difference| {difference:.1e}, max |logit| {np.abs(want).max():.2f}"
  )
  assert difference < 1e-4
  assert_same(export_pretraining(model, params), state)
