"""The input contract: what a model is shown, from stored frames to floats.

Training, evaluation, prediction of single files and streaming all prepare
their input here.  Weights carry the contract's hash and refuse another one.
Axes: T frame of the clip, H W pixels, c channel.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from echo_jax.data.clips import ClipFrames
from echo_jax.data.frames import decode_frames, decode_mask
from echo_jax.data.schema import Record, frame_shape

OUTSIDE = ("kept", "black")
ASPECTS = ("kept", "stretched")


@dataclass(frozen=True)
class InputContract:
  """How a clip reaches a model.

  Attributes:
    frames: T, frames a clip.
    span_s: seconds a clip covers; 0 means the whole video, in equal index
      steps, as the released Echo-Vision-FM code samples (its frame rate then
      varies with the length of the video).
    span_beats: heartbeats a clip covers, from an R wave on; 0 means `span_s`
      decides, which has no meaning otherwise.
    size: rows and columns after resizing.
    channels: 1 (luminance) or 3 (RGB).
    mean, std: subtracted from and dividing values in 0..1.
    outside: what lies outside the ultrasound sector is "kept" or "black".
    aspect: of a picture that is no square: "kept", between black borders, or
      "stretched" to fill the square, as the released Echo-Vision-FM code does.
  """

  frames: int = 16
  span_s: float | int = 1.4
  size: int = 112
  channels: int = 1
  mean: float | int = 0.0
  std: float | int = 1.0
  outside: str = "kept"
  span_beats: int = 0
  aspect: str = "kept"

  def __post_init__(self) -> None:
    # Equal contracts must hash equally: 1 and 1.0 are two texts in JSON.
    for name in ("span_s", "mean", "std"):
      object.__setattr__(self, name, float(getattr(self, name)))
    for name, fits, wanted in (
      ("frames", self.frames >= 1, "at least 1 frame"),
      ("span_s", 0 <= self.span_s < np.inf, "0 s (whole video) or more"),
      ("span_beats", self.span_beats >= 0, "0 (use span_s) or more beats"),
      ("size", self.size >= 1, "at least 1 pixel"),
      ("channels", self.channels in (1, 3), "1 (grey) or 3 (RGB)"),
      ("mean", np.isfinite(self.mean), "a finite number"),
      ("std", 0 < self.std < np.inf, "a finite number above 0"),
      ("outside", self.outside in OUTSIDE, f"one of {OUTSIDE}"),
      ("aspect", self.aspect in ASPECTS, f"one of {ASPECTS}"),
    ):
      if not fits:
        raise ValueError(
          f"{name} is {getattr(self, name)!r}; the input contract wants "
          f"{wanted}"
        )

  def hash(self, targets: Sequence[str] = ()) -> str:
    """Short digest of all settings and of what is predicted, in its order."""
    return settings_hash(dataclasses.asdict(self) | {"targets": list(targets)})

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Shape of one clip: T H W c."""
    return (self.frames, self.size, self.size, self.channels)

  def refuse_other(self, other: "InputContract", what: str) -> None:
    """Raises ValueError when weights were made under another contract."""
    if other == self:
      return
    ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
    unequal = [
      f"{name} {theirs[name]} (here {ours[name]})"
      for name in ours
      if ours[name] != theirs[name]
    ]
    raise ValueError(
      f"{what} was trained under another input contract: {', '.join(unequal)}"
    )


def settings_hash(settings: Mapping[str, Any]) -> str:
  """Short digest of plain settings, whatever their order."""
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def draw_clip(
  record: Record, clip: ClipFrames, contract: InputContract
) -> UInt8[np.ndarray, "T H W c"]:
  """Decodes the frames of a clip and brings them to the contract's shape.

  Raises:
    ValueError: the outside shall be black, but the sector is not known.
  """
  shape, codec = frame_shape(record), record["frames_codec"]
  inside = _sector_of(record) if contract.outside == "black" else None
  chosen, where = np.unique(clip.index, return_inverse=True)
  coded = [record["frames"][number] for number in chosen.tolist()]
  frames = decode_frames(coded, codec, shape)
  if inside is not None:
    frames = frames * inside[..., None]
  if frames.shape[1:] != contract.shape[1:]:
    how = contract.size, contract.channels, contract.aspect
    frames = np.stack([fit_frame(frame, *how) for frame in frames])
  return frames[where]


def draw_cavity(
  record: Record, clip: ClipFrames, contract: InputContract
) -> Bool[np.ndarray, "T H W"]:
  """The ventricle's mask in the frames of a clip; False where it has none."""
  if not len(record["lv_mask"]):
    return np.zeros(contract.shape[:3], bool)
  masks = [decode_mask(record["lv_mask"][i]) for i in clip.index.tolist()]
  how = contract.size, contract.aspect
  return np.stack([fit_mask(mask, *how) for mask in masks])


def _sector_of(record: Record) -> Bool[np.ndarray, "H W"]:
  """The stored sector; what is not known is not taken for everything."""
  if not record["sector"]:
    raise ValueError(
      f"{record['video_id']} has no sector, so nothing can be done inside or "
      "outside of it; leave such videos out, or use outside='kept', masks that "
      "need no sector and augmentations that need none"
    )
  return decode_mask(record["sector"])


def fit_frame(
  frame: UInt8[np.ndarray, "H W c"], size: int, channels: int,
  aspect: str = "kept",
) -> UInt8[np.ndarray, "s s d"]:  # fmt: skip
  """One frame as a square of `size` pixels with 1 or 3 channels."""
  frame = recoloured(frame, channels)
  rows, columns = frame.shape[:2]
  if (rows, columns) == (size, size):
    return frame
  scale = size / max(rows, columns)
  inner = (max(round(columns * scale), 1), max(round(rows * scale), 1))
  if aspect == "stretched":
    inner = (size, size)
  method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
  resized = cv2.resize(frame, inner, interpolation=method)
  square = np.zeros((size, size, channels), np.uint8)
  top, left = (size - inner[1]) // 2, (size - inner[0]) // 2
  square[top : top + inner[1], left : left + inner[0]] = resized.reshape(
    inner[1], inner[0], channels
  )
  return square


def fitted_spacing(
  record: Record, contract: InputContract
) -> Float[np.ndarray, "2"]:
  """Row and column spacing of the contract's square, mm; NaN if unknown."""
  rows, columns = frame_shape(record)[:2]
  spacing_mm = np.asarray(record["spacing_mm"], np.float32)
  if contract.aspect == "stretched":
    return spacing_mm * np.float32([rows, columns]) / contract.size
  return spacing_mm * np.float32(max(rows, columns) / contract.size)


def recoloured(
  frame: UInt8[np.ndarray, "H W c"], channels: int
) -> UInt8[np.ndarray, "H W d"]:
  """A grey or RGB frame as luminance (1 channel) or as three channels."""
  if frame.shape[-1] == channels:
    return frame
  if channels == 3:
    return np.repeat(frame, 3, axis=-1)
  # ITU-R BT.601 weights, as DICOM's YBR_FULL.
  grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
  return grey[..., None]


def fit_sector(
  record: Record, contract: InputContract
) -> Bool[np.ndarray, "H W"]:
  """The sector in the contract's square.

  Raises:
    ValueError: it is not known.
  """
  return fit_mask(_sector_of(record), contract.size, contract.aspect)


def fit_mask(
  mask: Bool[np.ndarray, "H W"], size: int, aspect: str = "kept"
) -> Bool[np.ndarray, "s s"]:
  """A mask in a square of `size` pixels, as `fit_frame` fits its frame."""
  grey = mask.astype(np.uint8)[..., None] * 255
  return fit_frame(grey, size, 1, aspect)[..., 0] > 127


def normalise(
  raw: UInt8[jax.Array, "*any"], contract: InputContract
) -> Float[jax.Array, "*any"]:
  """Stored grey levels 0..255 to the float32 values a model takes."""
  return (raw.astype(jnp.float32) / 255.0 - contract.mean) / contract.std
