"""Steps on many devices, in parts and in other ways equal the plain one."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import on_devices
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from echo_jax import trees
from echo_jax.models.attention import ROW_TOKENS
from echo_jax.models.predictor import Predictor
from echo_jax.models.segmentation import UNet
from echo_jax.objectives.objective import Additive, Aux, hold_fixed
from echo_jax.objectives.outputs import Standardisation
from echo_jax.objectives.segmentation import make_segmentation
from echo_jax.objectives.supervised import make_supervised
from echo_jax.objectives.weighting import Weighting
from echo_jax.targets import count_outputs, target_named
from echo_jax.training import sharding
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.sharding import MeshShape, spec_of
from echo_jax.training.state import start_state
from echo_jax.training.step import make_train_step
from experiments import cnn_finetune, ef_finetune, parts


def case(mesh, accumulate=1, optimizer="sgd", remat="none", scan=False,
         dtype="float32", row_tokens=ROW_TOKENS):  # fmt: skip
  return {
    "mesh": mesh, "accumulate": accumulate, "optimizer": optimizer,
    "remat": remat, "scan": scan, "dtype": dtype, "row_tokens": row_tokens,
  }  # fmt: skip


CASES = (
  case((8, 1, 1)),
  case((2, 2, 2), accumulate=4, remat="blocks", scan=True, row_tokens=4),
  case((4, 2, 1), optimizer="adamw"),
  case(None, accumulate=4, remat="dots"),
  case((4, 2, 1), dtype="bfloat16"),
)
ALL = [
  case(mesh, accumulate, optimizer, remat, scan)
  for mesh in ((8, 1, 1), (4, 2, 1), (2, 2, 2))
  for accumulate in (1, 4)
  for optimizer in ("sgd", "adamw")
  for remat, scan in (("none", False), ("blocks", True), ("dots", False))
]


def run_cases(cases, folder):
  """What a process with eight devices finds."""
  # Unoptimised, as compiling takes far longer than ten steps.
  flag = (
    "--xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0"
  )
  done = subprocess.run(
    [sys.executable, on_devices.__file__, json.dumps(cases), str(folder)],
    env=os.environ | {"XLA_FLAGS": flag}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("eight")


@pytest.fixture(scope="module")
def found(folder):
  return run_cases(CASES, folder)


def check(one):
  exact = one["dtype"] == "float32"
  for numbers, plain in zip(one["losses"], one["plain"], strict=True):
    # bfloat16 has 8 bits: 0.4 % a rounding
    for name in ("loss", "hidden_tokens"):
      assert numbers[name] == pytest.approx(
        plain[name], rel=1e-5 if exact else 1e-2
      )
  sgd = one["optimizer"] == "sgd"
  # What rounds to 8 bits goes the same way: within a tenth of what it moves.
  allowed = (1e-6 if sgd else 1e-5) if exact else 0.1 * one["moved"]
  assert one["apart"] <= allowed < one["moved"]
  assert one["average_apart"] <= (1e-5 if exact else 1e-2)
  assert one["lies"], "the new state lies elsewhere"
  _, fsdp, model = one["mesh"] or (1, 1, 1)
  assert one["held"] == [32 // fsdp, 128 // model]
  # Encoder and decoder: 2 clips of a part and 1 head of 2 a device.
  small = one["row_tokens"] < ROW_TOKENS
  assert one["by_row"] == ([[2, 4, 1, 16], [2, 8, 1, 8]] if small else [])


@pytest.mark.parametrize("number", range(len(CASES)))
def test_ten_steps_end_as_on_one_device(found, number):
  check(found["cases"][number])


def test_contrast_sees_the_negatives_of_all_devices(found):
  """Of 16 pairs, two of each of 8 people, on 8 devices of two pairs each."""
  plain, spread = found["contrast"]
  assert plain[1] == spread[1] == 14
  assert spread == pytest.approx(plain, rel=1e-4)


@pytest.mark.long
def test_ten_steps_of_every_way_end_as_on_one_device(tmp_path):
  for one in run_cases(ALL, tmp_path)["cases"]:
    check(one)


def test_a_checkpoint_of_eight_devices_is_restored_on_one(found, folder):
  saved = np.load(folder / "params.npz")
  with Checkpoints(folder / "checkpoints") as checkpoints:
    tree = checkpoints.restore_tree(0)["params"]
    like = jax.eval_shape(
      lambda: on_devices.begin(on_devices.OPTIMIZERS["adamw"]())
    )
    state = checkpoints.restore(0, like)
  for params in (tree, state.params):
    leaves = trees.named_leaves(params)
    assert set(leaves) == set(saved)
    for name, leaf in leaves.items():
      np.testing.assert_array_equal(leaf, saved[name])


@pytest.mark.parametrize(
  ("name", "shape", "want"),
  [
    ("encoder/block_0/attention/query/kernel", (32, 32), P("fsdp", "model")),
    ("opt_state/1/mu/x/mlp/reduce/kernel", (64, 32), P("model", "fsdp")),
    ("x/block_3/mlp/expand/bias", (128,), P("model")),
    ("head/slice_mixer/kernel", (7, 7, 64, 64), P(None, None, "fsdp", "model")),
    ("head/joint_block/mix/kernel", (3, 3, 3, 8, 8),
     P(None, None, None, "fsdp", None)),
    ("output/kernel", (31, 1), P(None, None)),  # 31 does not divide
    ("opt_state/1/count", (), P()),
    ("aux/average/decoder/mask_token", (16,), P(None)),
  ],
)  # fmt: skip
def test_the_first_rule_that_fits_places_a_leaf(name, shape, want):
  assert spec_of(name, shape, {"data": 2, "fsdp": 2, "model": 2}) == want


def test_a_leaf_without_a_rule_is_refused():
  with pytest.raises(ValueError, match="encoder/strange .*no rule"):
    spec_of("encoder/strange", (2, 2), {"data": 1, "fsdp": 2, "model": 1})
  with pytest.raises(ValueError, match="more dimensions"):
    spec_of("a/kernel", (2,), {"data": 1, "fsdp": 2, "model": 1})


@pytest.mark.parametrize("head", ["stf", "moments", "max", "gru"])
@pytest.mark.parametrize("module", [ef_finetune, cnn_finetune])
def test_every_leaf_of_a_predictor_has_a_rule(module, head):
  config = module.get_config()
  module.tiny(config)
  config.update_from_flattened_dict({"head.name": head, "head.norm": "batch"})
  model = Predictor(
    parts.make_encoder(config), parts.make_head(config), 2, hidden_layers=(8,)
  )
  example = parts.example_clip(parts.make_contract(config))
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), **example))
  for name, leaf in trees.named_leaves(variables).items():
    spec_of(name, leaf.shape, {"data": 1, "fsdp": 2, "model": 2})


def test_every_leaf_of_a_model_of_pixels_has_a_rule():
  variables = jax.eval_shape(
    UNet().init, jax.random.key(0), jnp.zeros((1, 64, 64, 1))
  )
  for name, leaf in trees.named_leaves(variables).items():
    spec_of(name, leaf.shape, {"data": 1, "fsdp": 4, "model": 1})


@pytest.mark.parametrize(
  ("shape", "devices"),
  [(MeshShape(3), 8), (MeshShape(0, 3), 8), (MeshShape(4, 4), 8),
   (MeshShape(1, 0), 1), (MeshShape(-1), 1)],
)  # fmt: skip
def test_a_mesh_uses_all_devices(shape, devices):
  with pytest.raises(ValueError, match="devices|axes"):
    shape.over(devices)


def test_one_device_needs_no_mesh():
  assert MeshShape().over(8) == MeshShape(8, 1, 1)
  assert sharding.make_mesh(MeshShape(), jax.devices()[:1]) is None
  assert sharding.rows_here(None, 3) == (0, 1, 2)
  with pytest.raises(ValueError, match="batch_size is 6 .*accumulate 4"):
    sharding.rows_here(None, 6, 4)


def additive(params, aux, batch, totals, train):
  del totals, train
  return params["w"] * batch["x"].sum(), ({}, aux.collections)


def step_of(objective, accumulate):
  return make_train_step(
    objective, optax.sgd(0.1), seed=0, accumulate=accumulate
  )


def test_what_cannot_be_taken_in_parts_is_refused():
  def whole(params, aux, batch, key, train):
    return additive(params, aux, batch, None, train)

  with pytest.raises(ValueError, match="compute.accumulate is 2.*all of them"):
    step_of(whole, 2)
  parts = Additive(lambda batch, key, train: (batch, None), additive)
  state = start_state({"params": {"w": jnp.ones(())}}, optax.sgd(0.1))
  with pytest.raises(ValueError, match="3 does not divide.*accumulate 2"):
    step_of(parts, 2)(state, {"x": np.ones(3, np.float32)})
  moving = state.replace(aux=Aux(collections={"mean": jnp.zeros(())}))
  with pytest.raises(ValueError, match="statistics of the whole batch"):
    step_of(parts, 2)(moving, {"x": np.ones(4, np.float32)})


TARGETS = (target_named("ef_pct"), target_named("as_grade"))


class Toy(nn.Module):
  """A linear map of the mean grey of a clip to the outputs of two targets."""

  @nn.compact
  def __call__(self, video, *, train=False, **times):
    grey = video.mean(axis=(2, 3, 4))
    return nn.Dense(count_outputs(TARGETS))(grey), {}


class Pixels(nn.Module):
  @nn.compact
  def __call__(self, frames, *, train=False):
    return nn.Dense(1)(frames), {}


def clips(rows=8):
  rng = np.random.default_rng(1)
  truth = np.stack([rng.normal(60, 9, rows), rng.integers(0, 4, rows)], axis=1)
  truth[:5, 1] = np.nan  # so that parts know unequal numbers of labels
  truth[2, 0] = np.nan
  return {
    "video": rng.integers(0, 256, (rows, 4, 8, 8, 1), dtype=np.uint8),
    "frame_time_ms": np.zeros((rows, 4), np.float32),
    "frame_index": np.zeros((rows, 4), np.int32),
    "frame_valid": rng.random((rows, 4)) < 0.8,
    "target": truth.astype(np.float32),
    "lv_mask": rng.random((rows, 4, 8, 8)) < 0.3,
    "lv_mask_known": np.arange(rows) % 3 > 0,
  }


def supervised(weighting):
  scale = Standardisation((60.0, 0.0), (9.0, 1.0))
  return make_supervised(
    Toy(), on_devices.normalise, TARGETS, scale, weighting=weighting
  )


@pytest.mark.parametrize(
  ("model", "objective", "more"),
  [
    (Toy(), supervised(Weighting()), {}),
    (Toy(), supervised(Weighting("fixed", (1.0, 3.0))), {}),
    (Toy(), supervised(Weighting("uncertainty")),
     Weighting("uncertainty").parameters(TARGETS)),
    (Toy(), hold_fixed(supervised(Weighting()), "bias"), {}),
    (Pixels(), make_segmentation(Pixels(), on_devices.normalise), {}),
  ],
)  # fmt: skip
def test_parts_add_up_to_the_batch(model, objective, more):
  batch = clips()
  given = batch["video"].astype(np.float32)
  given = given.reshape(-1, 8, 8, 1) if isinstance(model, Pixels) else given
  params = model.init(jax.random.key(0), given)["params"]
  found = []
  for number in (1, 4):
    state = start_state({"params": {**params, **more}}, optax.sgd(0.1))
    state = jax.tree.map(lambda leaf: leaf + 0.1, state.replace(step=0))
    state = state.replace(step=jnp.zeros((), jnp.int32))
    step = make_train_step(objective, optax.sgd(0.1), seed=0, accumulate=number)
    state, metrics = step(state, batch)
    found.append((state.params, metrics))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found
  )
