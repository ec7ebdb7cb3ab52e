"""Beat positions by hand, and read off motion where the truth is known."""

import numpy as np
import pytest

from echo_jax.data.contract import InputContract
from echo_jax.data.phase import beats_of_clip, period_of_motion
from echo_jax.data.pipeline import ClipMaker
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.units import ms_from_bpm

TIMES = np.arange(12, dtype=np.float32) * 100
STILL = np.zeros((12, 4, 4, 1), np.uint8)
NAN = float("nan")
REAL = np.ones(12, bool)


def record(waves=(), rate=NAN, frames=(-1, -1)):
  """What of a record tells its beats."""
  return {
    "r_wave_ms": np.asarray(waves, np.float32), "heart_rate_bpm": rate,
    "ed_frame": frames[0], "es_frame": frames[1],
    "frame_time_ms": np.arange(40, dtype=np.float32) * 50,
  }  # fmt: skip


def test_r_waves_count_beats_and_say_nothing_beyond_them():
  waves = (100.0, 500.0, 1000.0)  # beats of 400 and of 500 ms
  beat = beats_of_clip(record(waves), TIMES, STILL, REAL)
  wanted = [NAN, 0, 0.25, 0.5, 0.75, 1, 1.2, 1.4, 1.6, 1.8, 2, NAN]
  np.testing.assert_allclose(beat, wanted, atol=1e-6)


@pytest.mark.parametrize(
  "waves", [(), (100.0, 900.0), (100.0, 150.0, 500.0, 1000.0)]
)
def test_the_rate_serves_where_waves_do_not(waves):
  """None, only one beat, or an interval that is none."""
  beat = beats_of_clip(record(waves, 120.0), TIMES, STILL, REAL)
  np.testing.assert_allclose(np.diff(beat), 0.2, atol=1e-6)


def test_what_is_not_known_stays_unknown():
  def all_unknown(record, times=TIMES, valid=REAL):
    return np.isnan(beats_of_clip(record, times, STILL, valid)).all()

  assert all_unknown(record())  # nothing moves
  assert all_unknown(record(rate=50.0))  # 1.2 s a beat: no second one
  assert all_unknown(record(rate=120.0), np.full(12, np.nan, np.float32))
  assert all_unknown(record(rate=120.0), valid=np.zeros(12, bool))
  half = beats_of_clip(record(rate=120.0), TIMES, STILL, TIMES < 800)
  assert np.isnan(half).tolist() == [False] * 8 + [True] * 4


def motion(period_ms, times, second=0.0):
  """Frames that return after a period, and by `second` after half of it."""
  turn = 2 * np.pi * times / period_ms
  side = (1 - second) * np.cos(turn) + second * np.cos(2 * turn)
  place = np.linspace(-2, 2, 8)
  frames = 128 + 100 * np.tanh(place[None, :] - side[:, None])
  return np.repeat(frames[:, None, :, None], 8, 1).astype(np.uint8)


def test_a_beat_ends_where_the_picture_returns():
  times = np.arange(24) * 70.0
  for period_ms in (500.0, 800.0, 1000.0):
    got = period_of_motion(times, motion(period_ms, times))
    assert got == pytest.approx(period_ms, rel=0.03)


def test_end_systole_bounds_a_beat_from_below():
  """The two halves of these beats are nearly alike."""
  times = np.arange(32) * 50.0
  video = motion(800.0, times, second=0.9)
  assert period_of_motion(times, video) == pytest.approx(400.0, rel=0.05)
  real = np.ones(32, bool)
  for frames, beats in (((-1, -1), 31 / 8), ((0, 6), 31 / 16)):
    beat = beats_of_clip(record((), NAN, frames), times, video, real)
    assert np.ptp(beat) == pytest.approx(beats, rel=0.05)


def test_motion_overrules_no_heart_rate():
  """Half a slow beat looks like a whole one; its rate says that it is not."""
  times = np.arange(28) * 50.0
  video = motion(1500.0, times, second=0.9)
  real = np.ones(28, bool)
  assert not np.isnan(beats_of_clip(record(), times, video, real)).any()
  slow = beats_of_clip(record(rate=40.0), times, video, real)
  assert np.isnan(slow).all()
  waves = beats_of_clip(record((0.0, 1500.0)), times, video, real)
  assert np.isnan(waves).all()


def test_noise_and_uneven_frames_have_no_beat():
  rng = np.random.default_rng(0)
  times = np.arange(24) * 70.0
  noise = rng.integers(0, 256, (24, 16, 16, 1)).astype(np.uint8)
  assert np.isnan(period_of_motion(times, noise))
  uneven = np.concatenate([times[:12], times[12:] + 500])
  assert np.isnan(period_of_motion(uneven, motion(800.0, uneven)))
  assert np.isnan(period_of_motion(times[:5], noise[:5]))


def test_motion_tells_the_beats_of_simulated_hearts(data_dir):
  source = VideoSource(find_dataset(data_dir, "synthetic_echo"), "validation")
  maker = ClipMaker(InputContract(frames=16, span_s=1.4, size=32), beats=True)
  ratios = []
  for number in range(20):
    true = source[number]
    blind = true | {"r_wave_ms": np.zeros(0), "heart_rate_bpm": NAN}
    clip, known = maker.at(blind, 0.0), maker.at(true, 0.0)
    # Where the R waves show more than one beat, they are what counts.
    assert not np.isnan(known["beat"]).all()
    if not np.isnan(clip["beat"]).any():
      step = np.diff(clip["beat"]) / np.diff(clip["frame_time_ms"])
      ratios.append(step.mean() * ms_from_bpm(true["heart_rate_bpm"]))
  # Slow hearts show no second beat in 1.4 s.
  assert len(ratios) >= 12
  np.testing.assert_allclose(ratios, 1.0, atol=0.06)
