"""How much of a clip should be hidden in pre-training, and how?

The article says 85 %; its released script hides about 10 % of the tokens.

Example:
  echo-jax sweep experiments/ablations/mask_ratio.py --workdir runs/mask_ratio
  echo-jax sweep experiments/ablations/finetune.py --from runs/mask_ratio \\
    --same-seed --workdir runs/mask_ratio_ef
  echo-jax table --runs runs/mask_ratio_ef --figure mask_ratio.png
"""

from collections.abc import Iterator

from experiments import mae_pretrain
from experiments.ablations.finetune import SEEDS

get_config, build = mae_pretrain.get_config, mae_pretrain.build
tiny = mae_pretrain.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Both schemes at every ratio, three seeds of each, as flat overrides."""
  for scheme in ("tube", "token"):
    for ratio in (0.15, 0.3, 0.5, 0.75, 0.85, 0.9, 0.95):
      for seed in SEEDS:
        yield {
          "mask.scheme": scheme, "mask.ratio": ratio, "run.seed": seed
        }  # fmt: skip
