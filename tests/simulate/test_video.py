"""The cine and its truth: repeatable, consistent, and moving as it should."""

import dataclasses
import hashlib
import math

import cv2
import numpy as np
import pytest

from echo_jax.simulate import (
  draw_study,
  heart,
  scanner,
  segments,
  simulate_video,
  tissue,
  views,
)
from echo_jax.simulate.video import draw_frame, move_heart, prepare_scene

COHORT = "independent"


def _on(device: int, patient: int = 2):
  study = draw_study(21, patient, 0, COHORT)
  return dataclasses.replace(study, device=scanner.DEVICES[device])


@pytest.fixture(scope="module", params=range(3))
def video(request):
  return simulate_video(_on(request.param), size=96, duration_s=1.6)


def test_shapes_and_types(video):
  count = len(video.frame_time_ms)
  assert video.frames.shape == video.lv_mask.shape == (count, 96, 96)
  assert video.frames.dtype == np.uint8 and video.lv_mask.dtype == bool
  assert video.sector.shape == (96, 96) and video.volume_ml.shape == (count,)
  assert video.frame_time_ms.dtype == video.volume_ml.dtype == np.float32
  assert video.spacing_mm.dtype == np.float32 and video.spacing_mm.min() > 0


def test_times_and_beats(video):
  assert video.frame_time_ms[0] == 0
  assert np.all(np.diff(video.frame_time_ms) > 15)
  assert 1500 < video.frame_time_ms[-1] < 1600
  first, second = video.r_wave_ms[:2]
  for frame in (video.ed_frame, video.es_frame):
    assert first <= video.frame_time_ms[frame] < second


def test_extremes_are_the_truth(video):
  assert video.volume_ml[video.ed_frame] == video.volume_ml.max()
  assert video.volume_ml[video.ed_frame] == pytest.approx(video.edv_ml, 1e-4)
  assert video.volume_ml[video.es_frame] == pytest.approx(video.esv_ml, 1e-4)
  ef = 100 * (1 - video.esv_ml / video.edv_ml)
  assert video.ef_pct == pytest.approx(ef, abs=1e-9)


def test_cavity_is_inside_the_sector_and_darker_than_the_wall(video):
  assert not np.any(video.lv_mask & ~video.sector)
  for frame in (video.ed_frame, video.es_frame):
    mask = video.lv_mask[frame].astype(np.uint8)
    ring = cv2.dilate(mask, np.ones((7, 7), np.uint8)) - mask
    picture = video.frames[frame]
    assert picture[ring > 0].mean() > 2 * picture[mask > 0].mean()


def test_mask_area_follows_volume(video):
  area = video.lv_mask.sum(axis=(1, 2))
  assert np.corrcoef(area, video.volume_ml)[0, 1] > 0.99


def test_mask_area_is_that_of_the_cut_ellipse():
  """(b L / t) [y sqrt(1 - y^2) + asin y] from -1 to t - 1, by hand."""
  study = _on(2)
  anatomy = dataclasses.replace(study.heart.anatomy, taper=0.0)
  study = dataclasses.replace(
    study, heart=dataclasses.replace(study.heart, anatomy=anatomy)
  )
  ventricle = heart.build_ventricle(study.heart)
  t = anatomy.truncation
  y = t - 1
  area = y * math.sqrt(1 - y * y) + math.asin(y) + math.pi / 2
  area *= ventricle.radius_mm * ventricle.length_mm / t
  video = simulate_video(study, size=224, duration_s=1.4)
  pixels = video.lv_mask[video.ed_frame].sum()
  assert pixels * np.prod(video.spacing_mm) == pytest.approx(area, rel=0.01)


def test_same_study_gives_the_same_bits_and_another_clip_does_not():
  study = _on(0)
  one, same, other = (
    simulate_video(study, size=64, duration_s=0.5, clip=clip)
    for clip in (0, 0, 1)
  )
  np.testing.assert_array_equal(one.frames, same.frames)
  np.testing.assert_array_equal(one.lv_mask, same.lv_mask)
  assert not np.array_equal(one.frames, other.frames)
  assert (one.ef_pct, one.edv_ml) == (other.ef_pct, other.edv_ml)


def test_truth_depends_on_neither_size_nor_picture():
  study = _on(1)
  small = simulate_video(study, size=48, duration_s=1.0)
  large = simulate_video(study, size=80, duration_s=1.0)
  window = dataclasses.replace(study.window, gain_db=0.0, shadow_db=20.0)
  dim = simulate_video(
    dataclasses.replace(study, window=window), size=48, duration_s=1.0
  )
  for other in (large, dim):
    np.testing.assert_array_equal(small.volume_ml, other.volume_ml)
    np.testing.assert_array_equal(small.frame_time_ms, other.frame_time_ms)
    np.testing.assert_array_equal(small.r_wave_ms, other.r_wave_ms)
  np.testing.assert_array_equal(small.lv_mask, dim.lv_mask)
  assert not np.array_equal(small.frames, dim.frames)


def test_a_still_at_end_diastole_holds_nothing_about_ef():
  """Two hearts that differ in EF alone give the same ED frame, bit for bit."""
  study = _on(0)
  videos = [
    simulate_video(
      dataclasses.replace(
        study, heart=dataclasses.replace(study.heart, ef_pct=ef)
      ),
      size=64,
      duration_s=1.4,
    )
    for ef in (20.0, 70.0)
  ]
  ed, es = videos[0].ed_frame, videos[0].es_frame
  np.testing.assert_array_equal(videos[0].frames[ed], videos[1].frames[ed])
  assert not np.array_equal(videos[0].frames[es], videos[1].frames[es])


def _with_segments(study, changed, **state):
  names = segments.describe_function(changed)
  state = dataclasses.replace(study.heart, segment_functions=names, **state)
  return dataclasses.replace(study, heart=state)


def test_the_painter_of_a4c_does_not_tell_the_segments():
  """All normal is normal; what only one painter can draw is asked for."""
  study, ask = _on(0), {"size": 48, "duration_s": 0.2}
  plain = simulate_video(study, **ask)
  spelt = simulate_video(_with_segments(study, {}), **ask)
  np.testing.assert_array_equal(plain.frames, spelt.frames)
  ill = _with_segments(study, {4: "akinetic", 10: "akinetic"}, ef_pct=35.0)
  exact = views.Viewpoint()
  for odd in ({}, {"painter": "plane"}):
    with pytest.raises(ValueError, match="painter='slab', for the controls"):
      simulate_video(ill, **ask, **odd)
    with pytest.raises(ValueError, match="painter='slab'"):
      simulate_video(study, **ask, viewpoint=exact, **odd)
  with pytest.raises(ValueError, match="painter='slab'"):
    simulate_video(study, **ask, view="A2C", painter="plane")
  with pytest.raises(ValueError, match="'oil' is none of plane, slab"):
    simulate_video(study, **ask, painter="oil")


def test_controls_can_be_painted_like_the_others():
  study, ask = _on(0), {"size": 48, "duration_s": 0.2, "painter": "slab"}
  control = simulate_video(study, **ask)
  exact = simulate_video(study, **ask, viewpoint=views.Viewpoint())
  np.testing.assert_array_equal(control.frames, exact.frames)
  plane = simulate_video(study, size=48, duration_s=0.2)
  np.testing.assert_array_equal(control.volume_ml, plane.volume_ml)
  assert not np.array_equal(control.frames, plane.frames)


def test_a_still_painted_alike_does_not_tell_the_segments():
  """At end-diastole an infarct looks as its control does, later it does not."""
  ill = _with_segments(_on(0), {4: "akinetic", 10: "akinetic"}, ef_pct=35.0)
  well = _with_segments(_on(0), {}, ef_pct=35.0)
  one, two = (
    simulate_video(study, size=64, duration_s=1.4, painter="slab")
    for study in (ill, well)
  )
  differ = np.abs(one.frames.astype(int) - two.frames)[:, one.sector] > 8
  assert differ[one.ed_frame].mean() < 0.02 < differ[one.es_frame].mean()


# Taken from version 1.0.0 of the data set, which knew one view: cohort,
# patient, clip, size and seconds, then the digest of times, masks and volumes,
# the labels, and mean and spread of grey in the sector.
KEPT = (
  (
    ("independent", 0, 0, 48, 1.0),
    "2013aeddda83cacb",
    (
      188.74866744367267, 43.17967789696703, 70.86851366152338,
      0.5041851481342778, 57.4, "F", "site-2", "device-a", "A4C", 2, 20,
    ),
    (27.4, 34.7),
  ),
  (
    ("independent", 4, 2, 40, 1.5),
    "ba0eeab2a21f79c7",
    (
      276.20287718890097, 70.41414959949726, 105.30744672556848,
      0.6367182864980663, 66.6, "M", "site-2", "device-b", "A4C", 15, 26,
    ),
    (29.7, 33.1),
  ),
  (
    ("clinic_like", 3, 0, 40, 1.3),
    "9fec42ee7d527039",
    (
      137.17726850485485, 28.25096244139422, 78.80026192089278,
      0.7780388568757072, 58.9, "F", "site-1", "device-a", "A4C", 4, 21,
    ),
    (23.2, 32.3),
  ),
  (
    ("clinic_like", 5, 2, 56, 1.3),
    "0e28cf7ddd27a999",
    (
      66.4949670293651, 63.65062727797606, 80.77363814893695,
      0.3003763006188734, 55.9, "M", "site-3", "device-c", "A4C", 7, 18,
    ),
    (27.7, 40.0),
  ),
)  # fmt: skip


@pytest.mark.parametrize("kept", KEPT, ids=lambda k: f"{k[0][0]}-{k[0][1]}")
def test_the_four_chamber_view_is_what_it_was(kept):
  """To the last bit, but for grey, which is exact on one machine only, and
  the rounding of exp in the labels."""
  (cohort, patient, clip, size, seconds), digest, labels, grey = kept
  study = draw_study(4, patient, 0, cohort)
  video = simulate_video(study, size=size, duration_s=seconds, clip=clip)
  assert _digest(video) == digest
  assert (
    video.edv_ml, video.ef_pct, video.heart_rate_bpm, video.quality,
    video.age_years,
  ) == pytest.approx(labels[:5], rel=1e-12)  # fmt: skip
  assert (
    video.sex, video.site, video.device, video.view, video.ed_frame,
    video.es_frame,
  ) == labels[5:]  # fmt: skip
  inside = video.frames[:, video.sector]
  assert (inside.mean(), inside.std()) == pytest.approx(grey, abs=1)


def _digest(video):
  found = hashlib.sha256()
  for name in (
    "frame_time_ms", "spacing_mm", "sector", "lv_mask", "volume_ml",
    "r_wave_ms",
  ):  # fmt: skip
    found.update(np.ascontiguousarray(getattr(video, name)).tobytes())
  return found.hexdigest()[:16]


def test_blood_changes_and_the_sector_is_framed():
  video = simulate_video(_on(0), size=112, duration_s=0.3)
  outside = video.frames[:, ~cv2.dilate(
    video.sector.astype(np.uint8), np.ones((5, 5), np.uint8)
  ).astype(bool)]  # fmt: skip
  assert np.all(outside == outside[0])  # burned-in marks stand still
  assert outside.max() > 60
  assert np.median(video.frames[:, video.sector]) < 60


@pytest.mark.parametrize("bad", [{"size": 8}, {"duration_s": 0}, {"clip": -1}])
def test_impossible_requests_are_refused(bad):
  with pytest.raises(ValueError, match="size >= 32"):
    simulate_video(_on(0), **bad)


def test_a_recording_shorter_than_a_beat_has_no_ed_frame():
  video = simulate_video(_on(0), size=48, duration_s=0.2)
  assert (video.ed_frame, video.es_frame) == (-1, -1)


def _track(redraw: bool):
  """Errors in mm of following wall landmarks by their speckle.

  A patch of the wall is sought in a picture of a squeezed heart by normalised
  cross-correlation, and found place minus analytic place is returned.
  """
  errors = []
  for patient in (2, 3, 5, 6):
    study = _on(0, patient)
    ventricle = heart.build_ventricle(study.heart)
    rest = heart.pose_at(ventricle, 0.0)
    cap = heart.CAP_SHARE * ventricle.length_mm
    place = scanner.place_heart(
      ventricle, rest, cap, study.device, study.window
    )
    grid = scanner.make_grid(study.device, place.depth_mm, 320)
    rng = np.random.default_rng(0)
    scene = prepare_scene(study, ventricle, place, grid, rng)
    # the volume falls by 4 % of EDV: a few frames of early ejection
    pose = heart.pose_at(ventricle, 4 / study.heart.ef_pct)
    axes = [move_heart(study, place, ventricle, p, 0.0) for p in (rest, pose)]
    before = draw_frame(scene, rest, axes[0], rng)
    if redraw:
      rngs = np.random.default_rng(1), np.random.default_rng(2)
      chest = tissue.paint_chest(ventricle, study.window, *rngs)
      scene = dataclasses.replace(scene, chest=chest)
    after = draw_frame(scene, pose, axes[1], rng)
    for u in (0.35, 0.5, 0.65, 0.8):
      q = 0.5 * float(heart.wall_extent_mm2(ventricle, u))
      spots = []
      for p, axis in zip((rest, pose), axes, strict=True):
        point = heart.tissue_position_mm(ventricle, p, u, q, -1)
        spots.append(_pixel(grid, axis.probe_axes(*point)))
      errors.append(_miss(before, after, *spots) * grid.spacing_mm[0])
  return np.array(errors)


def _pixel(grid, point):
  """Column and row of a point in probe coordinates."""
  column = (point[0] - grid.pixel_x_mm[0, 0]) / grid.spacing_mm[1]
  row = (point[1] - grid.pixel_z_mm[0, 0]) / grid.spacing_mm[0]
  return np.array([column, row])


def _miss(before, after, start, end, half=8, reach=9):
  """Pixels between where the patch is found and where it should be."""
  column, row = np.rint(start).astype(int)
  patch = before[row - half : row + half + 1, column - half : column + half + 1]
  margin = half + reach
  field = after[
    row - margin : row + margin + 1, column - margin : column + margin + 1
  ]
  score = cv2.matchTemplate(field, patch, cv2.TM_CCOEFF_NORMED)
  down, right = np.unravel_index(np.argmax(score), score.shape)
  found = np.array([right - reach, down - reach])
  return np.linalg.norm(found - (end - start))


def test_wall_landmarks_move_with_their_speckle():
  """Median miss below 0.8 mm, about a pixel; lost when noise is redrawn."""
  advected, redrawn = _track(redraw=False), _track(redraw=True)
  assert np.median(advected) < 0.8
  assert np.median(redrawn) > 2 * np.median(advected) + 1
