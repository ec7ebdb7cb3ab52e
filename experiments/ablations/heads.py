"""Which head reads the tokens best, with the encoder frozen or trained?

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae
  echo-jax sweep experiments/ablations/heads.py --from runs/mae \\
    --workdir runs/heads
  echo-jax table --runs runs/heads
"""

from collections.abc import Iterator

from experiments.ablations import finetune

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Every head, frozen or not, as flat overrides."""
  for head in ("mean", "max", "moments", "gru", "stf"):
    for freeze in ("^encoder/", ""):
      for seed in finetune.SEEDS:
        yield {
          "head.name": head, "optimizer.freeze": freeze, "run.seed": seed
        }  # fmt: skip
