"""U-Net: the mask of one structure in single grey frames.

Ronneberger, Fischer & Brox (MICCAI 2015), small: two convolutions a level,
halved by maximum, brought back by repetition, with group norm (Wu & He 2018)
so that small batches are no matter.
Axes: b frame, H W pixels, d width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

FIRST_LOGIT = -3.0  # chosen: at first 5 % of a picture is the structure


class UNet(nn.Module):
  """Logits of the mask for every pixel.

  Level i, from 0 to `levels`, works at 1 / 2**i of the size with
  width * 2**i channels.  Features hold what each level gave on the way up.

  Raises:
    ValueError: frames that are not grey or do not divide by 2**levels.
  """

  width: int = 8
  levels: int = 3
  groups: int = 4
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, frames: Float[Array | np.ndarray, "b H W c"], *, train: bool = False
  ) -> tuple[Float[Array, "b H W 1"], dict[str, Array]]:
    del train  # no layer here behaves otherwise in training
    self._check(frames.shape)
    x, left, features = jnp.asarray(frames, self.dtype), [], {}
    for i in range(self.levels):
      x = self._level(x, i, "down")
      left.append(x)
      x = nn.max_pool(x, (2, 2), strides=(2, 2))
    x = features["bottom"] = self._level(x, self.levels, "down")
    for i in reversed(range(self.levels)):
      x = x.repeat(2, axis=1).repeat(2, axis=2)
      x = self._level(jnp.concatenate([x, left[i]], axis=-1), i, "up")
      features[f"up_{i}"] = x
    logits = nn.Conv(
      1, (1, 1), dtype=self.dtype, name="output",
      bias_init=nn.initializers.constant(FIRST_LOGIT),
    )(x)  # fmt: skip
    return logits.astype(jnp.float32), features

  def _level(
    self, x: Float[Array, "b h w d"], i: int, way: str
  ) -> Float[Array, "b h w e"]:
    """Two convolutions at one size."""
    width = self.width * 2**i
    for k in range(2):
      name = f"{way}_{i}_{k}"
      x = nn.Conv(
        width, (3, 3), use_bias=False, dtype=self.dtype, name=name
      )(x)
      x = nn.GroupNorm(self.groups, dtype=self.dtype, name=f"{name}_norm")(x)
      x = jax.nn.relu(x)
    return x

  def _check(self, shape: tuple[int, ...]) -> None:
    step = 2**self.levels
    if shape[-1] != 1 or shape[1] % step or shape[2] % step:
      raise ValueError(
        f"frames are {shape[1]}x{shape[2]} px with {shape[-1]} channels; the "
        f"U-Net wants 1 channel (grey) and sides that {step} divides"
      )
