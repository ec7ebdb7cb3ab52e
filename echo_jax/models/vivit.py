"""ViViT: the video transformer with a class token and learned positions.

Arnab et al. (ICCV 2021), model 1: joint attention to all tubelets, here as
`transformers` carries it out, with pre-norm blocks and a GELU by tanh.
Axes: b clip, T H W frames and pixels, c channel, n token, u token with the
class token, d width, p values per tubelet.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.layers import (
  PLAIN,
  Execution,
  Linear,
  apply_blocks,
  layer_norm,
)
from echo_jax.models.tokens import TokenGrid, patchify

READOUTS = ("tokens", "class", "pooled")


class ViViT(nn.Module):
  """Encoder of a clip of the `grid` (t, h, w), which its positions belong to.

  The defaults are ViViT-B/16x2 on 16 frames of 224 px.  `readout` says what
  every token is: itself ("tokens"), or a copy of the class token ("class") or
  of its linear map and tanh ("pooled"), so that any mean or maximum over them
  is that one vector, which has read all of the clip.  Nothing attends to
  tokens that are not valid.  Keys have no bias, as in `layers.Attention`.

  Raises:
    ValueError: a clip of another grid, another readout, or tokens to keep.
  """

  width: int = 768
  depth: int = 12
  heads: int = 12
  mlp_ratio: float = 4.0
  patch: int = 16
  tubelet: int = 2
  channels: int = 3
  qkv_bias: bool = True
  norm_eps: float = 1e-6
  grid: tuple[int, int, int] = (8, 14, 14)
  readout: str = "tokens"
  dtype: DTypeLike = jnp.float32
  execution: Execution = PLAIN

  @nn.compact
  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    kept: Int[Array | np.ndarray, "b k"] | None = None,
    valid: Bool[Array | np.ndarray, "b n"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b n d"], dict[str, Array]]:
    del train  # no layer here behaves otherwise in training
    if kept is not None:
      raise ValueError("ViViT leaves no tokens out; use VideoViT for that")
    if self.readout not in READOUTS:
      raise ValueError(f"readout is {self.readout!r}; there are {READOUTS}")
    video = jnp.asarray(video)
    self.token_grid(video.shape)
    patches = patchify(video, self.tubelet, self.patch)
    x = Embedding(self.width, self.dtype, self.execution, name="embed")(patches)
    if valid is not None:
      valid = jnp.pad(
        jnp.asarray(valid), ((0, 0), (1, 0)), constant_values=True
      )
    x, features = apply_blocks(
      self,
      x,
      valid,
      depth=self.depth,
      heads=self.heads,
      mlp_width=round(self.width * self.mlp_ratio),
      qkv_bias=self.qkv_bias,
      norm_eps=self.norm_eps,
      dtype=self.dtype,
      tanh_gelu=True,
      execution=self.execution,
    )
    x = layer_norm(self.norm_eps, self.dtype, "norm")(x)
    read, tokens = x[:, 0], x[:, 1:]
    features |= {"class_token": read, "tokens": tokens}
    if self.readout == "pooled":
      read = Linear(self.width, dtype=self.dtype, name="pooler")(read)
      read = features["pooled"] = jnp.tanh(read)
    if self.readout != "tokens":
      tokens = jnp.broadcast_to(read[:, None], tokens.shape)
    return tokens, features

  def token_grid(self, video_shape: tuple[int, ...]) -> TokenGrid:
    """The grid of a video [..., T, H, W, c]; refuses what does not fit."""
    grid = TokenGrid.of(
      video_shape, self.tubelet, self.patch, self.channels
    )
    if grid.shape != tuple(self.grid):
      raise ValueError(
        f"the video has a token grid of {grid.shape} and the encoder has "
        f"positions for {tuple(self.grid)}; resize the clip"
      )
    return grid


class Embedding(nn.Module):
  """A class token before a linear map of each tubelet; a position is added.

  Class token and positions start at 0, as in `transformers`.
  """

  width: int
  dtype: DTypeLike
  execution: Execution

  @nn.compact
  def __call__(
    self, patches: Float[Array, "b n p"]
  ) -> Float[Array, "b u d"]:
    zeros = nn.initializers.zeros
    b, n, _ = patches.shape
    x = Linear(
      self.width, dtype=self.dtype, weights=self.execution.weights, name="map"
    )(patches)
    first = self.param("class_token", zeros, (self.width,))
    first = jnp.broadcast_to(first.astype(self.dtype), (b, 1, self.width))
    position = self.param("position", zeros, (n + 1, self.width))
    return jnp.concatenate([first, x], axis=1) + position.astype(self.dtype)
