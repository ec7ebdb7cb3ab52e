"""How deep should the decoder of pre-training be?

Example:
  echo-jax sweep experiments/ablations/decoder_depth.py \\
    --workdir runs/decoder_depth
  echo-jax sweep experiments/ablations/finetune.py --from runs/decoder_depth \\
    --workdir runs/decoder_depth_ef
  echo-jax table --runs runs/decoder_depth_ef
"""

from collections.abc import Iterator

from experiments import mae_pretrain

get_config, build = mae_pretrain.get_config, mae_pretrain.build
tiny = mae_pretrain.tiny


def sweep() -> Iterator[dict[str, object]]:
  """Blocks of the decoder, as flat overrides."""
  for depth in (1, 2, 4, 8):
    yield {"decoder.depth": depth}
