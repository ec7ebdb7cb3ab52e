"""How deep should the decoder of pre-training be?

Example:
  echo-jax sweep experiments/ablations/decoder_depth.py \\
    --workdir runs/decoder_depth
  echo-jax sweep experiments/ablations/finetune.py --from runs/decoder_depth \\
    --workdir runs/decoder_depth_ef
  echo-jax table --runs runs/decoder_depth_ef
"""

from collections.abc import Iterator

from experiments.mae_pretrain import build, get_config, tiny

__all__ = ["build", "get_config", "sweep", "tiny"]


def sweep() -> Iterator[dict[str, object]]:
  """Blocks of the decoder, as flat overrides."""
  for depth in (1, 2, 4, 8):
    yield {"decoder.depth": depth}
