"""Clips: which frames of a video make one input, chosen by their true times.

Times are milliseconds from the first frame.  A clip is `frames` moments
spread evenly over `span_s` seconds; each moment takes the nearest frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from echo_jax.units import ms_from_s


class UnknownTimes(ValueError):
  """A clip in seconds was asked of a video without frame times."""


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


def duration_ms(frame_time_ms: Float[np.ndarray, "n"]) -> float:
  """Length of a video: the last frame lasts as long as the median one."""
  if len(frame_time_ms) < 2:
    return 0.0
  return float(frame_time_ms[-1] + np.median(np.diff(frame_time_ms)))


def latest_start_ms(
  frame_time_ms: Float[np.ndarray, "n"], span_s: float
) -> float:
  """The last moment at which a whole span can begin; 0 for short videos."""
  return max(duration_ms(frame_time_ms) - float(ms_from_s(span_s)), 0.0)


def choose_frames(
  frame_time_ms: Float[np.ndarray, "n"],
  frames: int,
  span_s: float,
  start_ms: float = 0.0,
) -> ClipFrames:
  """The frames nearest to evenly spaced moments from `start_ms`.

  With `span_s` 0 the whole video is taken in equal index steps, as the
  released Echo-Vision-FM code does (`linspace(0, n - 1, frames)`).

  Raises:
    UnknownTimes: a span in seconds is asked for.
  """
  if span_s == 0:
    index = np.linspace(0, len(frame_time_ms) - 1, frames).astype(np.int32)
    times = np.asarray(frame_time_ms, np.float32)[index]
    return ClipFrames(0.0, index, times, np.ones(frames, bool))
  if np.isnan(frame_time_ms).any():
    raise UnknownTimes(
      "frame times are unknown, so no clip in seconds can be drawn; "
      "use span_s=0 (whole video) or leave such videos out"
    )
  moments = start_ms + ms_from_s(span_s) * np.arange(frames) / frames
  length = duration_ms(frame_time_ms)
  if length == 0:  # a still: one moment is real
    only_first = np.arange(frames) == 0
    index = np.zeros(frames, np.int32)
    return ClipFrames(start_ms, index, moments.astype(np.float32), only_first)
  rounds = np.floor(moments / length)
  index = _nearest(frame_time_ms, moments - rounds * length)
  times = frame_time_ms[index] + rounds * length
  return ClipFrames(start_ms, index, times.astype(np.float32), rounds == 0)


def spread_starts_ms(
  frame_time_ms: Float[np.ndarray, "n"], span_s: float, clips: int
) -> Float[np.ndarray, "k"]:
  """At most `clips` different starts, spread evenly; the first is 0.

  A video that is no longer than the span, or is taken whole, has one clip.
  """
  latest = latest_start_ms(frame_time_ms, span_s) if span_s else 0.0
  if latest == 0.0 or clips == 1:
    return np.zeros(1)
  return np.linspace(0.0, latest, clips)


def _nearest(
  times: Float[np.ndarray, "n"], moments: Float[np.ndarray, "T"]
) -> Int[np.ndarray, "T"]:
  after = np.clip(np.searchsorted(times, moments), 1, len(times) - 1)
  before = after - 1
  earlier = moments - times[before] <= times[after] - moments
  return np.where(earlier, before, after).astype(np.int32)
