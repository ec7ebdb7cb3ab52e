"""Frames that are JPEG already are kept byte for byte, or it is said why not.
"""

import cv2
import numpy as np
import pandas as pd
import pydicom
import pydicom.data
import pytest
from made_files import (
  chords,
  drawn_clip,
  echonet_clip,
  jpeg,
  make_echonet,
  region,
  sector_mask,
  unmarked_rgb_jpeg,
  write_avi,
  write_coded,
  write_dicom,
)  # fmt: skip
from pydicom.encaps import generate_frames
from pydicom.examples import get_path

from data_builders import dicom_folder, echonet_dynamic
from echo_jax.data.build import build
from echo_jax.data.frames import decode_frame
from echo_jax.data.ingest import AS_IS, as_is_notes, read_recording, to_record
from echo_jax.data.ingest.recording import why_not_as_is
from echo_jax.data.sources import VideoSource

BASELINE = "1.2.840.10008.1.2.4.50"
GREY = drawn_clip(3, sector_mask(48, 64, (32, 4), 38, 38), text=False)
RGB = np.stack([GREY, GREY[:, ::-1], 255 - GREY], -1)
IDS = {
  "video_id": "x:1", "study_id": "x:2", "patient_id": "x:3", "split": "train",
}  # fmt: skip


def jpeg_file(folder, video=RGB, coded=None, **header):
  coded = coded or [jpeg(frame, "4:2:2") for frame in video]
  return write_coded(folder / "a", coded, video.shape, BASELINE, **header)


def ybr(**more):
  return {"PhotometricInterpretation": "YBR_FULL_422"} | more


def test_bytes_are_those_of_the_owner():
  """A real clip: what goes into the record is what the scanner coded."""
  path = get_path("ybr_color")
  clip = read_recording(path)
  record = to_record(clip, codec=AS_IS, **IDS)
  pixels = pydicom.dcmread(path).PixelData
  owners = list(generate_frames(pixels, number_of_frames=30))
  assert record["frames"] == owners
  assert record["frames_codec"] == "jpeg"
  assert record["colour"] == "YBR_FULL_422"
  for i in (0, 7, 29):
    shown = decode_frame(record["frames"][i], "jpeg", (240, 320, 3))
    worst = np.abs(shown.astype(int) - clip.frames[i]).max()
    assert worst <= 1
  assert as_is_notes(clip, record, AS_IS) == ()


def test_grey_and_44_fragments(tmp_path):
  path = jpeg_file(
    tmp_path, GREY, [jpeg(f) for f in GREY], pieces=5, table=False
  )
  clip = read_recording(path)
  for channels in (None, 1, 3):
    record = to_record(clip, codec=AS_IS, channels=channels, **IDS)
    assert record["frames_codec"] == "jpeg"
    assert record["colour"] == "MONOCHROME2"
    shape = (48, 64, channels or 1)
    shown = decode_frame(record["frames"][1], "jpeg", shape)
    assert np.abs(shown.astype(int) - clip.frames[1]).max() <= 1


def test_rgb_that_no_marker_names_is_coded_again(tmp_path):
  """Readers of a JPEG take it for luminance and chroma: other colours."""
  coded = [unmarked_rgb_jpeg(frame) for frame in RGB]
  clip = read_recording(jpeg_file(tmp_path, coded=coded))
  assert np.abs(clip.frames.astype(int) - RGB).mean() < 6  # pydicom is right
  record = to_record(clip, codec=AS_IS, **IDS)
  assert record["frames_codec"] == "png" and record["colour"] == ""
  (note,) = as_is_notes(clip, record, AS_IS)
  assert "coded as png" in note and "grey levels off" in note
  shown = decode_frame(record["frames"][0], "png", (48, 64, 3))
  np.testing.assert_array_equal(shown, clip.frames[0])


def test_rgb_with_its_marker_is_kept(tmp_path):
  coded = [jpeg(frame, keep_rgb=True) for frame in RGB]
  assert b"Adobe" in coded[0]
  clip = read_recording(jpeg_file(tmp_path, coded=coded))
  record = to_record(clip, codec=AS_IS, **IDS)
  # A fragment of odd length was padded with a zero, as DICOM asks.
  assert [data.rstrip(b"\0") for data in record["frames"]] == coded
  assert record["colour"] == "RGB"


def test_header_that_contradicts_its_jpeg(tmp_path):
  """It says RGB, the frames hold luminance and chroma (Sonoque)."""
  clip = read_recording(jpeg_file(tmp_path))
  assert any("RGB disagrees with the coded" in w for w in clip.warnings)
  record = to_record(clip, codec=AS_IS, **IDS)
  assert record["frames_codec"] == "jpeg" and record["colour"] == "YBR_FULL"


def test_an_orientation_tag_does_not_turn_the_picture(tmp_path):
  exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0" + (
    b"\0" * 6
  )  # orientation 3: upside down
  coded = [jpeg(frame, "4:2:2", exif=exif) for frame in RGB]
  upright = cv2.imdecode(
    np.frombuffer(coded[0], np.uint8),
    cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
  )[..., ::-1]
  turned = cv2.imdecode(np.frombuffer(coded[0], np.uint8), 1)[..., ::-1]
  np.testing.assert_array_equal(turned, upright[::-1, ::-1])
  shown = decode_frame(coded[0], "jpeg", (48, 64, 3))
  np.testing.assert_array_equal(shown, upright)


@pytest.mark.parametrize(
  ("more", "reason"),
  [
    ({"size": (24, 32)}, "the size changes"),
    ({"channels": 1}, "grey levels off"),  # colours beyond the RGB cube
  ],
)
def test_what_changes_is_coded_again(tmp_path, more, reason):
  clip = read_recording(jpeg_file(tmp_path, **ybr()))
  record = to_record(clip, codec=AS_IS, **more, **IDS)
  assert record["frames_codec"] == "png"
  (note,) = as_is_notes(clip, record, AS_IS, **more)
  assert reason in note
  assert as_is_notes(clip, record, "png", **more) == ()


def test_frames_of_another_make_among_them(tmp_path):
  coded = [jpeg(RGB[0], "4:2:2"), jpeg(RGB[1], "4:2:0"), jpeg(RGB[2], "4:2:2")]
  clip = read_recording(jpeg_file(tmp_path, coded=coded, **ybr()))
  assert why_not_as_is(clip) == "the owner's frames are not coded alike"


def test_other_codings_are_not_jpeg(tmp_path):
  clip = read_recording(write_dicom(tmp_path / "a", GREY))
  assert why_not_as_is(clip) == "the owner's frames are not JPEG"


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
  """A JPEG clip and a raw one."""
  ward = tmp_path_factory.mktemp("ward")
  jpeg_file(ward, FrameTime="40", **ybr()).rename(ward / "jpeg.dcm")
  write_dicom(ward / "raw.dcm", GREY, [region()], FrameTime="40")
  return ward


def test_dicom_folder_as_is(ward, tmp_path):
  made = dicom_folder.dataset(ward, shares={"train": 1.0}, codec=AS_IS)
  report = build(made, tmp_path, progress=False)
  records = list(VideoSource(report.path, "train"))
  assert {r["frames_codec"] for r in records} == {"jpeg", "png"}
  (kept,) = (r for r in records if r["frames_codec"] == "jpeg")
  assert kept["frames"][2].rstrip(b"\0") == jpeg(RGB[2], "4:2:2")
  assert kept["colour"] == "YBR_FULL_422"
  ledger = pd.read_csv(report.path / "ledger.csv", dtype=str).fillna("")
  notes = ledger[ledger["reason"].str.contains("not kept as they are")]
  assert notes["item"].tolist() == ["raw.dcm"]


def test_echonet_as_is(tmp_path):
  """Motion JPEG: the packets of the AVI, as luminance within two levels."""
  video = echonet_clip(10)
  source = tmp_path / "source"
  make_echonet(
    source, ["0XA,55,50,110,112,112,50,10,TRAIN"],
    [*chords("0XA.avi", 1, 20), *chords("0XA.avi", 6, 30)], {"0XA": video},
  )  # fmt: skip
  made = echonet_dynamic.dataset(source, codec=AS_IS)
  report = build(made, tmp_path / "data", progress=False)
  (record,) = VideoSource(report.path, "train")
  assert record["frames_codec"] == "jpeg" and record["colour"] == "YBR_FULL"
  file = (source / "Videos" / "0XA.avi").read_bytes()
  assert all(frame in file for frame in record["frames"])
  error = decode_frame(record["frames"][4], "jpeg", (112, 112, 1)).astype(int)
  assert np.abs(error[..., 0] - video[4]).mean() < 4


def test_coloured_movie_is_coded_again_and_says_so(tmp_path):
  video = np.repeat(drawn_clip(4)[..., None], 3, -1)
  video[:, 90:150, 130:190] = (220, 20, 20)
  clip = read_recording(write_avi(tmp_path / "a.avi", video))
  record = to_record(clip, codec=AS_IS, **IDS)
  assert record["frames_codec"] == "png"
  assert "grey levels off" in as_is_notes(clip, record, AS_IS)[0]
