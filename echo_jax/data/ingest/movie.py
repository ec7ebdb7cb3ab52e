"""AVI, MP4 and MOV to a recording; times are those of the container."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from echo_jax.data.ingest.coded import CodedFrames
from echo_jax.data.ingest.recording import (
  Recording,
  coloured_pct,
  luminance,
  repeated_frames,
)  # fmt: skip
from echo_jax.data.ingest.sector import find_sector
from echo_jax.data.ingest.stream import Stream, decode_stream
from echo_jax.data.ledger import Rejected

GREY_TOLERANCE = 16  # JPEG and YUV rounding; a tinted map differs by more


def read_movie(path: Path) -> Recording:
  """Reads one movie; see `reading.read_recording`.

  A movie has no header: spacing, device, R waves and heart rate are unknown,
  and its kind is cine (still for one frame) until somebody says otherwise.

  Raises:
    Rejected: damaged, cut off, without frames, too large or not decodable.
  """
  _check_whole(path)
  notes: list[str] = []
  stream = decode_stream(path)
  frames = stream.frames
  if len(frames) < stream.listed:
    raise Rejected(
      f"truncated movie: its header lists {stream.listed} frames, "
      f"{len(frames)} are there; copy it again"
    )
  if stream.listed and stream.listed != len(frames):
    notes.append(
      f"the movie's header lists {stream.listed} frames, {len(frames)} were "
      "decoded"
    )
  times = _times(stream, notes)
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
    stream.pixel_format, f"{stream.container}, {stream.codec}",
    coloured_pct(frames, sector), tuple(notes), coded=_coded(stream),
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


def _coded(stream: Stream) -> CodedFrames | None:
  """Motion JPEG is one JPEG a frame, in the colours of every JPEG."""
  if not stream.packets:
    return None
  grey = stream.pixel_format.startswith("gray")
  colour = "MONOCHROME2" if grey else "YBR_FULL"
  return CodedFrames(lambda: list(stream.packets), colour)


def _times(stream: Stream, notes: list[str]) -> Float64[np.ndarray, "T"]:
  """Presentation times in ms from the first frame; NaN if they do not rise."""
  times = stream.times_ms
  if np.isnan(times).any():
    notes.append("the movie has frames without a time: times unknown")
    return np.full(len(times), np.nan)
  if not (np.diff(times) > 0).all():
    notes.append("the movie's frame times do not rise: times unknown")
    return np.full(len(times), np.nan)
  return times
