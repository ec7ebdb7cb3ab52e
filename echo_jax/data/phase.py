"""Where in the beat each frame of a clip lies, counted on in beats.

A beat position rises by one from each moment to the moment of equal phase in
the next beat; where it starts is not said, for only differences count.
Axes: T frame of the clip, H W pixels, c channel.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from echo_jax.data.clips import RR_MS
from echo_jax.data.schema import Record
from echo_jax.units import ms_from_bpm

# Chosen on SynthEcho, see tests/data/test_phase.py.
SIDE_PX = 24  # of the small pictures that are compared
PERIOD_MS = (333.0, 2000.0)  # 180 to 30 beats a minute
RETURN = 0.5  # of the largest change at most may be left after a beat
# Ejection takes this share of a beat at most; bounds a beat from below.
MOST_SYSTOLE = 0.6


def beats_of_clip(
  record: Record,
  time_ms: Float[np.ndarray, "T"],
  video: UInt8[np.ndarray, "T H W c"],
  valid: Bool[np.ndarray, "T"],
) -> Float[np.ndarray, "T"]:
  """Beat position of each frame; NaN where it is not known.

  By R waves where more than one beat lies between them, else by the heart
  rate; where neither tells how long a beat is, by the motion of the picture.
  Frames that are not valid, and all
  of a clip of no more than one beat, which has no two moments of equal phase,
  are unknown.

  Args:
    record: R waves, heart rate, and the frames of end-diastole and
      end-systole, which bound the length of a beat that is read off motion.
    time_ms: of the clip's frames in the record.
    video: the clip's frames.
    valid: frames that are real.
  """
  unknown = np.full(len(time_ms), np.nan, np.float32)
  if np.isnan(time_ms).any() or not valid.any():
    return unknown
  found = [
    _by_r_waves(record["r_wave_ms"], time_ms),
    time_ms / _period_of_rate(record["heart_rate_bpm"]),
  ]
  if all(np.isnan(beat).all() for beat in found):
    period = period_of_motion(time_ms[valid], video[valid], _least_ms(record))
    found = [time_ms / period]
  for beat in found:
    beat = np.where(valid, beat, np.nan).astype(np.float32)
    known = beat[~np.isnan(beat)]
    if len(known) and np.ptp(known) > 1:
      return beat
  return unknown


def _by_r_waves(
  r_wave_ms: Float[np.ndarray, "r"], time_ms: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "T"]:
  """Linear from each R wave to the next, unknown before and after them.

  An interval that is no beat (`RR_MS`) leaves all unknown: how many beats it
  hides is not known.
  """
  waves = np.asarray(r_wave_ms, np.float64)
  gaps = np.diff(waves)
  if not len(gaps) or (gaps < RR_MS[0]).any() or (gaps > RR_MS[1]).any():
    return np.full(len(time_ms), np.nan)
  return np.interp(
    time_ms, waves, np.arange(len(waves)), left=np.nan, right=np.nan
  )


def _period_of_rate(heart_rate_bpm: float) -> float:
  return float(ms_from_bpm(heart_rate_bpm)) if heart_rate_bpm > 0 else np.nan


def _least_ms(record: Record) -> float:
  """The shortest beat that the frames of end-diastole and -systole allow."""
  first, last = int(record["ed_frame"]), int(record["es_frame"])
  if first < 0 or last <= first:
    return PERIOD_MS[0]
  times = record["frame_time_ms"]
  systole = float(times[last] - times[first])
  return max(PERIOD_MS[0], systole / MOST_SYSTOLE)


def period_of_motion(
  time_ms: Float[np.ndarray, "T"],
  video: UInt8[np.ndarray, "T H W c"],
  least_ms: float = PERIOD_MS[0],
) -> float:
  """Length of a beat in ms, after which the picture is like before; or NaN.

  The change over a lag is the mean square difference of all frames that far
  apart, which leaves out what stands still.  A beat is the first lag at which
  the change has fallen again to `RETURN` of the largest one before and begins
  to rise, refined by the parabola through its neighbours.  It is unknown where
  there is none, or frames are far from evenly spaced.
  """
  steps = np.diff(time_ms)
  if len(time_ms) < 6 or np.ptp(steps) > 1.5 * np.median(steps):
    return float("nan")
  step_ms = (time_ms[-1] - time_ms[0]) / (len(time_ms) - 1)
  change = _changes(video)
  for lag in range(2, len(change) - 1):
    if not least_ms <= lag * step_ms <= PERIOD_MS[1]:
      continue
    before, here, after = change[lag - 1 : lag + 2]
    if here < before and here <= after and here <= RETURN * change[:lag].max():
      shift = (before - after) / (2 * (before - 2 * here + after))
      return float((lag + shift) * step_ms)
  return float("nan")


def _changes(video: UInt8[np.ndarray, "T H W c"]) -> Float[np.ndarray, "g"]:
  """Mean square difference of frames 0, 1, ... apart, up to 3/4 of them."""
  size = (min(SIDE_PX, video.shape[2]), min(SIDE_PX, video.shape[1]))
  small = np.stack(
    [cv2.resize(f.mean(axis=-1), size, interpolation=cv2.INTER_AREA)
     for f in video]
  )  # fmt: skip
  flat = small.reshape(len(small), -1)
  # More than that apart there are too few pairs for a mean.
  return np.array(
    [0.0]
    + [
      np.square(flat[lag:] - flat[:-lag]).mean()
      for lag in range(1, 3 * len(flat) // 4 + 1)
    ]
  )
