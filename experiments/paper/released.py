"""The paper as its public code has it: every difference set, recipe and all.

What `differences.FINETUNING` lists, with the script's own defaults; one task a
run, each an item of the sweep: of the code of 2025, then of that of 2024, which
tested on validation and scored logarithms of volumes.  It begins from
`released_pretrain.py`, which sets what `differences.PRETRAINING` lists; CAMUS
by number and TMED-2's stacked stills are choices of their builds (below).
Without STF-Net the code takes the maximum over tokens
(`--config.head.name=max`); its linear probing freezes the encoder
(`--config.optimizer.freeze=^encoder/`).  Not carried over: CAMUS sequences
that run from ES to ED are not turned round, and the checkpoint is that with the
lowest mean absolute error on validation, not the lowest squared one.

TMED-2's false videos tell the grade by their length:
  python -m experiments.count_only --data-dir data --name tmed2_as_released

Example:
  echo-jax build camus --source CAMUS_public --data-dir data \\
    --split by_number --simpson camus
  echo-jax build tmed2 --source TMED2 --data-dir data --as-released \\
    --fold DEV479:1
  echo-jax train experiments/paper/released.py --workdir runs/ef \\
    --config.init_from=runs/released
  echo-jax evaluate runs/ef --clips 1
  echo-jax sweep experiments/paper/released.py --clips 1 \\
    --workdir runs/released_tasks --config.init_from=runs/released
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import ef_finetune
from experiments.paper.differences import CODES, FINETUNING, released
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


def task(name: str, target: str, code: str = "2025") -> dict[str, object]:
  """One target of one data set, as the code of a year has it; flat settings."""
  volume = name == "echonet_dynamic" and target.endswith("_ml")
  targets, in_logarithm = (target,), (target,) if volume else ()
  if code == "2024" and volume:
    targets, in_logarithm = (target.replace("_ml", "_ln_ml"),), ()
  return {
    **released(FINETUNING, code),
    "code": code,
    "data.name": name,
    "data.views": VIEWS.get(name, ()),
    "targets": targets,
    "in_logarithm": in_logarithm,
    **recipe(TRAINING_CLIPS[name]),
  }


def get_config() -> ConfigDict:
  """ViT-B with STF-Net on the EF of EchoNet-Dynamic."""
  config = ef_finetune.get_config()
  with config.unlocked():
    config.code = ""  # whose: tells runs apart
  config.update_from_flattened_dict(task("echonet_dynamic", "ef_pct"))
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Every task of the code of 2025, then as the code of 2024 judged it."""
  for code in CODES:
    for name, targets in TASKS.items():
      for target in targets:
        yield task(name, target, code)


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  ef_finetune.tiny(config)
  config.optimizer.warmup_steps = 2
