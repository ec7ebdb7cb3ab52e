"""The clock of the heart: order of phases, plateaus, a whole beat in sight."""

import numpy as np
import pytest

from echo_jax.simulate import electrics
from echo_jax.simulate.scanner import DEVICES

RATES_BPM = (45.0, 60.0, 90.0, 120.0)


@pytest.mark.parametrize("rate", RATES_BPM)
def test_phases_follow_each_other(rate):
  beat = electrics.make_beat(60 / rate)
  order = [
    0.0,
    electrics.ISOVOLUMIC_CONTRACTION_S,
    beat.ejection_end_s,
    beat.mitral_opening_s,
    beat.early_end_s,
    beat.atrial_start_s,
    beat.rr_s,
  ]
  assert np.all(np.diff(order[:5]) > 0)
  assert beat.early_end_s <= beat.atrial_start_s + 1e-9 < beat.rr_s


@pytest.mark.parametrize("rate", RATES_BPM)
def test_volume_extremes_outlast_a_frame(rate):
  beat = electrics.make_beat(60 / rate)
  slowest_s = max(1 / d.frame_hz + 2e-3 * d.frame_jitter_ms for d in DEVICES)
  time = np.linspace(0, beat.rr_s, 4001)[:-1]
  share = np.array([electrics.ejected_share(beat, t, 0.7) for t in time])
  assert share.min() == pytest.approx(0, abs=1e-9)
  assert share.max() == pytest.approx(1, abs=1e-9)
  step = beat.rr_s / 4000
  assert np.sum(share < 1e-9) * step > slowest_s
  assert np.sum(share > 1 - 1e-9) * step > slowest_s
  assert np.abs(np.diff(share)).max() < 0.02  # no jump


def test_valves_open_in_diastole_only():
  beat = electrics.make_beat(0.8)
  time = np.linspace(0, 0.8, 801)[:-1]
  opening = np.array([electrics.valve_opening(beat, t) for t in time])
  assert opening[time <= beat.mitral_opening_s].max() == 0
  assert opening[time > beat.mitral_opening_s].max() > 0.9
  assert opening[-1] < 0.1


@pytest.mark.parametrize("rate", RATES_BPM)
def test_a_whole_beat_lies_within_two_seconds(rate):
  for seed in range(50):
    rng = np.random.default_rng(seed)
    waves = electrics.draw_r_waves(rng, rate, 2.0)
    assert waves[0] < 0 <= waves[1]
    assert waves[2] < 2000 < waves[-1]
    assert np.diff(waves).mean() == pytest.approx(60000 / rate, rel=0.06)
