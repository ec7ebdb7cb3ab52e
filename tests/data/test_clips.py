"""Which frames make a clip, by hand."""

import numpy as np
import pytest

from echo_jax.data.clips import (
  UnknownBeats,
  UnknownTimes,
  choose_frames,
  duration_ms,
  thin_frames,
  windows_of_beats,
  windows_of_seconds,
)
from echo_jax.data.contract import InputContract
from echo_jax.data.frames import encode_frames
from echo_jax.data.pipeline import ClipMaker

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
  assert windows_of_seconds(EVEN, 0.4).latest_ms == 600.0
  assert windows_of_seconds(EVEN, 0.4).spread(3) == [0, 300, 600]
  assert windows_of_seconds(EVEN, 2.0).spread(3) == [0]
  assert windows_of_seconds(EVEN, 0.4).spread(1) == [0]
  assert windows_of_seconds(EVEN, 0).spread(3) == [0]


def test_a_video_as_long_as_its_clips_has_one():
  """0.7 s of 21 frames at 30 a second, which float32 cannot say exactly."""
  times = (np.arange(21) * (1000 / 30)).astype(np.float32)
  assert 700 < duration_ms(times) < 700.001
  assert windows_of_seconds(times, 0.7).spread(4) == [0]
  assert windows_of_seconds(EVEN, 0.951).spread(4) == [0]
  assert windows_of_seconds(EVEN, 0.949).spread(2) == [0, pytest.approx(51)]


def test_beats_go_from_one_r_wave_to_another():
  # The wave at 1050 ms comes after the last frame has ended (1000 ms).
  waves = np.array([50, 350, 600, 990, 1050], np.float32)
  one = windows_of_beats(EVEN, waves, float("nan"), 1)
  assert one.start_ms == (50, 350, 600) and one.span_ms == (300, 250, 390)
  two = windows_of_beats(EVEN, waves, float("nan"), 2)
  assert two.start_ms == (50, 350) and two.span_ms == (550, 640)
  assert one.at(350.2) == (350, 250)
  with pytest.raises(ValueError, match="no beat begins at 400 ms"):
    one.at(400.0)
  assert one.spread(2) == [50, 600] and one.spread(9) == [50, 350, 600]
  rng = np.random.default_rng(0)
  assert {one.draw(rng) for _ in range(50)} == {50, 350, 600}


def test_an_r_wave_that_was_found_twice_makes_no_beat():
  """Nor does one that is listed twice turn a beat into the whole video."""
  twice = np.array([50, 50, 350, 380, 700], np.float32)
  one = windows_of_beats(EVEN, twice, float("nan"), 1)
  assert one.start_ms == (50, 380) and one.span_ms == (300, 320)
  # Two beats go over the false one, so the heart rate has to do.
  two = windows_of_beats(EVEN, twice, 150.0, 2)
  assert two.span_ms == (800,) and two.latest_ms == 200
  with pytest.raises(UnknownBeats, match="4 in .* 1 RR intervals outside 200"):
    windows_of_beats(EVEN, twice, float("nan"), 2)
  lost = np.array([0, 6500, 7400], np.float32)
  long = np.arange(80, dtype=np.float32) * 100
  assert windows_of_beats(long, lost, 0.0, 1).start_ms == (6500,)


def test_a_clip_of_a_wave_that_is_listed_twice_covers_a_beat():
  maker = ClipMaker(InputContract(frames=4, size=4, span_beats=1))
  clip = maker.at(beat_record([100, 100, 300, 700], float("nan")), 100.0)
  assert clip["span_ms"] == 200
  assert clip["video"][:, 0, 0, 0].tolist() == [2, 3, 4, 5]


def test_without_r_waves_the_heart_rate_gives_the_span():
  few = np.array([400.0], np.float32)  # one wave is no beat
  for waves in (few[:0], few):
    windows = windows_of_beats(EVEN, waves, 150.0, 2)  # 2 x 400 ms
    assert windows.at(37.0) == (37.0, 800.0)
    assert windows.latest_ms == 200.0
  rng = np.random.default_rng(0)
  starts = [windows.draw(rng) for _ in range(50)]
  assert 0 <= min(starts) < 20 and 180 < max(starts) <= 200


def test_unknown_beats_and_times_are_refused():
  with pytest.raises(UnknownBeats, match="no 1 whole beats .* no heart rate"):
    windows_of_beats(EVEN, EVEN[3:4], float("nan"), 1)
  with pytest.raises(UnknownBeats):
    windows_of_beats(EVEN, EVEN[:0], -1.0, 1)
  with pytest.raises(UnknownTimes):
    windows_of_beats(EVEN * np.float32(np.nan), EVEN[2:4], 60.0, 1)
  with pytest.raises(UnknownTimes):
    windows_of_seconds(EVEN * np.float32(np.nan), 1.0)


def beat_record(waves, rate):
  """Twenty frames 50 ms apart; frame i is grey level i."""
  video = np.zeros((20, 4, 4, 1), np.uint8)
  video += np.arange(20, dtype=np.uint8)[:, None, None, None]
  return {
    "video_id": "t:v", "frames": encode_frames(video, "raw"),
    "frames_codec": "raw", "frames_shape": np.array([4, 4, 1], np.int32),
    "spacing_mm": np.float32([0.3, 0.3]),
    "frame_time_ms": np.arange(20, dtype=np.float32) * np.float32(50),
    "r_wave_ms": np.asarray(waves, np.float32), "heart_rate_bpm": rate,
    "sector": b"",
  }  # fmt: skip


def test_a_clip_in_beats_shows_the_same_phases_of_any_beat():
  maker = ClipMaker(InputContract(frames=4, size=4, span_beats=1))
  record = beat_record([100, 300, 700], float("nan"))
  assert maker.starts(record, 5) == [100, 300]
  short, long = (maker.at(record, start) for start in (100.0, 300.0))
  # Quarters of the beat: 0, 50, 100, 150 ms and 0, 100, 200, 300 ms on.
  assert short["video"][:, 0, 0, 0].tolist() == [2, 3, 4, 5]
  assert long["video"][:, 0, 0, 0].tolist() == [6, 8, 10, 12]
  assert short["span_ms"] == 200 and long["span_ms"] == 400
  rng = np.random.default_rng(1)
  starts = {float(maker.drawn(record, rng)["start_ms"]) for _ in range(20)}
  assert starts == {100.0, 300.0}
  by_rate = maker.at(beat_record([], 150.0), 55.0)
  assert by_rate["video"][:, 0, 0, 0].tolist() == [1, 3, 5, 7]
  assert by_rate["span_ms"] == 400 and by_rate["start_ms"] == 55
  with pytest.raises(UnknownBeats):
    maker.drawn(beat_record([], float("nan")), rng)


def test_span_of_a_clip_is_told():
  record = beat_record([], float("nan"))
  in_seconds = ClipMaker(InputContract(frames=4, span_s=0.4, size=4))
  assert in_seconds.at(record, 0.0)["span_ms"] == 400
  whole = ClipMaker(InputContract(frames=4, span_s=0, size=4))
  assert whole.at(record, 0.0)["span_ms"] == 1000


def test_a_slower_scanner_leaves_frames_out_evenly():
  assert thin_frames(EVEN, 1.0, 0.7).tolist() == list(range(10))
  assert thin_frames(EVEN, 0.5, 0.0).tolist() == [0, 2, 4, 6, 8]
  assert thin_frames(EVEN, 0.5, 1.0).tolist() == [1, 3, 5, 7, 9]
  assert thin_frames(EVEN, 0.25, 0.0).tolist() == [0, 4, 8]
  assert thin_frames(EVEN[:1], 0.5, 0.0).tolist() == [0]


def test_a_slow_scanner_stores_one_frame_at_least():
  """Whatever the phase: a short video may end before it comes round."""
  for count in (1, 2, 3, 4):
    for phase in np.linspace(0, 1, 11).tolist():
      kept = thin_frames(EVEN[:count], 0.1, phase)
      assert len(kept) and 0 <= kept.min() and kept.max() < count
      assert choose_frames(EVEN[:count], 4, 0.1, 0.0, kept).valid.any()
  assert thin_frames(EVEN[:4], 0.1, 0.99).tolist() == [3]


def test_thinned_clips_show_what_was_stored_and_keep_their_span():
  kept = thin_frames(EVEN, 0.25, 0.0)
  clip = choose_frames(EVEN, 5, 1.0, 0.0, kept)  # at 0, 200 .. 800 ms
  assert clip.index.tolist() == [0, 0, 4, 4, 8]
  assert clip.time_ms.tolist() == [0, 0, 400, 400, 800]
  assert clip.valid.all()  # the video is as long as before
