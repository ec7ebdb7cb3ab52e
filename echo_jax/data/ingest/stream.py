"""Decoding of a video stream with FFmpeg (PyAV), within stated limits.

The stream is a movie file, or what DICOM holds in its pixel data for MPEG-2,
H.264 and HEVC.  Axes: T frame, H row, W column, c channel (1 grey or 3 RGB).
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64, UInt8

from echo_jax import units
from echo_jax.data.ingest import limits
from echo_jax.data.ledger import Rejected

# No playlist or other format that makes FFmpeg open further files.
FORMATS = "avi,mov,mp4,m4a,3gp,3g2,mj2,mpegts,mpeg,mpegvideo,h264,hevc"
# Formats whose frames carry times of their own; a bare stream has none, or
# those that FFmpeg makes up.
TIMED = ("avi", "mov", "mpegts", "mpeg")
STREAM_ERRORS = (
  av.FFmpegError, ValueError, OverflowError, MemoryError, TypeError
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
  """What a stream holds.

  Attributes:
    frames: decoded, grey or RGB.
    times_ms: from the first frame; NaN for a frame without a time.
    container, codec, pixel_format: FFmpeg's names.
    listed: frames that the container announces; 0 if it does not.
    packets: the coded picture of each frame where the codec is Motion JPEG;
      else empty.
  """

  frames: UInt8[np.ndarray, "T H W c"]
  times_ms: Float64[np.ndarray, "T"]
  container: str
  codec: str
  pixel_format: str
  listed: int
  packets: tuple[bytes, ...]

  @property
  def timed(self) -> bool:
    """True if the times are the container's own and rise."""
    own = self.container.split(",")[0] in TIMED
    return own and bool((np.diff(self.times_ms) > 0).all())


def decode_stream(
  source: Path | bytes, size: tuple[int, int, int] | None = None
) -> Stream:
  """All frames of the first video stream.

  Args:
    source: a file, or the stream itself.
    size: frames, rows and columns that a header announces; decoding stops
      where the stream goes beyond them.  None takes what comes, within
      `limits`.

  Raises:
    Rejected: damaged, not video, too large, or not of that size.
  """
  file = BytesIO(source) if isinstance(source, bytes) else str(source)
  frames: list[np.ndarray] = []
  packets: list[bytes] = []
  stamps: list[float] = []
  options = {"format_whitelist": FORMATS}
  try:
    with av.open(file, metadata_errors="replace", options=options) as container:
      if not container.streams.video:
        raise Rejected("no video: the file has no video stream")
      stream = container.streams.video[0]
      codec = stream.codec_context
      if codec is None:
        raise Rejected("codec not supported: FFmpeg has no decoder for it")
      _check_size(codec.width, codec.height, size)
      # Else a broken picture is mended with what its neighbours show.
      codec.options = {
        "max_pixels": str(_most_pixels(size)), "err_detect": "explode"
      }  # fmt: skip
      left = limits.LARGEST_BYTES
      for packet in container.demux(stream):
        packets.append(bytes(packet) if codec.name == "mjpeg" else b"")
        for frame in packet.decode():
          frames.append(_pixels(frame, len(frames), size))
          stamps.append(float("nan") if frame.time is None else frame.time)
          left -= frames[-1].nbytes
          _check_count(len(frames), left, size)
      names = container.format.name, codec.name, str(codec.pix_fmt)
      listed = stream.frames
  except Rejected:  # is a ValueError too
    raise
  except STREAM_ERRORS as error:
    raise Rejected(
      f"damaged movie: frame {len(frames)} cannot be decoded "
      f"({type(error).__name__})"
    ) from error
  if not frames:
    raise Rejected("empty movie: there is a video stream but no frame")
  if len({pixels.shape for pixels in frames}) > 1:
    raise Rejected("frames of several sizes in one video")
  coded = tuple(data for data in packets if data)
  times_ms = units.ms_from_s(np.array(stamps))
  return Stream(
    stacked(frames), times_ms - times_ms[0], *names, listed,
    coded if len(coded) == len(stamps) else (),
  )  # fmt: skip


def stacked(
  frames: list[UInt8[np.ndarray, "_ _ _"]],
) -> UInt8[np.ndarray, "T H W c"]:
  """Frames as one array; the list is emptied, so that memory is held once."""
  whole = np.empty((len(frames), *frames[0].shape), np.uint8)
  for i, frame in enumerate(frames):
    whole[i], frames[i] = frame, None
  frames.clear()
  return whole


def _most_pixels(size: tuple[int, int, int] | None) -> int:
  """Decoders work on whole blocks: what is stored may be a little larger."""
  if size is None:
    return limits.LARGEST_FRAME_PX
  return (size[1] + 128) * (size[2] + 128)


def _check_size(
  columns: int, rows: int, size: tuple[int, int, int] | None
) -> None:
  if rows * columns > limits.LARGEST_FRAME_PX:
    raise Rejected(
      f"too large: a frame of {columns}x{rows} has more than "
      f"{limits.LARGEST_FRAME_PX} pixels"
    )
  if size is not None and rows and (rows, columns) != size[1:]:
    raise Rejected(
      f"damaged pixels: the video is {columns}x{rows}, the header says "
      f"{size[2]}x{size[1]}"
    )


def _pixels(
  frame: av.VideoFrame, index: int, size: tuple[int, int, int] | None
) -> UInt8[np.ndarray, "H W c"]:
  _check_size(frame.width, frame.height, size)
  if frame.is_corrupt:
    raise Rejected(f"damaged movie: frame {index} is marked as corrupt")
  grey = frame.format.name.startswith("gray")
  pixels = frame.to_ndarray(format="gray" if grey else "rgb24")
  return pixels[..., None] if grey else pixels


def _check_count(
  frames: int, bytes_left: int, size: tuple[int, int, int] | None
) -> None:
  if size is not None and frames > size[0]:
    raise Rejected(
      f"damaged pixels: the video has more frames than the {size[0]} of the "
      "header"
    )
  if bytes_left < 0 or frames > limits.MOST_FRAMES:
    raise Rejected(
      f"too large: more than {limits.LARGEST_BYTES / 2**30:g} GiB decoded, or "
      f"more than {limits.MOST_FRAMES} frames; cut the video into parts"
    )
