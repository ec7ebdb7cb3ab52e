"""Pre-training of Echo-VideoMAE by masked reconstruction.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae --tiny
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae \\
    --config.data.dir=data --config.mask.ratio=0.75
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
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
from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import TokenGrid
from echo_jax.objectives.mae import make_mae
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.training.optimizers import make_adamw
from echo_jax.training.step import make_loss_step
from echo_jax.training.validate import mean_loss
from experiments import parts


def get_config() -> ConfigDict:
  """ViT-B on 16 frames of 224 px, 85 % of the tubes hidden."""
  config = ConfigDict()
  config.input = parts.input_config()
  config.data = parts.data_config()
  config.data.views = ()
  config.encoder = parts.encoder_config("B")
  config.decoder = ConfigDict({"width": 384, "depth": 4, "heads": 6})
  config.mask = ConfigDict(
    {
      "ratio": 0.85,
      "scheme": "tube",
      "polarity": "described",
      "shared": False,
      "in_sector": False,
    }
  )
  config.optimizer = parts.optimizer_config(rate=1e-4)
  config.run = parts.run_config(steps=100_000, batch_size=128)
  config.compute = parts.compute_config()
  return config.lock()


def sweep() -> Iterator[dict[str, object]]:
  """Mask ratio and scheme, as flat overrides."""
  for scheme in ("tube", "token"):
    for ratio in (0.5, 0.75, 0.85, 0.9):
      yield {"mask.scheme": scheme, "mask.ratio": ratio}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  config.update_from_flattened_dict(
    {
      "input.size": 32,
      "input.channels": 1,
      "encoder.width": 32,
      "encoder.depth": 1,
      "encoder.heads": 2,
      "decoder.width": 16,
      "decoder.depth": 1,
      "decoder.heads": 2,
      "mask.ratio": 0.75,
      "run.steps": 8,
      "run.batch_size": 4,
    }
  )


def build(config: ConfigDict) -> Experiment:
  """Unpacks the settings; nothing below sees a config."""
  contract = parts.make_contract(config)
  encoder = parts.make_encoder(config)
  grid = TokenGrid.of(contract.shape, encoder.tubelet, encoder.patch)
  decoder = MAEDecoder(
    **config.decoder, dtype=encoder.dtype, execution=encoder.execution
  )
  model = EchoVideoMAE(encoder, decoder)
  rule = MaskRule(**config.mask)
  objective = make_mae(model, parts.make_normalise(contract), rule, grid)
  train = parts.open_split(config, config.data.train_split)
  validation = parts.open_split(config, config.data.validation_split)
  plain = ClipMaker(contract, sector=rule.in_sector)
  augmented = ClipMaker(
    contract, augmentation=parts.make_augmentation(config),
    sector=rule.in_sector,
  )  # fmt: skip
  run = config.run

  def init(key: jax.Array) -> dict:
    ones = jnp.ones((1, grid.n), bool)
    mask = make_mask(key, rule, grid, 1, inside=ones)
    video = parts.example_clip(contract)["video"]
    return jax.jit(model.init)(key, video, mask)

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

  return Experiment(
    config=config.to_dict(),
    contract=contract,
    model=model,
    init=init,
    objective=objective,
    optimizer=make_adamw(parts.make_adamw_rule(config)),
    batches=lambda first, rows=None: training_batches(
      train, augmented, seed=run.seed, batch_size=run.batch_size,
      first_step=first, rows=rows,
      **parts.readers(config),
    ),
    validate=mean_loss(
      make_loss_step(objective, seed=run.seed),
      lambda: clips_of(validation, run.validation_clips),
      weight="hidden_tokens",
    ),
    open_clips=open_clips,
    pace=parts.make_pace(config),
    fit_splits=(config.data.train_split, config.data.validation_split),
    data=parts.data_record(config),
    **parts.on_devices(config),
    seed=run.seed,
    average_decay=run.average_decay,
    tensorboard=run.tensorboard,
  )  # fmt: skip
