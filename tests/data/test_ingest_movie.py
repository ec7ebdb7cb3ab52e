"""AVI, MP4 and what is not a movie."""

import numpy as np
import pytest
from made_files import (
  drawn_clip,
  echonet_clip,
  sector_mask,
  write_avi,
  write_mp4,
)  # fmt: skip

from echo_jax.data.ingest import read_recording
from echo_jax.data.ingest.movie import is_grey
from echo_jax.data.ledger import Rejected


def test_avi_as_echonet_ships_it(tmp_path):
  video = echonet_clip(10)
  clip = read_recording(write_avi(tmp_path / "a.avi", video, 50.0))
  assert clip.frames.shape == (10, 112, 112, 3) and clip.kind == "cine"
  np.testing.assert_allclose(clip.frame_time_ms, 20.0 * np.arange(10))
  assert is_grey(clip.frames) and clip.coloured_pct == 0
  assert np.isnan(clip.spacing_mm).all() and clip.device == ""
  error = np.abs(clip.frames[..., 0].astype(int) - video)
  assert error.mean() < 4  # motion JPEG


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_ringing_of_the_coding_is_not_sector(tmp_path, gain):
  video = (gain * echonet_clip(10)).astype(np.uint8)
  clip = read_recording(write_avi(tmp_path / "a.avi", video))
  true = sector_mask(112, 112, apex=(56, 4), depth=100, half_deg=40)
  assert (clip.sector & true).sum() / (clip.sector | true).sum() > 0.93


def test_times_are_those_of_the_container(tmp_path):
  times_ms = [0, 20, 45, 60, 90, 150]
  video = drawn_clip(6)
  path = write_mp4(tmp_path / "no_ending", video, times_ms)
  clip = read_recording(path)
  np.testing.assert_allclose(clip.frame_time_ms, times_ms)
  assert clip.time_source == "container"


def test_colour_movie_is_not_grey(tmp_path):
  video = np.repeat(drawn_clip(4)[..., None], 3, -1)
  video[:, 90:150, 130:190] = (220, 20, 20)
  clip = read_recording(write_avi(tmp_path / "a.avi", video))
  assert not is_grey(clip.frames) and clip.coloured_pct > 5
  red = clip.frames[:, 110:130, 150:170].reshape(-1, 3).mean(0)
  np.testing.assert_allclose(red, (220, 20, 20), atol=8)


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "empty file: 0 bytes"),
    (b"FileName,EF\n", "not a recording"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 200, "not a recording"),
    (b"RIFF\x10\0\0\0WAVEfmt " + b"\0" * 50, "not a recording"),
    (b"RIFF\x10\0\0\0AVI LIST" + b"\0" * 50, "movie|no video"),
    (b"\0\0\0\x18ftypmp42" + b"\0" * 50, "movie|no video"),
  ],
)
def test_what_is_not_a_movie(tmp_path, content, reason):
  path = tmp_path / "a.avi"
  path.write_bytes(content)
  with pytest.raises(Rejected, match=reason):
    read_recording(path)


def test_avi_without_frames(tmp_path):
  path = write_avi(tmp_path / "a.avi", np.zeros((0, 112, 112), np.uint8))
  with pytest.raises(Rejected, match="movie|no video"):
    read_recording(path)


def test_unknown_codec(tmp_path):
  path = write_avi(tmp_path / "a.avi", echonet_clip(3))
  path.write_bytes(path.read_bytes().replace(b"MJPG", b"XYZ9"))
  with pytest.raises(Rejected, match="codec not supported|damaged movie"):
    read_recording(path)


@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_truncated_movies_never_crash(tmp_path, ending):
  video = echonet_clip(10)
  path = tmp_path / f"a.{ending}"
  if ending == "avi":
    write_avi(path, video)
  else:
    write_mp4(path, video, 20 * np.arange(10))
  data = path.read_bytes()
  for cut in np.random.default_rng(3).integers(0, len(data), 20):
    path.write_bytes(data[:cut])
    with pytest.raises(Rejected):
      read_recording(path)


def test_a_movie_with_fewer_frames_than_it_lists_is_refused(tmp_path):
  """Also where the size in its RIFF header was never written."""
  whole = write_avi(tmp_path / "a.avi", echonet_clip(20), 50.0).read_bytes()
  unset = whole[:4] + bytes(4) + whole[8:]
  (tmp_path / "b.avi").write_bytes(unset[: int(0.6 * len(unset))])
  with pytest.raises(Rejected, match="truncated|damaged"):
    read_recording(tmp_path / "b.avi")
  (tmp_path / "c.avi").write_bytes(unset)
  assert len(read_recording(tmp_path / "c.avi").frames) == 20


def test_a_half_empty_frame_is_refused(tmp_path):
  data = bytearray(write_avi(tmp_path / "a.avi", echonet_clip(8)).read_bytes())
  start = data.index(b"\xff\xd8", len(data) // 2)  # a JPEG of the movie
  end = data.index(b"\xff\xd9", start)
  middle = (start + end) // 2
  data[middle:end] = bytes(end - middle)
  (tmp_path / "b.avi").write_bytes(data)
  with pytest.raises(Rejected, match="damaged movie: frame"):
    read_recording(tmp_path / "b.avi")
