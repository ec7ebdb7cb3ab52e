"""How deep should the decoder of pre-training be?

Example:
  echo-jax sweep experiments/ablations/decoder_depth.py \\
    --workdir runs/decoder_depth
  echo-jax sweep experiments/ablations/finetune.py --from runs/decoder_depth \\
    --same-seed --workdir runs/decoder_depth_ef
  echo-jax table --runs runs/decoder_depth_ef
"""

from collections.abc import Iterator

from experiments import mae_pretrain
from experiments.ablations.finetune import SEEDS

get_config, build = mae_pretrain.get_config, mae_pretrain.build
tiny = mae_pretrain.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Blocks of the decoder, three seeds of each, as flat overrides."""
  for depth in (1, 2, 4, 8):
    for seed in SEEDS:
      yield {"decoder.depth": depth, "run.seed": seed}
