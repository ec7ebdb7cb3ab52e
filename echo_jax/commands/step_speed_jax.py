"""Our side of `echo-jax bench step|infer`: the very steps that a run takes.

Axes: b clip, T H W frames and pixels.
"""

import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from echo_jax.commands.step_speed import (
  MEAN,
  PATCH,
  STD,
  TARGET_MEAN,
  TARGET_STD,
  TUBELET,
  Case,
  Program,
  cores_here,
  versions_of,
)
from echo_jax.evaluation.predict import make_predict_step
from echo_jax.interop.videomae import model_from_config
from echo_jax.models.heads import MeanPool
from echo_jax.models.predictor import Predictor
from echo_jax.models.tokens import TokenGrid
from echo_jax.objectives.mae import make_mae
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.objectives.objective import Aux
from echo_jax.objectives.outputs import Standardisation
from echo_jax.objectives.supervised import clip_arguments, make_supervised
from echo_jax.targets import Target
from echo_jax.training.optimizers import AdamWRule, make_adamw
from echo_jax.training.state import start_state
from echo_jax.training.step import make_train_step
from echo_jax.trees import count_parameters

EF = Target("ef_pct", "regression", "%", "ef_pct")
SCALE = Standardisation((TARGET_MEAN,), (TARGET_STD,))


def normalise(video: jax.Array) -> jax.Array:
  """Grey levels to numbers about zero."""
  return (video.astype(jnp.float32) - MEAN) / STD


def make_batch(case: Case) -> dict[str, np.ndarray]:
  """A batch as the pipeline gives it, of random grey levels."""
  rows = case.batch, case.frames
  index = np.broadcast_to(np.arange(case.frames, dtype=np.int32), rows)
  return {
    "video": case.video(),
    "frame_time_ms": index * np.float32(40),
    "frame_index": index,
    "frame_valid": np.ones(rows, bool),
    "target": np.linspace(20, 70, case.batch, dtype=np.float32)[:, None],
  }


def make_program(case: Case, part: str) -> Program:
  """A compiled program of our own, with what it needs on the device."""
  # What earlier runs have kept would hide how long compiling takes.
  jax.config.update("jax_enable_compilation_cache", False)
  batch = jax.tree.map(jnp.asarray, make_batch(case))
  autoencoder = model_from_config(case.config())
  if part == "pretrain":
    grid = TokenGrid.of(batch["video"].shape, TUBELET, PATCH)
    rule = MaskRule(ratio=case.mask)
    mask = make_mask(jax.random.key(0), rule, grid, case.batch)
    params = start_params(autoencoder, normalise(batch["video"]), mask)
    objective = make_mae(autoencoder, normalise, rule, grid)
    run, compile_s = train_program(objective, params, batch)
  else:
    model = Predictor(autoencoder.encoder, MeanPool(), outputs=1)
    given, named = clip_arguments(batch, normalise)
    params = start_params(model, *given, **named)
    if part == "finetune":
      objective = make_supervised(model, normalise, (EF,), SCALE)
      run, compile_s = train_program(objective, params, batch)
    else:
      run, compile_s = predict_program(model, params, batch)
  return Program(
    run, count_parameters(params), compile_s,
    versions_of("jax", "jaxlib", "flax"), threads(),
  )  # fmt: skip


def start_params(model: nn.Module, *args: Any, **named: Any) -> Any:
  """Fresh parameters."""
  return jax.jit(model.init)(jax.random.key(0), *args, **named)["params"]


def threads() -> str:
  """Where the steps run."""
  device = jax.devices()[0]
  if device.platform != "cpu":
    return f"{jax.device_count()} x {device.device_kind}"
  return f"{cores_here()}, as XLA takes every core the process may use"


def train_program(
  objective: Callable, params: Any, batch: Any
) -> tuple[Callable[[], None], float]:
  """(one step, seconds of compiling it); AdamW without clipping."""
  rule = AdamWRule(rate=1e-4, steps=1000, clip_norm=0.0)
  optimizer = make_adamw(rule)
  step = make_train_step(objective, optimizer, seed=0)
  state = start_state({"params": params}, optimizer)
  began = time.perf_counter()
  compiled = step.lower(state, batch).compile()
  compile_s = time.perf_counter() - began
  kept = [state]

  def run() -> None:
    kept[0], _ = jax.block_until_ready(
      compiled(np.uint32(0), kept[0], batch)
    )

  return run, compile_s


def predict_program(
  model: nn.Module, params: Any, batch: Any
) -> tuple[Callable[[], None], float]:
  """(one prediction, seconds by which the first one, compiled, is longer)."""
  predict = make_predict_step(model, normalise, (EF,), SCALE)

  def run() -> None:
    jax.block_until_ready(predict(params, Aux(), batch))

  began = time.perf_counter()
  run()
  first = time.perf_counter()
  run()
  return run, max(2 * first - began - time.perf_counter(), 0.0)
