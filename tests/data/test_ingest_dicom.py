"""DICOM to a recording: real files that pip brings, and made ones."""

import re

import numpy as np
import pydicom
import pydicom.data
import pytest
from made_files import drawn_clip, region, write_dicom
from pydicom.examples import get_path

from echo_jax.data.ingest import read_recording
from echo_jax.data.ledger import Rejected

CLIP = drawn_clip(6)


def pip_file(name):
  return pydicom.data.get_testdata_file(name, download=False)


@pytest.fixture(scope="module")
def half_size():
  return read_recording(get_path("ybr_color"))


@pytest.fixture(scope="module")
def full_size():
  return read_recording(pip_file("color3d_jpeg_baseline.dcm"))


def test_clip_whose_pixels_were_halved(half_size):
  assert half_size.frames.shape == (30, 240, 320, 3)
  assert half_size.kind == "cine"
  assert half_size.device == "SonoSite, Inc. Turbo"
  assert np.isnan(half_size.heart_rate_bpm)  # HeartRate 0 is "unknown"
  np.testing.assert_allclose(np.diff(half_size.frame_time_ms), 33.333)
  assert np.isnan(half_size.spacing_mm).all()
  text = "\n".join(half_size.warnings)
  assert "region x 84..595, y 31..414 does not fit the 320x240 picture" in text
  assert "0.0510497" in text
  assert "PLA" not in text


def test_clip_of_full_size(full_size, half_size):
  np.testing.assert_allclose(full_size.spacing_mm, 0.5104970559, rtol=1e-6)
  text = "\n".join(full_size.warnings)
  assert "7 of 120 frames" in text
  assert "(11, 28, 44, 61, 77, 94, 110)" in text
  assert full_size.coloured_pct == 0
  # The same scan at half the size: the same sector.
  assert abs(full_size.sector.mean() - half_size.sector.mean()) < 0.03


def test_sector_of_a_real_clip_leaves_text_out(full_size):
  sector = full_size.sector
  assert not sector[:40].any() and not sector[420:].any()
  assert not sector[:, :80].any() and not sector[:, 600:].any()
  assert sector[200, 340]
  assert 0.34 < sector.mean() < 0.40  # looked at: it fits the sector's edge


def test_calipers_measure_what_the_screen_says():
  still = read_recording(pip_file("JPGLosslessP14SV1_1s_1f_8b.dcm"))
  assert still.kind == "still" and still.frames.shape == (1, 768, 1024, 1)
  # Burned in: "3.3 cm" between the two marks.
  dy, dx = (435.4 - 319.3, 689.3 - 629.3) * still.spacing_mm
  assert np.hypot(dx, dy) == pytest.approx(33.3, abs=0.1)


def test_palette_and_region_outside():
  still = read_recording(get_path("palette_color"))
  assert still.frames.shape == (1, 350, 800, 3)
  assert np.isnan(still.spacing_mm).all()
  assert any("does not fit the 800x350" in w for w in still.warnings)


def test_two_frames_without_any_time():
  clip = read_recording(pip_file("OBXXXX1A_rle_2frame.dcm"))
  assert np.isnan(clip.frame_time_ms).all() and clip.time_source == ""
  assert any("times unknown" in w for w in clip.warnings)
  assert any("one pixel past" in w for w in clip.warnings)
  np.testing.assert_allclose(clip.spacing_mm, 0.2622879, rtol=1e-5)


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("CT_small.dcm", "not ultrasound: modality CT, SOP class CT Image"),
    ("MR_truncated.dcm", "not ultrasound: modality MR"),
    ("rtplan.dcm", "not ultrasound: modality RTPLAN"),
    ("waveform_ecg.dcm", "not ultrasound: modality ECG"),
    ("DICOMDIR", "DICOMDIR"),
  ],
)
def test_other_dicom_is_refused(name, reason):
  with pytest.raises(Rejected, match=reason):
    read_recording(pip_file(name))


def test_colour_by_photometric_interpretation(tmp_path):
  """One red patch, stored as RGB, YBR_FULL and by a palette."""
  rgb = np.zeros((2, 8, 8, 3), np.uint8)
  rgb[:, 2:6, 2:6] = (255, 0, 0)
  ybr = np.full_like(rgb, 128)
  ybr[..., 0] = 0
  ybr[:, 2:6, 2:6] = (76, 85, 255)  # PS3.3 C.7.6.3.1.2 of (255, 0, 0)
  path = write_dicom(tmp_path / "rgb", rgb)
  np.testing.assert_array_equal(read_recording(path).frames, rgb)
  planar = write_dicom(
    tmp_path / "planar", np.moveaxis(rgb, -1, 1).copy(), Rows=8, Columns=8,
    SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=1,
  )  # fmt: skip
  np.testing.assert_array_equal(read_recording(planar).frames, rgb)
  path = write_dicom(
    tmp_path / "ybr", ybr, PhotometricInterpretation="YBR_FULL"
  )
  np.testing.assert_allclose(read_recording(path).frames, rgb, atol=2)
  inverse = write_dicom(
    tmp_path / "one", rgb[..., 0], PhotometricInterpretation="MONOCHROME1"
  )
  np.testing.assert_array_equal(
    read_recording(inverse).frames[..., 0], 255 - rgb[..., 0]
  )


@pytest.mark.parametrize(
  ("header", "times"),
  [
    ({"FrameTime": "40"}, [0, 40, 80, 120, 160, 200]),
    # The first increment, 0 by the standard, is often not.
    (
      {"FrameTimeVector": [33, 50, 33, 50, 50, 40]},
      [0, 50, 83, 133, 183, 223],
    ),
    (
      {
        "FrameTimeVector": [0, 50, 33, 50, 50, 40], "FrameTime": "40",
        "FrameIncrementPointer": [0x00181065, 0xFB843290],
      },
      [0, 50, 83, 133, 183, 223],
    ),
    (
      {
        "FrameTimeVector": [0, 50, 33, 50, 50, 40], "FrameTime": "40",
        "FrameIncrementPointer": 0x00181063,
      },
      [0, 40, 80, 120, 160, 200],
    ),
    ({"CineRate": "20"}, [0, 50, 100, 150, 200, 250]),
    (
      {"FrameTime": "40", "FrameTimeVector": [0, 1]},
      [0, 40, 80, 120, 160, 200],
    ),
  ],
)  # fmt: skip
def test_frame_times(tmp_path, header, times):
  clip = read_recording(write_dicom(tmp_path / "a", CLIP, **header))
  np.testing.assert_allclose(clip.frame_time_ms, times)


@pytest.mark.parametrize(
  ("header", "warning"),
  [
    ({"CineRate": "20"}, "CineRate 20 Hz, which is rounded"),
    ({}, "no frame time and no rate"),
    ({"FrameTime": "0"}, "FrameTime is 0 ms"),
    ({"FrameTimeVector": [0, 40, 0, 40, 40, 40]}, "increment of 0 ms"),
    ({"FrameTimeVector": [0, 40]}, "2 values for 6 frames"),
    ({"FrameTime": "33.3", "CineRate": "18"}, "CineRate is 18 Hz but"),
    (
      {"FrameTimeVector": [0] + [9] * 5, "FrameIncrementPointer": 0xFB843290},
      r"\(fb84,3290\): not used",
    ),
    ({"FrameTime": "40", "HeartRate": "900"}, "HeartRate is 900 bpm"),
    (
      {"FrameTime": "40", "RWaveTimeVector": [-5.0, 60.0]},
      "1 of 2 R waves lie outside",
    ),
  ],
)
def test_time_warnings(tmp_path, header, warning):
  clip = read_recording(write_dicom(tmp_path / "a", CLIP, **header))
  assert any(re.search(warning, w) for w in clip.warnings), clip.warnings


def test_r_waves_and_heart_rate(tmp_path):
  path = write_dicom(
    tmp_path / "a", CLIP, FrameTime="200", HeartRate="57",
    RWaveTimeVector=[48.25, 990.5],
  )  # fmt: skip
  clip = read_recording(path)
  assert clip.r_wave_ms.tolist() == [48.25, 990.5]
  assert clip.heart_rate_bpm == 57


def test_an_r_wave_that_is_listed_again_is_one(tmp_path):
  path = write_dicom(
    tmp_path / "a", CLIP, FrameTime="200",
    RWaveTimeVector=[990.5, 48.25, 990.5, 990.50001],
  )  # fmt: skip
  clip = read_recording(path)
  assert clip.r_wave_ms.tolist() == [48.25, 990.5]
  assert "2 of 4 R waves are listed again: left out" in clip.warnings


@pytest.mark.parametrize(
  ("changes", "spacing", "warning"),
  [
    ({"PhysicalDeltaY": 0.04}, (0.4, 0.5), ""),
    ({"RegionDataType": 2}, (0.5, 0.5), ""),
    ({"RegionLocationMaxX1": 320}, (0.5, 0.5), "one pixel past"),
    ({"RegionLocationMaxX1": 321}, None, "does not fit the 320x240"),
    ({"PhysicalDeltaX": -0.05}, None, "both steps must be above 0"),
    ({"PhysicalDeltaX": 0.0}, None, "both steps must be above 0"),
    ({"PhysicalDeltaX": 0.23}, None, "73.6 x 12 cm; believable is 1 to 40"),
    ({"PhysicalUnitsXDirection": 0}, None, "units no unit and cm"),
    ({"PhysicalUnitsYDirection": 4}, None, "units cm and s"),
    ({"RegionLocationMinX0": 319}, None, "does not fit"),
    ({"RegionSpatialFormat": 3, "RegionDataType": 3}, None, "no 2D region"),
  ],
)
def test_spacing(tmp_path, changes, spacing, warning):
  path = write_dicom(tmp_path / "a", CLIP, [region(**changes)], FrameTime="40")
  clip = read_recording(path)
  np.testing.assert_allclose(clip.spacing_mm, spacing or (np.nan, np.nan))
  assert any(warning in w for w in clip.warnings) or not warning


def test_spacing_of_two_pictures_must_agree(tmp_path):
  other = region(PhysicalDeltaX=0.06, PhysicalDeltaY=0.06)
  clip = read_recording(write_dicom(tmp_path / "a", CLIP, [region(), other]))
  assert np.isnan(clip.spacing_mm).all()
  assert any("different scale (0.05 to 0.06" in w for w in clip.warnings)


@pytest.mark.parametrize(
  ("regions", "kind"),
  [
    ([region()], "cine"),
    ([region(RegionDataType=2)], "colour"),
    ([region(), region(RegionSpatialFormat=3, RegionDataType=3)], "pw"),
    ([region(RegionSpatialFormat=3, RegionDataType=4)], "cw"),
    ([region(RegionSpatialFormat=2)], "mmode"),
    ([region(RegionSpatialFormat=4, RegionDataType=10)], "cine"),
  ],
)
def test_kind_by_region(tmp_path, regions, kind):
  assert read_recording(write_dicom(tmp_path / "a", CLIP, regions)).kind == kind


def test_kind_by_image_type(tmp_path):
  header = {"ImageType": ["DERIVED", "PRIMARY", "", "0011"]}
  clip = read_recording(write_dicom(tmp_path / "a", CLIP, [region()], **header))
  assert clip.kind == "colour"
  assert any("ImageType says colour" in w for w in clip.warnings)


def test_colour_is_a_warning_not_a_decision(tmp_path):
  rgb = np.repeat(CLIP[..., None], 3, -1)
  rgb[:, 100:150, 140:180] = (200, 20, 20)
  clip = read_recording(write_dicom(tmp_path / "a", rgb, [region()]))
  assert clip.kind == "cine"
  assert any("of the sector is coloured" in w for w in clip.warnings)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of making the file
def test_odd_headers_are_read_without_patient_text(tmp_path):
  path = write_dicom(
    tmp_path / "a", CLIP, [region()], FrameTime="77.5",
    AccessionNumber=["1", "2"], PatientBirthDate="--", StudyDate="1994.11.05",
    HeartRate="0",
  )  # fmt: skip
  data = path.read_bytes().replace(b"77.5", b"ABCD")  # no number
  path.write_bytes(data)
  clip = read_recording(path)
  assert np.isnan(clip.frame_time_ms).all()
  assert not any("SECRET" in w or "ABCD" in w for w in clip.warnings)


def test_missing_pixels(tmp_path):
  path = write_dicom(tmp_path / "a", CLIP)
  dataset = pydicom.dcmread(path)
  del dataset.PixelData
  dataset.save_as(path)
  with pytest.raises(Rejected, match="no pixels"):
    read_recording(path)


def test_jpeg_xl_is_named(tmp_path):
  path = tmp_path / "a"
  data = open(get_path("ybr_color"), "rb").read()
  # A UID of even length takes the place of JPEG Baseline's.
  old, new = b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.111\0"
  at = data.index(old)
  length = (len(new)).to_bytes(2, "little")
  data = data[: at - 2] + length + new + data[at + len(old) :]
  path.write_bytes(_with_meta_length(data, len(new) - len(old)))
  with pytest.raises(Rejected, match="JPEG XL"):
    read_recording(path)


def test_unknown_and_video_transfer_syntax(tmp_path):
  for uid, reason in (
    ("1.2.840.10008.1.2.4.102", "damaged movie: frame 0"),
    ("1.2.3.4", "transfer syntax 1.2.3.4"),
  ):
    path = write_dicom(tmp_path / "a", CLIP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = uid
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = pydicom.encaps.encapsulate([b"abcd"])
    dataset.save_as(
      path, implicit_vr=False, little_endian=True, enforce_file_format=False
    )
    with pytest.raises(Rejected, match=reason):
      read_recording(path)


def test_damaged_frame_is_named(tmp_path):
  data = bytearray(open(get_path("ybr_color"), "rb").read())
  starts = [
    i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xd8"
  ]
  data[starts[3] : starts[3] + 40] = b"\0" * 40
  path = tmp_path / "a"
  path.write_bytes(data)
  with pytest.raises(Rejected, match="frame 3 of 30 cannot be decoded"):
    read_recording(path)


@pytest.mark.parametrize("name", ["ybr", "rle", "raw"])
def test_truncated_files_never_crash(tmp_path, name):
  path = {
    "ybr": get_path("ybr_color"), "rle": pip_file("OBXXXX1A_rle_2frame.dcm"),
    "raw": write_dicom(tmp_path / "raw", CLIP, [region()]),
  }[name]  # fmt: skip
  data = open(path, "rb").read()
  rng = np.random.default_rng(1)
  cuts = np.r_[rng.integers(0, 2500, 10), rng.integers(0, len(data), 10)]
  for cut in cuts:
    short = tmp_path / "short"
    short.write_bytes(data[:cut])
    with pytest.raises(Rejected) as caught:
      read_recording(short)
    assert "SECRET" not in str(caught.value)


def test_scrambled_headers_never_crash(tmp_path):
  """Bytes overwritten in the header: a refusal or a recording, no crash."""
  data = write_dicom(tmp_path / "a", CLIP[:2, :40, :40], [region()])
  data = data.read_bytes()
  rng = np.random.default_rng(2)
  for _ in range(300):
    changed = bytearray(data)
    for at in rng.integers(128, len(data) - 3200, 3):
      changed[at] = rng.integers(256)
    path = tmp_path / "b"
    path.write_bytes(changed)
    try:
      clip = read_recording(path)
    except Rejected as error:
      assert "SECRET" not in str(error)
    else:
      assert len(clip.frames) == len(clip.frame_time_ms)


def _with_meta_length(data, change):
  """Mends the group length of the file meta information."""
  old = int.from_bytes(data[140:144], "little")
  return data[:140] + (old + change).to_bytes(4, "little") + data[144:]
