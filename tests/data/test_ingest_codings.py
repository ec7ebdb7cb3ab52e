"""Every transfer syntax: decoded as it was coded, or refused by name."""

import numpy as np
import pydicom
import pydicom.data
import pytest
from made_files import (
  HTJ2K,
  av_frame,
  drawn_clip,
  htj2k_picture,
  jpeg,
  rewrite,
  sector_mask,
  steps,
  video_stream,
  write_coded,
  write_dicom,
)  # fmt: skip

from echo_jax.data.ingest import read_recording
from echo_jax.data.ledger import Rejected

STEM = "1.2.840.10008.1.2"
GREY = drawn_clip(3, sector_mask(48, 64, (32, 4), 38, 38), text=False)
RGB = np.stack([GREY, GREY[:, ::-1], 255 - GREY], -1)
SHAPE = (6, 48, 64, 3)


def pip_file(name):
  return pydicom.data.get_testdata_file(name, download=False)


@pytest.mark.parametrize("video", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize(
  "ending", ["", ".1", ".2", ".1.99", ".5", ".4.90"],
  ids=["implicit", "explicit", "big_endian", "deflated", "rle", "jpeg2000"],
)  # fmt: skip
def test_lossless_codings_of_pydicom(tmp_path, video, ending):
  path = write_dicom(tmp_path / "a", video, FrameTime="40")
  clip = read_recording(rewrite(path, STEM + ending))
  want = video if video.ndim == 4 else video[..., None]
  np.testing.assert_array_equal(clip.frames, want)
  np.testing.assert_allclose(clip.frame_time_ms, [0, 40, 80])


@pytest.mark.parametrize(
  ("syntax", "video", "codec", "pixel_format"),
  [
    (".4.80", GREY, "jpegls", "gray"),
    (".4.80", RGB, "jpegls", "rgb24"),
    (".4.70", RGB, "ljpeg", "yuvj444p"),
    (".4.57", RGB, "ljpeg", "yuvj444p"),
  ],
)
def test_lossless_codings_of_ffmpeg(tmp_path, syntax, video, codec,
                                    pixel_format):  # fmt: skip
  coded = [av_frame(frame, codec, pixel_format) for frame in video]
  path = write_coded(tmp_path / "a", coded, video.shape, STEM + syntax)
  want = video if video.ndim == 4 else video[..., None]
  np.testing.assert_array_equal(read_recording(path).frames, want)


def test_high_throughput_jpeg_2000(tmp_path):
  picture = htj2k_picture()
  path = write_coded(
    tmp_path / "a", [HTJ2K], (1, *picture.shape), f"{STEM}.4.201"
  )
  np.testing.assert_array_equal(read_recording(path).frames[0, ..., 0], picture)


@pytest.mark.parametrize("table", [True, False, "extended"])
@pytest.mark.parametrize("pieces", [1, 5])
def test_baseline_jpeg_by_any_offset_table(tmp_path, pieces, table):
  """44 fragments for 8 frames and an empty table exist (IM00001)."""
  if table == "extended" and pieces > 1:
    pytest.skip("an extended table has one fragment a frame")
  video = steps(8)
  path = write_coded(
    tmp_path / "a", [jpeg(frame) for frame in video], video.shape,
    f"{STEM}.4.50", pieces=pieces, table=table,
  )  # fmt: skip
  clip = read_recording(path)
  error = np.abs(clip.frames[..., 0].astype(int) - video)
  assert clip.frames.shape == (8, 48, 64, 1) and error.max() <= 1


def test_colour_transforms_of_jpeg_2000():
  """YBR_RCT and YBR_ICT files of pip, beside the same scan as plain RGB."""
  for coded, plain, levels in (
    ("US1_J2KR.dcm", "US1_UNCR.dcm", 0), ("US1_J2KI.dcm", "US1_UNCI.dcm", 1)
  ):  # fmt: skip
    a, b = read_recording(pip_file(coded)), read_recording(pip_file(plain))
    assert a.photometric.startswith("YBR") and b.photometric == "RGB"
    assert np.abs(a.frames.astype(int) - b.frames).max() <= levels


def test_palettes():
  """16 bits in segments (ALOKA) in either byte order; 8 bits, raw and RLE.

  The last file has its table in the lower byte: half of all readers show it
  black.
  """
  for one, other in (
    ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"),
    ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"),
    ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),
  ):
    a, b = read_recording(pip_file(one)), read_recording(pip_file(other))
    assert a.photometric == "PALETTE COLOR" and a.frames.shape[-1] == 3
    assert a.frames.max() > 200
    np.testing.assert_array_equal(a.frames, b.frames)


def test_planes_apart_and_together():
  """PlanarConfiguration 1 and 0 of one TEE picture."""
  a, b = read_recording(pip_file("color-pl.dcm")), read_recording(
    pip_file("color-px.dcm")
  )
  np.testing.assert_array_equal(a.frames, b.frames)


def test_run_lengths_of_luminance_and_chroma(tmp_path):
  """YBR_FULL in RLE: whole planes, colours of PS3.3 C.7.6.3.1.2."""
  ybr = np.full((2, 16, 16, 3), 128, np.uint8)
  ybr[..., 0] = 0
  ybr[:, 4:8, 4:8] = (76, 85, 255)
  path = write_dicom(
    tmp_path / "a", ybr, PhotometricInterpretation="YBR_FULL"
  )
  frames = read_recording(rewrite(path, f"{STEM}.5")).frames
  red = frames[:, 4:8, 4:8].reshape(-1, 3)
  np.testing.assert_allclose(red, np.tile([255, 0, 0], (32, 1)), atol=2)
  assert frames[:, :4].max() == 0


def test_raw_halved_chroma_of_several_frames(tmp_path):
  """YBR_FULL_422 uncompressed: two pixels as Y, Y, Cb, Cr (C.7.6.3.1.2)."""
  packed = np.zeros((3, 8, 4, 4), np.uint8)  # T H pair (Y Y Cb Cr)
  packed[..., 2:] = 128
  packed[:, 2:6, 1:3] = (76, 76, 85, 255)  # red
  packed[2] = (200, 100, 128, 128)  # greys, of the third frame only
  path = write_dicom(
    tmp_path / "a", packed.reshape(3, 8, 16), Columns=8, SamplesPerPixel=3,
    PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=0,
  )  # fmt: skip
  frames = read_recording(path).frames
  want = np.zeros((3, 8, 8, 3), np.uint8)
  want[:, 2:6, 2:6] = (255, 0, 0)
  want[2] = np.array([200, 100] * 4)[:, None]
  np.testing.assert_allclose(frames, want, atol=2)


@pytest.mark.parametrize("named", ["YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"])
def test_names_of_colour_that_the_coding_cannot_have(tmp_path, named):
  """A JPEG is read as what it must be; raw bytes under such a name are not."""
  red = np.zeros((1, 48, 64, 3), np.uint8)
  red[:, 8:40, 8:56] = (255, 40, 0)
  path = write_coded(
    tmp_path / "a", [jpeg(red[0])], red.shape, f"{STEM}.4.50",
    PhotometricInterpretation=named,
  )  # fmt: skip
  clip = read_recording(path)
  np.testing.assert_allclose(clip.frames[0, 24, 32], [255, 40, 0], atol=4)
  assert any(named in words for words in clip.warnings)
  raw = write_dicom(tmp_path / "b", red, PhotometricInterpretation=named)
  with pytest.raises(Rejected, match=f"bad colour: .*{named}"):
    read_recording(raw)


def test_bits_that_are_not_the_lowest(tmp_path):
  """12 bits in the upper end of 16 (retired) are not taken for the lower."""
  wide = GREY.astype("<u2") << 4
  header = {"BitsAllocated": 16, "BitsStored": 12}
  path = write_dicom(tmp_path / "a", wide, **header, HighBit=11)
  np.testing.assert_array_equal(read_recording(path).frames[..., 0], GREY)
  path = write_dicom(tmp_path / "b", wide << 4, **header, HighBit=15)
  with pytest.raises(Rejected, match="bad depth: the highest of 12 bits"):
    read_recording(path)


@pytest.mark.parametrize(
  ("ending", "codec", "form"),
  [
    (".4.100", "mpeg2video", "mpegts"),
    (".4.100.1", "mpeg2video", "mpeg"),
    (".4.101", "mpeg2video", "mpeg2video"),
    (".4.102", "libx264", "mp4"),
    (".4.103", "libx264", "mpegts"),
    (".4.102", "libx264", "h264"),
    (".4.107", "libx265", "mp4"),
    (".4.107", "libx265", "mpegts"),
  ],
)
def test_video_in_dicom(tmp_path, ending, codec, form):
  """As many frames as the header says, in order, at the header's times."""
  video = steps()
  path = video_file(tmp_path, video_stream(video, codec, form), ending)
  clip = read_recording(path)
  assert clip.frames.shape == SHAPE
  means = clip.frames.reshape(6, -1).mean(1)
  np.testing.assert_allclose(means, video[:, 0, 0], atol=2)
  np.testing.assert_allclose(clip.frame_time_ms, 40 * np.arange(6))
  assert clip.time_source == "FrameTime"
  assert not any("video stream" in w for w in clip.warnings), clip.warnings


def video_file(folder, data, ending=".4.102", shape=SHAPE, **header):
  """The stream in three fragments where the syntax allows, else in one."""
  pieces = 3 if ending.endswith(".1") else 1
  header = {
    "FrameTime": "40", "PhotometricInterpretation": "YBR_PARTIAL_420"
  } | header  # fmt: skip
  return write_coded(
    folder / "a", [data], (1, *shape[1:]), STEM + ending, pieces=pieces,
    NumberOfFrames=shape[0], **header,
  )  # fmt: skip


@pytest.mark.parametrize(
  ("shape", "reason"),
  [
    ((5, 48, 64, 3), "more frames than the 5 of the header"),
    ((7, 48, 64, 3), "6 frames decoded, the header says 7"),
    ((6, 48, 66, 3), "the video is 64x48, the header says 66x48"),
  ],
)
def test_video_and_header_must_agree(tmp_path, shape, reason):
  path = video_file(
    tmp_path, video_stream(steps(), "libx264", "mp4"), shape=shape
  )
  with pytest.raises(Rejected, match=reason):
    read_recording(path)


def test_times_of_the_stream_are_a_cross_check(tmp_path):
  data = video_stream(steps(), "libx264", "mp4", rate_hz=20)
  clip = read_recording(video_file(tmp_path, data, FrameTime="33.3"))
  np.testing.assert_allclose(clip.frame_time_ms, 33.3 * np.arange(6))
  warning = "FrameTime gives 33.300 ms a frame but the video stream 50.000 ms"
  assert any(warning in w for w in clip.warnings), clip.warnings
  clip = read_recording(video_file(tmp_path, data, FrameTime=None))
  np.testing.assert_allclose(clip.frame_time_ms, 50 * np.arange(6), atol=1e-6)
  assert clip.time_source == "video stream"
  assert any("times from its video stream" in w for w in clip.warnings)


def test_a_bare_stream_has_no_times_of_its_own(tmp_path):
  """FFmpeg would make up 25 Hz for raw H.264."""
  data = video_stream(steps(), "libx264", "h264", rate_hz=50)
  clip = read_recording(video_file(tmp_path, data, FrameTime=None))
  assert np.isnan(clip.frame_time_ms).all() and clip.time_source == ""


@pytest.mark.parametrize("number", [110, 111, 112])
def test_jpeg_xl_is_refused_by_name_with_a_remedy(tmp_path, number):
  path = write_coded(tmp_path / "a", [b"\0" * 40], (1, 8, 8), f"{STEM}.4.100")
  # pydicom does not know these UIDs and would not write them.
  data = path.read_bytes().replace(b".4.100\0", b".4.%d\0" % number)
  path.write_bytes(data)
  with pytest.raises(Rejected, match="JPEG XL .*; recompress as JPEG Base"):
    read_recording(path)
