"""A plain CNN on video: the baseline that a video transformer must beat.

`ef_finetune` with a VideoCNN, from scratch, at the size it is meant for.

Example:
  echo-jax train experiments/cnn_finetune.py --workdir runs/cnn --tiny
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import ef_finetune, parts

build = ef_finetune.build


def get_config() -> ConfigDict:
  """EF, EDV and ESV from clips of 64 px; moments over time."""
  config = ef_finetune.get_config()
  with config.unlocked():
    config.encoder = parts.cnn_config()
  config.update_from_flattened_dict(
    {
      "head.name": "moments",
      "input.size": 64,
      "input.channels": 1,
      "input.mean": 0.2,
      "input.std": 0.25,
      "optimizer.rate": 3e-3,
      "optimizer.warmup_steps": 50,
      "run.steps": 600,
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Widths and three seeds of each, as flat overrides."""
  for seed in (0, 1, 2):
    for width in (16, 32):
      yield {"encoder.width": width, "run.seed": seed}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  config.update_from_flattened_dict(
    {
      "input.size": 32,
      "encoder.width": 8,
      "encoder.depth": 2,
      "run.steps": 8,
      "run.batch_size": 4,
      "optimizer.warmup_steps": 2,
    }
  )
