"""Augmentation of clips on the host; one draw a clip, the same for its frames.

Axes: T frame, H W pixels, c channel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Augmentation:
  """What may happen to a training clip; all zero means nothing.

  Attributes:
    shift_px: largest shift up, down, left or right; the border turns black.
    gain: largest relative change of brightness.
    flip_horizontal, flip_vertical: probability; the released Echo-Vision-FM
      code uses 0.5 for both, which turns the heart upside down.
  """

  shift_px: int = 0
  gain: float = 0.0
  flip_horizontal: float = 0.0
  flip_vertical: float = 0.0


def augment(
  example: dict[str, Any], how: Augmentation, rng: np.random.Generator
) -> dict[str, Any]:
  """Applies one draw to `video` and, where it moves things, to `sector`.

  The same numbers are drawn whatever the settings are, so that switching one
  augmentation on does not change the draws of another.
  """
  # Not `integers`, which draws nothing for a range of one.
  reach = how.shift_px
  shift = (rng.uniform(size=2) * (2 * reach + 1)).astype(int) - reach
  gain = 1.0 + how.gain * rng.uniform(-1.0, 1.0)
  flips = rng.uniform(size=2) < (how.flip_vertical, how.flip_horizontal)
  out = dict(example)
  for name, axes in (("video", (1, 2)), ("sector", (0, 1))):
    if name in example:
      flipped = np.flip(example[name], tuple(np.array(axes)[flips]))
      out[name] = _shift(flipped, shift, axes)
  if how.gain:
    bright = np.rint(np.clip(out["video"] * gain, 0, 255))
    out["video"] = bright.astype(np.uint8)
  return out


def _shift(
  array: np.ndarray, shift: np.ndarray, axes: tuple[int, int]
) -> np.ndarray:
  """Moves an array by whole pixels; what comes in from outside is zero."""
  if not shift.any():
    return np.ascontiguousarray(array)
  moved = np.zeros_like(array)
  to, come = [slice(None)] * array.ndim, [slice(None)] * array.ndim
  for axis, step in zip(axes, shift, strict=True):
    to[axis] = slice(max(step, 0), array.shape[axis] + min(step, 0))
    come[axis] = slice(max(-step, 0), array.shape[axis] + min(-step, 0))
  moved[tuple(to)] = array[tuple(come)]
  return moved
