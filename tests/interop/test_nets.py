"""Baselines of other libraries: the same numbers from the same weights."""

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from echo_jax import trees
from echo_jax.interop.torchvision_video import import_video_resnet, tensor_table
from echo_jax.interop.vivit import import_vivit

HERE = Path(__file__).parent
maker = runpy.run_path(str(HERE / "make_golden_nets.py"))
make_state, make_video = maker["make_state"], maker["make_video"]


@pytest.fixture(scope="module")
def golden():
  with np.load(HERE / "golden_nets.npz") as file:
    return dict(file)


def state_of(golden, name):
  return make_state(json.loads(str(golden[f"{name}/shapes"])))


def test_golden_file_is_small():
  assert (HERE / "golden_nets.npz").stat().st_size < 200 * 1024


@pytest.mark.parametrize("name", maker["RESNETS"])
def test_resnets_give_torchvisions_numbers(golden, name):
  """Evaluated and trained outputs, and the running statistics afterwards."""
  state = state_of(golden, name)
  model, variables = import_video_resnet(state)
  assert model.widths == (2, 4, 8, 16) and model.classes == 5
  assert model.factored == (name == "r2plus1d_18")
  video = make_video(2, 16, 32, 32, 3)

  @jax.jit
  def both(variables):
    trained, changed = model.apply(
      variables, video, train=True, mutable=["batch_stats"]
    )
    return model.apply(variables, video)[0], trained[0], changed

  evaluated, trained, changed = both(variables)
  for tokens, mode in ((evaluated, "evaluated"), (trained, "trained")):
    assert tokens.shape == (2, 2 * 2 * 2, 5)
    np.testing.assert_allclose(
      tokens.mean(axis=1), golden[f"{name}/{mode}"], atol=1e-4
    )
  found = trees.named_leaves(changed)
  rows = [r for r in tensor_table(model) if r.path in found]
  assert len(rows) == len(found) > 20
  for row in rows:
    np.testing.assert_allclose(
      found[row.path], golden[f"{name}/after/{row.name}"], atol=1e-4,
      err_msg=row.name,
    )  # fmt: skip


def test_vivit_gives_the_numbers_of_transformers(golden):
  config = json.loads(str(golden["vivit/config"]))
  model, params = import_vivit(state_of(golden, "vivit"), config)
  assert (model.grid, model.readout) == ((2, 4, 4), "pooled")
  video = make_video(2, 4, 32, 32, 3)
  tokens, features = jax.jit(
    lambda params: model.apply({"params": params}, video)
  )(params)
  hidden = np.concatenate(
    [features["class_token"][:, None], features["tokens"]], axis=1
  )
  np.testing.assert_allclose(hidden, golden["vivit/hidden"], atol=1e-4)
  pooled = golden["vivit/pooled"]
  np.testing.assert_allclose(features["pooled"], pooled, atol=1e-4)
  # So that any mean or maximum over them is what was read.
  np.testing.assert_allclose(
    tokens, np.broadcast_to(pooled[:, None], tokens.shape), atol=1e-4
  )


@pytest.mark.parametrize(
  ("change", "complaint"),
  [
    ({"hidden_act": "gelu"}, "hidden_act='gelu' is not.*'gelu_fast'"),
    ({"pooler_output_size": 8}, r"pooler_output_size=8.*tokens \(24\)"),
    ({"tubelet_size": [2, 8, 4]}, "not square"),
    ({"num_hidden_layers": 3}, "15 missing: encoder.layer.2"),
  ],
)
def test_a_vivit_that_does_not_fit_is_refused(golden, change, complaint):
  config = json.loads(str(golden["vivit/config"]))
  state = state_of(golden, "vivit")
  with pytest.raises(ValueError, match=complaint):
    import_vivit(state, config | change)
  config.pop("qkv_bias")
  with pytest.raises(ValueError, match="lacks qkv_bias; pass the whole"):
    import_vivit(state, config)


@pytest.mark.oracle
@pytest.mark.parametrize("name", maker["RESNETS"])
def test_live_resnets(name):
  """torchvision's own networks at full size, with its initialisation."""
  pytest.importorskip("torch")
  try:
    resnet = maker["load_torchvision"]()
  except ImportError:
    pytest.skip("torchvision is not installed")
  import torch

  torch.manual_seed(0)
  theirs = getattr(resnet, name)().eval()
  video = make_video(1, 8, 112, 112, 3)
  for module in theirs.modules():  # statistics other than 0 and 1
    if isinstance(module, torch.nn.BatchNorm3d):
      module.momentum = 1.0
  with torch.no_grad():
    theirs.fc.weight.mul_(10)
    theirs.train()(torch.rand(2, 3, 8, 112, 112))
  want = maker["run_resnet"](theirs.eval(), video)
  model, variables = import_video_resnet(
    {k: v.numpy() for k, v in theirs.state_dict().items()}
  )
  found = model.apply(variables, video)[0].mean(axis=1)
  report(name, found, want)


@pytest.mark.oracle
def test_live_vivit():
  """ViViT-B/16x2 of `transformers` on 16 frames, perturbed by 0.05 N(0, 1)."""
  pytest.importorskip("torch")
  try:
    maker["load_torchvision"]()  # before transformers looks for it
  except ImportError:
    pass
  transformers = pytest.importorskip("transformers")
  import torch

  torch.manual_seed(0)
  config = transformers.VivitConfig(num_frames=16)
  theirs = transformers.VivitModel(config).eval()
  with torch.no_grad():
    for parameter in theirs.parameters():
      parameter.add_(0.05 * torch.randn_like(parameter))
  video = make_video(1, 16, 224, 224, 3)
  hidden, pooled = maker["run_vivit"](theirs, video)
  model, params = import_vivit(
    {k: v.numpy() for k, v in theirs.state_dict().items()}, config.to_dict()
  )
  _, features = model.apply({"params": params}, video)
  report("tokens", features["tokens"], hidden[:, 1:])
  report("class token", features["class_token"], hidden[:, 0])
  report("pooled", features["pooled"], pooled)


def report(name, found, want):
  difference = np.abs(np.asarray(found) - want).max()
  print(
    f"\n{name}: max |difference| {difference:.1e}, max |value| "
    f"{np.abs(want).max():.2f}"
  )
  assert difference < 1e-4
