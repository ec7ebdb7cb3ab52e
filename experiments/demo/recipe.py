"""Sizes and rates of the demo, as settings of the two ordinary experiments.

Found on two CPU cores with SynthEcho at 64 px; see results/demo.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recipe:
  """How much of everything a demo run has.

  Attributes:
    patients: of the virtual cohort, over all splits.
    shares: of the patients for train, validation and test.
    size: rows and columns of the rendered and learnt pictures.
    duration_s: length of a rendered video.
    pretrain_steps, finetune_steps: of the two trainings.
    width, depth, heads, decoder_width: of the model.
    batch_size: of both trainings.
    clips: a video in evaluation.
    resamples: of the bootstrap.
    few_labels: labelled videos where labels are few.
  """

  patients: int = 640
  shares: tuple[float, float, float] = (0.65, 0.12, 0.23)
  size: int = 64
  duration_s: float = 1.8
  pretrain_steps: int = 700
  finetune_steps: int = 640
  width: int = 128
  depth: int = 2
  heads: int = 4
  decoder_width: int = 96
  batch_size: int = 16
  clips: int = 3
  resamples: int = 2000
  few_labels: int = 100


STANDARD = Recipe()
TINY = Recipe(
  patients=60, shares=(0.4, 0.3, 0.3), size=32, duration_s=1.5,
  pretrain_steps=6, finetune_steps=6, width=32, depth=1, heads=2,
  decoder_width=16, batch_size=8, clips=1, resamples=200,
  few_labels=12,
)  # fmt: skip


def shared_settings(
  recipe: Recipe, data_dir: Path, dataset: str, seed: int
) -> dict[str, Any]:
  """What both trainings have in common."""
  return {
    "data.dir": str(data_dir),
    "data.name": dataset,
    "data.shift_px": recipe.size // 16,
    "data.gain": 0.1,
    "input.size": recipe.size,
    "input.channels": 1,
    "input.mean": 0.2,
    "input.std": 0.25,
    "encoder.width": recipe.width,
    "encoder.depth": recipe.depth,
    "encoder.heads": recipe.heads,
    "run.seed": seed,
    "run.batch_size": recipe.batch_size,
  }


def pretrain_settings(recipe: Recipe) -> dict[str, Any]:
  """Masked reconstruction on the training patients, labels unseen.

  Tokens are hidden one by one, not in tubes: on a grid of 4 x 4 places a tube
  mask leaves four places of the picture and nothing of its motion.
  """
  return {
    "mask.scheme": "token",
    "decoder.width": recipe.decoder_width,
    "decoder.depth": 1,
    "decoder.heads": 4 if recipe.decoder_width >= 64 else 2,
    "mask.ratio": 0.75,
    "optimizer.rate": 2e-3,
    "optimizer.warmup_steps": recipe.pretrain_steps // 10,
    "run.steps": recipe.pretrain_steps,
  }


def finetune_settings(
  recipe: Recipe, head: str, init_from: str = ""
) -> dict[str, Any]:
  """EF, EDV and ESV with a head; from a run's encoder or from scratch."""
  return {
    "init_from": init_from,
    "head.name": head,
    "head.slice_mixer": "pool_dense",
    "head.hidden": recipe.width // 2,
    "optimizer.rate": 1.5e-3 if head == "stf" else 3e-3,
    "optimizer.warmup_steps": recipe.finetune_steps // 10,
    "optimizer.weight_decay": 0.05,
    "run.steps": recipe.finetune_steps,
  }


def as_words(settings: dict[str, Any]) -> list[str]:
  """Settings as `key=value`, the way the command line has them."""
  return [f"{key}={value!r}" for key, value in settings.items()]


