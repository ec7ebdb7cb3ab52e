"""Damaged and hostile files: refused with a reason before they cost anything.
"""

import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from made_files import (
  HTJ2K,
  av_frame,
  drawn_clip,
  jpeg,
  region,
  rewrite,
  sector_mask,
  steps,
  video_stream,
  write_avi,
  write_coded,
  write_dicom,
)  # fmt: skip

from echo_jax.data.ingest import limits, read_recording
from echo_jax.data.ledger import Rejected

STEM = "1.2.840.10008.1.2"
GREY = drawn_clip(3, sector_mask(48, 64, (32, 4), 38, 38), text=False)
HUGE = (60_000).to_bytes(2)


def refused(path, reason):
  """The file is refused so, and no picture of a huge size was reserved."""
  tracemalloc.start()
  try:
    with pytest.raises(Rejected, match=reason) as caught:
      read_recording(path)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 64 * 2**20
  assert "SECRET" not in str(caught.value)


def huge_jpeg(data):
  """The picture's own header says 60000 x 60000."""
  at = next(
    i for i in range(len(data))
    if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC3, 0xF7)
  )  # fmt: skip
  return data[: at + 5] + HUGE + HUGE + data[at + 9 :]


@pytest.mark.parametrize(
  ("ending", "make"),
  [
    (".4.50", jpeg),
    (".4.51", jpeg),
    (".4.80", lambda frame: av_frame(frame, "jpegls", "gray")),
  ],
)
def test_a_frame_that_claims_another_size(tmp_path, ending, make):
  coded = [make(GREY[0]), huge_jpeg(make(GREY[1])), make(GREY[2])]
  path = write_coded(tmp_path / "a", coded, GREY.shape, STEM + ending)
  refused(path, "frame 1 of 3 is coded as 60000x60000 .* header says 64x48")


@pytest.mark.parametrize(
  ("at", "value", "reason"),
  [
    (8, 60_000, "coded as 60000x24 with 1 samples, the header says 32x24"),
    (24, 0, "its JPEG 2000 size is empty"),
  ],
)
def test_jpeg_2000_that_claims_another_size(tmp_path, at, value, reason):
  coded = HTJ2K[:at] + value.to_bytes(4) + HTJ2K[at + 4 :]
  path = write_coded(tmp_path / "a", [coded], (1, 24, 32), f"{STEM}.4.201")
  refused(path, reason)


def test_jpeg_2000_of_many_tiles(tmp_path):
  one = (1).to_bytes(4)
  coded = HTJ2K[:24] + one + one + HTJ2K[32:]
  big = (200).to_bytes(4)
  coded = coded[:8] + big + big + coded[16:]
  path = write_coded(tmp_path / "a", [coded], (1, 200, 200), f"{STEM}.4.201")
  refused(path, "it has 40000 tiles, more than 4096")


def test_colours_that_the_header_does_not_know(tmp_path):
  path = write_coded(
    tmp_path / "a", [jpeg(np.stack([GREY[0]] * 3, -1))], (1, 48, 64),
    f"{STEM}.4.50",
  )  # fmt: skip
  refused(path, "with 3 samples, the header says 64x48 with 1")


def test_endless_scans(tmp_path):
  coded = jpeg(GREY[0])
  coded = coded[:-2] + b"\xff\xda\0\x02" * 65 + coded[-2:]
  path = write_coded(tmp_path / "a", [coded], (1, 48, 64), f"{STEM}.4.50")
  refused(path, "more than 64 scans")


@pytest.mark.parametrize("said", [2, 4, 40_000])
def test_number_of_coded_frames(tmp_path, said):
  path = write_coded(
    tmp_path / "a", [jpeg(frame) for frame in GREY], GREY.shape,
    f"{STEM}.4.50", NumberOfFrames=said,
  )  # fmt: skip
  refused(path, f"coded frames, the header says {said}")


@pytest.mark.parametrize(
  ("header", "reason"),
  [
    ({"Rows": 65_535, "Columns": 65_535}, "a frame of 65535x65535 has more"),
    ({"NumberOfFrames": 2_000_000_000}, "too large: 2000000000 frames"),
    ({"NumberOfFrames": 100_000, "Rows": 4, "Columns": 4}, "more than 65536"),
    ({"NumberOfFrames": -3}, "bad picture size: -3 frames"),
    ({"NumberOfFrames": 60_000}, "damaged pixels: frame 0 of 60000"),
    ({"BitsStored": 200}, "bad depth: 200 of 8 bits"),
    ({"BitsAllocated": 32, "BitsStored": 32}, "bad depth: 32 of 32 bits"),
    ({"PixelRepresentation": 1}, "signed pixels"),
    ({"PhotometricInterpretation": "SECRET"}, "bad colour"),
    ({"PhotometricInterpretation": "RGB"}, "those for 1 samples"),
  ],
)
def test_impossible_headers(tmp_path, header, reason):
  refused(write_dicom(tmp_path / "a", GREY, **header), reason)


def test_run_lengths_that_grow(tmp_path):
  """64 times as much as the frame needs, in valid run lengths."""
  runs = b"\x81\0" * (4 * 48 * 64)
  coded = (1).to_bytes(4, "little") + (64).to_bytes(4, "little")
  coded = coded.ljust(64, b"\0") + runs
  path = write_coded(tmp_path / "a", [coded], (1, 48, 64), f"{STEM}.5")
  refused(path, "bytes of RLE, 64x48 pixels need 6210 at most")


def test_deflated_file_that_grows(tmp_path, monkeypatch):
  path = rewrite(write_dicom(tmp_path / "a", GREY), f"{STEM}.1.99")
  assert len(read_recording(path).frames) == 3
  whole = path.read_bytes()
  start = 144 + int.from_bytes(whole[140:144], "little")
  deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  # A private element of 64 MiB of zeros: 64 KiB in the file.
  element = b"\x09\0\x10\0OB\0\0" + (2**26).to_bytes(4, "little")
  data = deflate.compress(element + bytes(2**26)) + deflate.flush()
  path.write_bytes(whole[:start] + data)
  assert path.stat().st_size < 2**17
  monkeypatch.setattr(limits, "LARGEST_BYTES", 2**24)
  refused(path, "deflated file grows to more than")


def test_file_and_video_that_are_too_large(tmp_path, monkeypatch):
  movie = write_avi(tmp_path / "a.avi", drawn_clip(12))
  path = write_dicom(tmp_path / "a", drawn_clip(12))
  monkeypatch.setattr(limits, "LARGEST_BYTES", 2**19)
  refused(movie, "too large: .*; cut the video into parts")
  refused(path, "too large: the file has")
  monkeypatch.setattr(limits, "LARGEST_FRAME_PX", 1000)
  refused(movie, "too large: a frame of 320x240 has more than 1000")


def test_nested_without_end(tmp_path):
  """A thousand sequences inside each other."""
  item = region()
  for _ in range(1000):
    outer = pydicom.Dataset()
    outer.SequenceOfUltrasoundRegions = [item]
    item = outer
  deep = b"\x18\0\x11\x60SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
  path = write_dicom(tmp_path / "a", GREY)
  path.write_bytes(path.read_bytes() + deep * 5000)
  with pytest.raises(Rejected, match="damaged DICOM|truncated DICOM"):
    read_recording(path)


def makers():
  """A small file of every coding, by name."""
  rgb = np.stack([GREY, GREY[:, ::-1], 255 - GREY], -1)
  ybr = {"PhotometricInterpretation": "YBR_FULL_422"}
  partial = {"PhotometricInterpretation": "YBR_PARTIAL_420"}
  return {
    "raw": lambda p: write_dicom(p, GREY, [region()], FrameTime="40"),
    "deflated": lambda p: rewrite(write_dicom(p, GREY), f"{STEM}.1.99"),
    "rle": lambda p: rewrite(write_dicom(p, rgb), f"{STEM}.5"),
    "jpeg2000": lambda p: rewrite(write_dicom(p, rgb), f"{STEM}.4.90"),
    "htj2k": lambda p: write_coded(p, [HTJ2K], (1, 24, 32), f"{STEM}.4.201"),
    "baseline": lambda p: write_coded(
      p, [jpeg(f, "4:2:2") for f in rgb], rgb.shape, f"{STEM}.4.50", **ybr
    ),
    "lossless": lambda p: write_coded(
      p, [av_frame(f, "ljpeg", "yuvj444p") for f in rgb], rgb.shape,
      f"{STEM}.4.70",
    ),
    "jpegls": lambda p: write_coded(
      p, [av_frame(f, "jpegls", "gray") for f in GREY], GREY.shape,
      f"{STEM}.4.80",
    ),
    "mpeg2": lambda p: write_coded(
      p, [video_stream(steps(), "mpeg2video", "mpegts")], (1, 48, 64, 3),
      f"{STEM}.4.100", NumberOfFrames=6, **partial,
    ),
    "h264": lambda p: write_coded(
      p, [video_stream(steps(), "libx264", "mp4")], (1, 48, 64, 3),
      f"{STEM}.4.102", NumberOfFrames=6, **partial,
    ),
    "hevc": lambda p: write_coded(
      p, [video_stream(steps(), "libx265", "mp4")], (1, 48, 64, 3),
      f"{STEM}.4.107", NumberOfFrames=6, **partial,
    ),
  }  # fmt: skip


@pytest.mark.parametrize("name", makers())
def test_changed_bytes_never_crash(tmp_path, name):
  """A recording whose parts agree, or a refusal; 25 changes of each."""
  path = makers()[name](tmp_path / "a")
  assert len(read_recording(path).frames)
  data = path.read_bytes()
  rng = np.random.default_rng(7)
  for _ in range(25):
    changed = bytearray(data)
    for at in rng.integers(132, len(data), 1 + rng.integers(4)):
      changed[at] = rng.integers(256)
    path.write_bytes(changed)
    try:
      clip = read_recording(path)
    except Rejected as error:
      assert "SECRET" not in str(error)
    else:
      assert len(clip.frames) == len(clip.frame_time_ms)
      assert clip.sector.shape == clip.frames.shape[1:3]
