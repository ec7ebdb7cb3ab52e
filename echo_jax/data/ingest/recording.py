"""One recording as it was read, and the video record made from it.

Axes: T frame, H row, W column, c channel (1 grey or 3 RGB), r R wave.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from echo_jax.data import schema
from echo_jax.data.frames import decode_mask, encode_frames, encode_mask
from echo_jax.data.ingest.coded import CodedFrames, owners_jpeg
from echo_jax.data.ingest.regions import Region, picture_box
from echo_jax.data.ingest.spectrum import DopplerScale
from echo_jax.data.ledger import Rejected

AS_IS = "as-is"  # the owner's JPEG where it can be kept, else png
MASKS = ("lv_mask", "myo_mask", "la_mask", "rv_mask")
COLOURED = 48  # largest minus smallest channel; JPEG noise stays below
SAMPLED_FRAMES = 16


@dataclass(frozen=True)
class Recording:
  """What one file holds.

  Attributes:
    frames: uint8, grey (c = 1) or RGB (c = 3).
    frame_time_ms: from the first frame; all NaN if unknown.
    time_source: header attribute or container that gave the times.
    spacing_mm: row and column spacing; NaN if unknown or doubtful.
    sector: inside the ultrasound sector of this clip; all False if none.
    kind: cine, still, colour, pw, cw, tdi or mmode.
    device: manufacturer and model; "" if unknown.
    r_wave_ms: R waves from the first frame; empty if unknown.
    heart_rate_bpm: as the header has it; NaN if unknown.
    regions: as the header has them.
    photometric: interpretation of the stored pixels (YBR_FULL_422, yuvj420p).
    coding: transfer syntax, or container and codec.
    coloured_pct: share of the sector's pixels that are coloured, 0 to 100.
    warnings: what a user should know; without patient text.
    doppler: place and scale of a spectrum in the picture; None if there is
      none.
    coded: the owner's JPEG frames; None if they are coded otherwise.
    view: as the header codes it; "" if it does not.
  """

  frames: UInt8[np.ndarray, "T H W c"]
  frame_time_ms: Float[np.ndarray, "T"]
  time_source: str
  spacing_mm: Float[np.ndarray, "2"]
  sector: Bool[np.ndarray, "H W"]
  kind: str
  device: str
  r_wave_ms: Float[np.ndarray, "r"]
  heart_rate_bpm: float
  regions: tuple[Region, ...]
  photometric: str
  coding: str
  coloured_pct: float
  warnings: tuple[str, ...]
  doppler: DopplerScale | None = None
  coded: CodedFrames | None = None
  view: str = ""


def luminance(
  frames: UInt8[np.ndarray, "T H W c"],
) -> UInt8[np.ndarray, "T H W"]:
  """Grey value of each pixel (ITU-R BT.601 weights); grey stays as it is."""
  if frames.shape[-1] == 1:
    return frames[..., 0]
  grey = np.empty(frames.shape[:3], np.uint8)
  for frame, out in zip(frames, grey, strict=True):
    cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY, dst=out)
  return grey


def coloured_pct(
  frames: UInt8[np.ndarray, "T H W c"], where: Bool[np.ndarray, "H W"]
) -> float:
  """Percent of pixels in `where` whose channels differ by more than 48."""
  if frames.shape[-1] == 1 or not where.any():
    return 0.0
  few = np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).round().astype(int)
  inside = frames[np.unique(few)][:, where]
  span = inside.max(-1) - inside.min(-1)
  return float(100 * (span > COLOURED).mean())


def repeated_frames(frames: UInt8[np.ndarray, "T H W c"]) -> list[int]:
  """Indices of frames that equal the one before them, pixel for pixel."""
  return [
    i for i in range(1, len(frames)) if np.array_equal(frames[i], frames[i - 1])
  ]


def cut_to_picture(recording: Recording) -> Recording:
  """The box of its 2D regions, without the words around them.

  Raises:
    Rejected: the header has no 2D region that lies in the picture.
  """
  box = picture_box(recording.regions, *recording.sector.shape)
  if box is None:
    raise Rejected("cannot be cut: its header has no 2D region that fits it")
  x0, y0, x1, y1 = box
  rows, columns = slice(y0, y1), slice(x0, x1)
  return replace(
    recording, frames=recording.frames[:, rows, columns],
    sector=recording.sector[rows, columns], regions=(), doppler=None,
    coded=None,
  )  # fmt: skip


def to_record(
  recording: Recording, *, video_id: str, study_id: str, patient_id: str,
  split: str, codec: str = "png", size: tuple[int, int] | None = None,
  channels: int | None = None, **labels: Any,
) -> schema.Record:  # fmt: skip
  """The video record of a recording.

  Args:
    recording: what was read.
    video_id: `<source>:<id>`; likewise study_id and patient_id.
    study_id: see video_id.
    patient_id: see video_id.
    split: part of the data set.
    codec: raw, png (both lossless), jpeg, or as-is, which keeps the bytes of
      the owner's JPEG frames where size and picture stay the same and codes
      png elsewhere (`why_not_as_is` tells why).
    size: rows and columns of the stored frames, by area interpolation;
      spacing, sector and all labels in pixels follow.  None keeps the
      owner's size.
    channels: 1 takes the luminance, 3 repeats grey, None keeps.
    **labels: other keys of the record, in pixels of the owner's size.

  Raises:
    Rejected: a label that the record refuses (names key, value and range).
    ValueError: a size or number of channels that no picture can have.
  """
  rows, columns = size or recording.sector.shape
  if min(rows, columns) < 1:
    raise ValueError(f"size is {rows} x {columns} pixels, wants both above 0")
  scale = np.array([rows, columns]) / recording.sector.shape
  frames = _shown(recording, size, channels)
  coded, colour = _code(recording, frames, codec)
  sector = resize_mask(recording.sector, rows, columns)
  known = {
    "video_id": video_id, "study_id": study_id, "patient_id": patient_id,
    "split": split, "kind": recording.kind, "device": recording.device,
    "view": recording.view,
    "frames": coded, "frames_codec": _stored_codec(codec, colour),
    "colour": colour, "frames_shape": frames.shape[1:],
    "frame_time_ms": recording.frame_time_ms,
    "spacing_mm": recording.spacing_mm / scale,
    "sector": encode_mask(sector) if sector.any() else b"",
    "r_wave_ms": recording.r_wave_ms,
    "heart_rate_bpm": recording.heart_rate_bpm,
  }  # fmt: skip
  if recording.doppler is not None:
    known |= recording.doppler.resized(*scale).labels()
  try:
    labels = _resized_labels(labels, rows, columns, scale)
    return schema.make_record(**(known | labels))
  except ValueError as error:
    raise Rejected(f"bad label: {error}") from error


def why_not_as_is(
  recording: Recording, size: tuple[int, int] | None = None,
  channels: int | None = None,
) -> str:  # fmt: skip
  """Why `to_record` cannot keep the owner's JPEG frames; "" if it can."""
  frames = _shown(recording, size, channels)
  return owners_jpeg(recording.coded, frames)[1]


def as_is_notes(
  recording: Recording, record: schema.Record, codec: str,
  size: tuple[int, int] | None = None, channels: int | None = None,
) -> tuple[str, ...]:  # fmt: skip
  """A note for the ledger if `as-is` was asked for and could not be done."""
  if codec != AS_IS or record["frames_codec"] == "jpeg":
    return ()
  why = why_not_as_is(recording, size, channels)
  return (f"frames coded as png, not kept as they are: {why}",)


def _code(
  recording: Recording, frames: np.ndarray, codec: str
) -> tuple[list[bytes], str]:
  """Coded frames, and the photometric interpretation of the owner's JPEG."""
  if codec != AS_IS:
    return encode_frames(frames, codec), ""
  kept, why_not = owners_jpeg(recording.coded, frames)
  if why_not:
    return encode_frames(frames, "png"), ""
  return kept, recording.coded.colour


def _stored_codec(codec: str, colour: str) -> str:
  if codec != AS_IS:
    return codec
  return "jpeg" if colour else "png"


def _resized_labels(
  labels: dict[str, Any], rows: int, columns: int, scale: np.ndarray
) -> dict[str, Any]:
  """Labels in pixels of the stored size; pixel centres stay centres."""
  new = dict(labels)
  for name in ("tracing_px", "caliper_px"):
    if name in labels:
      points = np.asarray(labels[name], np.float32)
      xy = np.tile(scale[::-1], points.shape[-1] // 2)
      new[name] = (points + 0.5) * xy - 0.5
  for name in MASKS:
    if name in labels:
      new[name] = [_recoded(mask, rows, columns) for mask in labels[name]]
  return new


def _recoded(mask: bytes, rows: int, columns: int) -> bytes:
  """A coded mask in the stored size; a frame without one keeps none."""
  if not mask:
    return mask
  return encode_mask(resize_mask(decode_mask(mask), rows, columns))


def _shown(
  recording: Recording, size: tuple[int, int] | None, channels: int | None
) -> np.ndarray:
  """The frames as a reader of the record will see them."""
  rows, columns = size or recording.sector.shape
  return _resized(_with_channels(recording.frames, channels), rows, columns)


def _with_channels(frames: np.ndarray, channels: int | None) -> np.ndarray:
  if channels not in (None, 1, 3):
    raise ValueError(f"channels is {channels}; allowed: 1, 3 or None")
  if channels in (None, frames.shape[-1]):
    return frames
  if channels == 1:
    return luminance(frames)[..., None]
  return np.repeat(frames, 3, axis=-1)


def _resized(frames: np.ndarray, rows: int, columns: int) -> np.ndarray:
  if frames.shape[1:3] == (rows, columns):
    return frames
  shrinks = rows <= frames.shape[1] and columns <= frames.shape[2]
  # Area interpolation repeats pixels where it enlarges.
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  new = np.empty((len(frames), rows, columns, frames.shape[-1]), np.uint8)
  for frame, out in zip(frames, new, strict=True):
    resized = cv2.resize(frame, (columns, rows), interpolation=method)
    out[...] = resized.reshape(out.shape)
  return new


def resize_mask(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """A mask at another size: a pixel is in if half of it is."""
  if mask.shape == (rows, columns):
    return mask
  share = cv2.resize(
    mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
  )
  return share >= 0.5
