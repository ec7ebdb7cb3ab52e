"""A task and a model make a row: an experiment, as the article trains it.

Optimiser, length and batch are the defaults of the article's public script:
AdamW, 50 epochs of batches of 16 of which an incomplete last one is left out,
warm-up over ten epochs, then a cosine, squared error.  What the published
checkpoint was trained with is not known.  All else is ours: clips of 16 frames
over 1.4 s, targets standardised, no flips, decay of matrices alone.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments import ef_finetune
from experiments.paper.models import IMAGENET, MODELS, Model
from experiments.paper.tasks import TASKS, Task

EPOCHS, WARMUP_EPOCHS, BATCH = 50, 10, 16
SEEDS = (0, 1, 2)


class Row(NamedTuple):
  """What an experiment's file holds, in this order."""

  get_config: Callable[[], ConfigDict]
  build: Callable
  sweep: Callable[[], Iterator[dict[str, object]]]
  tiny: Callable[[ConfigDict], None]


def make_row(task: Task, model: Model) -> Row:
  """The experiment of one row; `sweep` gives its seeds."""

  def get_config() -> ConfigDict:
    config = ef_finetune.get_config()
    with config.unlocked():
      config.encoder = model.encoder()
    config.update_from_flattened_dict(
      {
        "init_from": model.init_from,
        "targets": (task.target,),
        "loss": "l2",
        "data.name": task.dataset,
        "head.name": model.head,
        "optimizer.freeze": "^encoder/" if model.frozen else "",
        **IMAGENET,
        **recipe(task.training_clips),
        **task.settings,
        **model.settings,
      }
    )
    return config

  def tiny(config: ConfigDict) -> None:
    config.update_from_flattened_dict(
      {
        "init_from": "",  # weights of full size do not fit
        "init_anew": (),
        "input.size": 32,
        "head.slice_mixer": "pool_dense",
        "head.hidden": 16,
        "optimizer.warmup_steps": 2,
        "run.steps": 8,
        "run.batch_size": 4,
        **model.tiny,
      }
    )

  return Row(get_config, ef_finetune.build, sweep, tiny)


def recipe(training_clips: int) -> dict[str, object]:
  """The script's fine-tuning, by dotted name; epochs as steps."""
  epoch = training_clips // BATCH
  return {
    "optimizer.rate": 1e-4,
    "optimizer.betas": (0.9, 0.99),
    "optimizer.weight_decay": 1e-5,
    "optimizer.clip_norm": 0.0,
    "optimizer.warmup_steps": WARMUP_EPOCHS * epoch,
    "optimizer.start_rate": 1e-5,
    "optimizer.end_rate": 1e-8,
    "run.batch_size": BATCH,
    "run.steps": EPOCHS * epoch,
    "run.validate_every": epoch,
  }


def sweep() -> Iterator[dict[str, object]]:
  """Three seeds, as flat overrides."""
  for seed in SEEDS:
    yield {"run.seed": seed}


def row_names() -> dict[str, tuple[Task, Model]]:
  """Every row by its file's name without the ending, table after table."""
  return {
    f"{task.name}_{model.name}": (task, model)
    for task in TASKS.values()
    for model in MODELS.values()
  }
