"""The left ventricle's mask in single frames, by a small U-Net.

Trained on frames of the training split that have a true mask (`lv_mask`); the
classic pipeline of `experiments/baselines.py` stands on it.

Example:
  echo-jax train experiments/segmentation.py --workdir runs/unet --tiny
"""

from collections.abc import Iterator, Sequence

import jax
from ml_collections import ConfigDict
from pandas import DataFrame

from echo_jax.data.controls import Change
from echo_jax.data.pipeline import (
  Batch,
  ClipMaker,
  evaluation_batches,
  training_batches,
)
from echo_jax.experiment import Experiment
from echo_jax.models.segmentation import UNet
from echo_jax.objectives.segmentation import make_segmentation
from echo_jax.training.optimizers import AdamWRule, make_adamw
from echo_jax.training.step import make_loss_step
from echo_jax.training.validate import mean_loss
from experiments import parts


def get_config() -> ConfigDict:
  """Clips of one frame of 112 px, from any moment of a video."""
  config = ConfigDict()
  config.input = parts.input_config()
  config.input.update(
    {"frames": 1, "span_s": 0.01, "size": 112, "channels": 1,
     "mean": 0.2, "std": 0.25}
  )  # fmt: skip
  config.data = parts.data_config()
  config.unet = ConfigDict({"width": 8, "levels": 3, "groups": 4})
  config.optimizer = parts.optimizer_config(rate=1e-2)
  config.optimizer.warmup_steps = 40
  config.run = parts.run_config(steps=600, batch_size=16)
  config.compute = parts.compute_config()
  config.run.validation_clips = 4
  return config.lock()


def sweep() -> Iterator[dict[str, object]]:
  """Widths, as flat overrides."""
  for width in (4, 8, 16):
    yield {"unet.width": width}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  config.update_from_flattened_dict(
    {
      "input.size": 32,
      "unet.width": 4,
      "unet.levels": 2,
      "optimizer.warmup_steps": 2,
      "run.steps": 8,
      "run.batch_size": 4,
    }
  )


def build(config: ConfigDict) -> Experiment:
  """Unpacks the settings; nothing below sees a config."""
  contract = parts.make_contract(config)
  parts.refuse_execution(config, "a U-Net")
  model = UNet(**config.unet, dtype=parts.DTYPES[config.run.dtype])
  objective = make_segmentation(model, parts.make_normalise(contract))
  train = parts.open_split(config, config.data.train_split)
  validation = parts.open_split(config, config.data.validation_split)
  plain = ClipMaker(contract, cavity=True)
  augmented = ClipMaker(
    contract, augmentation=parts.make_augmentation(config), cavity=True
  )
  rule = AdamWRule(steps=config.run.steps, **config.optimizer)
  run = config.run

  def clips_of(videos: Sequence, clips: int) -> Iterator[Batch]:
    return evaluation_batches(
      videos, plain, batch_size=run.batch_size, clips_per_video=clips,
      threads=config.data.threads,
    )  # fmt: skip

  def open_clips(
    split: str, clips: int, change: Change | None = None
  ) -> tuple[DataFrame, Iterator[Batch]]:
    videos = parts.open_split(config, split, change=change)
    return videos.index, clips_of(videos, clips)

  def init(key: jax.Array) -> dict:
    frame = parts.example_clip(contract)["video"][:, 0]
    return jax.jit(model.init)(key, frame)

  return Experiment(
    config=config.to_dict(),
    contract=contract,
    model=model,
    init=init,
    objective=objective,
    optimizer=make_adamw(rule),
    batches=lambda first, rows=None: training_batches(
      train, augmented, seed=run.seed, batch_size=run.batch_size,
      first_step=first, rows=rows,
      **parts.readers(config),
    ),
    validate=mean_loss(
      make_loss_step(objective, seed=run.seed),
      lambda: clips_of(validation, run.validation_clips), weight="known",
    ),
    open_clips=open_clips,
    data=parts.data_record(config),
    **parts.run_settings(config),
  )  # fmt: skip
