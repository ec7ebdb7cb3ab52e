"""Encoders from other libraries' files: every layout, and what is refused."""

import json
import re
import runpy
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file as save_flax
from safetensors.numpy import save_file

from echo_jax.interop.encoders import import_encoder
from echo_jax.interop.torchvision_video import import_video_resnet
from echo_jax.interop.videomae import import_pretraining
from echo_jax.interop.vivit import import_vivit
from echo_jax.interop.weight_files import (
  digest_of,
  find_weights,
  read_weights,
)
from echo_jax.models.video_resnet import VideoResNet

HERE = Path(__file__).parent
nets = runpy.run_path(str(HERE / "make_golden_nets.py"))

# Of one block, as transformers 4.57.1 lists them.
VIVIT_OF_RELEASE_4 = """
embeddings.cls_token embeddings.position_embeddings
embeddings.patch_embeddings.projection.weight
embeddings.patch_embeddings.projection.bias
encoder.layer.0.attention.attention.query.weight
encoder.layer.0.attention.attention.query.bias
encoder.layer.0.attention.attention.key.weight
encoder.layer.0.attention.attention.key.bias
encoder.layer.0.attention.attention.value.weight
encoder.layer.0.attention.attention.value.bias
encoder.layer.0.attention.output.dense.weight
encoder.layer.0.attention.output.dense.bias
encoder.layer.0.intermediate.dense.weight
encoder.layer.0.intermediate.dense.bias
encoder.layer.0.output.dense.weight encoder.layer.0.output.dense.bias
encoder.layer.0.layernorm_before.weight encoder.layer.0.layernorm_before.bias
encoder.layer.0.layernorm_after.weight encoder.layer.0.layernorm_after.bias
layernorm.weight layernorm.bias pooler.dense.weight pooler.dense.bias
""".split()


@pytest.fixture(scope="module")
def videomae():
  """(state dict, config, model, parameters) of the golden VideoMAE."""
  with np.load(HERE / "golden_videomae.npz") as file:
    config = json.loads(str(file["config"]))
    state = {n[6:]: file[n] for n in file.files if n.startswith("state/")}
  return state, config, *import_pretraining(state, config)


@pytest.fixture(scope="module")
def golden():
  with np.load(HERE / "golden_nets.npz") as file:
    return dict(file)


def original_names(state, fused_bias=False):
  """The layout of the original code, from that of `transformers`."""
  found = {}
  for name, x in state.items():
    for theirs, ours in (
      ("videomae.embeddings.patch_embeddings.projection.",
       "encoder.patch_embed.proj."),
      ("videomae.encoder.layer.", "encoder.blocks."),
      ("videomae.layernorm.", "encoder.norm."),
      ("decoder.decoder_layers.", "decoder.blocks."),
      (".attention.output.dense.", ".attn.proj."),
      (".attention.attention.query.bias", ".attn.q_bias"),
      (".attention.attention.value.bias", ".attn.v_bias"),
      (".layernorm_before.", ".norm1."), (".layernorm_after.", ".norm2."),
      (".intermediate.dense.", ".mlp.fc1."), (".output.dense.", ".mlp.fc2."),
    ):  # fmt: skip
      name = name.replace(theirs, ours)
    found[name] = x
  for name in [n for n in found if n.endswith(".attention.query.weight")]:
    stem = name.removesuffix(".attention.attention.query.weight")
    found[f"{stem}.attn.qkv.weight"] = np.concatenate([
      found.pop(f"{stem}.attention.attention.{part}.weight")
      for part in ("query", "key", "value")
    ])
    if fused_bias:
      q, v = (found.pop(f"{stem}.attn.{part}_bias") for part in "qv")
      # A bias of the keys, which softmax removes.
      found[f"{stem}.attn.qkv.bias"] = np.concatenate([q, q + 1, v])
  return found


def fine_tuned(state):
  """An encoder of the original code with a classifier instead of a decoder.

  It norms the mean of the tokens, and not the tokens themselves.
  """
  encoder = {
    re.sub(r"^norm\.", "fc_norm.", name.removeprefix("encoder.")): x
    for name, x in original_names(state).items()
    if name.startswith("encoder.")
  }
  return encoder | {"head.weight": np.ones((2, 24), np.float32)}


def release_4(state):
  return {
    n.replace(".query.bias", ".q_bias").replace(".value.bias", ".v_bias"): x
    for n, x in state.items()
  }


LAYOUTS = {
  "transformers 5": lambda state: state,
  "transformers 4, wrapped twice": lambda state: {
    f"module._orig_mod.{n}": x for n, x in release_4(state).items()
  },
  "a bare encoder": lambda state: {
    n.removeprefix("videomae."): x
    for n, x in state.items()
    if n.startswith("videomae.")
  },
  "original": original_names,
  "original, one bias": lambda state: original_names(state, True),
  "original, fine-tuned": fine_tuned,
}
ELSEWHERE = {
  "a bare encoder": set(), "original, fine-tuned": {"classifier", "fc_norm"}
}  # fmt: skip


def as_file(tensors, folder):
  path = folder / "model.safetensors"
  save_file({n: np.ascontiguousarray(x) for n, x in tensors.items()}, path)
  return path


def assert_same(found, wanted):
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_videomae_gives_the_same_encoder(
  videomae, layout, tmp_path
):
  state, _, model, params = videomae
  path = as_file(LAYOUTS[layout](state), tmp_path)
  encoder, wanted = model.encoder, params["encoder"]
  if layout == "original, fine-tuned":
    encoder = encoder.clone(final_norm=False)
    wanted = {name: of for name, of in wanted.items() if name != "norm"}
  initial = jax.tree.map(jnp.zeros_like, {"params": wanted})
  found = import_encoder(path, encoder, initial)
  assert found.anew == ()
  assert_same(found.variables, {"params": wanted})
  assert {name.split(".")[0] for name in found.left_out} == ELSEWHERE.get(
    layout, {"decoder", "encoder_to_decoder", "mask_token"}
  )


@pytest.mark.parametrize("fused_bias", [False, True])
def test_the_original_pretraining_checkpoint_is_whole(videomae, fused_bias):
  state, config, _, params = videomae
  original = original_names(state, fused_bias)
  assert not set(original) & {n for n in state if "blocks" in n}
  assert_same(import_pretraining(original, config)[1], params)


def test_what_a_file_has_too_many_or_too_few_of_is_listed(videomae, tmp_path):
  state, _, model, params = videomae
  initial = {"params": params["encoder"]}
  more = state | {"videomae.adapter.weight": state["mask_token"]}
  with pytest.raises(ValueError, match="1 unexpected: videomae.ad") as said:
    import_encoder(as_file(more, tmp_path), model.encoder, initial)
  assert "final_norm" not in str(said.value)
  # The authors' encoder has no norm and starts from one that has.
  bare = {"params": {k: x for k, x in params["encoder"].items() if k != "norm"}}
  found = import_encoder(
    as_file(state, tmp_path), model.encoder.clone(final_norm=False), bare
  )
  assert "videomae.layernorm.weight" in found.left_out
  assert_same(found.variables, bare)
  fewer = {n: x for n, x in state.items() if "layernorm." not in n}
  with pytest.raises(ValueError, match="2 missing.*final_norm=False"):
    import_encoder(as_file(fewer, tmp_path), model.encoder, initial)
  with pytest.raises(ValueError, match="no known layout .*; it has nothing"):
    path = as_file({"nothing": state["mask_token"]}, tmp_path)
    import_encoder(path, model.encoder, initial)
  with pytest.raises(ValueError, match="VideoMAE of .* is a VideoResNet"):
    import_encoder(as_file(state, tmp_path), VideoResNet(), initial)


def test_a_config_beside_the_file_must_describe_the_encoder(
  videomae, tmp_path
):
  """Heads and positions are not in the shapes of weights."""
  state, config, model, params = videomae
  path, initial = as_file(state, tmp_path), {"params": params["encoder"]}
  (tmp_path / "config.json").write_text(json.dumps(config))
  import_encoder(path, model.encoder, initial)
  other = model.encoder.clone(heads=4)
  with pytest.raises(ValueError, match=r"heads 2 \(here 4\)"):
    import_encoder(path, other, initial)
  longer = model.encoder.clone(grid=(4, 4, 4))
  with pytest.raises(ValueError, match=r"grid \(2, 4, 4\).*'positions' start"):
    import_encoder(path, longer, initial)
  # Positions are no weights here: nothing of them starts anew.
  assert import_encoder(path, longer, initial, ["positions"]).anew == ()


def test_vivit_of_either_release_and_with_parts_anew(golden, tmp_path):
  newer = nets["make_state"](json.loads(str(golden["vivit/shapes"])))
  assert any(name.endswith(".attention.q_proj.weight") for name in newer)
  config = json.loads(str(golden["vivit/config"]))
  model, params = import_vivit(newer, config)
  older = {}
  for name, x in newer.items():
    name = re.sub(r"^layers\.", "encoder.layer.", name)
    for short, whole in zip("qkv", ("query", "key", "value"), strict=True):
      name = name.replace(
        f"attention.{short}_proj", f"attention.attention.{whole}"
      )
    for new, old in (
      ("attention.o_proj", "attention.output.dense"),
      ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ):  # fmt: skip
      name = name.replace(new, old)
    older[name] = x
  first = {n for n in older if not n.startswith("encoder.layer.1.")}
  assert first == set(VIVIT_OF_RELEASE_4)
  assert_same(import_vivit(older, config)[1], params)
  # As published: with a classifier, without a pooler, of more frames.
  published = {f"vivit.{n}": x for n, x in older.items() if "pooler" not in n}
  published["classifier.weight"] = np.ones((4, 24), np.float32)
  path = as_file(published, tmp_path)
  (tmp_path / "config.json").write_text(json.dumps(config))
  shorter = model.clone(grid=(1, 4, 4))
  initial = jax.eval_shape(
    lambda: shorter.init(jax.random.key(0), jnp.zeros((1, 2, 32, 32, 3)))
  )
  initial = jax.tree.map(lambda x: jnp.full(x.shape, 7.0), initial)
  with pytest.raises(ValueError, match=r"grid \(2, 4, 4\) \(here \(1, 4, 4"):
    import_encoder(path, shorter, initial, ["pooler"])
  (tmp_path / "config.json").unlink()
  with pytest.raises(ValueError, match=r"position_embeddings has shape \(1, 3"):
    import_encoder(path, shorter, initial, ["pooler"])
  with pytest.raises(ValueError, match="2 missing: pooler"):
    import_encoder(path, shorter, initial, ["positions"])
  with pytest.raises(ValueError, match=r"\['heads'\] cannot start anew"):
    import_encoder(path, shorter, initial, ["heads"])
  found = import_encoder(path, shorter, initial, ["positions", "pooler"])
  assert found.left_out == (
    "classifier.weight", "embeddings.position_embeddings"
  )  # fmt: skip
  taken = found.variables["params"]
  assert (taken["embed"].pop("position") == 7).all()
  assert all((x == 7).all() for x in taken.pop("pooler").values())
  kept = {n: x for n, x in params.items() if n not in ("pooler", "embed")}
  embed = {n: x for n, x in params["embed"].items() if n != "position"}
  assert_same(taken, kept | {"embed": embed})


def test_a_resnet_without_its_classifier(golden, tmp_path):
  state = nets["make_state"](json.loads(str(golden["r3d_18/shapes"])))
  whole, variables = import_video_resnet(state)
  path = as_file(state, tmp_path)
  variables["params"].pop("head")
  bare = whole.clone(classes=0)
  found = import_encoder(path, bare, variables)
  assert found.left_out == ("fc.bias", "fc.weight")
  assert_same(found.variables, variables)
  with pytest.raises(ValueError, match="missing: layer1.0.conv1.0.0.weight"):
    factored = VideoResNet(True, whole.widths, whole.blocks)
    import_encoder(path, factored, variables)
  with pytest.raises(ValueError, match="one of layer1, .* is missing"):
    import_video_resnet({"stem.0.weight": state["stem.0.weight"]})


@pytest.mark.parametrize(
  ("name", "parameters"),
  [("r3d_18", 33_371_472), ("r2plus1d_18", 31_505_325)],
)
def test_full_size_has_as_many_parameters_as_torchvision_says(
  name, parameters
):
  """`num_params` of torchvision 0.28's Kinetics weights."""
  model = VideoResNet(factored=name == "r2plus1d_18", classes=400)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 16, 16, 3)))
  )
  leaves = jax.tree.leaves(shapes["params"])
  assert sum(leaf.size for leaf in leaves) == parameters


def test_files_that_are_no_weights(tmp_path, monkeypatch):
  for name in ("weights.npz", "broken.safetensors", "model.bin"):
    (tmp_path / name).write_bytes(b"nothing")
  with pytest.raises(ValueError, match="no file of weights: known are .safete"):
    read_weights(tmp_path / "weights.npz")
  with pytest.raises(ValueError, match="is not a safetensors file"):
    read_weights(tmp_path / "broken.safetensors")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ValueError, match=r"not installed: pip install 'echo-jax"):
    read_weights(tmp_path / "model.bin")
  assert find_weights(tmp_path) is None
  (tmp_path / "pytorch_model.bin").touch()
  assert find_weights(tmp_path) == tmp_path / "pytorch_model.bin"
  assert find_weights(tmp_path / "model.bin") == tmp_path / "model.bin"


def test_bfloat16_is_read(tmp_path):
  save_flax({"x": jnp.ones(3, jnp.bfloat16)}, tmp_path / "x.safetensors")
  assert read_weights(tmp_path / "x.safetensors")["x"].dtype == jnp.bfloat16


def test_weights_in_several_files_are_one(tmp_path):
  """As transformers writes them; every file is in the digest."""
  index = tmp_path / "model.safetensors.index.json"
  files = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
  for n, (name, file) in enumerate(files.items()):
    save_file({name: np.full(2, n, np.float32)}, tmp_path / file)

  def keep(place):
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))

  keep(files)
  assert find_weights(tmp_path) == index
  found = read_weights(index)
  assert {name: x.tolist() for name, x in found.items()} == {
    "a": [0, 0], "b": [1, 1]
  }  # fmt: skip
  before = digest_of(index)
  save_file({"b": np.full(2, 5, np.float32)}, tmp_path / files["b"])
  assert digest_of(index) != before
  keep({"a": files["a"]} | {"c": files["b"]})
  with pytest.raises(ValueError, match="differ in b, c"):
    read_weights(index)
  for name in ("model-3.safetensors", "../model-1.safetensors"):
    keep({"a": name})
    with pytest.raises(ValueError, match="no file beside it"):
      read_weights(index)
  index.write_text("[]")
  with pytest.raises(ValueError, match="no weight_map"):
    read_weights(index)


class TorchTensor(np.ndarray):
  """As much of a tensor of PyTorch as is taken of one."""

  def is_floating_point(self):
    return self.dtype.kind == "f"

  def float(self):
    return self.astype(np.float32)

  def numpy(self):
    return np.asarray(self)


def test_what_is_taken_of_pytorchs_files(tmp_path, monkeypatch):
  """With a stand-in for its reader, which is told to run no code."""
  weight = np.arange(3, dtype=np.float64).view(TorchTensor)
  saved = {"model": {"state_dict": {"x": weight}}, "epoch": 3}
  asked = []

  def load(path, **how):
    asked.append(how)
    return saved

  torch = SimpleNamespace(
    load=load, is_tensor=lambda x: isinstance(x, TorchTensor),
    serialization=SimpleNamespace(safe_globals=nullcontext),
  )  # fmt: skip
  monkeypatch.setitem(sys.modules, "torch", torch)
  found = read_weights(tmp_path / "pytorch_model.bin")
  np.testing.assert_array_equal(found["x"], [0, 1, 2])
  assert found["x"].dtype == np.float32
  assert asked == [{"map_location": "cpu", "weights_only": True}]
  saved["model"] = {"lr": 0.1}
  with pytest.raises(ValueError, match="holds no state dict, nor one under mo"):
    read_weights(tmp_path / "pytorch_model.bin")


@pytest.mark.oracle
def test_pickles_of_pytorch(videomae, tmp_path):
  """As Accelerate and VideoMAE's own program save them; no code is run."""
  torch = pytest.importorskip("torch")
  import argparse

  state, _, model, params = videomae
  tensors = {n: torch.as_tensor(x) for n, x in state.items()}
  initial = {"params": params["encoder"]}
  wrapped = {f"module.{n}": x for n, x in tensors.items()}
  torch.save(wrapped, tmp_path / "pytorch_model.bin")
  original = original_names(state)
  torch.save(
    {
      "model": {n: torch.as_tensor(x) for n, x in original.items()},
      "optimizer": {"state": {0: {"step": 3}}}, "epoch": 9,
      "args": argparse.Namespace(lr=1e-3),
    },
    tmp_path / "checkpoint.pth",
  )  # fmt: skip
  for name in ("pytorch_model.bin", "checkpoint.pth"):
    found = import_encoder(tmp_path / name, model.encoder, initial)
    assert_same(found.variables, initial)
  torch.save({"model": Unsafe()}, tmp_path / "unsafe.pt")
  with pytest.raises(ValueError, match="objects other than tensors"):
    read_weights(tmp_path / "unsafe.pt")
  torch.save({"epoch": 3}, tmp_path / "empty.pt")
  with pytest.raises(ValueError, match="holds no state dict"):
    read_weights(tmp_path / "empty.pt")


class Unsafe:
  """A pickle that would run code."""

  def __reduce__(self):
    return (print, ("run",))
