"""Segments and their motion against voxel counts, and against the old maps."""

import dataclasses
import math

import numpy as np
import pytest

from echo_jax.simulate import draw_study, heart, motion, segments

CASES = {
  "normal": {},
  "inferior": {n: "akinetic" for n in segments.territory_numbers("RCA")},
  "apical": {n: "dyskinetic" for n in (13, 14, 15, 16, 17)},
  "mixed": {1: "hypokinetic", 2: "akinetic", 7: "akinetic", 12: "hypokinetic"},
}


def _wall(changed, patient=2, **state):
  drawn = draw_study(5, patient, 0, "independent").heart
  functions = segments.describe_function(changed) if changed else ()
  state = {"ef_pct": 38.0, "segment_functions": functions} | state
  state = dataclasses.replace(drawn, **state)
  return motion.build_wall(heart.build_ventricle(state))


def _moment(wall, share):
  return motion.moment_at(wall, heart.pose_at(wall.ventricle, share))


def _voxels_ml(where, wall, now, step=1.0):
  reach = wall.ventricle.radius_mm * 1.2 + 22
  across = np.arange(-reach, reach, step, np.float32)
  along = np.arange(-14, now.length_mm + 8, step, np.float32)
  x, y, w = np.meshgrid(across, across, along, indexing="ij")
  return np.count_nonzero(where(wall, now, x, y, w)) * step**3 / 1000


def _segment_at(u, angle_rad):
  return 1 + int(np.argmax(segments.segment_weights(u, angle_rad), axis=0)[0])


def test_seventeen_segments_fill_the_wall():
  assert [s.number for s in segments.SEGMENTS] == list(range(1, 18))
  u, angle = np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 7, 60))
  weights = segments.segment_weights(u, angle)
  np.testing.assert_allclose(weights.sum(0), 1, atol=1e-12)
  assert weights.min() >= 0
  for s in segments.SEGMENTS:
    middle = np.array([(s.low_u + s.high_u) / 2]), np.array([s.centre_rad])
    assert _segment_at(*middle) == s.number


def test_views_cut_the_segments_that_the_guideline_names():
  """Walls of the apical planes at mid level (Lang et al. 2015, figure 4)."""
  degrees = {"A4C": (180, 0), "A2C": (240, 60), "A3C": (300, 120)}
  found = {
    view: tuple(
      _segment_at(np.array([0.5]), np.radians([d])) for d in pair
    )
    for view, pair in degrees.items()
  }
  assert found == {"A4C": (9, 12), "A2C": (10, 7), "A3C": (11, 8)}


def test_territories_are_those_of_the_standard():
  assert segments.territory_numbers("LAD") == (1, 2, 7, 8, 13, 14, 17)
  assert segments.territory_numbers("RCA") == (3, 4, 9, 10, 15)
  assert segments.territory_numbers("LCx") == (5, 6, 11, 12, 16)
  with pytest.raises(ValueError, match="LAD, LCx, RCA"):
    segments.territory_numbers("left main")


def test_words_that_do_not_exist_are_refused():
  with pytest.raises(ValueError, match="hypokinetic"):
    segments.describe_function({3: "lazy"})
  with pytest.raises(ValueError, match="1 to 17"):
    segments.describe_function({18: "normal"})


@pytest.mark.parametrize("case", CASES)
def test_volume_follows_the_curve_and_the_wall_keeps_its_own(case):
  wall = _wall(CASES[case])
  state, muscle = wall.ventricle.state, []
  for share in (0.0, 0.4, 1.0):
    now = _moment(wall, share)
    truth = state.edv_ml * (1 - state.ef_pct / 100 * share)
    assert motion.cavity_volume_ml(wall, now) == pytest.approx(truth, 1e-3)
    counted = _voxels_ml(motion.in_cavity, wall, now)
    assert counted == pytest.approx(truth, rel=0.01)
    muscle.append(_voxels_ml(motion.in_wall, wall, now))
  np.testing.assert_allclose(muscle, muscle[0], rtol=0.01)


def _thickness_mm(wall, now, u, degrees):
  """Muscle along one direction at level u, by steps of 0.02 mm."""
  r = np.arange(0, 70, 0.02)
  x, y = r * math.cos(math.radians(degrees)), r * math.sin(
    math.radians(degrees)
  )
  height = now.length_mm + now.lean[0] * x + now.lean[1] * y
  w = (height + now.bow_mm) * u - now.bow_mm * u * u
  return 0.02 * np.count_nonzero(motion.in_wall(wall, now, x, y, w))


def test_akinetic_segments_do_not_thicken_and_dyskinetic_ones_thin():
  wall = _wall(CASES["inferior"], ef_pct=45.0)
  rest, systole = _moment(wall, 0.0), _moment(wall, 1.0)
  change = {
    degrees: _thickness_mm(wall, systole, 0.5, degrees)
    / _thickness_mm(wall, rest, 0.5, degrees)
    for degrees in (60, 240)
  }
  assert change[240] == pytest.approx(1, abs=0.03)
  assert change[60] > 1.3
  bulging = _wall({4: "dyskinetic", 10: "dyskinetic"}, ef_pct=45.0)
  thin = _thickness_mm(bulging, _moment(bulging, 1.0), 0.5, 240)
  assert thin < 0.97 * _thickness_mm(bulging, rest, 0.5, 240)


def test_a_heart_without_segments_moves_as_before():
  """The plane y = 0 is the one of heart.py, in the muscle and around it."""
  wall = _wall({})
  x, w = np.meshgrid(
    np.linspace(-70, 60, 90, dtype=np.float32),
    np.linspace(-20, 150, 90, dtype=np.float32),
  )
  now = _moment(wall, 1.0)
  pose = now.pose
  x_ref, y_ref, w_ref = motion.reference_position(wall, now, x, 0 * x, w)
  old = heart.reference_coordinates(wall.ventricle, pose, x, w)
  np.testing.assert_allclose(x_ref, old[0], atol=0.02)
  np.testing.assert_allclose(w_ref, old[1], atol=0.02)
  np.testing.assert_array_equal(y_ref, 0)
  np.testing.assert_array_equal(
    motion.in_cavity(wall, now, x, 0 * x, w),
    heart.in_cavity(wall.ventricle, pose, x, w),
  )


@pytest.mark.parametrize("case", ["inferior", "apical"])
def test_muscle_keeps_its_place_between_the_layers(case):
  """The map to end-diastole has determinant 1 in the muscle."""
  wall = _wall(CASES[case])
  now = _moment(wall, 1.0)
  rng = np.random.default_rng(0)
  x, y = rng.uniform(-45, 45, (2, 4000))
  w = rng.uniform(5, 0.95 * now.length_mm, 4000)
  step, columns = 1e-3, []
  for axis in range(3):
    ends = []
    for sign in (-1, 1):
      point = [x.copy(), y.copy(), w.copy()]
      point[axis] += sign * step
      place = motion.reference_position(wall, now, *point)
      ends.append(np.stack(place, -1))
    columns.append((ends[1] - ends[0]) / (2 * step))
  determinant = np.linalg.det(np.stack(columns, -1))
  place = motion.locate(wall, now, x, y, w)
  deep = motion.in_wall(wall, now, x, y, w) & (place.muscle_mm2 > 20)
  # the bow of the axis is taken out, which is a shear; tables step in u
  assert np.count_nonzero(deep) > 300
  assert np.median(np.abs(determinant[deep] - 1)) < 0.01


def test_what_the_segments_cannot_do_is_refused():
  with pytest.raises(ValueError, match="lower ef_pct"):
    _wall(CASES["inferior"], ef_pct=75.0)
  with pytest.raises(ValueError, match="ef_pct 70, rhythm sinus"):
    _wall(CASES["inferior"], ef_pct=70.0)
  _wall(CASES["inferior"], ef_pct=41.0)
  with pytest.raises(ValueError, match="lower ef_pct"):
    _wall({n: "akinetic" for n in range(1, 18)})
  with pytest.raises(ValueError, match="3 segment functions; 17"):
    _wall({}, segment_functions=("normal",) * 3)


def test_a_beat_that_ejects_more_than_the_segments_can_is_refused():
  """A beat after a pause asks for more than the steady ones allow."""
  allowed = 41.0
  while True:
    try:
      wall = _wall(CASES["inferior"], ef_pct=allowed + 1)
    except ValueError:
      break
    allowed += 1
  wall = _wall(CASES["inferior"], ef_pct=allowed)
  assert _moment(wall, 1.0).squeeze < motion.LARGEST_SQUEEZE
  with pytest.raises(ValueError, match="a beat that ejects .* of EDV"):
    _moment(wall, 1.15)
  assert allowed > 45


def test_seventeen_normal_segments_are_none():
  plain = _wall({})
  spelt = _wall({}, segment_functions=segments.describe_function({}))
  assert spelt.table is None
  assert (plain.mean, plain.lean) == (spelt.mean, spelt.lean)
