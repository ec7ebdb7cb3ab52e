"""Pre-training by latent prediction: features of hidden tokens, not pixels.

The target is the average encoder (`run.average_decay`), which is also what is
kept.  The newest checkpoint is the best one: the target moves, so losses of
different steps do not compare.  Training stops where features collapse.

Example:
  echo-jax train experiments/latent_pretrain.py --workdir runs/latent --tiny
  echo-jax train experiments/latent_pretrain.py --workdir runs/latent \\
    --config.data.dir=data --config.run.average_decay=0.999
"""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from echo_jax.experiment import Experiment
from echo_jax.models.latent import LatentPredictor
from echo_jax.models.tokens import TokenGrid
from echo_jax.objectives.latent import make_latent
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.training.validate import rank_by_age
from experiments import parts
from experiments.pretraining import TINY, make_pretraining


def get_config() -> ConfigDict:
  """ViT-B on 16 frames of 224 px, masks of small and of large blocks.

  V-JEPA 2 hides 8 blocks of 15 % of a slice, or 2 of 70 %.  On 14 x 14 places
  these cover 63 % and 81 % on average (4,000 draws), which are the ratios.
  """
  config = parts.start_config()
  config.input = parts.input_config()
  config.data = parts.data_config()
  config.data.views = ()
  config.encoder = parts.encoder_config("B")
  config.predictor = ConfigDict({"width": 384, "depth": 12, "heads": 12})
  config.masks = ConfigDict(
    {"small": parts.mask_config(0.63), "large": parts.mask_config(0.81)}
  )
  config.masks.small.update({"scheme": "blocks", "block": 0.15})
  config.masks.large.update({"scheme": "blocks", "block": 0.7})
  config.loss = "l1"  # or "l2" or "huber"
  config.collapse = parts.collapse_config()
  config.optimizer = parts.optimizer_config(rate=2e-4)
  config.run = parts.run_config(steps=100_000, batch_size=128)
  config.run.average_decay = 0.99925
  config.compute = parts.compute_config()
  return config.lock()


def sweep() -> Iterator[dict[str, object]]:
  """How slowly the target follows, and the loss, as flat overrides."""
  for decay in (0.996, 0.99925):
    for loss in ("l1", "huber"):
      yield {"run.average_decay": decay, "loss": loss}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  config.update_from_flattened_dict(
    TINY
    | {"predictor.width": 16, "predictor.depth": 1, "predictor.heads": 2}
  )


def build(config: ConfigDict) -> Experiment:
  """Unpacks the settings; nothing below sees a config."""
  if not config.run.average_decay:
    raise ValueError(
      "run.average_decay is 0, but latent prediction has the average encoder "
      "for its target; set it above 0, as 0.99925"
    )
  contract = parts.make_contract(config)
  encoder = parts.make_encoder(config)
  grid = TokenGrid.of(contract.shape, encoder.tubelet, encoder.patch)
  predictor = parts.make_decoder(config.predictor, encoder)
  model = LatentPredictor(encoder, predictor)
  rules = [MaskRule(**rule) for rule in config.masks.values()]

  def init(key: jax.Array) -> dict:
    ones = jnp.ones((1, grid.n), bool)
    mask = make_mask(key, rules[0], grid, 1, inside=ones)
    video = parts.example_clip(contract)["video"]
    return jax.jit(model.init)(key, video, mask)

  built = make_pretraining(
    config, model, init,
    make_latent(
      model, parts.make_normalise(contract), rules, grid, config.loss
    ),
    "hidden_tokens", sector=any(rule.in_sector for rule in rules),
  )  # fmt: skip
  return replace(
    built, metric="steps_left",
    validate=rank_by_age(built.validate, config.run.steps),
  )  # fmt: skip
