"""Video CNN: residual (2+1)D convolutions, an encoder like VideoViT.

A convolution in the picture, then one over time, as R(2+1)D (Tran et al.,
CVPR 2018) has them in place of 3-D ones, with group norm (Wu & He 2018) for
small batches.
Axes: b clip, T H W frames and pixels, c channel, t h w grid, n token, d width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.tokens import TokenGrid, only_real, slice_valid

TUBELETS = (1, 2)  # the kernel over time covers three frames


class VideoCNN(nn.Module):
  """Encoder of a clip: a token is a place of the last feature map.

  Block i has width * 2**i channels and halves rows and columns; the first one
  steps over time by `tubelet`.  So the grid is that of tubelets of `tubelet`
  frames and patches of 2**depth pixels, and pooling heads fit.  Frames of
  tokens that are not valid are as if the clip ended before them, in
  convolutions, norms and the output (0).

  Raises:
    ValueError: a clip that does not fit, a `tubelet` other than 1 or 2, or
      tokens to keep: a convolution sees all of a clip.
  """

  width: int = 16
  depth: int = 3
  tubelet: int = 2
  channels: int = 1
  groups: int = 4
  dtype: DTypeLike = jnp.float32

  @property
  def patch(self) -> int:
    """Pixels along one side of a token's place."""
    return 2**self.depth

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
      raise ValueError("a CNN cannot leave tokens out; use VideoViT for that")
    grid = self.token_grid(video.shape)
    slices = jnp.ones((len(video), grid.t), bool)
    if valid is not None:
      slices = slice_valid(jnp.asarray(valid), grid)
    real = jnp.repeat(slices, self.tubelet, axis=1)
    x, features = jnp.asarray(video, self.dtype), {}
    for i in range(self.depth):
      block = ResidualBlock(
        self.width * 2**i, 1 if i else self.tubelet, self.groups, self.dtype,
        name=f"block_{i}",
      )  # fmt: skip
      x = block(x, real)
      real = slices
      features[f"block_{i}"] = x
    tokens = x.reshape(len(x), grid.n, -1)
    return tokens, {**features, "tokens": tokens}

  def token_grid(self, video_shape: tuple[int, ...]) -> TokenGrid:
    """The grid of a video [..., T, H, W, c]; refuses what does not fit."""
    if self.tubelet not in TUBELETS:
      raise ValueError(f"tubelet is {self.tubelet}; allowed: {TUBELETS}")
    return TokenGrid.of(
      video_shape, self.tubelet, self.patch, self.channels
    )


class ResidualBlock(nn.Module):
  """Two (2+1)D convolutions beside a strided 1x1x1 one; halves the picture."""

  width: int
  time_stride: int
  groups: int
  dtype: DTypeLike

  @nn.compact
  def __call__(
    self, x: Float[Array, "b T H W c"], real: Bool[Array, "b T"]
  ) -> Float[Array, "b t h w d"]:
    step = self.time_stride
    after = real[:, ::step]
    y = self._convolve_space(only_real(x, real), 2, "space_0")
    y = jax.nn.relu(self._norm(y, "space_norm_0", real))
    y = self._convolve_time(only_real(y, real), step, "time_0")
    y = jax.nn.relu(self._norm(y, "time_norm_0", after))
    y = self._convolve_space(only_real(y, after), 1, "space_1")
    y = jax.nn.relu(self._norm(y, "space_norm_1", after))
    y = self._convolve_time(only_real(y, after), 1, "time_1")
    y = self._norm(y, "time_norm_1", after)
    x = only_real(x, real)[:, ::step, ::2, ::2]
    x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="skip")(x)
    y = jax.nn.relu(y + self._norm(x, "skip_norm", after))
    return only_real(y, after)

  # A 2-D convolution each, as XLA has fast ones of those alone for CPUs: the
  # gradient of a strided 3-D one takes many times as long.  They pad alike on
  # both sides, so that a longer clip moves nothing.

  def _convolve_space(self, x, stride, name):
    """Over the rows and columns of each frame."""
    return nn.Conv(
      self.width, (3, 3), stride, padding=1, use_bias=False, dtype=self.dtype,
      name=name,
    )(x)  # fmt: skip

  def _convolve_time(self, x, stride, name):
    """Over the frames of each place, as a picture of T x (H * W)."""
    b, t, h, w, c = x.shape
    y = nn.Conv(
      self.width, (3, 1), (stride, 1), padding=((1, 1), (0, 0)),
      use_bias=False, dtype=self.dtype, name=name,
    )(x.reshape(b, t, h * w, c))  # fmt: skip
    return y.reshape(b, -1, h, w, self.width)

  def _norm(self, x, name, real):
    """Group norm with the statistics of the real frames of each clip."""
    norm = nn.GroupNorm(
      self.groups, dtype=self.dtype, use_fast_variance=False, name=name
    )
    mask = real[:, :, None, None, None]
    # A clip without any real frame keeps its (black) frames: no 0 / 0.
    some = mask.any(axis=1, keepdims=True)
    return norm(x, mask=jnp.broadcast_to(mask | ~some, x.shape))
