"""From a recording to a video record."""

import numpy as np
import pytest
from made_files import drawn_clip, region, write_dicom

from echo_jax.data.frames import decode_frame, decode_mask
from echo_jax.data.ingest import read_recording, to_record
from echo_jax.data.ingest.recording import luminance, repeated_frames
from echo_jax.data.ledger import Rejected

IDS = {
  "video_id": "x:1", "study_id": "x:2", "patient_id": "x:3", "split": "train",
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
  path = tmp_path_factory.mktemp("made") / "a"
  item = region(PhysicalDeltaX=0.05, PhysicalDeltaY=0.04)
  write_dicom(path, drawn_clip(6), [item], FrameTime="40", HeartRate="60")
  return read_recording(path)


def test_record_of_the_owners_size(clip):
  record = to_record(clip, **IDS, view="A4C", ef_pct=55.0)
  assert record["frames_codec"] == "png" and record["kind"] == "cine"
  shape = tuple(int(n) for n in record["frames_shape"])
  assert shape == (240, 320, 1)
  for coded, frame in zip(record["frames"], clip.frames, strict=True):
    np.testing.assert_array_equal(decode_frame(coded, "png", shape), frame)
  np.testing.assert_array_equal(decode_mask(record["sector"]), clip.sector)
  np.testing.assert_allclose(record["frame_time_ms"], 40 * np.arange(6))
  np.testing.assert_allclose(record["spacing_mm"], [0.4, 0.5])
  assert record["heart_rate_bpm"] == 60 and record["ef_pct"] == 55


def test_size_changes_spacing_sector_and_tracings_together(clip):
  """A physical length and a contour point stay where they were."""
  points = np.array([[0, 0], [159.5, 119.5], [319, 239]], np.float32)
  record = to_record(
    clip, **IDS, size=(120, 80), codec="raw", tracing_frame=[0],
    tracing_count=[3], tracing_px=points,
  )  # fmt: skip
  assert tuple(record["frames_shape"]) == (120, 80, 1)
  np.testing.assert_allclose(record["spacing_mm"] * [120, 80], [96, 160])
  want = [[-0.375, -0.25], [39.5, 59.5], [79.375, 119.25]]
  np.testing.assert_allclose(record["tracing_px"], want)
  sector = decode_mask(record["sector"])
  assert sector.shape == (120, 80)
  assert sector.mean() == pytest.approx(clip.sector.mean(), abs=0.01)
  frame = decode_frame(record["frames"][0], "raw", (120, 80, 1))
  blocks = clip.frames[0, :, :, 0].reshape(120, 2, 80, 4).mean((1, 3))
  np.testing.assert_allclose(frame[..., 0], blocks, atol=1)


def test_channels(clip):
  record = to_record(clip, **IDS, channels=3, codec="raw")
  frame = decode_frame(record["frames"][2], "raw", (240, 320, 3))
  np.testing.assert_array_equal(frame, np.repeat(clip.frames[2], 3, -1))
  rgb = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]], np.uint8)
  assert luminance(rgb).ravel().tolist() == [76, 150, 29]  # BT.601
  with pytest.raises(ValueError, match="channels is 2"):
    to_record(clip, **IDS, channels=2)


def test_bad_label_is_refused_by_name(clip):
  with pytest.raises(Rejected, match="ef_pct .* is 140"):
    to_record(clip, **IDS, ef_pct=140.0)
  with pytest.raises(Rejected, match="not in the video record"):
    to_record(clip, **IDS, ejection=40.0)


def test_repeated_frames_are_counted():
  frames = drawn_clip(6)[..., None]
  frames[3] = frames[2]
  frames[4] = frames[2]
  assert repeated_frames(frames) == [3, 4]
