"""AVI, MP4 and MOV to a recording; times are those of the container."""

from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64, UInt8

from echo_jax import units
from echo_jax.data.ingest.recording import (
  Recording,
  coloured_pct,
  luminance,
  repeated_frames,
)  # fmt: skip
from echo_jax.data.ingest.sector import find_sector
from echo_jax.data.ledger import Rejected

GREY_TOLERANCE = 16  # JPEG and YUV rounding; a tinted map differs by more


def read_movie(path: Path) -> Recording:
  """Reads one movie; see `reading.read_recording`.

  A movie has no header: spacing, device, R waves and heart rate are unknown,
  and its kind is cine (still for one frame) until somebody says otherwise.

  Raises:
    Rejected: damaged, without frames or not decodable.
  """
  _check_whole(path)
  notes: list[str] = []
  frames, times, coding, photometric = _decode(path, notes)
  sector = find_sector(luminance(frames))
  if not sector.any():
    notes.append("no ultrasound sector found in the pixels")
  repeats = repeated_frames(frames)
  if repeats:
    notes.append(
      f"{len(repeats)} of {len(frames)} frames repeat the one before"
    )
  return Recording(
    frames, times, "container" if not np.isnan(times).any() else "",
    np.full(2, np.nan, np.float32), sector,
    "cine" if len(frames) > 1 else "still", "", np.zeros(0), float("nan"), (),
    photometric, coding, coloured_pct(frames, sector), tuple(notes),
  )  # fmt: skip


def is_grey(frames: UInt8[np.ndarray, "T H W c"]) -> bool:
  """True if red, green and blue are equal within coding noise everywhere."""
  if frames.shape[-1] == 1:
    return True
  return all(
    int((frame.max(-1) - frame.min(-1)).max()) <= GREY_TOLERANCE
    for frame in frames
  )


def _check_whole(path: Path) -> None:
  """Refuses an AVI that is shorter than its own RIFF header says."""
  with path.open("rb") as file:
    head = file.read(8)
  says, has = int.from_bytes(head[4:], "little") + 8, path.stat().st_size
  unset = says in (8, 2**32 + 7)  # a writer that never came back
  if head[:4] == b"RIFF" and has < says and not unset:
    raise Rejected(
      f"truncated movie: {has} of {says} bytes are there; copy it again"
    )


def _decode(
  path: Path, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, str, str]:
  """Frames, times in ms, container and codec, pixel format."""
  frames: list[np.ndarray] = []
  stamps: list[float] = []
  try:
    with av.open(str(path), metadata_errors="replace") as container:
      if not container.streams.video:
        raise Rejected("no video: the file has no video stream")
      stream = container.streams.video[0]
      for frame in container.decode(stream):
        grey = frame.format.name.startswith("gray")
        pixels = frame.to_ndarray(format="gray" if grey else "rgb24")
        frames.append(pixels[..., None] if grey else pixels)
        stamps.append(float("nan") if frame.time is None else frame.time)
      listed = stream.frames
      coding = f"{container.format.name}, {stream.codec_context.name}"
      photometric = str(stream.codec_context.pix_fmt)
  except av.FFmpegError as error:
    raise Rejected(
      f"damaged movie: frame {len(frames)} cannot be decoded "
      f"({type(error).__name__}: {error.strerror})"
    ) from error
  if not frames:
    raise Rejected("empty movie: the file has a video stream but no frame")
  sizes = {pixels.shape for pixels in frames}
  if len(sizes) > 1:
    raise Rejected(f"frames of {len(sizes)} sizes in one movie")
  if listed and listed != len(frames):
    notes.append(
      f"the movie's header lists {listed} frames, {len(frames)} were decoded"
    )
  return np.stack(frames), _times(stamps, notes), coding, photometric


def _times(stamps: list[float], notes: list[str]) -> Float64[np.ndarray, "T"]:
  """Presentation times in ms from the first frame; NaN if they do not rise."""
  times = units.ms_from_s(stamps)
  if np.isnan(times).any():
    notes.append("the movie has frames without a time: times unknown")
    return np.full(len(times), np.nan)
  if not (np.diff(times) > 0).all():
    notes.append("the movie's frame times do not rise: times unknown")
    return np.full(len(times), np.nan)
  return times - times[0]
