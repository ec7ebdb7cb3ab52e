"""AdamW as vision transformers are trained: decay mask, layer-wise rates.

Sources: Loshchilov & Hutter 2019 (AdamW); Clark et al. 2020 and Bao et al.
2022 (layer-wise rate decay for fine-tuning).
"""

import re
from dataclasses import dataclass

import optax

from echo_jax import trees

DECAYS = ("matrices", "all")


@dataclass(frozen=True)
class AdamWRule:
  """Settings of one AdamW run.

  Attributes:
    rate: peak learning rate.
    steps, warmup_steps: length of the run and of its linear warm-up.
    start_rate, end_rate: before warm-up and at the end of the cosine.
    betas, weight_decay, clip_norm: as usual; clip_norm 0 does not clip.
    layer_decay: factor a block of the encoder from the top down; 1 is none.
    encoder_depth: blocks of the encoder, for layer_decay.
    freeze: regular expression of parameter names that are not trained.
    decay: what weight decay shrinks, "matrices" or "all" parameters, biases
      and norms too, as the released Echo-Vision-FM code has it.
  """

  rate: float
  steps: int
  warmup_steps: int = 0
  start_rate: float = 0.0
  end_rate: float = 0.0
  betas: tuple[float, float] = (0.9, 0.95)
  weight_decay: float = 0.05
  clip_norm: float = 1.0
  layer_decay: float = 1.0
  encoder_depth: int = 0
  freeze: str = ""
  decay: str = "matrices"

  def __post_init__(self) -> None:
    if self.decay not in DECAYS:
      raise ValueError(f"decay is {self.decay!r}, wants one of {DECAYS}")
    if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
      raise ValueError(f"betas are {self.betas}, want two numbers in 0 to 1")
    if not 0 < self.layer_decay <= 1:
      raise ValueError(f"layer_decay is {self.layer_decay}, wants 0 to 1")
    for name in ("rate", "warmup_steps", "weight_decay", "clip_norm"):
      if not getattr(self, name) >= 0:
        raise ValueError(f"{name} is {getattr(self, name)}, wants 0 or more")
    try:
      re.compile(self.freeze)
    except re.error as error:
      raise ValueError(
        f"freeze {self.freeze!r} is not a regular expression: {error}"
      ) from error


def rate_schedule(rule: AdamWRule) -> optax.Schedule:
  """Linear warm-up, then a cosine to `end_rate`."""
  return optax.warmup_cosine_decay_schedule(
    rule.start_rate, rule.rate, rule.warmup_steps, rule.steps, rule.end_rate
  )


def make_adamw(rule: AdamWRule) -> optax.GradientTransformation:
  """AdamW of a rule; frozen parameters get no update and no moments."""
  train = optax.chain(
    optax.clip_by_global_norm(rule.clip_norm)
    if rule.clip_norm
    else optax.identity(),
    optax.scale_by_adam(*rule.betas),
    optax.add_decayed_weights(
      rule.weight_decay, mask=decay_mask if rule.decay == "matrices" else None
    ),
    _scale_layers(rule),
    optax.scale_by_learning_rate(rate_schedule(rule)),
  )
  if not rule.freeze:
    return train

  def label(params):
    if not any(re.search(rule.freeze, n) for n in trees.named_leaves(params)):
      raise ValueError(f"freeze {rule.freeze!r} matches no parameter")
    return trees.map_named(
      lambda name, _: "freeze" if re.search(rule.freeze, name) else "train",
      params,
    )

  frozen = {"train": train, "freeze": optax.set_to_zero()}
  return optax.multi_transform(frozen, label)


def decay_mask(params):
  """True for weight matrices; not biases, norms, tokens and positions."""
  return trees.map_named(
    lambda name, leaf: leaf.ndim > 1
    and not name.endswith(("token", "position")),
    params,
  )


def layer_scale(name: str, decay: float, depth: int) -> float:
  """decay for the top block, decay**2 for the next; 1 outside the encoder."""
  if not name.startswith("encoder/"):
    return 1.0
  block = re.search(r"/block_(\d+)/", name)
  if block:
    return decay ** (depth - int(block.group(1)))
  return decay ** (depth + 1) if "/embed" in name else 1.0


def _scale_layers(rule: AdamWRule) -> optax.GradientTransformation:
  if rule.layer_decay == 1.0:
    return optax.identity()
  return optax.stateless(
    lambda updates, _: trees.map_named(
      lambda name, leaf: None
      if leaf is None
      else leaf * layer_scale(name, rule.layer_decay, rule.encoder_depth),
      updates,
    )
  )
