"""Fine-tuning as the paper's public code does it, differences and recipe.

What `differences.FINETUNING` lists, with the script's own defaults; one task a
run, each an item of the sweep.  Without STF-Net the code takes the maximum over
tokens (`--config.head.name=max`); its linear probing freezes the encoder
(`--config.optimizer.freeze=^encoder/`).  The code of 2024 also tested on
validation (`--config.data.test_split=validation`) and scored logarithms of
volumes (targets edv_ln_ml and esv_ln_ml).  Not carried over: CAMUS sequences
that run from ES to ED are not turned round, and the checkpoint is that with the
lowest mean absolute error on validation, not the lowest squared one.

TMED-2's false videos tell the grade by their length:
  python -m experiments.count_only --data-dir data --name tmed2_as_released

Example:
  echo-jax build camus --source CAMUS_public --data-dir data \\
    --split by_number --simpson camus
  echo-jax build tmed2 --source TMED2 --data-dir data --as-released \\
    --fold DEV479:1
  echo-jax train experiments/paper/released_finetune.py --workdir runs/ef \\
    --config.init_from=runs/released
  echo-jax evaluate runs/ef --clips 1
  echo-jax sweep experiments/paper/released_finetune.py --clips 1 \\
    --workdir runs/released_tasks --config.init_from=runs/released
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import ef_finetune
from experiments.paper.differences import FINETUNING, released
from experiments.paper.rows import recipe
from experiments.paper.tasks import CAMUS_LVEF, ECHONET_LVEF

build = ef_finetune.build

# Videos; of TMED-2 studies in fold 1 of DEV479, at most.
TRAINING_CLIPS = {
  "echonet_dynamic": ECHONET_LVEF.training_clips,
  "camus": CAMUS_LVEF.training_clips,
  "tmed2_as_released": 360,
}
VIEWS = {"echonet_dynamic": ("A4C",), "camus": ("A2C",)}
TASKS = {
  "echonet_dynamic": ("ef_pct", "edv_ml", "esv_ml", "ef_at_least_50"),
  "camus": ("ef_pct", "edv_ml", "esv_ml", "ef_at_least_45"),
  "tmed2_as_released": ("as_tmed5",),
}


def task(name: str, target: str) -> dict[str, object]:
  """One target of one data set, as flat settings."""
  of_echonet = name == "echonet_dynamic" and target.endswith("_ml")
  return {
    "data.name": name,
    "data.views": VIEWS.get(name, ()),
    "targets": (target,),
    "in_logarithm": (target,) if of_echonet else (),
    **recipe(TRAINING_CLIPS[name]),
  }


def get_config() -> ConfigDict:
  """ViT-B with STF-Net on the EF of EchoNet-Dynamic."""
  config = ef_finetune.get_config()
  config.update_from_flattened_dict(
    {**released(FINETUNING), **task("echonet_dynamic", "ef_pct")}
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Every task of the code."""
  for name, targets in TASKS.items():
    for target in targets:
      yield task(name, target)


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  ef_finetune.tiny(config)
  config.optimizer.warmup_steps = 2
