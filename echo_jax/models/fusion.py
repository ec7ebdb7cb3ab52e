"""Fusion: what several modalities say together, whichever of them are there.

All kinds are called alike: `model.apply(variables, embeddings, present)` gives
(output [b, o], features).  `modalities` names the columns of `present`.
`embeddings` is an array [b, m, e], or a mapping from name to [b, e] or to
tokens [b, n, e] with widths of their own; a name left out is absent (not in
`init`, which makes the parameters of those it is given).
`token_valid` says by name which tokens [b, n] count.  What an absent modality
holds (NaN too) has no influence at all.  A row without any modality gets the
output `nothing`, learned from such rows only; it starts at 0, which is the
mean of a standardised target.
Axes: b row, m modality, n token, u token that is read, e embedding, d width,
o output, a head.
"""

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

from echo_jax.models.heads import masked_mean
from echo_jax.models.layers import Block, Linear, ReadBlock, layer_norm

Embeddings = (
  Float[Array | np.ndarray, "b m e"]
  | Mapping[str, Float[Array | np.ndarray, "b ..."]]
)
Present = Bool[Array | np.ndarray, "b m"]
TokenValid = Mapping[str, Bool[Array | np.ndarray, "b n"]] | None
NORM_EPS = 1e-6


def drop_modalities(
  key: Key[Array, ""], present: Present, rate: float | int
) -> Bool[Array, "b m"]:
  """Modality dropout for training: each one there is dropped at `rate`.

  Where all of a row would be dropped, one of them, drawn evenly, stays; so
  at `rate` 1 each row keeps exactly one.  Nothing is ever added.

  Raises:
    ValueError: `rate` is not from 0 to 1.
  """
  if not 0 <= rate <= 1:
    raise ValueError(f"modality dropout rate is {rate}, wants 0 to 1")
  present = jnp.asarray(present)
  draw = jax.random.uniform(key, present.shape)
  # Given that all are dropped, the highest draw is any of them alike; else
  # the highest one stays anyway.
  best = jnp.argmax(jnp.where(present, draw, -1.0), axis=-1)
  is_best = jax.nn.one_hot(best, present.shape[-1], dtype=bool)
  return present & ((draw >= rate) | is_best)


class Part(NamedTuple):
  """The tokens of one modality, of which none is valid where it is absent."""

  tokens: Float[Array, "b n d"]
  valid: Bool[Array, "b n"]

  def mean(self) -> Float[Array, "b d"]:
    return masked_mean(self.tokens, self.valid)


def split(
  names: tuple[str, ...],
  embeddings: Embeddings,
  present: Present,
  token_valid: TokenValid,
) -> dict[str, Part]:
  """The modalities that are given; what is not valid is zero.

  Raises:
    ValueError: other modalities than the model was made for.
  """
  token_valid = token_valid or {}
  if not isinstance(embeddings, Mapping):
    if embeddings.shape[1] != len(names):
      raise ValueError(
        f"embeddings have {embeddings.shape[1]} modalities, the model was "
        f"made for {len(names)}: {names}"
      )
    embeddings = {name: embeddings[:, i] for i, name in enumerate(names)}
  strange = (set(embeddings) | set(token_valid)) - set(names)
  if strange or present.shape[1] != len(names):
    raise ValueError(
      f"embeddings {sorted(embeddings)} and {present.shape[1]} columns of "
      f"`present` do not fit the model's modalities {names}"
    )
  if not embeddings:
    raise ValueError(f"no modality is given; the model was made for {names}")
  parts = {}
  for i, name in enumerate(names):
    if name in embeddings:
      x = jnp.asarray(embeddings[name])
      x = x[:, None] if x.ndim == 2 else x
      valid = jnp.broadcast_to(jnp.asarray(present)[:, i, None], x.shape[:2])
      if name in token_valid:
        valid = valid & jnp.asarray(token_valid[name])
      parts[name] = Part(jnp.where(valid[..., None], x, 0.0), valid)
  return parts


def project(
  parts: dict[str, Part], width: int, dtype: DTypeLike
) -> dict[str, Part]:
  """Each modality through a norm and a linear map of its own."""
  projected = {}
  for name, part in parts.items():
    x = layer_norm(NORM_EPS, dtype, f"norm_{name}")(part.tokens)
    x = Linear(width, dtype=dtype, name=f"project_{name}")(x)
    projected[name] = part._replace(tokens=x)
  return projected


def hidden_means(
  parts: dict[str, Part], width: int, dtype: DTypeLike
) -> Float[Array, "b m d"]:
  """Each modality as one vector: projected, GELU, mean of valid tokens."""
  means = []
  for part in project(parts, width, dtype).values():
    x = jax.nn.gelu(part.tokens, approximate=False).astype(jnp.float32)
    means.append(part._replace(tokens=x).mean())
  return jnp.stack(means, axis=1)


def any_valid(parts: dict[str, Part]) -> Bool[Array, "b m"]:
  """Which of the given modalities are there."""
  return jnp.stack([p.valid.any(axis=1) for p in parts.values()], axis=1)


def linear_output(outputs: int, name: str) -> nn.Dense:
  # An untrained model predicts the training mean, as `Predictor` does.
  return nn.Dense(outputs, kernel_init=nn.initializers.zeros, name=name)


def or_nothing(
  module: nn.Module,
  output: Float[Array, "b o"],
  there: Bool[Array, "b m"],
) -> Float[Array, "b o"]:
  """The output, or `nothing` in rows without any modality."""
  nothing = module.param("nothing", nn.initializers.zeros, (output.shape[-1],))
  return jnp.where(there.any(axis=1)[:, None], output, nothing)


class LateFusion(nn.Module):
  """Mean of the outputs that the modalities there give each by itself.

  Outputs are standardised numbers or logits; of logits the mean is the
  geometric mean of the odds.  Features hold `modality_outputs` [b m o] in the
  order of the given modalities, 0 where one is absent.
  """

  modalities: tuple[str, ...]
  outputs: int
  width: int = 192
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    embeddings: Embeddings,
    present: Present,
    *,
    token_valid: TokenValid = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b o"], dict[str, Array]]:
    del train  # drop modalities before, with `drop_modalities`
    parts = split(self.modalities, embeddings, present, token_valid)
    there = any_valid(parts)
    hidden = hidden_means(parts, self.width, self.dtype)
    each = jnp.stack(
      [
        linear_output(self.outputs, f"output_{name}")(hidden[:, i])
        for i, name in enumerate(parts)
      ],
      axis=1,
    )
    each = jnp.where(there[..., None], each, 0.0)
    output = or_nothing(self, masked_mean(each, there), there)
    return output, {
      "modality_outputs": each, "embedding": masked_mean(hidden, there),
      "output": output,
    }  # fmt: skip


class GatedFusion(nn.Module):
  """Sum of the modalities there, weighted by gates that add up to 1.

  A gate is a softmax over those there; its score is linear in the modality
  and in the mean of all there, so that how far one is believed depends on
  what the others say (after the gated unit of Arevalo et al. 2017).
  Features hold `gates` [b m], in the order of the given modalities.
  """

  modalities: tuple[str, ...]
  outputs: int
  width: int = 192
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    embeddings: Embeddings,
    present: Present,
    *,
    token_valid: TokenValid = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b o"], dict[str, Array]]:
    del train  # drop modalities before, with `drop_modalities`
    parts = split(self.modalities, embeddings, present, token_valid)
    there = any_valid(parts)
    hidden = hidden_means(parts, self.width, self.dtype)
    context = masked_mean(hidden, there)
    score = jnp.concatenate(
      [
        Linear(1, name=f"gate_{name}")(
          jnp.concatenate([hidden[:, i], context], axis=-1)
        )
        for i, name in enumerate(parts)
      ],
      axis=-1,
    )
    score = jnp.where(there, score, jnp.finfo(score.dtype).min)
    gates = jnp.where(there, jax.nn.softmax(score), 0.0)
    fused = (gates[..., None] * hidden).sum(axis=1)
    output = linear_output(self.outputs, "output")(fused)
    output = or_nothing(self, output, there)
    return output, {"gates": gates, "embedding": fused, "output": output}


class BottleneckFusion(nn.Module):
  """Modalities exchange what they know through a few shared tokens.

  In each layer every modality has a block of its own over its tokens and the
  bottleneck; the bottlenecks that come out are averaged over the modalities
  there.  At the end the mean tokens of those there are averaged before one
  linear output, which equals averaging their logits (Nagrani et al. 2021;
  there by class tokens).  What one layer writes the next one reads: less than
  two layers exchange nothing.
  """

  modalities: tuple[str, ...]
  outputs: int
  width: int = 192
  depth: int = 2
  heads: int = 3
  bottlenecks: int = 4
  mlp_ratio: float = 4.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    embeddings: Embeddings,
    present: Present,
    *,
    token_valid: TokenValid = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b o"], dict[str, Array]]:
    del train  # drop modalities before, with `drop_modalities`
    if self.depth < 2 or self.bottlenecks < 1:
      raise ValueError(
        f"bottleneck fusion of depth {self.depth} with {self.bottlenecks} "
        "tokens exchanges nothing; it wants a depth of 2 or more and a token"
      )
    parts = split(self.modalities, embeddings, present, token_valid)
    there = any_valid(parts)
    parts = project(parts, self.width, self.dtype)
    shared = self.param(
      "bottleneck", nn.initializers.normal(0.02), (self.bottlenecks, self.width)
    ).astype(self.dtype)
    shared = jnp.broadcast_to(shared, (len(there), *shared.shape))
    for layer in range(self.depth):
      parts, shared = self.exchange(layer, parts, shared, there)
    means = jnp.stack([part.mean() for part in parts.values()], axis=1)
    fused = masked_mean(means.astype(jnp.float32), there)
    fused = layer_norm(NORM_EPS, jnp.float32, "norm")(fused)
    output = linear_output(self.outputs, "output")(fused)
    output = or_nothing(self, output, there)
    return output, {"bottleneck": shared, "embedding": fused, "output": output}

  def exchange(
    self,
    layer: int,
    parts: dict[str, Part],
    shared: Float[Array, "b u d"],
    there: Bool[Array, "b m"],
  ) -> tuple[dict[str, Part], Float[Array, "b u d"]]:
    """One layer: each modality reads the bottleneck and writes its own."""
    read = jnp.ones(shared.shape[:2], bool)
    after, written = {}, []
    for name, part in parts.items():
      x, _ = Block(
        self.heads,
        round(self.width * self.mlp_ratio),
        norm_eps=NORM_EPS,
        dtype=self.dtype,
        name=f"block_{layer}_{name}",
      )(
        jnp.concatenate([shared, part.tokens], axis=1),
        jnp.concatenate([read, part.valid], axis=1),
      )
      written.append(x[:, : self.bottlenecks])
      after[name] = part._replace(tokens=x[:, self.bottlenecks :])
    weight = there.astype(shared.dtype) / jnp.maximum(
      there.sum(axis=1, keepdims=True), 1
    ).astype(shared.dtype)
    mean = jnp.einsum("bm,bmud->bud", weight, jnp.stack(written, axis=1))
    return after, mean


class CrossAttentionFusion(nn.Module):
  """Learned queries read the tokens of all modalities there.

  A learned code tells each modality's tokens apart; the queries read in
  `depth` blocks, each of which sees all tokens again (Perceiver, Jaegle et
  al. 2021).  Features hold `attention_i` [b a q u], u the tokens of the given
  modalities in their order.
  """

  modalities: tuple[str, ...]
  outputs: int
  width: int = 192
  depth: int = 1
  heads: int = 3
  queries: int = 4
  mlp_ratio: float = 4.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    embeddings: Embeddings,
    present: Present,
    *,
    token_valid: TokenValid = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b o"], dict[str, Array]]:
    del train  # drop modalities before, with `drop_modalities`
    parts = split(self.modalities, embeddings, present, token_valid)
    there = any_valid(parts)
    parts = project(parts, self.width, self.dtype)
    init = nn.initializers.normal(0.02)
    memory = jnp.concatenate(
      [
        part.tokens
        + self.param(f"code_{name}", init, (self.width,)).astype(self.dtype)
        for name, part in parts.items()
      ],
      axis=1,
    )
    valid = jnp.concatenate([part.valid for part in parts.values()], axis=1)
    x = self.param("query", init, (self.queries, self.width))
    x = jnp.broadcast_to(x.astype(self.dtype), (len(there), *x.shape))
    features = {}
    for i in range(self.depth):
      x, features[f"attention_{i}"] = ReadBlock(
        self.heads,
        round(self.width * self.mlp_ratio),
        NORM_EPS,
        self.dtype,
        name=f"read_{i}",
      )(x, memory, valid)
    x = layer_norm(NORM_EPS, jnp.float32, "norm")(x)
    fused = x.mean(axis=1)
    output = linear_output(self.outputs, "output")(fused)
    output = or_nothing(self, output, there)
    return output, {**features, "embedding": fused, "output": output}
