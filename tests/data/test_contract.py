"""What a model is shown: shape, aspect, grey, sector, numbers, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.data.clips import choose_frames
from echo_jax.data.contract import (
  InputContract,
  draw_cavity,
  draw_clip,
  fit_frame,
  fit_mask,
  fit_sector,
  fitted_spacing,
  normalise,
)
from echo_jax.data.frames import (
  decode_frame,
  decode_frames,
  decode_mask,
  encode_frame,
  encode_frames,
  encode_mask,
)
from echo_jax.data.pipeline import ClipMaker


def record(frames=10, size=(8, 8), channels=1, codec="raw", step_ms=100.0):
  """A video whose frame i is all grey level i."""
  video = np.zeros((frames, *size, channels), np.uint8)
  video += np.arange(frames, dtype=np.uint8)[:, None, None, None]
  return {
    "frames": encode_frames(video, codec), "frames_codec": codec,
    "frames_shape": np.array([*size, channels], np.int32), "sector": b"",
    "spacing_mm": np.float32([0.3, 0.3]),
    "frame_time_ms": np.arange(frames, dtype=np.float32) * np.float32(step_ms),
    "video_id": "t:v",
  }  # fmt: skip


def grey_of(example):
  """The frame numbers that a clip of `record` shows."""
  return example["video"][:, 4, 4, 0].tolist()


def test_clip_shows_the_frames_that_its_numbers_name():
  maker = ClipMaker(InputContract(frames=4, span_s=0.8, size=8))
  example = maker.at(record(), 200.0)
  assert grey_of(example) == [2, 4, 6, 8] == example["frame_index"].tolist()
  assert example["frame_time_ms"].tolist() == [0, 200, 400, 600]
  assert example["start_ms"] == 200.0 and example["frame_valid"].all()


def test_short_video_is_repeated_as_its_valid_flags_say():
  maker = ClipMaker(InputContract(frames=6, span_s=0.6, size=8))
  example = maker.at(record(frames=4), 0.0)
  assert grey_of(example) == [0, 1, 2, 3, 0, 1]
  assert example["frame_valid"].tolist() == [True] * 4 + [False] * 2
  assert example["frame_time_ms"].tolist() == [0, 100, 200, 300, 400, 500]


def test_drawn_clips_stay_inside_the_video():
  maker = ClipMaker(InputContract(frames=4, span_s=0.4, size=8))
  rng, firsts = np.random.default_rng(0), set()
  for _ in range(80):
    example = maker.drawn(record(), rng)
    assert example["frame_valid"].all()
    assert np.diff(grey_of(example)).tolist() == [1, 1, 1]
    firsts.add(grey_of(example)[0])
  assert firsts == set(range(7))


def test_any_start_gives_the_nearest_frame_of_an_uneven_video():
  rng = np.random.default_rng(1)
  times = np.cumsum(rng.uniform(5, 60, 40)).astype(np.float32)
  times -= times[0]
  for start in rng.uniform(0, times[-1] - 400, 20):
    clip = choose_frames(times, 16, 0.4, float(start))
    moments = start + 400.0 * np.arange(16) / 16
    wanted = np.abs(times[None] - moments[:, None]).argmin(axis=1)
    np.testing.assert_array_equal(clip.index, wanted)


def test_whole_video_is_sampled_as_the_released_code_does():
  maker = ClipMaker(InputContract(frames=4, span_s=0.0, size=8))
  example = maker.at(record(frames=31), 0.0)
  assert grey_of(example) == [0, 10, 20, 30]
  assert maker.drawn(record(frames=31), np.random.default_rng(0))[
    "frame_index"
  ].tolist() == [0, 10, 20, 30]


@pytest.mark.parametrize(
  ("size", "inner"),
  [((20, 10), (8, 4)), ((10, 20), (4, 8)), ((4, 4), (8, 8)), ((2, 8), (2, 8))],
)
def test_resizing_keeps_the_aspect_and_centres(size, inner):
  frame = np.full((*size, 1), 90, np.uint8)
  fitted = fit_frame(frame, 8, 1)[..., 0]
  wanted = np.zeros((8, 8))
  top, left = (8 - inner[0]) // 2, (8 - inner[1]) // 2
  wanted[top : top + inner[0], left : left + inner[1]] = 90
  np.testing.assert_array_equal(fitted, wanted)


def test_the_spacing_grows_as_the_picture_shrinks():
  record = {
    "frames_shape": np.array([20, 40, 1]), "spacing_mm": np.float32([0.2, 0.3])
  }  # fmt: skip
  spacing_mm = fitted_spacing(record, InputContract(size=10))
  np.testing.assert_allclose(spacing_mm, [0.8, 1.2], rtol=1e-6)


def test_a_stretched_picture_fills_the_square_as_its_spacing_says():
  """Twice as wide as high: columns shrink by 4, rows by 2."""
  contract = InputContract(size=8, aspect="stretched")
  frame = np.zeros((16, 32, 1), np.uint8)
  frame[:, :16] = 90
  wanted = np.zeros((8, 8), np.uint8)
  wanted[:, :4] = 90
  fitted = fit_frame(frame, 8, 1, "stretched")[..., 0]
  np.testing.assert_array_equal(fitted, wanted)
  left = frame[..., 0] > 0
  np.testing.assert_array_equal(fit_mask(left, 8, "stretched"), wanted > 0)
  wide = record(size=(16, 32)) | {"sector": encode_mask(left)}
  clip = choose_frames(wide["frame_time_ms"], 2, 0.4)
  masks = draw_cavity(wide | {"lv_mask": [wide["sector"]] * 10}, clip, contract)
  np.testing.assert_array_equal(fit_sector(wide, contract), wanted > 0)
  np.testing.assert_array_equal(masks, np.stack([wanted > 0] * 2))
  np.testing.assert_allclose(fitted_spacing(wide, contract), [0.6, 1.2], 1e-6)
  shown = ClipMaker(contract).at(wide, 0.0)["video"]
  assert shown[0].min() == shown[0].max() == 0 and (shown[-1] > 0).all()
  assert contract.hash() != InputContract(size=8).hash()
  with pytest.raises(ValueError, match="aspect is 'wide'; the input contract"):
    InputContract(aspect="wide")


def test_a_still_is_so_many_real_copies_where_a_clip_is_the_whole_file():
  maker = ClipMaker(InputContract(frames=16, span_s=0.0, size=8))
  example = maker.drawn(record(frames=1), np.random.default_rng(0))
  assert example["frame_index"].tolist() == [0] * 16
  assert example["frame_valid"].all() and len(example["video"]) == 16


def test_shrinking_averages():
  frame = np.zeros((4, 4, 1), np.uint8)
  frame[:2, :2, 0] = [[0, 100], [100, 200]]
  assert fit_frame(frame, 2, 1)[..., 0].tolist() == [[100, 0], [0, 0]]


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("frames", 0), ("span_s", -1.0), ("span_s", float("nan")),
    ("span_beats", -1), ("size", 0), ("channels", 2), ("std", 0.0),
    ("std", float("inf")), ("mean", float("nan")),
  ],
)  # fmt: skip
def test_settings_that_make_no_input_are_refused_by_name(name, value):
  with pytest.raises(ValueError, match=f"{name} is .* the input contract"):
    InputContract(**{name: value})


def test_equal_contracts_hash_equally():
  whole, real = InputContract(span_s=1, std=1), InputContract(span_s=1.0)
  assert whole == real and whole.hash() == real.hash()
  assert InputContract(span_beats=1).hash() != InputContract().hash()


def test_grey_and_colour_by_hand():
  colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]] * 3, np.uint8)
  grey = fit_frame(colour, 3, 1)
  assert grey[0, :, 0].tolist() == [76, 150, 29]  # BT.601
  back = fit_frame(grey, 3, 3)
  assert back.shape == (3, 3, 3) and (back == grey).all()
  white = np.full((3, 3, 3), 255, np.uint8)
  assert (fit_frame(white, 3, 1) == 255).all()


def test_a_colour_clip_keeps_red_red_in_every_codec():
  red = np.zeros((8, 8, 3), np.uint8)
  red[..., 0] = 200
  for codec, allowed in (("raw", 0), ("png", 0), ("jpeg", 4)):
    frame = decode_frame(encode_frame(red, codec), codec, (8, 8, 3))
    assert np.abs(frame.astype(int) - red).max() <= allowed


def test_a_damaged_frame_is_refused():
  with pytest.raises(ValueError, match="5 bytes are not a png"):
    decode_frame(b"wrong", "png", (8, 8, 1))
  data = encode_frame(np.zeros((4, 4, 1), np.uint8), "png")
  with pytest.raises(ValueError, match="its record says"):
    decode_frame(data, "png", (8, 8, 1))
  with pytest.raises(ValueError):
    decode_frame(b"123", "raw", (8, 8, 1))
  with pytest.raises(ValueError, match="not a mask"):
    decode_mask(b"wrong")


def test_sector_follows_the_frames_into_the_square():
  wide = np.zeros((10, 20), bool)
  wide[:, :10] = True
  contract = InputContract(size=8)
  fitted = fit_sector(record() | {"sector": encode_mask(wide)}, contract)
  wanted = np.zeros((8, 8), bool)
  wanted[2:6, :4] = True
  np.testing.assert_array_equal(fitted, wanted)
  with pytest.raises(ValueError, match="t:v has no sector"):
    fit_sector(record(), contract)


def test_outside_of_the_sector_can_be_black():
  half = np.zeros((8, 8), bool)
  half[:, :4] = True
  known = record() | {"sector": encode_mask(half)}
  maker = ClipMaker(InputContract(frames=4, span_s=0.8, size=8))
  kept = maker.at(known, 0.0)["video"]
  contract = InputContract(frames=4, span_s=0.8, size=8, outside="black")
  black = ClipMaker(contract).at(known, 0.0)["video"]
  np.testing.assert_array_equal(black[:, :, :4], kept[:, :, :4])
  assert kept[1:, :, 4:].all() and not black[:, :, 4:].any()
  with pytest.raises(ValueError, match="has no sector"):
    ClipMaker(contract).at(record(), 0.0)
  with pytest.raises(ValueError, match="outside is 'blak'"):
    InputContract(outside="blak")


def test_numbers_that_the_model_sees():
  contract = InputContract(mean=0.5, std=0.25)
  raw = jnp.asarray([0, 255, 51], jnp.uint8)
  np.testing.assert_allclose(
    normalise(raw, contract), [-2.0, 2.0, -1.2], rtol=1e-6
  )


def test_refusal_names_every_setting_that_differs():
  ours, theirs = InputContract(), InputContract(frames=8, mean=0.5)
  with pytest.raises(ValueError) as refused:
    ours.refuse_other(theirs, "runs/mae")
  text = str(refused.value)
  assert "runs/mae" in text and "frames 8" in text and "mean 0.5" in text
  assert "span_s" not in text and "size" not in text
  ours.refuse_other(InputContract(), "runs/mae")


def test_clip_of_mixed_order_decodes_each_frame_once(monkeypatch):
  calls = []
  monkeypatch.setattr(
    "echo_jax.data.contract.decode_frames",
    lambda data, *rest: calls.extend(data) or decode_frames(data, *rest),
  )
  one = record(frames=3)
  contract = InputContract(frames=6, span_s=0.6, size=8)
  clip = choose_frames(one["frame_time_ms"], 6, 0.6)
  shown = draw_clip(one, clip, contract)[:, 4, 4, 0].tolist()
  assert shown == [0, 1, 2, 0, 1, 2] and len(calls) == 3
