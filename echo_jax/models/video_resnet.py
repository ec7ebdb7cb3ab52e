"""Residual networks of video: R3D-18 and R(2+1)D-18, as torchvision has them.

Tran et al., CVPR 2018.  Convolutions over time and picture at once, or in the
picture first and then over time, each with batch norm.
Axes: b clip, T H W frames and pixels, c channel, t h w grid, n token, d width,
y class.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.tokens import TokenGrid, only_real, slice_valid

STEM = (3, 7, 7)
INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class VideoResNet(nn.Module):
  """Encoder of a clip; a token is a place of the last feature map.

  The defaults are R3D-18, and with `factored` R(2+1)D-18.  Stage i has
  widths[i] channels and blocks[i] blocks; the stem halves rows and columns,
  and every stage but the first all three axes.  So the grid is that of
  tubelets of 8 frames and patches of 16 pixels.  With `classes` the last,
  linear layer of the published network stays: tokens are its scores at each
  place, whose mean is that network's output.

  Batch norm has the statistics of the whole batch in training, and running
  ones else.  Frames of tokens that are not valid are as if the clip ended
  before them, in convolutions, statistics and the output (0).

  Raises:
    ValueError: a clip that does not fit, or tokens to keep: a convolution
      sees all of a clip.
  """

  factored: bool = False
  widths: tuple[int, ...] = (64, 128, 256, 512)
  blocks: tuple[int, ...] = (2, 2, 2, 2)
  stem_middle: int = 45  # channels within the stem of R(2+1)D
  channels: int = 3
  classes: int = 0
  dtype: DTypeLike = jnp.float32

  @property
  def tubelet(self) -> int:
    """Frames of a token's place."""
    return 2 ** (len(self.widths) - 1)

  @property
  def patch(self) -> int:
    """Pixels along one side of a token's place."""
    return 2 * self.tubelet

  @property
  def depth(self) -> int:
    """Residual blocks in a row."""
    return sum(self.blocks)

  @nn.compact
  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    kept: Int[Array | np.ndarray, "b k"] | None = None,
    valid: Bool[Array | np.ndarray, "b n"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b n d"], dict[str, Array]]:
    if kept is not None:
      raise ValueError("a CNN cannot leave tokens out; use VideoViT for that")
    grid = self.token_grid(video.shape)
    real = None
    if valid is not None:
      slices = slice_valid(jnp.asarray(valid), grid)
      real = jnp.repeat(slices, self.tubelet, axis=1)
    options = {"factored": self.factored, "dtype": self.dtype}
    x, features = jnp.asarray(video, self.dtype), {}
    x = Convolution(
      self.widths[0], STEM, (1, 2, 2), self.stem_middle, name="embed", **options
    )(x, real, train=train)
    x = jax.nn.relu(BatchNorm(self.dtype, name="embed_norm")(x, real, train))
    for stage, (width, blocks) in enumerate(
      zip(self.widths, self.blocks, strict=True)
    ):
      for i in range(blocks):
        name, stride = f"block_{len(features)}", 2 if stage and not i else 1
        block = ResidualBlock(width, stride, name=name, **options)
        x, real = block(x, real, train=train)
        features[name] = x
    tokens = _only(x, real).reshape(x.shape[0], grid.n, -1)
    if self.classes:
      init = nn.initializers.normal(0.01)
      head = nn.Dense(
        self.classes, kernel_init=init, dtype=self.dtype, name="head"
      )
      tokens = head(tokens)
    return tokens, {**features, "tokens": tokens}

  def token_grid(self, video_shape: tuple[int, ...]) -> TokenGrid:
    """The grid of a video [..., T, H, W, c]; refuses what does not fit."""
    return TokenGrid.of(
      video_shape, self.tubelet, self.patch, self.channels
    )


class ResidualBlock(nn.Module):
  """Two convolutions beside the input, or a strided 1x1x1 map of it."""

  width: int
  stride: int
  factored: bool
  dtype: DTypeLike

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b T H W c"],
    real: Bool[Array, "b T"] | None,
    *,
    train: bool,
  ) -> tuple[Float[Array, "b t h w d"], Bool[Array, "b t"] | None]:
    width, strides = self.width, (self.stride,) * 3
    # As many weights as one convolution over all three axes (Tran et al.).
    middle = 27 * x.shape[-1] * width // (9 * x.shape[-1] + 3 * width)
    after = None if real is None else real[:, :: self.stride]
    y = x
    for i, steps in enumerate((strides, (1, 1, 1))):
      y = Convolution(
        width, (3, 3, 3), steps, middle, self.factored, self.dtype,
        name=f"conv_{i}",
      )(y, after if i else real, train=train)  # fmt: skip
      y = BatchNorm(self.dtype, name=f"norm_{i}")(y, after, train)
      y = y if i else jax.nn.relu(y)
    if self.stride > 1 or x.shape[-1] != width:
      skip = _layer(width, (1, 1, 1), strides, self.dtype, "skip")
      x = BatchNorm(self.dtype, name="skip_norm")(skip(x), after, train)
    return jax.nn.relu(x + y), after


class Convolution(nn.Module):
  """A convolution over time and picture; zeros lie outside the clip.

  Factored: over the picture to `middle` channels, batch norm, ReLU, and over
  time.
  """

  width: int
  kernel: tuple[int, int, int]
  strides: tuple[int, int, int]
  middle: int
  factored: bool
  dtype: DTypeLike

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b T H W c"],
    real: Bool[Array, "b T"] | None,
    *,
    train: bool,
  ) -> Float[Array, "b t h w d"]:
    (time, *picture), (step, *steps) = self.kernel, self.strides
    x = _only(x, real)
    if not self.factored:
      return _layer(
        self.width, self.kernel, self.strides, self.dtype, "conv"
      )(x)
    space = _layer(
      self.middle, (1, *picture), (1, *steps), self.dtype, "space"
    )
    x = BatchNorm(self.dtype, name="space_norm")(space(x), real, train)
    x = _only(jax.nn.relu(x), real)
    return _layer(
      self.width, (time, 1, 1), (step, 1, 1), self.dtype, "time"
    )(x)


def _layer(
  width: int, kernel: tuple[int, int, int], strides: tuple[int, int, int],
  dtype: DTypeLike, name: str,
) -> nn.Conv:  # fmt: skip
  """A convolution that pads alike on both sides, as PyTorch's."""
  return nn.Conv(
    width, kernel, strides, use_bias=False, dtype=dtype, kernel_init=INIT,
    padding=[(size // 2, size // 2) for size in kernel], name=name,
  )  # fmt: skip


class BatchNorm(nn.Module):
  """Batch norm whose running statistics move as PyTorch's do.

  It keeps the variance corrected for its degrees of freedom, unlike flax's
  own, and in float32.  Only real frames count.
  """

  dtype: DTypeLike
  momentum: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b T H W d"],
    real: Bool[Array, "b T"] | None,
    train: bool,
  ) -> Float[Array, "b T H W d"]:
    width = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (width,))
    bias = self.param("bias", nn.initializers.zeros, (width,))
    running = [
      self.variable("batch_stats", name, make, (width,), jnp.float32)
      for name, make in (("mean", jnp.zeros), ("var", jnp.ones))
    ]
    y = x.astype(jnp.float32)
    if train:
      mean, var, count = _moments(y, real)
      if not self.is_initializing():
        unbiased = var * count / jnp.maximum(count - 1, 1)
        for kept, new in zip(running, (mean, unbiased), strict=True):
          kept.value += (1 - self.momentum) * (new - kept.value)
    else:
      mean, var = (kept.value for kept in running)
    y = (y - mean) * jax.lax.rsqrt(var + self.epsilon) * scale + bias
    return y.astype(self.dtype)


def _moments(
  x: Float[Array, "b T H W d"], real: Bool[Array, "b T"] | None
) -> tuple[Float[Array, " d"], Float[Array, " d"], Float[Array, ""]]:
  """Mean, variance and number of the values of each channel."""
  axes = (0, 1, 2, 3)
  if real is None:
    count = jnp.float32(np.prod(x.shape[:-1]))
    return x.mean(axes), x.var(axes), count
  weight = real[:, :, None, None, None].astype(x.dtype)
  count = weight.sum() * x.shape[2] * x.shape[3]
  mean = (x * weight).sum(axes) / jnp.maximum(count, 1)
  square = (jnp.square(x - mean) * weight).sum(axes)
  return mean, square / jnp.maximum(count, 1), count


def _only(
  x: Float[Array, "b T H W d"], real: Bool[Array, "b T"] | None
) -> Float[Array, "b T H W d"]:
  return x if real is None else only_real(x, real)
