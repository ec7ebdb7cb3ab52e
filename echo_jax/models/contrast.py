"""Vectors that clips, or their slices in time, are compared by.

Axes: b clip, T H W frames and pixels, c channel, n token, k kept token,
t slice, e embedding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.heads import masked_mean, slice_means
from echo_jax.models.layers import Linear
from echo_jax.models.tokens import take_tokens
from echo_jax.models.video_vit import VideoViT


class Projector(nn.Module):
  """Two linear maps as in SimCLR (Chen et al. 2020), with GELU; in float32.

  What is contrasted loses what differs between positives; with a projector
  the encoder need not.  `width` 0 is none: the vector itself is compared.
  """

  width: int = 0
  outputs: int = 128

  @nn.compact
  def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
    x = x.astype(jnp.float32)
    if not self.width:
      return x
    x = jax.nn.gelu(Linear(self.width, name="expand")(x), approximate=False)
    return Linear(self.outputs, name="reduce")(x)


class ClipEmbedding(nn.Module):
  """One vector a clip: the mean of the encoder's tokens, projected.

  With `kept` only those tokens are seen; tokens that are not valid never
  count.
  """

  encoder: VideoViT
  clip_projector: Projector

  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    kept: Int[Array, "b k"] | None = None,
    valid: Bool[Array, "b n"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b e"], dict[str, Array]]:
    tokens, features = self.encoder(video, kept, valid, train=train)
    if kept is not None and valid is not None:
      valid = take_tokens(valid, kept)
    pooled = masked_mean(tokens.astype(jnp.float32), valid)
    embedding = self.clip_projector(pooled)
    return embedding, {**features, "embedding": embedding}


class SliceEmbedding(nn.Module):
  """One vector a slice of tubelets at one time, else as `ClipEmbedding`.

  `kept` must keep the same number of tokens in each slice, one slice after
  the other, as masks do that are alike in all of them.
  """

  encoder: VideoViT
  slice_projector: Projector

  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    kept: Int[Array, "b k"] | None = None,
    valid: Bool[Array, "b n"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b t e"], dict[str, Array]]:
    grid = self.encoder.token_grid(video.shape)
    tokens, features = self.encoder(video, kept, valid, train=train)
    if kept is not None and valid is not None:
      valid = take_tokens(valid, kept)
    means = slice_means(tokens.astype(jnp.float32), grid, valid)
    embedding = self.slice_projector(means)
    return embedding, {**features, "embedding": embedding}
