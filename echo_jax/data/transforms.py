"""Augmentation of clips on the host; one draw a clip, the same for its frames.

Grey levels are taken as logarithms of the echo's amplitude: 255 levels stand
for `dynamic_range_db`, so that a loss in decibels is a step in grey.
Axes: T frame, H W pixels, c channel.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from echo_jax.data.fan import find_fan, ray_coordinates

WHITE = 255.0
SHARES = (
  "flip_horizontal", "flip_vertical", "contrast", "speckle", "crop",
  "frame_rate",
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
  """What may happen to a training clip; all at their defaults means nothing.

  A size is the largest that is drawn, evenly from none to it (or from minus
  to plus it, where a sign makes sense).

  Attributes:
    shift_px: shift up, down, left or right; the border turns black.
    gain: relative change of brightness, up or down.
    flip_horizontal, flip_vertical: probability; the released Echo-Vision-FM
      code uses 0.5 for both, which turns the heart upside down.
    contrast: relative change of the dynamic range, up or down; white stays
      white and black stays black.
    attenuation_db: loss at the deepest pixel; grows linearly with the depth
      along the rays from the sector's apex.
    speckle: strength of a multiplicative noise that stands still; at 1 the
      factor is Rayleigh distributed with mean 1 (fully developed speckle).
    speckle_px: its grain, the standard deviation of a Gaussian.
    shadow_db: loss behind an acoustic shadow, from the probe's face down.
    shadow_deg: its width, at least a third of it.
    rotation_deg: rotation about the sector's apex; positive to the right.
    crop: share of the picture's area cut off before the rest is enlarged to
      the same size.  It changes lengths and so volumes in ml.
    crop_aspect: relative change of width over height in that.
    frame_rate: share of the frames left out, as a slower scanner would; the
      clip's span and the times of its frames stay true.
    dynamic_range_db: of the picture.
  """

  shift_px: int = 0
  gain: float = 0.0
  flip_horizontal: float = 0.0
  flip_vertical: float = 0.0
  contrast: float = 0.0
  attenuation_db: float = 0.0
  speckle: float = 0.0
  speckle_px: float = 1.2
  shadow_db: float = 0.0
  shadow_deg: float = 20.0
  rotation_deg: float = 0.0
  crop: float = 0.0
  crop_aspect: float = 0.0
  frame_rate: float = 0.0
  dynamic_range_db: float = 60.0

  def __post_init__(self) -> None:
    for field in fields(self):
      value = getattr(self, field.name)
      if not 0 <= value < np.inf:
        raise ValueError(f"{field.name} is {value}, wants 0 or more")
    for name in SHARES:
      if getattr(self, name) > 1:
        raise ValueError(f"{name} is {getattr(self, name)}, wants 0 to 1")
    for name in ("contrast", "crop", "frame_rate"):
      if getattr(self, name) == 1:
        raise ValueError(f"{name} is 1, which leaves nothing; wants less")
    if not self.dynamic_range_db:
      raise ValueError("dynamic_range_db is 0, wants the decibels of 0 to 255")

  @property
  def needs_sector(self) -> bool:
    """Whether something goes along or about the rays of the sector."""
    return bool(self.attenuation_db or self.shadow_db or self.rotation_deg)

  @property
  def moves(self) -> bool:
    """Whether a structure may end up elsewhere in the picture."""
    return bool(
      self.shift_px or self.flip_horizontal or self.flip_vertical
      or self.rotation_deg or self.crop or self.crop_aspect
    )  # fmt: skip


@dataclass(frozen=True)
class Draw:
  """The random numbers of one clip, whatever is switched on.

  Attributes:
    shift, gain, flip: uniform numbers for the augmentations of that name.
    seed: of each other one, together with its name.
  """

  shift: Float[np.ndarray, "2"]
  gain: float
  flip: Float[np.ndarray, "2"]
  seed: int

  def of(self, name: str) -> np.random.Generator:
    """The generator of one augmentation, which no other one reads from."""
    entropy = (self.seed, zlib.crc32(name.encode()))
    return np.random.Generator(np.random.SFC64(entropy))


def draw_numbers(rng: np.random.Generator) -> Draw:
  """Draws the same numbers whatever the settings are.

  So that switching one augmentation on does not change another.
  """
  shift, gain = rng.uniform(size=2), rng.uniform(-1.0, 1.0)
  flip, seed = rng.uniform(size=2), int(rng.integers(2**63))
  return Draw(shift, gain, flip, seed)


def augment(
  example: Mapping[str, Any], how: Augmentation, rng: np.random.Generator
) -> dict[str, Any]:
  """Applies one draw to `video` and, where it moves things, to `sector`."""
  return apply_draw(example, how, draw_numbers(rng))


def thinning(how: Augmentation, draw: Draw) -> tuple[float, float]:
  """Share of the frame rate that is kept, and phase; see `thin_frames`."""
  if not how.frame_rate:
    return 1.0, 0.0
  left_out, phase = draw.of("frame_rate").uniform(size=2)
  return 1.0 - how.frame_rate * float(left_out), float(phase)


def apply_draw(
  example: Mapping[str, Any], how: Augmentation, draw: Draw
) -> dict[str, Any]:
  """What `how` and `draw` make of an example (but for its frame rate).

  Grey levels change first, in the scanner's own geometry, then the picture is
  moved.

  Raises:
    ValueError: rays are needed and the example has no sector.
  """
  if how.needs_sector and "sector" not in example:
    raise ValueError(
      "attenuation_db, shadow_db and rotation_deg go by the sector's apex, "
      "and this example has no sector"
    )
  out = dict(example)
  out["video"] = _change_grey(out, how, draw)
  _turn_and_crop(out, how, draw)
  # Not `integers`, which draws nothing for a range of one.
  reach = how.shift_px
  shift = (draw.shift * (2 * reach + 1)).astype(int) - reach
  flips = draw.flip < (how.flip_vertical, how.flip_horizontal)
  for name, axes in (("video", (1, 2)), ("sector", (0, 1))):
    if name in out and (flips.any() or shift.any()):
      flipped = np.flip(out[name], tuple(np.array(axes)[flips]))
      out[name] = _shift(flipped, shift, axes)
  return out


def _change_grey(
  example: Mapping[str, Any], how: Augmentation, draw: Draw
) -> UInt8[np.ndarray, "T H W c"]:
  """Speckle, losses, dynamic range and gain as one factor and one offset."""
  video = example["video"]
  factor, offset = 1.0, 0.0
  if how.speckle:
    factor = _speckle(video.shape[1:3], how, draw.of("speckle"))
  if how.attenuation_db or how.shadow_db:
    loss_db = _losses_db(example["sector"], how, draw)
    offset = loss_db * np.float32(-WHITE / how.dynamic_range_db)
  if how.contrast:
    change = how.contrast * draw.of("contrast").uniform(-1.0, 1.0)
    # White stays: of a range larger by `change`, less lies below any grey.
    stretch = 1.0 / (1.0 + change)
    factor, offset = factor * stretch, offset * stretch + WHITE * (1 - stretch)
  gain = 1.0 + how.gain * draw.gain
  factor, offset = factor * gain, offset * gain
  if np.ndim(factor) == 0 and np.ndim(offset) == 0:
    if factor == 1 and offset == 0:
      return video
    grey = np.clip(np.arange(256) * factor + offset, 0, WHITE)
    grey[0] = 0  # what was too faint to be shown is not known now
    return cv2.LUT(video, np.rint(grey).astype(np.uint8)).reshape(video.shape)
  return _scale(video, factor, offset)


def _scale(
  video: UInt8[np.ndarray, "T H W c"], factor: Any, offset: Any
) -> UInt8[np.ndarray, "T H W c"]:
  """Pixelwise factor and offset, rounded; black stays black."""
  rows, columns, channels = video.shape[1:]
  factor, offset = (
    np.repeat(
      np.broadcast_to(part, (rows, columns))[..., None], channels, axis=-1
    ).astype(np.float32)
    for part in (factor, offset)
  )
  out = np.empty_like(video)
  for frame, changed in zip(video, out, strict=True):
    grey = frame * factor
    grey += offset
    grey *= frame != 0
    # Rounds, and cuts off below 0 and above 255.
    changed[...] = cv2.convertScaleAbs(np.maximum(grey, 0)).reshape(frame.shape)
  return out


def _speckle(
  shape: tuple[int, int], how: Augmentation, rng: np.random.Generator
) -> Float[np.ndarray, "H W"]:
  """A factor with mean 1 from the envelope of smoothed complex noise."""
  strength = how.speckle * rng.uniform()
  noise = rng.standard_normal((*shape, 2), np.float32)
  spread = 1.0
  if how.speckle_px:
    half = max(math.ceil(3 * how.speckle_px), 1)
    kernel = cv2.getGaussianKernel(2 * half + 1, how.speckle_px, cv2.CV_32F)
    noise = cv2.sepFilter2D(noise, -1, kernel, kernel)
    spread = float(np.square(kernel).sum())  # of each part, by both axes
  envelope = np.hypot(noise[..., 0], noise[..., 1])
  mean = spread * math.sqrt(math.pi / 2)
  return (1 + strength * (envelope / mean - 1)).astype(np.float32)


def _losses_db(
  sector: Bool[np.ndarray, "H W"], how: Augmentation, draw: Draw
) -> Float[np.ndarray, "H W"]:
  """Attenuation along the rays and one shadow, inside the sector."""
  fan = find_fan(sector)
  depth, angle = ray_coordinates(fan, sector.shape)
  loss_db = np.zeros(sector.shape, np.float32)
  if how.attenuation_db:
    at_depth = how.attenuation_db * draw.of("attenuation").uniform()
    loss_db += np.float32(at_depth) * depth
  if how.shadow_db:
    where, width, deep = draw.of("shadow").uniform(size=3)
    seen = angle[sector]
    middle = seen.min() + where * (seen.max() - seen.min())
    half = math.radians(how.shadow_deg) * (1 + 2 * width) / 6
    away = np.clip((angle - middle) / max(half, 1e-6), -1, 1)
    # A raised cosine: the edges of a shadow are soft.
    loss_db += np.float32(how.shadow_db * deep / 2) * (
      1 + np.cos(np.float32(math.pi) * away)
    )
  return loss_db * sector


def _turn_and_crop(
  out: dict[str, Any], how: Augmentation, draw: Draw
) -> None:
  """Rotates about the apex and enlarges a crop, in one interpolation."""
  rows, columns = out["video"].shape[1:3]
  place = np.eye(3)  # from a pixel of the result to one of the clip
  if how.rotation_deg:
    turn = how.rotation_deg * draw.of("rotation").uniform(-1.0, 1.0)
    apex = find_fan(out["sector"]).apex_px
    place[:2] = cv2.getRotationMatrix2D(apex, -turn, 1.0)
  if how.crop or how.crop_aspect:
    place = place @ _crop_matrix(rows, columns, how, draw.of("crop"))
  if (place == np.eye(3)).all():
    return
  size = (columns, rows)
  video = np.empty_like(out["video"])
  bilinear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
  for frame, moved in zip(out["video"], video, strict=True):
    warped = cv2.warpAffine(frame, place[:2], size, flags=bilinear)
    moved[...] = warped.reshape(frame.shape)
  out["video"] = video
  if "spacing_mm" in out:
    row_mm, column_mm = out["spacing_mm"]
    # What a step to the right, or down, in the result is in the clip.
    steps_mm = place[:2, :2].T * (column_mm, row_mm)
    out["spacing_mm"] = np.float32(np.hypot(*steps_mm.T)[::-1])
  if "sector" in out:
    nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    mask = out["sector"].astype(np.uint8)
    out["sector"] = cv2.warpAffine(mask, place[:2], size, flags=nearest) > 0


def _crop_matrix(
  rows: int, columns: int, how: Augmentation, rng: np.random.Generator
) -> Float[np.ndarray, "3 3"]:
  """From pixels of the enlarged crop to those of the picture."""
  area = 1 - how.crop * rng.uniform()
  aspect = (1 + how.crop_aspect) ** rng.uniform(-1.0, 1.0)
  across = min(math.sqrt(area * aspect), 1.0)
  down = min(math.sqrt(area / aspect), 1.0)
  left, top = rng.uniform(size=2) * (1 - across, 1 - down)
  # Pixel centres lie at halves.
  return np.array(
    [
      [across, 0, columns * left + (across - 1) / 2],
      [0, down, rows * top + (down - 1) / 2],
      [0, 0, 1],
    ]
  )


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
