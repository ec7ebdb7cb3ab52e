"""Seconds of a step, and of inference, of our program and of PyTorch's.

Each program runs in a process of its own and waits for its turn, so that the
threads of the two never run at the same time: A B A B.
Axes: b clip, T H W frames and pixels, r round.
"""

import importlib
import importlib.metadata
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from echo_jax.models.video_vit import SIZES

# Modules that have `make_program(case, part) -> Program`.
SIDES = {
  "echo_jax": "echo_jax.commands.step_speed_jax",
  "transformers": "echo_jax.commands.step_speed_torch",
}
PARTS = {
  "pretrain": "pre-training step",
  "finetune": "fine-tuning step",
  "infer": "inference",
}
PATCH, TUBELET = 16, 2
# Of grey levels (about ImageNet's) and of the target, in %.
MEAN, STD = 118.0, 58.0
TARGET_MEAN, TARGET_STD = 55.0, 12.0


@dataclass(frozen=True)
class Case:
  """What is measured, the same on both sides.

  Attributes:
    size: a name of `video_vit.SIZES`.
    frames, pixels: of a clip.
    batch: clips.
    mask: share of tokens that pre-training hides, in tubes.
    rounds: each program has one turn in each.
    steps: of a turn.
  """

  size: str = "S"
  frames: int = 16
  pixels: int = 112
  batch: int = 8
  mask: float = 0.9
  rounds: int = 5
  steps: int = 2

  def __post_init__(self) -> None:
    if self.size not in SIZES:
      raise ValueError(f"size {self.size!r} is not one of {tuple(SIZES)}")
    for name in ("frames", "pixels", "batch", "rounds", "steps"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}, wants at least 1")

  def config(self) -> dict[str, Any]:
    """The model as `transformers.VideoMAEConfig` describes it.

    The decoder is half as wide as the encoder and four blocks deep (VideoMAE,
    Tong et al. 2022), with heads of 64 numbers.
    """
    size = SIZES[self.size]
    narrow = size.width // 2
    return {
      "image_size": self.pixels,
      "patch_size": PATCH,
      "num_channels": 3,
      "num_frames": self.frames,
      "tubelet_size": TUBELET,
      "hidden_size": size.width,
      "num_hidden_layers": size.depth,
      "num_attention_heads": size.heads,
      "intermediate_size": 4 * size.width,
      "layer_norm_eps": 1e-12,
      "use_mean_pooling": False,
      "qv_bias": True,
      "qkv_bias": True,  # its name before transformers 5
      "norm_pix_loss": True,
      "decoder_hidden_size": narrow,
      "decoder_num_hidden_layers": 4,
      "decoder_num_attention_heads": max(narrow // 64, 1),
      "decoder_intermediate_size": 4 * narrow,
    }

  def video(self) -> np.ndarray:
    """Random grey levels, b T H W 3."""
    shape = self.batch, self.frames, self.pixels, self.pixels, 3
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@dataclass(frozen=True)
class Program:
  """One side's program of one part.

  Attributes:
    run: does one step and waits for its end.
    parameters: how many the model has.
    compile_s: seconds before the first step could begin; 0 where nothing is
      compiled.
    versions: of what computes.
    threads: how many compute, and who says so.
  """

  run: Callable[[], None]
  parameters: int
  compile_s: float
  versions: dict[str, str]
  threads: str


def cores_here() -> int:
  """Cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def versions_of(*names: str) -> dict[str, str]:
  """Installed versions."""
  return {name: importlib.metadata.version(name) for name in names}


# ---- processes that take turns


def serve(connection: Connection, module: str, case: Case, part: str) -> None:
  """Makes a program, then runs `case.steps` steps whenever it is told to."""
  # PyTorch's threads spin where they wait.  On a machine that others use too
  # that makes its step several times as long.
  os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
  try:
    made = importlib.import_module(module).make_program(case, part)
    made.run()  # memory is laid out, threads are there
    connection.send({
      "parameters": made.parameters, "compile_s": made.compile_s,
      "versions": made.versions, "threads": made.threads,
    })  # fmt: skip
    while connection.recv():
      began, began_core = time.perf_counter(), time.process_time()
      for _ in range(case.steps):
        made.run()
      spent = time.perf_counter() - began, time.process_time() - began_core
      connection.send([seconds / case.steps for seconds in spent])
  except Exception as error:
    connection.send(error)
    raise


@contextmanager
def process_of(side: str, case: Case, part: str) -> Iterator[Connection]:
  """The other end of `serve` in a process of its own."""
  # Spawned: a forked copy of threads that exist is unsafe for both.
  context = multiprocessing.get_context("spawn")
  here, there = context.Pipe()
  worker = context.Process(
    target=serve, args=(there, SIDES[side], case, part), daemon=True
  )
  worker.start()
  there.close()  # so that its end is seen here
  try:
    yield here
    here.send(False)
    worker.join(10)
  finally:
    worker.kill()
    worker.join()


def receive(connection: Any, side: str) -> Any:
  """What a process says.

  Raises:
    ChildProcessError: it failed.
    ModuleNotFoundError: it lacks a package.
  """
  try:
    said = connection.recv()
  except EOFError as error:
    raise ChildProcessError(
      f"the process of {side} ended; was there enough memory?"
    ) from error
  if isinstance(said, ModuleNotFoundError):
    raise said
  if isinstance(said, Exception):
    raise ChildProcessError(f"{side}: {said}") from said
  return said


# ---- numbers


def measure(
  case: Case, parts: tuple[str, ...], against: str | None
) -> dict[str, dict[str, Any]]:
  """Part -> side -> its numbers, and the `ratio` of ours to the other's."""
  sides = ("echo_jax", *([against] if against else []))
  turns = len(parts) * len(sides) * case.rounds
  with tqdm(total=turns, desc="bench", unit="turn") as progress:
    return {
      part: measure_part(case, part, sides, progress.update) for part in parts
    }


def measure_part(
  case: Case, part: str, sides: tuple[str, ...], tell: Callable[[], Any]
) -> dict[str, Any]:
  """Numbers of each side, from turns that alternate.

  Raises:
    ValueError: the sides' models have not the same number of parameters.
  """
  with ExitStack() as stack:
    made, facts = {}, {}
    for side in sides:  # one after another: compiling uses all cores
      made[side] = stack.enter_context(process_of(side, case, part))
      facts[side] = receive(made[side], side)
    if len({fact["parameters"] for fact in facts.values()}) > 1:
      counts = {side: fact["parameters"] for side, fact in facts.items()}
      raise ValueError(f"{part}: not the same model, parameters are {counts}")
    turns: dict[str, list[list[float]]] = {side: [] for side in sides}
    for _ in range(case.rounds):
      for side in sides:
        made[side].send(True)
        turns[side].append(receive(made[side], side))
        tell()
  seconds = {side: np.array(turns[side]) for side in sides}
  result: dict[str, Any] = {
    side: facts[side] | spread(seconds[side]) for side in sides
  }
  if len(sides) > 1:
    result["ratio"] = compare(*(seconds[side] for side in sides))
  return result


def spread(seconds: Float[np.ndarray, "r 2"]) -> dict[str, Any]:
  """Median and range of a step, from turns of (by the clock, of all cores)."""
  clock, core = seconds.T
  return {
    "median_s": float(np.median(clock)),
    "low_s": float(clock.min()),
    "high_s": float(clock.max()),
    "processor_s": float(np.median(core)),
    "rounds_s": clock.tolist(),
  }


def compare(
  ours: Float[np.ndarray, "r 2"], theirs: Float[np.ndarray, "r 2"]
) -> dict[str, float]:
  """Ratio of medians, its range over rounds, and that of processor time."""
  by_clock, by_core = np.median(ours, axis=0) / np.median(theirs, axis=0)
  each = ours[:, 0] / theirs[:, 0]
  return {
    "of_medians": float(by_clock),
    "low": float(each.min()),
    "high": float(each.max()),
    "of_processor_s": float(by_core),
  }
