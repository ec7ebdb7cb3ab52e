"""Fixed sine and cosine codes of position, on a line and in a token grid.

Axes: n position, t h w token grid, d width.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

BASE = 10_000.0  # Vaswani et al. 2017


@functools.lru_cache(maxsize=32)
def sinusoid_table(n: int, width: int) -> Float[np.ndarray, "n d"]:
  """Code of token numbers 0..n-1 as VideoMAE adds it (not learned).

  Sines stand in even columns and cosines in odd ones; columns 2i and 2i+1
  share the frequency BASE**(-2i/d).  Computed in float64 like the original,
  so that the float32 result is the same bit for bit.
  """
  column = np.arange(width)
  divisor = np.power(BASE, 2 * (column // 2) / width)
  angle = np.arange(n)[:, None] / divisor
  table = np.where(column % 2 == 0, np.sin(angle), np.cos(angle))
  return table.astype(np.float32)


def sinusoid(
  position: Real[Array, "*n"], width: int
) -> Float[Array, "*n d"]:
  """The same code of any real positions (frame numbers, scaled seconds)."""
  column = np.arange(width)
  rate = np.power(BASE, -2 * (column // 2) / width).astype(np.float32)
  angle = position.astype(jnp.float32)[..., None] * rate
  return jnp.where(column % 2 == 0, jnp.sin(angle), jnp.cos(angle))


@functools.lru_cache(maxsize=32)
def sinusoid_grid(
  t: int, h: int, w: int, width: int
) -> Float[np.ndarray, "t h w d"]:
  """Code of a place in a token grid: time, row and column side by side.

  Each axis has 2*ceil(d/6) channels (made even), sine and cosine interleaved;
  what exceeds d is cut off.  This is `PositionalEncoding3D` of the package
  positional_encodings, which the released STF-Net uses.
  """
  channels = 2 * math.ceil(width / 6)
  code = np.zeros((t, h, w, 3 * channels), np.float32)
  for axis, length in enumerate((t, h, w)):
    shape = [1, 1, 1, channels]
    shape[axis] = length
    part = slice(axis * channels, (axis + 1) * channels)
    code[..., part] = sinusoid_table(length, channels).reshape(shape)
  return code[..., :width]
