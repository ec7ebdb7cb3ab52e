"""What are first weights worth: none, those of human action, those of echo?

Without STF-Net and with it, so that what the head brings is not taken for what
the weights bring.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae \\
    --config.input.mean=0.449 --config.input.std=0.226
  echo-jax sweep experiments/ablations/initialisation.py \\
    --workdir runs/initialisation
  echo-jax table --runs runs/initialisation
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments.ablations import finetune
from experiments.paper.models import IMAGENET, KINETICS

build, tiny = finetune.build, finetune.tiny


def get_config() -> ConfigDict:
  """As `finetune`, with the pixels that weights of Kinetics expect."""
  config = finetune.get_config()
  config.update_from_flattened_dict(IMAGENET)
  return config


def sweep() -> Iterator[dict[str, object]]:
  """First weights and heads, as flat overrides."""
  for init_from in ("", KINETICS["videomae"], "runs/mae"):
    for head in ("max", "stf"):
      for seed in finetune.SEEDS:
        yield {
          "init_from": init_from, "head.name": head, "run.seed": seed
        }  # fmt: skip
