"""Ten steps of a tiny model on meshes of eight simulated devices, as JSON.

Arguments: cases as JSON, and a folder for a checkpoint.  Run by
test_sharding.py in a process of its own, with the flag of XLA that makes eight
devices of one.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import optax

from echo_jax import trees
from echo_jax.data.contract import InputContract
from echo_jax.models import attention
from echo_jax.models.contrast import ClipEmbedding, Projector
from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.layers import Execution
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import TokenGrid
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.contrastive import make_contrastive
from echo_jax.objectives.mae import make_mae
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.objectives.objective import Aux
from echo_jax.training import sharding
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.state import start_state
from echo_jax.training.step import make_train_step

CONTRACT = InputContract(
  frames=4, span_s=1.0, size=16, channels=1, mean=0.0, std=1.0
)
GRID = TokenGrid.of(CONTRACT.shape, 2, 8)
RULE = MaskRule(ratio=0.5, scheme="token")
ROWS, STEPS = 32, 10
OPTIMIZERS = {
  "sgd": lambda: optax.sgd(0.1),
  "adamw": lambda: optax.adamw(1e-3, weight_decay=0.05),
}


def make_model(execution, dtype=np.float32):
  shared = {"heads": 2, "dtype": dtype, "execution": execution}
  return EchoVideoMAE(
    VideoViT(
      width=32, depth=2, patch=8, tubelet=2, channels=1, norm_eps=1e-6,
      **shared,
    ),
    MAEDecoder(width=16, depth=1, norm_eps=1e-6, **shared),
  )  # fmt: skip


def batch_of(step):
  rng = np.random.default_rng(step)
  valid = np.ones((ROWS, 4), bool)
  valid[: ROWS // 4, 2:] = False  # so that parts weigh differently
  return {
    "video": rng.integers(0, 256, (ROWS, *CONTRACT.shape), dtype=np.uint8),
    "frame_valid": valid,
  }


def normalise(video):
  return video.astype(np.float32) / 255


def begin(optimizer):
  model = make_model(Execution())
  mask = make_mask(jax.random.key(0), RULE, GRID, 1)
  video = np.zeros((1, *CONTRACT.shape), np.float32)
  variables = jax.jit(model.init)(jax.random.key(1), video, mask)
  return start_state(variables, optimizer, average=True)


def train(name, shape, execution, accumulate=1, dtype=np.float32):
  """Metrics of ten steps, the state then, and whether it lies as it should."""
  optimizer = OPTIMIZERS[name]()
  mesh = None if shape is None else sharding.make_mesh(shape)
  objective = make_mae(make_model(execution, dtype), normalise, RULE, GRID)
  step = make_train_step(
    objective, optimizer, seed=3, average_decay=0.9, accumulate=accumulate
  )
  state = sharding.lay_out(begin(optimizer), mesh)
  losses = []
  for number in range(STEPS):
    here = sharding.rows_here(mesh, ROWS, accumulate)
    rows = sharding.own_rows(batch_of(number), mesh, here, ROWS)
    state, metrics = step(state, rows)
    losses.append({name: float(value) for name, value in metrics.items()})
  wanted = state if mesh is None else sharding.state_shardings(state, mesh)
  lies = mesh is None or all(
    leaf.sharding.is_equivalent_to(want, leaf.ndim)
    for leaf, want in zip(
      jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True
    )
  )
  held = [
    leaf.sharding.shard_shape(leaf.shape)
    for name, leaf in trees.named_leaves(state.params).items()
    if name == "encoder/block_0/mlp/expand/kernel"
  ]
  return losses, jax.tree.map(np.asarray, state), lies, held[0]


def apart(a, b):
  """Norm of the difference over the norm."""
  norm = lambda tree: np.sqrt(  # noqa: E731
    sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in tree)
  )
  a, b = jax.tree.leaves(a.params), jax.tree.leaves(b.params)
  return norm([x - y for x, y in zip(a, b, strict=True)]) / norm(a)


def contrast(shape):
  """InfoNCE of a batch on a mesh, its negatives and the gradient's norm."""
  mesh = shape and sharding.make_mesh(sharding.MeshShape(*shape))
  model = ClipEmbedding(make_model(Execution()).encoder, Projector())
  objective = make_contrastive(model, normalise, GRID)
  batch = batch_of(0) | {"person": np.arange(ROWS, dtype=np.int32) // 4}
  params = begin(optax.sgd(0.1)).params
  step = jax.jit(
    jax.value_and_grad(objective, has_aux=True), static_argnums=4
  )
  here = sharding.rows_here(mesh, ROWS)
  rows = sharding.own_rows(batch, mesh, here, ROWS)
  (loss, (metrics, _)), slope = sharding.call_on(
    mesh, step, params, Aux(), rows, jax.random.key(0), True
  )
  return [float(x) for x in (
    loss, metrics["negatives"], optax.tree.norm(slope)
  )]  # fmt: skip


def save_and_move(folder):
  """Saved on one mesh, restored on another and on one device."""
  optimizer = OPTIMIZERS["adamw"]()
  state = begin(optimizer)
  with Checkpoints(folder / "checkpoints") as checkpoints:
    mesh = sharding.make_mesh(sharding.MeshShape(2, 2, 2))
    checkpoints.save(sharding.lay_out(state, mesh), {"loss": 1.0})
  shapes = jax.eval_shape(lambda: state)
  for shape in (sharding.MeshShape(1, 8, 1), None):
    mesh = shape and sharding.make_mesh(shape)
    with Checkpoints(folder / "checkpoints") as checkpoints:
      moved = checkpoints.restore_newest(sharding.lay_out(shapes, mesh))
    assert sharding.mesh_of(moved) == mesh
    for a, b in zip(
      jax.tree.leaves(state), jax.tree.leaves(moved), strict=True
    ):
      np.testing.assert_array_equal(a, b)
      assert mesh is None or len(b.sharding.device_set) == 8
  np.savez(folder / "params.npz", **trees.named_leaves(state.params))


def main(cases, folder):
  save_and_move(Path(folder))
  placed = {
    "activations": sharding.split_rows, "weights": sharding.gather_weights,
    "spread": sharding.on_each_device,
  }  # fmt: skip
  plain, found = {}, []
  for case in cases:
    name = case["optimizer"]
    if name not in plain:
      plain[name] = train(name, None, Execution())
    execution = Execution(case["remat"], case["scan"], **placed)
    mesh = case["mesh"] and sharding.MeshShape(*case["mesh"])
    by_row = mock.Mock(wraps=attention.attend_by_row)
    with mock.patch.multiple(
      attention, ROW_TOKENS=case["row_tokens"], attend_by_row=by_row
    ):
      losses, state, lies, held = train(
        name, mesh, execution, case["accumulate"], np.dtype(case["dtype"])
      )
    found.append(case | {
      "losses": losses, "plain": plain[name][0], "lies": lies, "held": held,
      "by_row": sorted({one.args[0].shape for one in by_row.call_args_list}),
      "apart": float(apart(plain[name][1], state)),
      "moved": float(apart(plain[name][1], begin(OPTIMIZERS[name]()))),
      "average_apart": float(np.max([
        np.abs(a - b).max() for a, b in zip(
          jax.tree.leaves(plain[name][1].aux.average),
          jax.tree.leaves(state.aux.average), strict=True,
        )
      ])),
    })  # fmt: skip
  told = {"cases": found, "contrast": [contrast(None), contrast((4, 2, 1))]}
  json.dump(told, sys.stdout)


if __name__ == "__main__":
  main(json.loads(sys.argv[1]), sys.argv[2])
