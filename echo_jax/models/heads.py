"""From tokens to one vector a clip: the pooling heads.

All heads, STF-Net and the recurrent one included, are called alike:
`head(tokens, grid=, frame_time_s=, frame_index=, valid=, train=)`.
Tokens that are not valid never count.
Axes: b clip, T frame, n token, t slice, d width, e embedding, k block.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.layers import ReadBlock
from echo_jax.models.tokens import TokenGrid, slice_valid


def masked_mean(
  x: Float[Array, "*b n d"], valid: Bool[Array, "*b n"] | None
) -> Float[Array, "*b d"]:
  """Mean over valid n; 0 where none is valid."""
  if valid is None:
    return x.mean(axis=-2)
  weight = valid.astype(x.dtype)[..., None]
  return (x * weight).sum(axis=-2) / jnp.maximum(weight.sum(axis=-2), 1)


def masked_max(
  x: Float[Array, "*b n d"], valid: Bool[Array, "*b n"] | None
) -> Float[Array, "*b d"]:
  """Maximum over valid n; 0 where none is valid."""
  if valid is None:
    return x.max(axis=-2)
  top = jnp.where(valid[..., None], x, -jnp.inf).max(axis=-2)
  return jnp.where(valid.any(axis=-1)[..., None], top, 0)


def slice_means(
  tokens: Float[Array, "b n d"],
  grid: TokenGrid,
  valid: Bool[Array, "b n"] | None,
) -> Float[Array, "b t d"]:
  """Mean over space of each slice."""
  b, _, d = tokens.shape
  if valid is not None:
    valid = valid.reshape(b, grid.t, -1)
  return masked_mean(tokens.reshape(b, grid.t, -1, d), valid)


def block_means(
  tokens: Float[Array, "b n d"],
  grid: TokenGrid,
  blocks: tuple[int, int, int],
  valid: Bool[Array, "b n"] | None = None,
) -> tuple[Float[Array, "b k d"], Bool[Array, "b k"]]:
  """Means over blocks of the grid, as many along t, h and w as `blocks` says.

  So encoders of different grids hand on equally many tokens.  Blocks differ by
  one token a side where they do not divide the grid; one without a valid
  token is 0 and not valid.

  Raises:
    ValueError: more blocks than tokens along an axis, or none.
  """
  if not all(0 < k <= n for k, n in zip(blocks, grid.shape, strict=True)):
    raise ValueError(
      f"{blocks} blocks of tokens (slices, rows, columns) were asked of a "
      f"grid of {grid.shape}; no encoder can be given more tokens than the "
      "smallest one of those compared has"
    )
  member = [
    jnp.asarray(np.arange(k)[:, None] == np.arange(n) * k // n, jnp.float32)
    for k, n in zip(blocks, grid.shape, strict=True)
  ]

  def add(x: Float[Array, "b n c"]) -> Float[Array, "b k c"]:
    x = x.reshape(len(x), *grid.shape, -1)
    y = jnp.einsum("bthwc,xt,yh,zw->bxyzc", x, *member)
    return y.reshape(len(x), -1, y.shape[-1])

  if valid is None:
    valid = jnp.ones(tokens.shape[:2], bool)
  weight = valid[..., None].astype(jnp.float32)
  count = add(weight)
  total = add(jnp.where(valid[..., None], tokens, 0).astype(jnp.float32))
  mean = total / jnp.maximum(count, 1)
  return mean.astype(tokens.dtype), count[..., 0] > 0


class MaxPool(nn.Module):
  """Maximum over all tokens: the released model without STF-Net."""

  def __call__(
    self,
    tokens: Float[Array, "b n d"],
    *,
    grid: TokenGrid,
    frame_time_s: Float[Array, "b T"],
    frame_index: Int[Array, "b T"],
    valid: Bool[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b e"], dict[str, Array]]:
    embedding = masked_max(tokens, valid)
    return embedding, {"embedding": embedding}


class MeanPool(nn.Module):
  """Mean over all tokens."""

  def __call__(
    self,
    tokens: Float[Array, "b n d"],
    *,
    grid: TokenGrid,
    frame_time_s: Float[Array, "b T"],
    frame_index: Int[Array, "b T"],
    valid: Bool[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b e"], dict[str, Array]]:
    embedding = masked_mean(tokens, valid)
    return embedding, {"embedding": embedding}


class Moments(nn.Module):
  """Mean over space, then mean, std, max and min over time (e = 4d).

  Spread over time hands motion to the layer above without its learning to
  take differences.  The order of the slices does not matter.
  """

  std_eps: float = 1e-6  # added to the variance: its root has no slope at 0

  def __call__(
    self,
    tokens: Float[Array, "b n d"],
    *,
    grid: TokenGrid,
    frame_time_s: Float[Array, "b T"],
    frame_index: Int[Array, "b T"],
    valid: Bool[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b e"], dict[str, Array]]:
    slices = slice_means(tokens.astype(jnp.float32), grid, valid)  # b t d
    if valid is not None:
      valid = slice_valid(valid, grid)
    mean = masked_mean(slices, valid)
    variance = masked_mean(jnp.square(slices - mean[:, None]), valid)
    std = jnp.sqrt(variance + self.std_eps)
    high, low = masked_max(slices, valid), -masked_max(-slices, valid)
    embedding = jnp.concatenate([mean, std, high, low], axis=-1)
    return embedding, {"slices": slices, "embedding": embedding}


class AttentivePool(nn.Module):
  """One learned query that reads all tokens, then an MLP: attentive probing.

  On a frozen encoder it is the probe of Bardes et al. (V-JEPA, TMLR 2024): a
  block of cross-attention.  `blocks`, if given, are the tokens along t, h and w
  that it reads, see `block_means`: encoders are compared at equal numbers.  Of
  one token there is nothing to choose, and the probe is an MLP.
  Features hold what the query takes of each token (pool_attention [b a k]).
  """

  heads: int = 8
  blocks: tuple[int, ...] = ()
  mlp_ratio: float = 4.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "b n d"],
    *,
    grid: TokenGrid,
    frame_time_s: Float[Array, "b T"],
    frame_index: Int[Array, "b T"],
    valid: Bool[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b e"], dict[str, Array]]:
    if self.blocks:
      tokens, valid = block_means(tokens, grid, tuple(self.blocks), valid)
    b, _, d = tokens.shape
    init = nn.initializers.normal(0.02)
    query = self.param("query_token", init, (1, 1, d))
    query = jnp.broadcast_to(query, (b, 1, d)).astype(self.dtype)
    block = ReadBlock(
      self.heads, round(d * self.mlp_ratio), dtype=self.dtype, name="read"
    )
    x, weight = block(query, tokens.astype(self.dtype), valid)
    embedding = x[:, 0].astype(jnp.float32)
    return embedding, {
      "pool_attention": weight[:, :, 0], "embedding": embedding
    }
