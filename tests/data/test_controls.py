"""Controls take one cue away and leave the rest as it was."""

import numpy as np
import pytest

from echo_jax.data import schema
from echo_jax.data.controls import (
  CHANGES,
  Changed,
  hold_still,
  replace_by_noise,
  shuffle_frames,
  turn_upside_down,
)
from echo_jax.data.frames import decode_frame, encode_frames, encode_mask

VIDEO = np.random.default_rng(0).integers(0, 255, (9, 8, 8, 1), np.uint8)


def make(codec="png", ed_frame=2):
  sector = np.tri(8, dtype=bool)
  return schema.make_record(
    video_id="t:v", study_id="t:s", patient_id="t:p", kind="cine",
    split="test", frames=encode_frames(VIDEO, codec), frames_codec=codec,
    frames_shape=(8, 8, 1), frame_time_ms=np.arange(9) * 20.0, ef_pct=55.0,
    ed_frame=ed_frame, sector=encode_mask(sector),
  )  # fmt: skip


def pixels(record):
  shape = tuple(int(n) for n in record["frames_shape"])
  return np.stack(
    [decode_frame(f, record["frames_codec"], shape) for f in record["frames"]]
  )


@pytest.mark.parametrize("codec", ["raw", "png"])
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_control_is_a_whole_record_with_the_same_labels(name, codec):
  before = make(codec)
  kept = dict(before)
  changed = CHANGES[name](before)
  schema.check_record(changed)
  assert len(changed["frames"]) == 9
  for key in schema.FIELDS:
    if key not in ("frames", "frames_codec", "sector"):
      np.testing.assert_array_equal(changed[key], before[key], err_msg=key)
  assert all(before[key] is value for key, value in kept.items())


def test_still_is_the_end_diastolic_frame_or_the_first():
  assert (pixels(hold_still(make())) == VIDEO[2]).all()
  assert (pixels(hold_still(make(ed_frame=-1))) == VIDEO[0]).all()


def test_shuffled_has_every_frame_once_in_another_order():
  shuffled = pixels(shuffle_frames(make()))
  assert not (shuffled == VIDEO).all()
  order = [int((VIDEO == frame).all((1, 2, 3)).argmax()) for frame in shuffled]
  assert sorted(order) == list(range(9))


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_upside_down_turns_rows_and_is_its_own_inverse(codec):
  once = turn_upside_down(make(codec))
  np.testing.assert_array_equal(pixels(once), VIDEO[:, ::-1])
  np.testing.assert_array_equal(pixels(turn_upside_down(once)), VIDEO)


def test_noise_differs_by_frame_and_by_video():
  noise = pixels(replace_by_noise(make()))
  assert 118 < noise.mean() < 137 and noise.std() > 65
  assert not (noise[0] == noise[1]).all()
  other = pixels(replace_by_noise(make() | {"video_id": "t:w"}))
  assert not (noise == other).all()


def test_changed_source_keeps_length_and_index():
  class Source(list):
    index = "the index"

  changed = Changed(Source([make()]), hold_still)
  assert len(changed) == 1 and changed.index == "the index"
  assert len(set(changed[0]["frames"])) == 1
  assert repr(changed).endswith("hold_still)")
