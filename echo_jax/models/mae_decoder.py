"""Light decoder of a masked autoencoder: guesses the pixels it cannot see.

Axes: b clip, n token, k kept token, q hidden token, e encoder width,
d decoder width, p values per tubelet.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from echo_jax.models.layers import (
  PLAIN,
  Execution,
  Linear,
  apply_blocks,
  layer_norm,
)
from echo_jax.models.positions import sinusoid_table
from echo_jax.models.tokens import Mask, take_tokens


class MAEDecoder(nn.Module):
  """Attends over all tokens; its head runs on the hidden ones only.

  Hidden tokens enter as one learned vector plus their position.  Tokens are
  ordered kept first, hidden last; attention does not mind.
  """

  width: int = 384
  depth: int = 4
  heads: int = 6
  mlp_ratio: float = 4.0
  qkv_bias: bool = True
  norm_eps: float = 1e-12
  dtype: DTypeLike = jnp.float32
  execution: Execution = PLAIN

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "b k e"],
    mask: Mask,
    values: int,
    valid: Bool[Array, "b n"] | None = None,
  ) -> tuple[Float[Array, "b q p"], dict[str, Array]]:
    """`values` is p, the number of pixel values to predict for a token."""
    linear = functools.partial(
      Linear, dtype=self.dtype, weights=self.execution.weights
    )
    x = linear(self.width, use_bias=False, name="embed")(tokens)
    init = nn.initializers.normal(0.02)
    unseen = self.param("mask_token", init, (self.width,)).astype(self.dtype)
    order = jnp.concatenate([mask.kept, mask.hidden], axis=1)  # b n
    hidden = mask.hidden.shape[1]
    unseen = jnp.broadcast_to(unseen, (len(x), hidden, self.width))
    table = jnp.asarray(sinusoid_table(order.shape[1], self.width), self.dtype)
    x = jnp.concatenate([x, unseen], axis=1) + table[order]
    x, features = apply_blocks(
      self,
      x,
      None if valid is None else take_tokens(valid, order),
      depth=self.depth,
      heads=self.heads,
      mlp_width=round(self.width * self.mlp_ratio),
      qkv_bias=self.qkv_bias,
      norm_eps=self.norm_eps,
      dtype=self.dtype,
      execution=self.execution,
    )
    # VideoMAE leaves PyTorch's default epsilon here, unlike everywhere else.
    x = layer_norm(1e-5, self.dtype, "norm")(x[:, x.shape[1] - hidden :])
    logits = linear(values, name="head")(x).astype(jnp.float32)
    return logits, features
