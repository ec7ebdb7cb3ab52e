"""A video as a sequence of tubelets, and which of them are hidden or real.

Tokens run over time first, then rows, then columns.  Values inside a token run
over tubelet frame, row, column, channel: the order of the reconstruction
target in VideoMAE (Tong et al. 2022) as Hugging Face computes it.
Axes: b clip, T H W frames and pixels, t h w token grid, n token, k kept
token, q hidden token, p values per tubelet, c channel.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped


@dataclasses.dataclass(frozen=True)
class TokenGrid:
  """How many tubelets fit a clip: t slices of h rows and w columns.

  `tubelet` counts frames and `patch` counts pixels along one side.
  """

  t: int
  h: int
  w: int
  tubelet: int
  patch: int

  @classmethod
  def of(
    cls,
    video_shape: tuple[int, ...],
    tubelet: int,
    patch: int,
    channels: int | None = None,
  ) -> "TokenGrid":
    """Grid of a video [..., T, H, W, c].

    Raises:
      ValueError: a size that leaves a rest, or other `channels` than these.
    """
    frames, height, width, found = video_shape[-4:]
    if channels not in (None, found):
      raise ValueError(
        f"the video has {found} channels and the encoder was made for "
        f"{channels}; set channels={found} or convert it"
      )
    rest = frames % tubelet, height % patch, width % patch
    if any(rest) or not all((frames, height, width)):
      raise ValueError(
        f"a video of {frames} frames of {height}x{width} px does not divide "
        f"into tubelets of {tubelet} frames of {patch}x{patch} px; resample "
        "or resize the clip, or choose another tubelet or patch"
      )
    return cls(
      frames // tubelet, height // patch, width // patch, tubelet, patch
    )

  @property
  def shape(self) -> tuple[int, int, int]:
    return self.t, self.h, self.w

  @property
  def n(self) -> int:
    return self.t * self.h * self.w


class Mask(NamedTuple):
  """Which tokens a masked autoencoder sees, as indices of fixed size.

  `kept` and `hidden` together name every token once.  `weight` says how much
  a hidden token counts in the loss (0 outside the ultrasound sector).
  """

  kept: Int[Array | np.ndarray, "b k"]
  hidden: Int[Array | np.ndarray, "b q"]
  weight: Float[Array | np.ndarray, "b q"]


def mask_from_bool(hidden: Bool[Array | np.ndarray, "b n"]) -> Mask:
  """Indices of a mask that is True where a token is hidden (on the host).

  Both index arrays ascend, which is the order of boolean indexing.  Every row
  must hide the same number of tokens, since their number is a shape.
  """
  hidden = np.asarray(hidden)
  counts = hidden.sum(axis=1)
  if len(counts) == 0 or (counts != counts[0]).any():
    raise ValueError(
      "every clip must hide the same number of tokens, but the rows hide "
      f"{sorted(set(counts.tolist()))}; draw masks with a fixed count"
    )
  order = np.argsort(hidden, axis=1, kind="stable").astype(np.int32)
  kept = hidden.shape[1] - int(counts[0])
  weight = np.ones((len(hidden), int(counts[0])), np.float32)
  return Mask(order[:, :kept], order[:, kept:], weight)


def patchify(
  video: Shaped[Array, "b T H W c"], tubelet: int, patch: int
) -> Shaped[Array, "b n p"]:
  """The pixel values of every tubelet, p = tubelet * patch * patch * c."""
  grid = TokenGrid.of(video.shape, tubelet, patch)
  b, *_, c = video.shape
  x = video.reshape(b, grid.t, tubelet, grid.h, patch, grid.w, patch, c)
  return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, grid.n, -1)


def unpatchify(
  tokens: Shaped[Array, "b n p"], grid: TokenGrid
) -> Shaped[Array, "b T H W c"]:
  """Inverse of `patchify`; the channel count follows from p."""
  b, patch = len(tokens), grid.patch
  x = tokens.reshape(*(b, *grid.shape), grid.tubelet, patch, patch, -1)
  x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)
  return x.reshape(
    b, grid.t * grid.tubelet, grid.h * patch, grid.w * patch, -1
  )


def take_tokens(
  tokens: Shaped[Array, "b n *d"], index: Int[Array | np.ndarray, "b k"]
) -> Shaped[Array, "b k *d"]:
  """Rows of each clip's tokens by index."""
  index = jnp.asarray(index)
  index = index.reshape(*index.shape, *(1,) * (tokens.ndim - 2))
  return jnp.take_along_axis(tokens, index, axis=1)


def token_valid(
  frame_valid: Bool[Array | np.ndarray, "b T"], grid: TokenGrid
) -> Bool[Array, "b n"]:
  """A token is valid if at least one of its frames was really recorded."""
  frames = jnp.asarray(frame_valid).reshape(-1, grid.t, grid.tubelet)
  return jnp.repeat(frames.any(axis=-1), grid.h * grid.w, axis=1)


def slice_valid(
  valid: Bool[Array, "b n"], grid: TokenGrid
) -> Bool[Array, "b t"]:
  """A slice of tokens at one time is valid if any of its tokens is."""
  return valid.reshape(-1, grid.t, grid.h * grid.w).any(axis=-1)


def only_real(
  x: Float[Array, "b T H W d"], real: Bool[Array, "b T"]
) -> Float[Array, "b T H W d"]:
  """Maps of frames that are not real become 0."""
  return x * real[:, :, None, None, None].astype(x.dtype)
