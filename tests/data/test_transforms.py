"""Augmentation: by hand, one draw a clip, independent of other settings."""

import dataclasses
import math

import numpy as np
import pytest

from echo_jax.data.contract import InputContract
from echo_jax.data.fan import find_fan
from echo_jax.data.frames import encode_frames, encode_mask
from echo_jax.data.pipeline import ClipMaker
from echo_jax.data.transforms import (
  Augmentation,
  Draw,
  apply_draw,
  augment,
  draw_numbers,
)

VIDEO = np.random.default_rng(0).integers(0, 200, (3, 8, 6, 1), np.uint8)


def draw(seed=0, video=VIDEO, sector=None, **how):
  """The augmented example under a seed."""
  example = {"video": video, "start_ms": 7.0}
  if sector is not None:
    example["sector"] = sector
  return augment(example, Augmentation(**how), np.random.default_rng(seed))


def find_shift(video, moved, reach):
  """Every (down, right) that explains a moved clip."""
  found = []
  for down in range(-reach, reach + 1):
    for right in range(-reach, reach + 1):
      wanted = np.zeros_like(video)
      rows, columns = video.shape[1:3]
      for y in range(rows):
        for x in range(columns):
          if 0 <= y - down < rows and 0 <= x - right < columns:
            wanted[:, y, x] = video[:, y - down, x - right]
      if (wanted == moved).all():
        found.append((down, right))
  return found


def test_shift_moves_every_frame_and_the_sector_alike():
  sector = VIDEO[0, ..., 0] > 100
  shifts = set()
  for seed in range(12):
    out = draw(seed, sector=sector, shift_px=2)
    (shift,) = find_shift(VIDEO, out["video"], 2)
    as_video = sector[None, ..., None]
    assert shift in find_shift(as_video, out["sector"][None, ..., None], 2)
    shifts.add(shift)
  assert len(shifts) > 6  # both ways, both axes
  assert {s for pair in shifts for s in pair} == {-2, -1, 0, 1, 2}


def test_gain_brightens_or_darkens_and_never_wraps_round():
  bright = np.full((1, 2, 2, 1), 250, np.uint8)
  for seed in range(8):
    factor = draw(seed, np.full((1, 1, 1, 1), 100, np.uint8), gain=0.2)
    grey = int(factor["video"].item())
    assert 79 <= grey <= 120
    out = draw(seed, bright, gain=0.2)["video"]
    assert (out == 255).all() if grey > 102 else (out >= 199).all()


def test_gain_has_no_bias():
  """Cutting off decimals would darken every clip by half a grey level."""
  grey = np.full((1, 1, 1, 1), 101, np.uint8)
  for seed in range(20):
    factor = draw(seed, np.full((1, 1, 1, 1), 100, np.uint8), gain=0.3)
    wide = draw(seed, np.full((1, 1, 1, 1), 50, np.uint8), gain=0.3)
    assert abs(int(factor["video"].item()) - 2 * int(wide["video"].item())) <= 1
  mean = np.mean(
    [draw(seed, grey, gain=0.01)["video"].item() for seed in range(400)]
  )
  assert mean == pytest.approx(101, abs=0.15)


@pytest.mark.parametrize("other", [{"shift_px": 3}, {"shift_px": 1}])
def test_one_augmentation_does_not_change_the_draws_of_another(other):
  flips = {"flip_horizontal": 0.5, "flip_vertical": 0.5}
  even = np.full((1, 40, 40, 1), 100, np.uint8)
  for seed in range(10):
    alone = draw(seed, even, gain=0.5)["video"].max()
    with_other = draw(seed, even, gain=0.5, **other)["video"].max()
    assert alone == with_other
  half = even.copy()
  half[:, :20] = 0
  half[:, :, :20] //= 2
  for seed in range(10):
    alone = draw(seed, half, **flips)["video"][0, ..., 0]
    with_other = draw(seed, half, **flips, **other)["video"][0, ..., 0]
    inner = slice(5, 15), slice(25, 35)
    for rows in inner:
      for columns in inner:
        np.testing.assert_array_equal(
          alone[rows, columns], with_other[rows, columns]
        )


def test_flips_are_independent_and_upside_down_means_rows():
  out = draw(video=VIDEO, flip_vertical=1.0)["video"]
  np.testing.assert_array_equal(out, VIDEO[:, ::-1])
  kinds = set()
  for seed in range(30):
    out = draw(seed, flip_vertical=0.5, flip_horizontal=0.5)["video"]
    for name, wanted in (
      ("no", VIDEO), ("v", VIDEO[:, ::-1]), ("h", VIDEO[:, :, ::-1]),
      ("vh", VIDEO[:, ::-1, ::-1]),
    ):  # fmt: skip
      if np.array_equal(out, wanted):
        kinds.add(name)
  assert kinds == {"no", "v", "h", "vh"}


def test_the_example_given_is_left_as_it_was():
  before = VIDEO.copy()
  out = draw(shift_px=2, gain=0.3, flip_vertical=1.0)
  np.testing.assert_array_equal(VIDEO, before)
  assert out["start_ms"] == 7.0


# A right angle, its apex half a pixel above the middle of the top row.
ROWS, COLUMNS = np.mgrid[:60, :101]
FAN = (np.abs(COLUMNS - 50) <= ROWS) & (np.hypot(ROWS, COLUMNS - 50) < 55)
ALL = Augmentation(
  shift_px=4, gain=0.3, flip_horizontal=0.5, contrast=0.4, attenuation_db=20.0,
  speckle=0.5, shadow_db=20.0, rotation_deg=15.0, crop=0.3, crop_aspect=0.2,
  frame_rate=0.5,
)  # fmt: skip


def even(level, frames=2, channels=1):
  """Frames of one grey, in the fan's shape."""
  return np.full((frames, *FAN.shape, channels), level, np.uint8)


def apply(video, seed=0, **how):
  """An augmented clip with the fan as its sector, and its draw."""
  numbers = draw_numbers(np.random.default_rng(seed))
  example = {"video": video, "sector": FAN}
  return apply_draw(example, Augmentation(**how), numbers), numbers


def test_dynamic_range_stretches_from_white():
  ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  numbers = draw_numbers(np.random.default_rng(3))
  out = apply_draw({"video": ramp}, Augmentation(contrast=0.5), numbers)
  change = 0.5 * numbers.of("contrast").uniform(-1, 1)
  grey = np.arange(256)
  # 255 levels of D dB shown as 255 levels of D (1 + change) dB.
  wanted = np.clip(255 - (255 - grey) / (1 + change), 0, 255)
  wanted[0] = 0
  assert abs(change) > 0.05
  assert np.abs(out["video"].ravel() - wanted).max() <= 0.5
  assert out["video"].ravel()[255] == 255
  factors = [
    apply_draw(
      {"video": np.full((1, 1, 1, 1), 155, np.uint8)},
      Augmentation(contrast=0.5), draw_numbers(np.random.default_rng(seed)),
    )["video"].item() for seed in range(200)
  ]  # fmt: skip
  assert min(factors) < 65 and max(factors) > 183  # 155 becomes 55 to 188


def test_attenuation_grows_linearly_along_the_rays():
  out, numbers = apply(even(200), attenuation_db=24.0, dynamic_range_db=60.0)
  loss_db = 24.0 * numbers.of("attenuation").uniform()
  lost = 200.0 - out["video"][0, ..., 0]
  assert not lost[~FAN].any()
  # Depth is 0 half a pixel, 1 about 54 1/2 pixels from the apex.
  distance = np.hypot(ROWS + 0.5, COLUMNS - 50)
  share = (distance - 0.5) / (distance[FAN].max() - 0.5)
  assert np.abs(lost - share * loss_db * 255 / 60)[FAN].max() <= 0.75
  assert lost[FAN].max() == pytest.approx(loss_db * 255 / 60, abs=1)


def test_speckle_is_rayleigh_with_mean_one_and_has_a_grain():
  video = np.full((1, 400, 400, 1), 60, np.uint8)
  spreads, alike = [], []
  for grain_px in (0.0, 1.2, 3.0):
    numbers = draw_numbers(np.random.default_rng(1))
    how = Augmentation(speckle=1.0, speckle_px=grain_px)
    out = apply_draw({"video": video}, how, numbers)["video"][0, ..., 0] / 60.0
    strength = numbers.of("speckle").uniform()
    assert strength > 0.3
    assert out.mean() == pytest.approx(1, abs=0.03)
    spreads.append(out.std() / strength)
    right, left = out[:, 1:].ravel(), out[:, :-1].ravel()
    alike.append(np.corrcoef(right, left)[0, 1])
  # Standard deviation over mean of a Rayleigh distribution: 0.5227.
  rayleigh = math.sqrt(4 / math.pi - 1)
  assert spreads == pytest.approx([rayleigh] * 3, rel=0.06)
  assert alike[0] < 0.02 and 0.6 < alike[1] < 0.9 < alike[2]


def test_a_shadow_is_a_soft_sector_from_the_apex_down():
  width, deepest = math.radians(30), 20.0
  middles = []
  for seed in range(20):
    out, numbers = apply(even(250), seed, shadow_db=deepest, shadow_deg=30.0)
    where, wide, deep = numbers.of("shadow").uniform(size=3)
    lost = 250.0 - out["video"][0, ..., 0]
    assert not lost[~FAN].any()
    angle = np.arctan2(COLUMNS - 50, ROWS + 0.5)
    seen = angle[FAN]
    middle = seen.min() + where * (seen.max() - seen.min())
    half = width * (1 + 2 * wide) / 6
    away = np.clip((angle - middle) / half, -1, 1)
    loss_db = deepest * deep * (1 + np.cos(np.pi * away)) / 2
    far = FAN & (ROWS > 10)  # where half a pixel is a small angle
    assert np.abs(lost - loss_db * 255 / 60)[far].max() < 3
    assert not lost[FAN & (np.abs(angle - middle) > half + 0.1)].any()
    assert half <= width / 2
    middles.append(middle)
  assert np.ptp(middles) > 1  # all over the fan


def test_rotation_is_about_the_apex():
  video = even(0)
  video[:, 39:42, 49:52] = 255  # 40.5 pixels straight below the apex
  out, numbers = apply(video, 1, rotation_deg=20.0)
  turn = math.radians(20.0 * numbers.of("rotation").uniform(-1, 1))
  assert abs(turn) > 0.05
  bright = out["video"][0, ..., 0].astype(float)
  y, x = (bright * ROWS).sum(), (bright * COLUMNS).sum()
  y, x = y / bright.sum() + 0.5, x / bright.sum() - 50
  assert math.hypot(x, y) == pytest.approx(40.5, abs=0.2)
  assert math.atan2(x, y) == pytest.approx(turn, abs=0.01)
  assert np.ptp(out["video"], axis=0).max() == 0
  middle = find_fan(out["sector"])
  assert middle.apex_px == pytest.approx((50, -0.5), abs=1.5)


def test_a_crop_is_enlarged_to_the_whole_picture():
  """On a ramp of one grey level a pixel the crop can be read off."""
  level = np.arange(100, dtype=np.uint8)[None, :, None, None]
  down = np.tile(level, (1, 1, 100, 1))
  for seed in range(20):
    numbers = draw_numbers(np.random.default_rng(seed))
    how = Augmentation(crop=0.4, crop_aspect=0.3)
    columns, rows = (
      apply_draw({"video": ramp + np.uint8(100)}, how, numbers)["video"][0]
      .astype(float)[..., 0]
      for ramp in (down.transpose(0, 2, 1, 3), down)
    )  # fmt: skip
    across = (columns[50, 90] - columns[50, 10]) / 80
    along = (rows[90, 50] - rows[10, 50]) / 80
    assert 0.6 - 0.03 <= across * along <= 1.03
    assert 1 / 1.3 - 0.03 <= across / along <= 1.3 + 0.03
    sized = {"video": down, "spacing_mm": np.float32([0.2, 0.3])}
    spacing_mm = apply_draw(sized, how, numbers)["spacing_mm"]
    np.testing.assert_allclose(
      spacing_mm, [0.2 * along, 0.3 * across], rtol=0.02
    )
    # Nothing from beyond the picture comes in.
    inner = slice(1, -1), slice(1, -1)
    assert columns[inner].min() >= 99 and rows[inner].min() >= 99
    assert np.ptp(columns[inner], axis=0).max() <= 1


def test_everything_moves_the_sector_with_the_picture():
  video = even(0) + np.uint8(200) * FAN[None, ..., None]
  moves = {
    name: getattr(ALL, name)
    for name in ("shift_px", "rotation_deg", "crop", "crop_aspect")
  }
  places = set()
  for seed in range(10):
    out, _ = apply(video, seed, flip_horizontal=0.5, **moves)
    shown = out["video"][0, ..., 0] > 100
    assert (shown == out["sector"]).mean() > 0.97
    places.add(find_fan(out["sector"]).apex_px)
  assert len(places) == 10


@pytest.mark.parametrize("channels", [1, 3])
def test_all_frames_of_a_clip_are_changed_alike(channels):
  rng = np.random.default_rng(0)
  frame = rng.integers(1, 255, (1, *FAN.shape, 1), np.uint8)
  video = np.repeat(np.repeat(frame, 4, 0), channels, -1)
  how = {f.name: getattr(ALL, f.name) for f in dataclasses.fields(ALL)}
  for seed in range(4):
    out, _ = apply(video, seed, **how)
    assert out["video"].shape == video.shape and out["video"].dtype == np.uint8
    assert (out["video"] == out["video"][:1, ..., :1]).all()
    assert (out["video"] != video).mean() > 0.5


def test_nothing_turns_the_heart_upside_down_unless_asked_for():
  how = {f.name: getattr(ALL, f.name) for f in dataclasses.fields(ALL)}
  for seed in range(30):
    out, _ = apply(even(100), seed, **how)
    rows = out["sector"].sum(axis=1)
    assert rows[:20].sum() < rows[20:40].sum()  # wide below, narrow above
  out, _ = apply(even(100), flip_vertical=1.0)
  np.testing.assert_array_equal(out["sector"], FAN[::-1])


def test_new_settings_do_not_move_what_the_old_ones_drew():
  """Start, shift and gain are those that were drawn before there were more."""
  old = Augmentation(shift_px=3, gain=0.4, flip_horizontal=0.5)
  new = dataclasses.replace(old, speckle=0.3, contrast=0.2, frame_rate=0.3)
  times = np.arange(60, dtype=np.float32) * np.float32(30)
  video = np.full((60, 16, 16, 1), 100, np.uint8)
  record = {
    "video_id": "t:v", "frames": encode_frames(video, "raw"),
    "frames_codec": "raw", "frames_shape": np.array([16, 16, 1], np.int32),
    "spacing_mm": np.float32([0.3, 0.3]),
    "frame_time_ms": times, "sector": b"",
  }  # fmt: skip
  contract = InputContract(frames=4, span_s=0.5, size=16)
  for seed in range(5):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 60 * 30 - 500)
    shift = (rng.uniform(size=2) * 7).astype(int) - 3
    gain = 1 + 0.4 * rng.uniform(-1, 1)
    before = ClipMaker(contract, (), old)
    with_new = ClipMaker(contract, (), new)
    example = before.drawn(record, np.random.default_rng(seed))
    assert example["start_ms"] == np.float32(start)
    assert example["video"].max() == round(100 * gain)
    lit = np.argwhere(example["video"][0, ..., 0])
    rows, columns = lit[:, 0], lit[:, 1]
    assert rows.min() == max(shift[0], 0)
    assert 15 - rows.max() == max(-shift[0], 0)
    assert len(np.unique(columns)) == 16 - abs(shift[1])
    other = with_new.drawn(record, np.random.default_rng(seed))
    assert other["start_ms"] == example["start_ms"]
    np.testing.assert_array_equal(other["video"] > 0, example["video"] > 0)


def test_one_new_augmentation_does_not_change_the_draw_of_another():
  for name in ("contrast", "attenuation_db", "shadow_db", "rotation_deg"):
    value = getattr(ALL, name)
    alone = [
      Augmentation(**{name: value}), dataclasses.replace(ALL, **{name: value})
    ]  # fmt: skip
    draws = [draw_numbers(np.random.default_rng(7)) for _ in alone]
    first, second = (draw.of(name).uniform(size=3) for draw in draws)
    np.testing.assert_array_equal(first, second)
  numbers = draw_numbers(np.random.default_rng(7))
  drawn = {n: numbers.of(n).uniform() for n in ("a", "b", "contrast")}
  assert len(set(drawn.values())) == 3


def test_a_slower_scanner_shows_stored_frames_at_their_own_times():
  times = np.arange(90, dtype=np.float32) * np.float32(20)
  video = np.zeros((90, 4, 4, 1), np.uint8)
  video += np.arange(90, dtype=np.uint8)[:, None, None, None]
  record = {
    "video_id": "t:v", "frames": encode_frames(video, "raw"),
    "frames_codec": "raw", "frames_shape": np.array([4, 4, 1], np.int32),
    "spacing_mm": np.float32([0.3, 0.3]),
    "frame_time_ms": times, "sector": b"",
  }  # fmt: skip
  contract = InputContract(frames=16, span_s=0.64, size=4)
  slow = ClipMaker(contract, (), Augmentation(frame_rate=0.75))
  full = ClipMaker(contract)
  fewest = 16
  for seed in range(20):
    thinned = slow.drawn(record, np.random.default_rng(seed))
    whole = full.drawn(record, np.random.default_rng(seed))
    shown = thinned["video"][:, 0, 0, 0]
    assert shown.tolist() == thinned["frame_index"].tolist()
    assert thinned["start_ms"] == whole["start_ms"]
    assert thinned["span_ms"] == whole["span_ms"] == 640
    since = times[shown] - times[shown[0]]
    np.testing.assert_array_equal(thinned["frame_time_ms"], since)
    # Never farther from its moment than half an interval of the slowest.
    late = np.abs(times[shown] - times[whole["frame_index"]])
    assert late.max() <= 40 + 10 + 1e-3
    assert thinned["frame_valid"].all()
    fewest = min(fewest, len(set(shown.tolist())))
  assert fewest < 13


def test_rays_need_a_sector():
  how = Augmentation(rotation_deg=5.0)
  assert how.needs_sector and ALL.needs_sector
  assert not Augmentation(speckle=1.0, crop=0.2, contrast=0.3).needs_sector
  with pytest.raises(ValueError, match="no sector"):
    augment({"video": VIDEO}, how, np.random.default_rng(0))
  mask = np.tri(16, dtype=bool)
  record = {
    "video_id": "t:v", "sector": encode_mask(mask), "frames_codec": "raw",
    "frames": encode_frames(np.zeros((2, 16, 16, 1), np.uint8), "raw"),
    "frames_shape": np.array([16, 16, 1], np.int32),
    "spacing_mm": np.float32([0.3, 0.3]),
    "frame_time_ms": np.array([0, 100], np.float32),
  }  # fmt: skip
  contract = InputContract(frames=2, span_s=0.2, size=16)
  for asked in (False, True):
    maker = ClipMaker(contract, (), how, sector=asked)
    example = maker.drawn(record, np.random.default_rng(0))
    assert ("sector" in example) == asked
  with pytest.raises(ValueError, match="t:v has no sector"):
    maker.drawn(record | {"sector": b""}, np.random.default_rng(0))


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("gain", -0.1), ("shift_px", -1), ("flip_vertical", 1.5), ("speckle", 2.0),
    ("crop", 1.0), ("frame_rate", 1.0), ("contrast", 1.0),
    ("rotation_deg", float("nan")), ("dynamic_range_db", 0.0),
  ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name, value):
  with pytest.raises(ValueError, match=name):
    Augmentation(**{name: value})


def test_a_draw_is_the_same_numbers_in_the_same_order():
  first, second = (draw_numbers(np.random.default_rng(2)) for _ in range(2))
  assert isinstance(first, Draw) and first.seed == second.seed
  assert first.of("speckle").uniform() == second.of("speckle").uniform()
