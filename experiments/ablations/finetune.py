"""What each run of another sweep is worth for EF.

Of a sweep with seeds each run is fine-tuned with its own (`--same-seed`).  Of
one run alone it is three seeds, which then stand for the fine-tuning only.

Example:
  echo-jax sweep experiments/ablations/finetune.py --from runs/mask_ratio \\
    --same-seed --workdir runs/mask_ratio_ef
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import ef_finetune

build = ef_finetune.build
tiny = ef_finetune.tiny
SEEDS = (0, 1, 2)


def get_config() -> ConfigDict:
  """EF alone, so that no other target is traded for it."""
  config = ef_finetune.get_config()
  config.targets = ("ef_pct",)
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Three seeds, as flat overrides."""
  for seed in SEEDS:
    yield {"run.seed": seed}
