"""Augmentation: by hand, one draw a clip, independent of other settings."""

import numpy as np
import pytest

from echo_jax.data.transforms import Augmentation, augment

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
