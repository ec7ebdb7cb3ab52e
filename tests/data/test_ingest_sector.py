"""The sector of a clip against drawn geometry."""

import numpy as np
import pytest
from made_files import drawn_clip, sector_mask

from echo_jax.data.ingest.sector import bounding_box, find_sector


def overlap(found, true):
  return (found & true).sum() / (found | true).sum()


@pytest.mark.parametrize(
  "true",
  [
    sector_mask(),
    sector_mask(480, 640, (300, 40), 390, 45),
    sector_mask(240, 320, (140, 10), 200, 25),
    sector_mask(112, 112, (56, 4), 100, 40),
  ],
)
def test_sector_without_text_and_ecg(true):
  clip = drawn_clip(12, true, text=len(true) > 112)
  found = find_sector(clip)
  assert overlap(found, true) > 0.93
  if len(true) > 112:
    assert not found[-8:].any()  # the ECG trace runs there


def test_dark_flank_belongs_to_the_sector():
  true = sector_mask()
  clip = drawn_clip(12, true).astype(float)
  clip[:, :, 190:] *= 0.06  # a few grey levels only
  assert overlap(find_sector(clip.astype(np.uint8)), true) > 0.9


def test_noise_everywhere_does_not_flood():
  true = sector_mask()
  noise = np.random.default_rng(0).integers(0, 5, (12, *true.shape))
  clip = np.clip(drawn_clip(12, true).astype(int) + noise, 0, 255)
  assert overlap(find_sector(clip.astype(np.uint8)), true) > 0.9


def test_still_is_found_by_brightness():
  true = sector_mask()
  assert overlap(find_sector(drawn_clip(1, true)), true) > 0.9


def test_search_stays_in_the_region():
  found = find_sector(drawn_clip(6), (40, 30, 280, 200))
  x0, y0, x1, y1 = bounding_box(found)
  assert x0 >= 40 and y0 >= 30 and x1 < 280 and y1 < 200


def test_black_clip_has_no_sector():
  found = find_sector(np.zeros((5, 60, 80), np.uint8))
  assert not found.any() and bounding_box(found) is None
