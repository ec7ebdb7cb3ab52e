"""Spatial median of every frame, which takes speckle out of a target.

Axes: b clip, T H W frames and pixels, c channel.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Shaped

SIZES = (3, 5)


def median_of_frames(
  video: Shaped[jax.Array, "b T H W c"], size_px: int
) -> Shaped[jax.Array, "b T H W c"]:
  """Median over squares of `size_px` pixels; borders are repeated outwards.

  Raises:
    ValueError: another size than 3 or 5 pixels.
  """
  if size_px not in SIZES:
    raise ValueError(f"a median over {size_px} px; there are {SIZES} px")
  reach, (rows, columns) = size_px // 2, video.shape[2:4]
  edge = ((0, 0), (0, 0), (reach, reach), (reach, reach), (0, 0))
  padded = jnp.pad(video, edge, mode="edge")
  return _median(
    [
      padded[:, :, i : i + rows, j : j + columns]
      for i in range(size_px)
      for j in range(size_px)
    ]
  )


def _median(values: list[jax.Array]) -> jax.Array:
  """Of an odd number of arrays, each element by itself.

  By comparisons of pairs, which a compiler fuses; a sort along a new axis
  would write all arrays.  Of more than half of the values the least and the
  greatest are no median: they are dropped, and another value joins.
  """
  kept = values[: len(values) // 2 + 2]
  for value in [*values[len(kept) :], None]:
    kept = _ends_out(kept)[1:-1]
    if value is not None:
      kept = [*kept, value]
  return kept[0]


def _ends_out(values: list[jax.Array]) -> list[jax.Array]:
  """The same values with the least first and the greatest last."""
  least, *others = values
  for i, value in enumerate(others):
    least, others[i] = jnp.minimum(least, value), jnp.maximum(least, value)
  greatest = others.pop()
  for i, value in enumerate(others):
    greatest, others[i] = (
      jnp.maximum(greatest, value), jnp.minimum(greatest, value)
    )  # fmt: skip
  return [least, *others, greatest]
