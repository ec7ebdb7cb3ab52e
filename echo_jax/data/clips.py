"""Clips: which frames of a video make one input, chosen by their true times.

Times are milliseconds from the first frame.  A clip is `frames` moments
spread evenly over a window in seconds or in heartbeats; each moment takes the
nearest frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from echo_jax.units import Values, ms_from_bpm, ms_from_s

# From one R wave to the next: 300 to 10 beats a minute, as a record allows.
# What is shorter is one wave that was found twice, what is longer a lost one.
RR_MS = (200.0, 6000.0)


class UnknownTimes(ValueError):
  """A clip in seconds or beats was asked of a video without frame times."""


class UnknownBeats(ValueError):
  """A clip in beats was asked of a video whose beats are not known."""


@dataclass(frozen=True)
class ClipFrames:
  """Frame numbers of a clip, their times, and whether they are real.

  A moment after the end of a short video repeats the video cyclically and is
  marked invalid; its time goes on rising.
  """

  start_ms: float
  index: Int[np.ndarray, "T"]
  time_ms: Float[np.ndarray, "T"]
  valid: Bool[np.ndarray, "T"]


@dataclass(frozen=True)
class Windows:
  """Where clips of one video may lie, as starts and spans in milliseconds.

  Attributes:
    start_ms, span_ms: the windows to choose from; the beats between R waves.
    latest_ms: if it is known (not NaN), there is one window of `span_ms[0]`
      that may begin anywhere from 0 to here.
  """

  start_ms: tuple[float, ...]
  span_ms: tuple[float, ...]
  latest_ms: float = float("nan")

  def at(self, start_ms: float) -> tuple[float, float]:
    """Start and span of the window that begins at `start_ms`.

    Raises:
      ValueError: clips begin at R waves, and there is none.
    """
    if not np.isnan(self.latest_ms):
      return start_ms, self.span_ms[0]
    gap = np.abs(np.asarray(self.start_ms) - start_ms)
    if gap.min() > 0.5:
      raise ValueError(
        f"no beat begins at {start_ms:g} ms; they begin at {self.start_ms} ms"
      )
    i = int(gap.argmin())
    return self.start_ms[i], self.span_ms[i]

  def draw(self, rng: np.random.Generator) -> float:
    """A random start."""
    if np.isnan(self.latest_ms):
      return self.start_ms[int(rng.uniform() * len(self.start_ms))]
    return float(rng.uniform(0.0, self.latest_ms)) if self.latest_ms else 0.0

  def spread(self, clips: int) -> list[float]:
    """At most `clips` different starts, spread evenly from the first on."""
    if not np.isnan(self.latest_ms):
      if self.latest_ms == 0.0 or clips == 1:
        return [0.0]
      return np.linspace(0.0, self.latest_ms, clips).tolist()
    places = np.linspace(0, len(self.start_ms) - 1, clips)
    return [self.start_ms[i] for i in np.unique(np.rint(places).astype(int))]


def duration_ms(frame_time_ms: Float[np.ndarray, "n"]) -> float:
  """Length of a video: the last frame lasts as long as the median one."""
  if len(frame_time_ms) < 2:
    return 0.0
  return float(frame_time_ms[-1]) + _median_step_ms(frame_time_ms)


def windows_of_seconds(
  frame_time_ms: Float[np.ndarray, "n"], span_s: Values
) -> Windows:
  """Windows of a length in seconds; 0 is the whole video.

  A video that is no longer than the window has one clip, from its start.
  """
  if span_s == 0:
    return Windows((0.0,), (0.0,), 0.0)
  _refuse_unknown(frame_time_ms)
  span = float(ms_from_s(span_s))
  return Windows((0.0,), (span,), _latest_ms(frame_time_ms, span))


def windows_of_beats(
  frame_time_ms: Float[np.ndarray, "n"],
  r_wave_ms: Float[np.ndarray, "r"],
  heart_rate_bpm: float,
  beats: int,
) -> Windows:
  """Windows from an R wave to the one `beats` later, wholly in the recording.

  All RR intervals in it are within `RR_MS`.  Where there is no such window,
  `beats` times the RR interval of the heart rate, from any start.

  Raises:
    UnknownTimes: frame times are unknown.
    UnknownBeats: so are R waves and heart rate.
  """
  _refuse_unknown(frame_time_ms)
  waves = np.unique(np.asarray(r_wave_ms, np.float64))
  waves = waves[(waves >= 0) & (waves <= duration_ms(frame_time_ms))]
  odd = (np.diff(waves) < RR_MS[0]) | (np.diff(waves) > RR_MS[1])
  odd_before = np.concatenate([[0], np.cumsum(odd)])
  starts, spans = waves[:-beats], waves[beats:] - waves[:-beats]
  sound = odd_before[beats : len(waves)] == odd_before[: len(starts)]
  if sound.any():
    return Windows(tuple(starts[sound].tolist()), tuple(spans[sound].tolist()))
  if not heart_rate_bpm > 0:  # NaN too
    raise UnknownBeats(
      f"no {beats} whole beats between known R waves ({len(waves)} in the "
      f"recording, {odd.sum()} RR intervals outside {RR_MS[0]:g} to "
      f"{RR_MS[1]:g} ms) and no heart rate, so no clip in beats can be drawn; "
      "use span_beats=0 (seconds) or leave such videos out"
    )
  span = beats * float(ms_from_bpm(heart_rate_bpm))
  return Windows((0.0,), (span,), _latest_ms(frame_time_ms, span))


def choose_frames(
  frame_time_ms: Float[np.ndarray, "n"],
  frames: int,
  span_s: Values,
  start_ms: float = 0.0,
  among: Int[np.ndarray, "k"] | None = None,
) -> ClipFrames:
  """The frames nearest to evenly spaced moments from `start_ms`.

  With `span_s` 0 the whole video is taken in equal index steps, as the
  released Echo-Vision-FM code does (`linspace(0, n - 1, frames)`).

  Args:
    frame_time_ms: of all frames of the video.
    frames: T, how many to choose.
    span_s: seconds from the first moment to where the T + 1st would be.
    start_ms: the first moment.
    among: rising numbers of the frames that may be chosen; None for all.

  Raises:
    UnknownTimes: a span in seconds is asked for.
  """
  length = duration_ms(frame_time_ms)
  if among is None:
    among = np.arange(len(frame_time_ms))
  if span_s == 0:
    index = among[np.linspace(0, len(among) - 1, frames).astype(np.int32)]
    times = np.asarray(frame_time_ms, np.float32)[index]
    all_valid = np.ones(frames, bool)
    return ClipFrames(0.0, index.astype(np.int32), times, all_valid)
  _refuse_unknown(frame_time_ms)
  moments = start_ms + ms_from_s(span_s) * np.arange(frames) / frames
  if length == 0:  # a still: one moment is real
    only_first = np.arange(frames) == 0
    index = np.zeros(frames, np.int32)
    return ClipFrames(start_ms, index, moments.astype(np.float32), only_first)
  rounds = np.floor(moments / length)
  near = _nearest(frame_time_ms[among], moments - rounds * length)
  index = among[near].astype(np.int32)
  times = frame_time_ms[index] + rounds * length
  return ClipFrames(start_ms, index, times.astype(np.float32), rounds == 0)


def thin_frames(
  frame_time_ms: Float[np.ndarray, "n"], share: float, phase: float
) -> Int[np.ndarray, "k"]:
  """Frames that a scanner at `share` of the frame rate would have stored.

  Args:
    frame_time_ms: of all frames.
    share: of the frame rate, above 0 and up to 1.
    phase: 0 to 1, which of the frames comes first.
  """
  if len(frame_time_ms) < 2 or share >= 1 or np.isnan(frame_time_ms).any():
    return np.arange(len(frame_time_ms))
  step = _median_step_ms(frame_time_ms)
  # A short video may have ended by then; its last frame was stored at least.
  first = min(phase * (step / share - step), float(frame_time_ms[-1]))
  moments = np.arange(first, float(frame_time_ms[-1]) + step / 2, step / share)
  return np.unique(_nearest(frame_time_ms, moments))


def _median_step_ms(frame_time_ms: Float[np.ndarray, "n"]) -> float:
  """Median interval; by sorting, as `np.median` takes longer than a clip."""
  steps = np.sort(np.diff(frame_time_ms))
  middle = len(steps) // 2
  return float((steps[(len(steps) - 1) // 2] + steps[middle]) / 2)


def _latest_ms(frame_time_ms: Float[np.ndarray, "n"], span_ms: float) -> float:
  """The last moment at which a whole span can begin; 0 for short videos.

  Less than half a frame is rounding: all clips would show the same frames.
  """
  room = duration_ms(frame_time_ms) - span_ms
  if room <= 0 or room < _median_step_ms(frame_time_ms) / 2:
    return 0.0
  return room


def _refuse_unknown(frame_time_ms: Float[np.ndarray, "n"]) -> None:
  if np.isnan(frame_time_ms).any():
    raise UnknownTimes(
      "frame times are unknown, so no clip in seconds or beats can be drawn; "
      "use span_s=0 (whole video) or leave such videos out"
    )


def _nearest(
  times: Float[np.ndarray, "n"], moments: Float[np.ndarray, "T"]
) -> Int[np.ndarray, "T"]:
  if len(times) == 1:
    return np.zeros(len(moments), np.int32)
  after = np.clip(np.searchsorted(times, moments), 1, len(times) - 1)
  before = after - 1
  earlier = moments - times[before] <= times[after] - moments
  return np.where(earlier, before, after).astype(np.int32)
