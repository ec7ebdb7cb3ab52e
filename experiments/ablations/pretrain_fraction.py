"""How much is more unlabelled echo worth?  Parts of the patients.

A smaller part is in every larger one, each seed draws other patients, and
every run takes as many steps.

Example:
  echo-jax sweep experiments/ablations/pretrain_fraction.py \\
    --workdir runs/pretrain_fraction --config.data.name=mimic_iv_echo
  echo-jax sweep experiments/ablations/finetune.py \\
    --from runs/pretrain_fraction --same-seed \\
    --workdir runs/pretrain_fraction_ef
  echo-jax table --runs runs/pretrain_fraction_ef
"""

from collections.abc import Iterator

from experiments import mae_pretrain
from experiments.ablations.finetune import SEEDS

get_config, build = mae_pretrain.get_config, mae_pretrain.build
tiny = mae_pretrain.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Parts of the training patients, three draws of each, as flat overrides."""
  for fraction in (0.01, 0.1, 0.25, 0.5, 1.0):
    for seed in SEEDS:
      yield {
        "data.train_fraction": fraction, "run.seed": seed,
        "data.fraction_seed": seed,
      }  # fmt: skip
