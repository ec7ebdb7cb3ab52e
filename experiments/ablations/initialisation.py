"""What are first weights worth: none, those of human action, those of echo?

Without STF-Net and with it, so that what the head brings is not taken for what
the weights bring.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae
  echo-jax sweep experiments/ablations/initialisation.py \\
    --workdir runs/initialisation
  echo-jax table --runs runs/initialisation
"""

from collections.abc import Iterator

from experiments.ablations.finetune import SEEDS, build, get_config, tiny
from experiments.paper.models import KINETICS

__all__ = ["build", "get_config", "sweep", "tiny"]


def sweep() -> Iterator[dict[str, object]]:
  """First weights and heads, as flat overrides."""
  for init_from in ("", KINETICS["videomae"], "runs/mae"):
    for head in ("max", "stf"):
      for seed in SEEDS:
        yield {
          "init_from": init_from, "head.name": head, "run.seed": seed
        }  # fmt: skip
