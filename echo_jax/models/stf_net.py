"""STF-Net: the spatio-temporal feature fusion head of Echo-Vision-FM.

A joint path sees space and time at once, a disjoint path sees each slice by
itself and then their order in time; their two vectors are concatenated.
Axes: b clip, T frame, n token, t h w token grid, d width, e embedding.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from echo_jax.models.heads import masked_max, masked_mean
from echo_jax.models.layers import Linear
from echo_jax.models.platform import by_platform
from echo_jax.models.positions import sinusoid, sinusoid_grid
from echo_jax.models.tokens import TokenGrid, slice_valid

# Seconds are counted in frames of this rate before they are coded, so that a
# recording at 30 frames/s (nearly all of MIMIC-IV-ECHO) has the same code in
# seconds as in frame numbers.
CODE_RATE_HZ = 30.0


def he_uniform(fan_in: int) -> Callable:
  """Initialiser: uniform with variance 2 / fan_in (He et al. 2015)."""
  bound = (6 / fan_in) ** 0.5

  def init(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

  return init


class GatedAttention(nn.Module):
  """Weighted mean of tokens; weights from tanh(xV) * sigmoid(xU) (Ilse 2018).

  `start="fan_in"` scales the score vector W by its length.  "released" draws
  it as the public code does, where the fan-in of W is read as 1: scores then
  spread over tens of units and softmax starts almost one-hot.
  """

  hidden: int = 1024
  start: Literal["fan_in", "released"] = "fan_in"
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n d"], valid: Bool[Array, "b n"] | None = None
  ) -> tuple[Float[Array, "b d"], Float[Array, "b n"]]:
    he, shape = he_uniform(x.shape[-1]), (x.shape[-1], self.hidden)
    value = self.param("value", he, shape).astype(self.dtype)
    gate = self.param("gate", he, shape).astype(self.dtype)
    fan_in = 1 if self.start == "released" else self.hidden
    score = self.param("score", he_uniform(fan_in), (self.hidden,))
    x = x.astype(self.dtype)
    flat = x.reshape(-1, x.shape[-1])  # as in layers.Linear
    hidden = jnp.tanh(flat @ value) * jax.nn.sigmoid(flat @ gate)
    scores = (hidden * score.astype(self.dtype)).sum(axis=-1)
    scores = scores.reshape(x.shape[:-1]).astype(jnp.float32)
    if valid is not None:
      scores = jnp.where(valid, scores, jnp.finfo(jnp.float32).min)
    weight = jax.nn.softmax(scores)
    return jnp.einsum("bn,bnd->bd", weight.astype(self.dtype), x), weight


class GroupNorm(nn.Module):
  """Normalises groups of channels over the valid positions of one example."""

  groups: int = 8
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, "b *p d"], valid: Bool[Array, "b *p"] | None = None
  ) -> Float[Array, "b *p d"]:
    width = x.shape[-1]
    if width % self.groups:
      raise ValueError(
        f"{width} channels do not divide into {self.groups} groups; choose "
        "a width that does or another number of groups"
      )
    y = x.astype(jnp.float32)
    y = y.reshape(len(x), -1, self.groups, width // self.groups)
    if valid is None:
      weight = 1 / y.shape[1]
    else:
      weight = valid.reshape(len(x), -1, 1, 1).astype(jnp.float32)
      weight = weight / jnp.maximum(weight.sum(axis=1, keepdims=True), 1)

    def mean(y):  # over valid positions and the channels of a group
      return (y * weight).sum(axis=1, keepdims=True).mean(-1, keepdims=True)

    y = y - mean(y)
    y = y * jax.lax.rsqrt(mean(jnp.square(y)) + self.epsilon)
    scale = self.param("scale", nn.initializers.ones, (width,))
    bias = self.param("bias", nn.initializers.zeros, (width,))
    return (y.reshape(x.shape) * scale + bias).astype(x.dtype)


class Bottleneck(nn.Module):
  """Residual block over 2 or 3 grid axes: 1x1, 3x3(x3), 1x1, each normalised.

  Halves the width inside.  The number of axes between the first and the last
  is the dimension of the convolution.  Positions that are not valid are zero
  for the convolution, like those beyond the border, and do not count in the
  statistics, so that padding a clip changes nothing.
  """

  norm: Literal["batch", "group"] = "batch"
  groups: int = 8
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *g d"],
    valid: Bool[Array, "b *g"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b *g d"]:
    width, inner = x.shape[-1], x.shape[-1] // 2
    mask = None if valid is None else valid[..., None]

    def normalise(y, name):
      if self.norm == "group":
        return GroupNorm(self.groups, name=name)(y, valid)
      layer = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=self.dtype,
        name=name,
      )
      return layer(y, mask=mask)

    linear = functools.partial(Linear, use_bias=False, dtype=self.dtype)
    y = linear(inner, name="reduce")(x)
    y = jax.nn.relu(normalise(y, "reduce_norm"))
    if mask is not None:
      y = y * mask
    y = Neighbours(inner, dtype=self.dtype, name="mix")(y)
    y = jax.nn.relu(normalise(y, "mix_norm"))
    y = linear(width, name="expand")(y)
    return jax.nn.relu(x + normalise(y, "expand_norm"))


class Neighbours(nn.Module):
  """Convolution with a kernel of 3 along every grid axis, zeros outside.

  Equal to `flax.linen.Conv`.  On a CPU it is written as one product, which
  takes half the time of XLA's convolution and its gradient there.
  """

  width: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b *g c"]) -> Float[Array, "b *g d"]:
    shape = *(3,) * (x.ndim - 2), x.shape[-1], self.width
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    return by_platform(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      cpu=convolve_as_product,
      default=convolve,
    )


def convolve(
  x: Float[Array, "b *g c"], kernel: Float[Array, "*k c d"]
) -> Float[Array, "b *g d"]:
  """Convolution of the same size, by XLA."""
  grid = "DHW"[5 - x.ndim :]
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1,) * len(grid),
    padding="SAME",
    dimension_numbers=(f"N{grid}C", f"{grid}IO", f"N{grid}C"),
  )


def convolve_as_product(
  x: Float[Array, "b *g c"], kernel: Float[Array, "*k c d"]
) -> Float[Array, "b *g d"]:
  """The same as a product with each position's neighbours side by side."""
  (b, *grid, c), d = x.shape, kernel.shape[-1]
  padded = jnp.pad(x, ((0, 0), *((1, 1),) * len(grid), (0, 0)))

  def moved(start: tuple[int, ...]) -> Float[Array, "b *g c"]:
    stop = [first + size for first, size in zip(start, grid, strict=True)]
    return jax.lax.slice(padded, (0, *start, 0), (b, *stop, c))

  starts = itertools.product(range(3), repeat=len(grid))
  neighbours = jnp.concatenate([moved(start) for start in starts], axis=-1)
  y = neighbours.reshape(-1, neighbours.shape[-1]) @ kernel.reshape(-1, d)
  return y.reshape(b, *grid, d)


class WholeSlice(nn.Module):
  """Dense map of a whole slice (h, w, d) to one vector.

  This is the released 14x14 convolution without padding: its kernel is the
  token grid.  Weights of another grid are refused.
  """

  width: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b t h w d"]) -> Float[Array, "b t e"]:
    h, w, d = x.shape[2:]
    if self.has_variable("params", "kernel"):
      found = self.get_variable("params", "kernel").shape
      if found[:3] != (h, w, d):
        raise ValueError(
          f"STF-Net's slice weights are for {found[0]}x{found[1]} tokens of "
          f"width {found[2]}, the clip has {h}x{w} of width {d}; use clips "
          'of the size it was trained on, or slice_mixer="pool_dense"'
        )
    init = nn.initializers.variance_scaling(
      1.0, "fan_in", "truncated_normal", in_axis=(0, 1, 2), out_axis=3
    )
    kernel = self.param("kernel", init, (h, w, d, self.width))
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    y = jnp.einsum(
      "bthwd,hwde->bte", x.astype(self.dtype), kernel.astype(self.dtype)
    )
    return y + bias.astype(self.dtype)


class STFNet(nn.Module):
  """Embedding of 2d numbers from tokens of width d (paper: 768 to 1,536).

  axes: "described" moves axes as the article's text has it.  "released"
    reshapes without moving them, as the public code does, which mixes
    channels with positions: after the joint block (d, t, h, w) is read as
    (n, d), and before the slice block (t, h, w, d) as (t, d, h, w).  No
    position is then left to mask, so `valid` is not used there: repeated
    frames count as frames, as they do in that code.
  norm: "batch" (released) or "group" (per clip, and per slice in the disjoint
    path; for small batches).
  time: the code of a slice, from "seconds" or from the "index" of its source
    frames (released); mean over the frames of the tubelet.  "none" gives the
    disjoint path no code.
  slice_mixer: "whole" is a dense map over (h, w, d) tied to the token grid;
    "pool_dense" takes mean and maximum over space side by side, then a dense
    map from 2d to d, for small models and any grid.
  attention_init: see `GatedAttention`.
  paths: "both", or one of "joint" and "disjoint" alone (d numbers), to measure
    what each is worth.
  Features hold the attention weights of the paths there are (joint_attention
  [b n], which belong to tokens only with described axes, and slice_attention
  [b t]).
  """

  axes: Literal["described", "released"] = "described"
  norm: Literal["batch", "group"] = "batch"
  time: Literal["seconds", "index", "none"] = "seconds"
  slice_mixer: Literal["whole", "pool_dense"] = "whole"
  attention_hidden: int = 1024
  attention_init: Literal["fan_in", "released"] = "fan_in"
  paths: Literal["both", "joint", "disjoint"] = "both"
  groups: int = 8
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
    self._check_options()
    b, n, d = tokens.shape
    if n != grid.n:
      raise ValueError(f"{n} tokens do not fill a grid of {grid.shape}")
    if self.axes == "released":
      valid = None
    x = tokens.reshape(b, *grid.shape, d).astype(self.dtype)
    seconds = frame_time_s.astype(jnp.float32)
    position = seconds * CODE_RATE_HZ if self.time == "seconds" else frame_index
    code = sinusoid(position, d).reshape(b, grid.t, grid.tubelet, d).mean(2)
    vectors, features = [], {}
    if self.paths != "disjoint":
      joint, features["joint_attention"] = self._joint(x, valid, train)
      vectors.append(joint)
    if self.paths != "joint":
      features["slices"], features["slice_attention"], fine = self._disjoint(
        x, code, grid, valid, train
      )
      vectors.append(fine)
    embedding = jnp.concatenate(vectors, axis=-1).astype(jnp.float32)
    return embedding, {**features, "embedding": embedding}

  def _joint(self, x, valid, train):
    """Space and time at once: 3-D block, then attention over all tokens."""
    b, *shape, d = x.shape
    x = x + jnp.asarray(sinusoid_grid(*shape, d), x.dtype)
    places = None if valid is None else valid.reshape(b, *shape)
    x = Bottleneck(self.norm, self.groups, self.dtype, name="joint_block")(
      x, places, train=train
    )
    if self.axes == "released":
      x = jnp.moveaxis(x, -1, 1)  # the memory order of the released tensor
    pool = GatedAttention(
      self.attention_hidden, self.attention_init, self.dtype, name="joint_pool"
    )
    return pool(x.reshape(b, -1, d), valid)

  def _disjoint(self, x, code, grid, valid, train):
    """Each slice by itself, then its time, then attention over slices."""
    b, t, h, w, d = x.shape
    if self.axes == "released":
      x = jnp.moveaxis(x.reshape(b, t, d, h, w), 2, -1)
    places = None if valid is None else valid.reshape(b * t, h, w)
    block = Bottleneck(self.norm, self.groups, self.dtype, name="slice_block")
    x = block(x.reshape(b * t, h, w, d), places, train=train)
    slices = self._mix(x.reshape(b, t, h, w, d), valid)
    if self.time != "none":
      hidden = Linear(d, dtype=self.dtype, name="time_hidden")(code)
      slices = slices + Linear(d, dtype=self.dtype, name="time_out")(
        jax.nn.relu(hidden)
      )
    pool = GatedAttention(
      self.attention_hidden, self.attention_init, self.dtype, name="slice_pool"
    )
    real = None if valid is None else slice_valid(valid, grid)
    fine, weight = pool(slices, real)
    return slices, weight, fine

  def _mix(self, x, valid):
    """One vector a slice from its (h, w, d)."""
    b, t, h, w, d = x.shape
    if self.slice_mixer == "whole":
      if valid is not None:
        x = x * valid.reshape(b, t, h, w, 1)
      return WholeSlice(d, self.dtype, name="slice_mixer")(x)
    x = x.reshape(b, t, h * w, d)
    valid = None if valid is None else valid.reshape(b, t, h * w)
    pooled = [masked_mean(x, valid), masked_max(x, valid)]
    return Linear(d, dtype=self.dtype, name="slice_mixer")(
      jnp.concatenate(pooled, axis=-1)
    )

  def _check_options(self):
    allowed = {
      "axes": ("described", "released"),
      "norm": ("batch", "group"),
      "time": ("seconds", "index", "none"),
      "slice_mixer": ("whole", "pool_dense"),
      "attention_init": ("fan_in", "released"),
      "paths": ("both", "joint", "disjoint"),
    }
    for name, choices in allowed.items():
      if getattr(self, name) not in choices:
        raise ValueError(
          f"STFNet {name}={getattr(self, name)!r}; choose one of {choices}"
        )
