"""Which frames make a clip, by hand."""

import numpy as np
import pytest

from echo_jax.data.clips import (
  choose_frames,
  duration_ms,
  latest_start_ms,
  spread_starts_ms,
)

EVEN = np.arange(10, dtype=np.float32) * 100.0


def test_nearest_frames_of_an_uneven_video():
  times = np.array([0, 30, 100, 260, 300], np.float32)
  clip = choose_frames(times, frames=4, span_s=0.32)  # at 0, 80, 160, 240 ms
  assert clip.index.tolist() == [0, 2, 2, 3]
  assert clip.time_ms.tolist() == [0, 100, 100, 260]
  assert clip.valid.all()


def test_start_moves_the_moments():
  clip = choose_frames(EVEN, frames=4, span_s=0.4, start_ms=500.0)
  assert clip.index.tolist() == [5, 6, 7, 8]


def test_short_video_goes_round_and_says_so():
  clip = choose_frames(EVEN[:3], frames=6, span_s=0.6)  # lasts 300 ms
  assert clip.index.tolist() == [0, 1, 2, 0, 1, 2]
  assert clip.valid.tolist() == [True] * 3 + [False] * 3
  assert (np.diff(clip.time_ms) > 0).all()


def test_still_has_one_real_frame():
  clip = choose_frames(np.zeros(1, np.float32), frames=4, span_s=1.0)
  assert clip.index.tolist() == [0] * 4
  assert clip.valid.tolist() == [True, False, False, False]


def test_unknown_times_are_refused_but_whole_videos_are_not():
  times = np.full(9, np.nan, np.float32)
  with pytest.raises(ValueError, match="frame times are unknown"):
    choose_frames(times, frames=4, span_s=1.0)
  whole = choose_frames(times, frames=4, span_s=0.0)
  assert whole.index.tolist() == [0, 2, 5, 8]


def test_starts_are_spread_over_what_is_left():
  assert duration_ms(EVEN) == 1000.0
  assert latest_start_ms(EVEN, 0.4) == 600.0
  assert spread_starts_ms(EVEN, 0.4, 3).tolist() == [0, 300, 600]
  assert spread_starts_ms(EVEN, 2.0, 3).tolist() == [0]
  assert spread_starts_ms(EVEN, 0.4, 1).tolist() == [0]
