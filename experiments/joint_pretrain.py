"""Pre-training by several objectives at once, each with its weight.

`reconstruction` of hidden tubelets as in `mae_pretrain`, `contrast` of two
clips of a video (or a study) with those of other patients, and `phase`:
contrast of moments in a beat with those of equal phase in another.  A weight
of 0 leaves an objective out.  All share one encoder, and each has its own
forward pass through it, with a mask of its own.  Phase needs a second beat in a
clip: with it, set `input.span_s` to 2.0 or so.

Example:
  echo-jax train experiments/joint_pretrain.py --workdir runs/joint --tiny
  echo-jax train experiments/joint_pretrain.py --workdir runs/joint \\
    --config.data.dir=data --config.weights.phase=0.5 \\
    --config.input.span_s=2.0
"""

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from echo_jax.experiment import Experiment
from echo_jax.models.contrast import ClipEmbedding, Projector, SliceEmbedding
from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.tokens import TokenGrid
from echo_jax.objectives.combine import combine
from echo_jax.objectives.contrastive import make_contrastive
from echo_jax.objectives.mae import PixelTarget, make_mae
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.objectives.objective import Objective
from echo_jax.objectives.periodic import make_periodic
from experiments import mae_pretrain, parts
from experiments.pretraining import make_pretraining

# What each objective's loss is the mean over.
COUNTS = {
  "reconstruction": "hidden_tokens", "contrast": "pairs", "phase": "slices"
}  # fmt: skip


def get_config() -> ConfigDict:
  """As `mae_pretrain`, with contrast of clips beside reconstruction."""
  config = mae_pretrain.get_config()
  with config.unlocked():
    config.weights = ConfigDict(
      {"reconstruction": 0.8, "contrast": 0.2, "phase": 0.0}
    )
    # A projector of width 0 is none.
    config.contrast = ConfigDict(
      {"of": "video", "temperature": 0.1, "width": 0, "outputs": 128}
    )
    config.phase = ConfigDict(
      {"temperature": 0.1, "tolerance": 0.1, "width": 512, "outputs": 128}
    )
    config.masked = True  # whether contrast sees the kept tokens only
    config.collapse = parts.collapse_config()
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Each objective beside reconstruction, as flat overrides."""
  for contrast, phase in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.2, 0.2)):
    yield {"weights.contrast": contrast, "weights.phase": phase}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  mae_pretrain.tiny(config)
  config.update_from_flattened_dict(
    {"contrast.outputs": 8, "phase.width": 8, "phase.outputs": 8}
  )


def build(config: ConfigDict) -> Experiment:
  """Unpacks the settings; nothing below sees a config."""
  contract = parts.make_contract(config)
  weights = {name: part for name, part in config.weights.items() if part}
  rule = MaskRule(**config.mask)
  learned = make_parts(config, weights, rule)
  models = {name: model for name, (model, _) in learned.items()}
  objective = combine({name: of for name, (_, of) in learned.items()}, weights)

  @jax.jit
  def init(key: jax.Array) -> dict:
    video, params = parts.example_clip(contract)["video"], {}
    for name, model in models.items():
      grid = model.encoder.token_grid(video.shape)
      mask = make_mask(key, rule, grid, 1, inside=jnp.ones((1, grid.n), bool))
      seen = (video, mask) if name == "reconstruction" else (video,)
      # Each makes the same encoder: names and key decide its first weights.
      params |= model.init(key, *seen)["params"]
    return {"params": params}

  return make_pretraining(
    config, next(iter(models.values())), init, objective,
    {name: COUNTS[name] for name in weights},
    sector=rule.in_sector, beats="phase" in weights,
    pairs=config.contrast.of if "contrast" in weights else None,
  )  # fmt: skip


def make_parts(
  config: ConfigDict, weights: Mapping[str, float], rule: MaskRule
) -> dict[str, tuple[nn.Module, Objective]]:
  """Model and objective of all that has a weight, around one encoder."""
  contract = parts.make_contract(config)
  normalise = parts.make_normalise(contract)
  encoder = parts.make_encoder(config)
  grid = TokenGrid.of(contract.shape, encoder.tubelet, encoder.patch)
  seen = rule if config.masked else None
  contrast, phase = config.contrast, config.phase
  learned = {}
  if "reconstruction" in weights:
    decoder = parts.make_decoder(config.decoder, encoder)
    model = EchoVideoMAE(encoder, decoder)
    learned["reconstruction"] = model, make_mae(
      model, normalise, rule, grid, PixelTarget(**config.target)
    )
  if "contrast" in weights:
    model = ClipEmbedding(encoder, Projector(contrast.width, contrast.outputs))
    learned["contrast"] = model, make_contrastive(
      model, normalise, grid, seen, contrast.temperature
    )
  if "phase" in weights:
    model = SliceEmbedding(encoder, Projector(phase.width, phase.outputs))
    learned["phase"] = model, make_periodic(
      model, normalise, grid, seen, phase.temperature, phase.tolerance
    )
  return learned
