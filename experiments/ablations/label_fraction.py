"""How many labelled patients does a model need, from scratch or pre-trained?

A smaller part is in every larger one, and each seed draws other patients.
Every run takes as many steps.  All that are pre-trained begin from one run:
seeds stand for the patients and the fine-tuning, not for the pre-training.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae
  echo-jax sweep experiments/ablations/label_fraction.py \\
    --workdir runs/label_fraction
  echo-jax table --runs runs/label_fraction --figure label_fraction.png
"""

from collections.abc import Iterator

from experiments.ablations import finetune

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Parts of the training patients from 1 to 100 %, as flat overrides."""
  for init_from in ("", "runs/mae"):
    for fraction in (0.01, 0.05, 0.1, 0.5, 1.0):
      for seed in finetune.SEEDS:
        yield {
          "init_from": init_from, "data.train_fraction": fraction,
          "run.seed": seed, "data.fraction_seed": seed,
        }  # fmt: skip
