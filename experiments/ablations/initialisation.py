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

from experiments.ablations import finetune
from experiments.paper.models import KINETICS

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny


def sweep() -> Iterator[dict[str, object]]:
  """First weights and heads, as flat overrides."""
  for init_from in ("", KINETICS["videomae"], "runs/mae"):
    for head in ("max", "stf"):
      for seed in finetune.SEEDS:
        yield {
          "init_from": init_from, "head.name": head, "run.seed": seed
        }  # fmt: skip
