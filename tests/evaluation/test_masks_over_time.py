"""Dice against hand and scikit-learn; a beating ellipse against formulas."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from echo_jax.evaluation.cavity import cavity_features, study_features
from echo_jax.evaluation.segmentation import dice, dice_estimate
from echo_jax.units import area_length_ml

RNG = np.random.default_rng(0)


def test_dice_by_hand():
  """3 and 2 pixels of which 2 are shared: 4 / 5; nothing in both: NaN."""
  found, true = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
  found[0, 0, :3] = true[0, 0, :2] = True
  np.testing.assert_array_equal(dice(found, true), [0.8, np.nan])


def test_dice_is_the_f1_score_of_pixels():
  found, true = RNG.random((2, 5, 6, 7)) < 0.4
  wanted = [
    f1_score(t.ravel(), f.ravel()) for f, t in zip(found, true, strict=True)
  ]
  np.testing.assert_allclose(dice(found, true), wanted)
  np.testing.assert_array_equal(dice(found, true), dice(true, found))


def test_dice_is_resampled_by_patient():
  """Alike frames of a patient add nothing: the interval stays as wide."""
  each = RNG.uniform(0.6, 1, 30)
  person = np.arange(30)
  once = dice_estimate(each, person, target="x")
  often = dice_estimate(each.repeat(50), person.repeat(50), target="x")
  assert (once.patients, once.rows, often.rows) == (30, 30, 1500)
  assert (often.value, often.low) == pytest.approx((once.value, once.low))
  assert once.value == pytest.approx(each.mean())
  assert once.low < once.value < once.high
  gaps = np.concatenate([each, [np.nan] * 4])
  left = dice_estimate(gaps, np.arange(34), target="x")
  assert (left.value, left.without_truth) == (once.value, 4)
  assert np.isnan(dice_estimate(each, person * 0, target="x").low)
  with pytest.raises(ValueError, match="none of 4 frames"):
    dice_estimate(gaps[-4:], np.arange(4), target="x")


def test_area_length_of_a_ball_and_an_ellipsoid():
  """4/3 pi r^3, and pi/6 L D^2 with A = pi/4 L D, of 80 x 50 mm."""
  ball = area_length_ml(np.pi * 30**2, 60.0)
  assert float(ball) == pytest.approx(4 / 3 * np.pi * 27)
  egg = area_length_ml(np.pi / 4 * 80 * 50, 80.0)
  assert float(egg) == pytest.approx(np.pi / 6 * 80 * 50**2 / 1000)


BEAT_MS, STEP_MS, FRAMES = 800.0, 20.0, 160
SPACING = np.array([0.9, 1.1])
TIMES = STEP_MS * np.arange(FRAMES)


def beating(turn=False):
  """An ellipse of 80 x 50 mm that shrinks to 64 x 40 and back each beat."""
  scale = 0.9 + 0.1 * np.cos(2 * np.pi * (TIMES - 200) / BEAT_MS)
  shape = (110, 100)
  y, x = (np.indices(shape) + 0.5) * SPACING[:, None, None]
  y, x = y - y.mean(), x - x.mean()
  long, wide = (25, 40) if turn else (40, 25)
  return np.stack([(y / long) ** 2 + (x / wide) ** 2 < s**2 for s in scale])


def test_a_beating_ellipse():
  found = cavity_features(beating(), TIMES, SPACING)
  area = np.pi / 4 * 80 * 50
  volume = np.pi / 6 * 80 * 50**2 / 1000
  wanted = {
    "area_max_mm2": area,
    "area_min_mm2": area * 0.64,
    "length_max_mm": 80,
    "length_min_mm": 64,
    "volume_max_ml": volume,
    "volume_min_ml": volume * 0.512,
    "area_length_ef_pct": 48.8,
    "fractional_area_change_pct": 36,
    "width_to_length": 50 / 80,
    "beat_ms": BEAT_MS,
    "time_to_minimum_ms": BEAT_MS / 2,
  }
  assert {k: found[k] for k in wanted} == pytest.approx(wanted, rel=0.03)
  # two lengths, each to a pixel
  assert found["shortening_pct"] == pytest.approx(20, abs=100 * 1.5 / 80)
  # s^2 changes by 2 s s' at most: found numerically
  share = 0.9 + 0.1 * np.cos(np.linspace(0, 2 * np.pi, 10_000))
  steepest = np.gradient(share**2, np.linspace(0, 0.8, 10_000)).max()
  assert found["emptying_per_s"] == pytest.approx(steepest, rel=0.15)
  assert found["filling_per_s"] == pytest.approx(steepest, rel=0.15)
  assert found["beat_sd_ms"] < STEP_MS and found["minimum_sd"] < 0.01
  assert found["seen_share"] == 1


def test_turning_the_picture_changes_no_size():
  found = cavity_features(beating(turn=True), TIMES, SPACING)
  as_it_was = cavity_features(beating(), TIMES, SPACING)
  assert found == pytest.approx(as_it_was, rel=0.05, abs=10)


def test_beats_that_differ_are_seen():
  """Beats of 700 and 900 ms in turn; the minima are of two depths."""
  starts = np.array([0, 700, 1600, 2300, 3200])
  time = np.arange(0, 3200, 20.0)
  beat = np.searchsorted(starts, time, "right") - 1
  phase = (time - starts[beat]) / np.diff(starts)[beat]
  depth = np.where(beat % 2, 0.6, 0.4)
  area = 1 - depth * np.sin(np.pi * phase) ** 2
  columns = np.rint(area * 60).astype(int)
  masks = np.arange(64)[None, None] < columns[:, None, None]
  masks = np.broadcast_to(masks, (len(time), 100, 64))
  found = cavity_features(masks, time, np.ones(2))
  # Each beat's minimum lies in its middle.
  lows = np.array([350, 1150, 1950, 2750])
  assert found["beat_ms"] == pytest.approx(np.diff(lows).mean(), abs=20)
  assert found["minimum_sd"] == pytest.approx(
    np.std([0.6, 0.4, 0.6, 0.4], ddof=1), abs=0.02
  )


def test_a_single_bad_frame_sets_no_extreme():
  masks = beating()
  masks[40] = True
  masks[90] = False
  found = cavity_features(masks, TIMES, SPACING)
  clean = cavity_features(beating(), TIMES, SPACING)
  assert found["area_max_mm2"] == clean["area_max_mm2"]
  assert found["area_min_mm2"] == pytest.approx(clean["area_min_mm2"], rel=0.02)
  assert found["seen_share"] == pytest.approx(1 - 1 / FRAMES)


def test_what_cannot_be_measured_is_nan():
  masks, nowhere = beating()[:50], np.full(2, np.nan)
  unscaled = cavity_features(masks, TIMES[:50], nowhere)
  assert unscaled["fractional_area_change_pct"] > 30
  sizes = [k for k in unscaled if k.endswith(("_mm", "_mm2", "_ml"))]
  assert len(sizes) == 6 and np.isnan([unscaled[k] for k in sizes]).all()
  untimed = cavity_features(masks, TIMES[:50] * np.nan, SPACING)
  assert np.isnan(untimed["beat_ms"]) and untimed["length_max_mm"] > 70
  one_beat = cavity_features(masks, TIMES[:50], SPACING)
  assert np.isnan(one_beat["beat_sd_ms"])
  empty = cavity_features(masks & False, TIMES[:50], SPACING)
  assert empty.pop("seen_share") == 0 and np.isnan([*empty.values()]).all()
  y, x = np.indices((60, 60)) - 30
  ball = np.broadcast_to(x**2 + y**2 < 400, (5, 60, 60))
  round_one = cavity_features(ball, TIMES[:5], np.ones(2))
  assert np.isnan(round_one["length_max_mm"])
  assert round_one["area_max_mm2"] == pytest.approx(400 * np.pi, rel=0.02)


def test_features_of_a_study_are_means_by_view():
  videos = pd.DataFrame(
    {
      "video_id": ["a", "b", "c", "d"],
      "study_id": ["s", "s", "s", "t"],
      "view": ["A4C", "A4C", "A2C", ""],
      "area_max_mm2": [1.0, 3.0, 7.0, 9.0],
    }
  )
  found = study_features(videos)
  assert found.loc["s", "a4c_area_max_mm2"] == 2
  assert found.loc["s", "a2c_area_max_mm2"] == 7
  assert np.isnan(found.loc["t", "a4c_area_max_mm2"])
  assert found.loc["t", "view_unknown_area_max_mm2"] == 9
