"""Pre-training of Echo-VideoMAE by masked reconstruction.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae --tiny
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae \\
    --config.data.dir=data --config.mask.ratio=0.75
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from echo_jax.experiment import Experiment
from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.tokens import TokenGrid
from echo_jax.objectives.mae import PixelTarget, make_mae
from echo_jax.objectives.masks import MaskRule, make_mask
from experiments import parts
from experiments.pretraining import TINY, make_pretraining


def get_config() -> ConfigDict:
  """ViT-B on 16 frames of 224 px, 85 % of the tubes hidden."""
  config = parts.start_config()
  config.input = parts.input_config()
  config.data = parts.data_config()
  config.data.views = ()
  config.encoder = parts.encoder_config("B")
  config.decoder = ConfigDict({"width": 384, "depth": 4, "heads": 6})
  config.mask = parts.mask_config()
  config.target = ConfigDict({"normalised": True, "median_px": 0})
  config.optimizer = parts.optimizer_config(rate=1e-4)
  config.run = parts.run_config(steps=100_000, batch_size=128)
  config.compute = parts.compute_config()
  return config.lock()


def sweep() -> Iterator[dict[str, object]]:
  """Mask ratio and scheme, as flat overrides."""
  for scheme in ("tube", "token"):
    for ratio in (0.5, 0.75, 0.85, 0.9):
      yield {"mask.scheme": scheme, "mask.ratio": ratio}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  config.update_from_flattened_dict(
    TINY
    | {
      "decoder.width": 16,
      "decoder.depth": 1,
      "decoder.heads": 2,
      "mask.ratio": 0.75,
    }
  )


def build(config: ConfigDict) -> Experiment:
  """Unpacks the settings; nothing below sees a config."""
  contract = parts.make_contract(config)
  encoder = parts.make_encoder(config)
  grid = TokenGrid.of(contract.shape, encoder.tubelet, encoder.patch)
  decoder = parts.make_decoder(config.decoder, encoder)
  model = EchoVideoMAE(encoder, decoder)
  rule = MaskRule(**config.mask)
  objective = make_mae(
    model, parts.make_normalise(contract), rule, grid,
    PixelTarget(**config.target),
  )  # fmt: skip

  def init(key: jax.Array) -> dict:
    ones = jnp.ones((1, grid.n), bool)
    mask = make_mask(key, rule, grid, 1, inside=ones)
    video = parts.example_clip(contract)["video"]
    return jax.jit(model.init)(key, video, mask)

  return make_pretraining(
    config, model, init, objective, "hidden_tokens", sector=rule.in_sector
  )
