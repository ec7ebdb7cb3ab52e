"""From tokens to one vector a clip: the pooling heads.

All heads, STF-Net and the recurrent one included, are called alike:
`head(tokens, grid=, frame_time_s=, frame_index=, valid=, train=)`.
Tokens that are not valid never count.
Axes: b clip, T frame, n token, t slice, d width, e embedding.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
