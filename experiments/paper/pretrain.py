"""Echo-VideoMAE of the paper's tables: pre-training on MIMIC-IV-ECHO.

Rates and epochs as the article's public script has them, mask as its text has
it.  It starts from VideoMAE's Kinetics weights, as the article; of them the
encoder is taken, while the decoder starts from scratch.  It reads cines only,
the article every file.  Weights that fit the rows, which
look for them in runs/paper/pretrain.

Example:
  echo-jax build mimic_iv_echo --source mimic-iv-echo-0.1 --data-dir data
  echo-jax train experiments/paper/pretrain.py --workdir runs/paper/pretrain
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import mae_pretrain
from experiments.paper.models import IMAGENET, KINETICS

build = mae_pretrain.build

CLIPS, EPOCHS, WARMUP_EPOCHS, BATCH = 525_328, 50, 5, 128


def get_config() -> ConfigDict:
  """ViT-B, 85 % of the tubes hidden, 50 epochs of the article's clips."""
  config = mae_pretrain.get_config()
  config.update_from_flattened_dict(
    recipe() | IMAGENET | {"init_from": KINETICS["videomae"]}
  )
  return config


def recipe() -> dict[str, object]:
  """The script's pre-training, by dotted name; epochs as steps."""
  epoch = CLIPS // BATCH
  return {
    "data.name": "mimic_iv_echo",
    "optimizer.rate": 1e-4,
    "optimizer.betas": (0.9, 0.98),
    "optimizer.weight_decay": 0.05,
    "optimizer.warmup_steps": WARMUP_EPOCHS * epoch,
    "optimizer.start_rate": 1e-5,
    "optimizer.end_rate": 1e-8,
    "run.batch_size": BATCH,
    "run.steps": EPOCHS * epoch,
    "run.validate_every": epoch,
    "run.dtype": "bfloat16",
  }


def sweep() -> Iterator[dict[str, object]]:
  """Three seeds, as flat overrides."""
  for seed in (0, 1, 2):
    yield {"run.seed": seed}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  mae_pretrain.tiny(config)
  config.init_from = ""  # weights of full size do not fit
  config.optimizer.warmup_steps = 2
