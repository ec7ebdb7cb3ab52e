"""What is each part of STF-Net worth?

Its two paths, the time that slices are told, the map of a whole slice, and its
normalisation, each taken away alone.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae
  echo-jax sweep experiments/ablations/stf_parts.py --from runs/mae \\
    --workdir runs/stf_parts
  echo-jax table --runs runs/stf_parts
"""

from collections.abc import Iterator

from experiments.ablations import finetune

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny

WHOLE = {
  "head.paths": "both", "head.time": "seconds", "head.slice_mixer": "whole",
  "head.norm": "group",
}  # fmt: skip
PARTS = (
  {},
  {"head.paths": "joint"},
  {"head.paths": "disjoint"},
  {"head.time": "none"},
  {"head.time": "index"},
  {"head.slice_mixer": "pool_dense"},
  {"head.norm": "batch"},
)


def sweep() -> Iterator[dict[str, object]]:
  """The whole and each without a part, as flat overrides."""
  for part in PARTS:
    for seed in finetune.SEEDS:
      yield {**WHOLE, **part, "run.seed": seed}
