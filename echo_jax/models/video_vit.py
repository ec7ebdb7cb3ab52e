"""Video vision transformer: tubelets in, one feature vector a token out.

Joint space-time attention over all tokens, fixed sine positions, no class
token: the encoder of VideoMAE (Tong et al. 2022), which Echo-Vision-FM keeps.
Axes: b clip, T H W frames and pixels, c channel, n token, k kept token,
d width.
"""

from typing import NamedTuple

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
from echo_jax.models.positions import sinusoid_table
from echo_jax.models.tokens import TokenGrid, patchify, take_tokens


class Size(NamedTuple):
  width: int
  depth: int
  heads: int


SIZES = {
  "Ti": Size(192, 12, 3),
  "S": Size(384, 12, 6),
  "B": Size(768, 12, 12),
  "L": Size(1024, 24, 16),
}


class VideoViT(nn.Module):
  """Encoder of a clip; `VideoViT(**SIZES["B"]._asdict())` is the paper's.

  `video` is float32, scaled as the weights expect.  With `kept`, only those
  tokens are embedded and seen.  `valid` is False for tokens of the whole grid
  that hold no recorded frame; nothing attends to them.  `grid` (t, h, w), if
  given, refuses clips of another token grid: positions are numbered along the
  flattened grid, so weights trained on one h x w mean something else on
  another.  Returns the tokens and every block's output by name.
  """

  width: int = 768
  depth: int = 12
  heads: int = 12
  mlp_ratio: float = 4.0
  patch: int = 16
  tubelet: int = 2
  channels: int = 3
  final_norm: bool = True
  qkv_bias: bool = True
  norm_eps: float = 1e-12
  grid: tuple[int, int, int] | None = None
  dtype: DTypeLike = jnp.float32
  keep_attention: bool = False
  execution: Execution = PLAIN

  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    kept: Int[Array | np.ndarray, "b k"] | None = None,
    valid: Bool[Array | np.ndarray, "b n"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b k d"], dict[str, Array]]:
    del train  # no layer here behaves otherwise in training
    video = jnp.asarray(video)
    grid = self.token_grid(video.shape)
    tubelets = patchify(video, self.tubelet, self.patch)
    if kept is not None:
      tubelets = take_tokens(tubelets, kept)
    return self.encode(tubelets, grid.n, kept, valid)

  @nn.compact
  def encode(
    self,
    tubelets: Float[Array, "b k p"],
    count: int,
    kept: Int[Array | np.ndarray, "b k"] | None = None,
    valid: Bool[Array | np.ndarray, "b n"] | None = None,
  ) -> tuple[Float[Array, "b k d"], dict[str, Array]]:
    """The same from tubelets that are cut out already, of `count` in a clip."""
    position = jnp.asarray(sinusoid_table(count, self.width))
    valid = None if valid is None else jnp.asarray(valid)
    if kept is not None:
      position = position[jnp.asarray(kept)]
      valid = None if valid is None else take_tokens(valid, kept)
    embed = Linear(
      self.width, dtype=self.dtype, weights=self.execution.weights,
      name="embed",
    )  # fmt: skip
    x = embed(tubelets)
    x = x + position.astype(self.dtype)
    x, features = apply_blocks(
      self,
      x,
      valid,
      depth=self.depth,
      keep_attention=self.keep_attention,
      heads=self.heads,
      mlp_width=round(self.width * self.mlp_ratio),
      qkv_bias=self.qkv_bias,
      norm_eps=self.norm_eps,
      dtype=self.dtype,
      execution=self.execution,
    )
    if self.final_norm:
      x = layer_norm(self.norm_eps, self.dtype, "norm")(x)
    return x, {**features, "tokens": x}

  def token_grid(self, video_shape: tuple[int, ...]) -> TokenGrid:
    """The grid of a video [..., T, H, W, c]; refuses what does not fit."""
    grid = TokenGrid.of(
      video_shape, self.tubelet, self.patch, self.channels
    )
    if self.grid is not None and grid.shape != tuple(self.grid):
      raise ValueError(
        f"the video has a token grid of {grid.shape} and the encoder was "
        f"made for {tuple(self.grid)}; resize the clip, or clone the encoder "
        "with grid=None to use its positions on another grid"
      )
    return grid
