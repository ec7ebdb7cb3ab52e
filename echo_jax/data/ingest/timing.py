"""Frame times and R waves from a DICOM header.

Source: DICOM PS3.3 C.7.6.5 (Cine) and C.7.6.6 (Multi-frame).  A time is in
milliseconds from the first frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from echo_jax import units
from echo_jax.data.ingest.header import Header

FRAME_TIME, FRAME_TIME_VECTOR = 0x00181063, 0x00181065
RATES = ("CineRate", "RecommendedDisplayFrameRate")
SHORTEST_MS, LONGEST_MS = 0.1, 60_000.0  # M-mode lines; triggered contrast
BELIEVABLE = f"{SHORTEST_MS:g} to {LONGEST_MS:g} ms"
STREAM_SHARE = 0.01  # a stream's times may differ by rounding only


@dataclass(frozen=True)
class FrameTimes:
  """When each frame was taken, and which attribute said so.

  Attributes:
    frame_time_ms: [T], starts at 0 and rises; all NaN if unknown.
    source: attribute the times come from; "" if unknown.
  """

  frame_time_ms: Float64[np.ndarray, "T"]
  source: str


def read_frame_times(
  header: Header, frames: int,
  stream_ms: Float64[np.ndarray, "T"] | None = None,
) -> FrameTimes:  # fmt: skip
  """Times of the frames, or NaN and a warning where none can be trusted.

  The attribute that FrameIncrementPointer names comes first, then FrameTime,
  FrameTimeVector and, with a warning since they are rounded to whole hertz,
  CineRate and RecommendedDisplayFrameRate.

  Args:
    header: says the times.
    frames: how many there are.
    stream_ms: times that a video stream in the file has of its own: compared
      with the header's, and taken where it has none.
  """
  if frames == 1:
    return FrameTimes(np.zeros(1), "single frame")
  for name in _order(header):
    read = _from_vector if name == "FrameTimeVector" else _from_step
    times = read(header, frames)
    if times is not None:
      _compare_with_rates(header, times)
      _compare_with_stream(header, name, times, stream_ms)
      return FrameTimes(times, name)
  if stream_ms is not None:
    header.warn("no frame time in the header: times from its video stream")
    _compare_with_rates(header, stream_ms)
    return FrameTimes(stream_ms, "video stream")
  for name in RATES:
    rate_hz = header.number(name)
    if rate_hz > 0 and _believable(units.MS_PER_S / rate_hz):
      header.warn(
        f"no frame time in the header: times from {name} {rate_hz:g} Hz, "
        "which is rounded and may be the display's"
      )
      return FrameTimes(np.arange(frames) * (units.MS_PER_S / rate_hz), name)
  header.warn("the header has no frame time and no rate: times unknown")
  return FrameTimes(np.full(frames, np.nan), "")


def _order(header: Header) -> tuple[str, ...]:
  """FrameTime and FrameTimeVector, the one that the pointer names first."""
  pointers = [int(tag) for tag in header.values("FrameIncrementPointer")]
  known = {FRAME_TIME, FRAME_TIME_VECTOR}
  strange = [tag for tag in pointers if tag not in known]
  if strange:
    names = ", ".join(f"({t >> 16:04x},{t & 0xFFFF:04x})" for t in strange)
    header.warn(f"FrameIncrementPointer also names {names}: not used")
  if pointers and pointers[0] == FRAME_TIME:
    return "FrameTime", "FrameTimeVector"
  if FRAME_TIME_VECTOR in pointers:
    return "FrameTimeVector", "FrameTime"
  return "FrameTime", "FrameTimeVector"


def _from_step(header: Header, frames: int) -> np.ndarray | None:
  step_ms = header.number("FrameTime")
  if _believable(step_ms):
    return np.arange(frames) * step_ms
  if header.has("FrameTime") and not np.isnan(step_ms):
    header.warn(f"FrameTime is {step_ms:g} ms, wants {BELIEVABLE}: not used")
  return None


def _believable(step_ms: float) -> bool:
  """True for a time between two frames that a scanner can have."""
  return bool(SHORTEST_MS <= step_ms <= LONGEST_MS)


def _from_vector(header: Header, frames: int) -> np.ndarray | None:
  """Cumulative increments; the first, 0 by the standard, may be anything."""
  steps_ms = header.numbers("FrameTimeVector")
  if not len(steps_ms):
    return None
  if len(steps_ms) != frames:
    header.warn(
      f"FrameTimeVector has {len(steps_ms)} values for {frames} frames: "
      "not used"
    )
    return None
  strange = [step for step in steps_ms[1:] if not _believable(step)]
  if strange:
    header.warn(
      f"FrameTimeVector has an increment of {min(strange):g} ms, wants "
      f"{BELIEVABLE}: not used"
    )
    return None
  times = np.cumsum(steps_ms)
  return times - times[0]


def _compare_with_rates(header: Header, times: np.ndarray) -> None:
  """Warns where a rate differs from the times by more than its rounding."""
  true_hz = units.MS_PER_S / np.diff(times).mean()
  for name in RATES:
    rate_hz = header.number(name)
    if rate_hz > 0 and abs(rate_hz - true_hz) > max(1.0, 0.05 * true_hz):
      header.warn(
        f"{name} is {rate_hz:g} Hz but frame times give {true_hz:.2f} Hz: "
        "frame times used"
      )


def _compare_with_stream(
  header: Header, name: str, times: np.ndarray, stream_ms: np.ndarray | None
) -> None:
  """Warns where the header and its video stream run at different speeds."""
  if stream_ms is None:
    return
  header_ms, video_ms = np.diff(times).mean(), np.diff(stream_ms).mean()
  if abs(header_ms - video_ms) > STREAM_SHARE * header_ms:
    header.warn(
      f"{name} gives {header_ms:.3f} ms a frame but the video stream "
      f"{video_ms:.3f} ms: {name} used"
    )


def read_r_waves(
  header: Header, times: FrameTimes
) -> Float64[np.ndarray, "r"]:
  """R waves in ms from the first frame (RWaveTimeVector, PS3.3 C.8.5.6).

  They rise: one that is listed again (to float32, as records have it) is one.
  """
  waves = header.numbers("RWaveTimeVector")
  end_ms = times.frame_time_ms[-1]
  outside = int(((waves < 0) | (waves > end_ms)).sum())
  if outside and len(times.frame_time_ms) > 1:
    header.warn(
      f"{outside} of {len(waves)} R waves lie outside 0 to {end_ms:.0f} ms"
    )
  rising = np.unique(waves.astype(np.float32)).astype(np.float64)
  if again := len(waves) - len(rising):
    header.warn(f"{again} of {len(waves)} R waves are listed again: left out")
  return rising


def read_heart_rate_bpm(header: Header) -> float:
  """HeartRate; 0 means unknown (NaN), as does a value outside 10 to 300."""
  rate_bpm = header.number("HeartRate")
  if rate_bpm == 0 or np.isnan(rate_bpm):
    return float("nan")
  if not 10 <= rate_bpm <= 300:
    header.warn(f"HeartRate is {rate_bpm:g} bpm, wants 10 to 300: not used")
    return float("nan")
  return rate_bpm
