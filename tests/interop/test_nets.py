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
