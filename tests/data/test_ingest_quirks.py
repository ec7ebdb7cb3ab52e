"""Quirks of true files: those that pip brings, and made ones with their tags.
"""

import zipfile
from importlib.resources import files

import numpy as np
import pytest
from made_files import drawn_clip, region, video_stream, write_dicom

from echo_jax.data.ingest import read_recording, to_record
from echo_jax.data.ingest.dicom import read_identity

CLIP = drawn_clip(6)
ULTRASOUNDS = files("deid_data") / "data" / "ultrasounds"


def made(folder, *regions, video=CLIP, **header):
  return read_recording(write_dicom(folder / "a", video, regions, **header))


def test_true_clip_with_rounded_cine_rate():
  """Philips: FrameTime 54.241 ms is 18.44 Hz, its CineRate says 18."""
  clip = read_recording(ULTRASOUNDS / "ultrasound-multiframe.dcm")
  assert clip.frames.shape == (30, 600, 800, 3) and clip.kind == "cine"
  np.testing.assert_allclose(np.diff(clip.frame_time_ms), 54.241)
  assert not any("CineRate" in w for w in clip.warnings)
  np.testing.assert_allclose(clip.spacing_mm, 0.307597434, rtol=1e-6)
  # Colour Doppler that neither region nor ImageType mentions.
  assert any("of the sector is coloured" in w for w in clip.warnings)
  # Burned in: 15 cm from the probe (row 93) to the end of the sector.
  rows = np.flatnonzero(clip.sector.any(1))
  assert np.ptp(rows) * clip.spacing_mm[0] == pytest.approx(150, rel=0.05)


def test_true_grey_clip_of_a_test_patient(tmp_path):
  archive = zipfile.ZipFile(ULTRASOUNDS / "GREYSCALE_CINE.zip")
  path = tmp_path / archive.namelist()[0]
  archive.extract(path.name, tmp_path)
  clip = read_recording(path)
  assert clip.frames.shape == (27, 600, 800, 1)
  assert clip.photometric == "MONOCHROME2" and clip.coloured_pct == 0
  np.testing.assert_allclose(clip.spacing_mm, 0.083078, rtol=1e-5)
  identity = read_identity(path)
  told = " ".join(clip.warnings)
  for word in (identity.patient.split("|")[-1], "ZZZ", "PATIENT"):
    assert word not in told


def test_true_still_whose_spacing_is_said_twice():
  """Siemens: PixelSpacing agrees with the region, the region is used."""
  still = read_recording(ULTRASOUNDS / "RGB_IMAGE.dcm")
  np.testing.assert_allclose(still.spacing_mm, 0.23787168, rtol=1e-6)
  assert not any("PixelSpacing" in w for w in still.warnings)


@pytest.mark.parametrize(
  ("header", "spacing", "warning"),
  [
    ({"PixelSpacing": [0.4, 0.3]}, (0.4, 0.3), "from PixelSpacing, 0.4 x 0.3"),
    ({"ImagerPixelSpacing": [0.4, 0.3]}, (0.4, 0.3), "from ImagerPixelSpacing"),
    ({"PixelSpacing": [0.4, -0.3]}, None, "steps -0.03 x 0.04 cm a pixel"),
    ({"PixelSpacing": [4.0, 3.0]}, None, "96 x 96 cm; believable is 1 to 40"),
    ({"PixelSpacing": [0.4, 0.0]}, None, "both steps must be above 0"),
    ({"PixelSpacing": [0.4]}, None, "no 2D region and no PixelSpacing"),
  ],
)
def test_pixel_spacing_where_no_region_is(tmp_path, header, spacing, warning):
  clip = made(tmp_path, **header)
  np.testing.assert_allclose(clip.spacing_mm, spacing or (np.nan, np.nan))
  assert any(warning in w for w in clip.warnings), clip.warnings


@pytest.mark.parametrize("other", [{"PhysicalDeltaX": -0.05}, {}])
def test_regions_come_before_pixel_spacing(tmp_path, other):
  """A region that is not believed is not replaced by a guess."""
  clip = made(tmp_path, region(**other), PixelSpacing=[0.9, 0.9])
  want = np.nan if other else 0.5
  np.testing.assert_allclose(clip.spacing_mm, [want, want])


ECG = {
  "RegionSpatialFormat": 4, "RegionDataType": 10, "RegionLocationMinX0": 20,
  "RegionLocationMinY0": 200, "RegionLocationMaxX1": 300,
  "RegionLocationMaxY1": 230, "PhysicalUnitsXDirection": 4,
  "PhysicalUnitsYDirection": 0, "PhysicalDeltaX": 0.0045, "PhysicalDeltaY": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
  "other",
  [
    ECG,  # Philips: seconds and no unit
    ECG | {"RegionLocationMinX0": 300},  # one pixel wide
    {"RegionSpatialFormat": 0, "RegionDataType": 13,
     "PhysicalUnitsXDirection": 0, "PhysicalUnitsYDirection": 0},  # grey bar
    {"RegionSpatialFormat": 0, "RegionDataType": 0, "PhysicalDeltaX": 1.0,
     "PhysicalDeltaY": 1.0, "PhysicalUnitsXDirection": 0,
     "PhysicalUnitsYDirection": 0},  # Acuson
  ],
  ids=["ecg", "one_pixel", "grey_bar", "acuson"],
)  # fmt: skip
def test_other_regions_leave_kind_and_scale_alone(tmp_path, other):
  clip = made(tmp_path, region(**other), region())
  assert clip.kind == "cine" and clip.doppler is None
  np.testing.assert_allclose(clip.spacing_mm, 0.5)
  assert clip.sector.any() and len(clip.regions) == 2


def test_unequal_spacing_and_a_reference_pixel(tmp_path):
  """An HP paediatric clip; a GE region that counts from its own corner."""
  item = region(
    PhysicalDeltaX=0.02857, PhysicalDeltaY=0.02286, ReferencePixelX0=159,
    ReferencePixelY0=1,
  )  # fmt: skip
  clip = made(tmp_path, item)
  np.testing.assert_allclose(clip.spacing_mm, [0.2286, 0.2857], rtol=1e-5)
  (read,) = clip.regions
  assert (read.reference_x, read.reference_y) == (159, 1)


def test_sector_is_smaller_than_its_region(tmp_path):
  clip = made(tmp_path, region())
  assert 0.1 < clip.sector.mean() < 0.5


def test_ruler_of_a_phantom(tmp_path):
  """Ticks 171.7 px apart at 0.00291 cm a pixel: a 5 mm ruler (Sonoque)."""
  page = np.zeros((1, 40, 800), np.uint8)
  ticks = np.round(30 + 171.7 * np.arange(5)).astype(int)
  page[:, 10:20, ticks] = 255
  item = region(
    RegionLocationMaxX1=800, RegionLocationMaxY1=40, PhysicalDeltaX=0.00291,
    PhysicalDeltaY=0.00291,
  )  # fmt: skip
  # 800 px are 2.3 cm; the region ends one past the last pixel.
  clip = made(tmp_path, item, video=page)
  found = np.flatnonzero(clip.frames[0, 12, :, 0])
  step_mm = np.diff(found).mean() * clip.spacing_mm[1]
  assert step_mm == pytest.approx(5.0, rel=0.01)


def test_r_waves_heart_rate_and_screen_need_not_agree(tmp_path):
  """GE: R-R 1081.7 ms is 55.5 a minute, HeartRate says 57: both are kept."""
  clip = made(
    tmp_path, region(), video=drawn_clip(27), FrameTime="47.4359",
    HeartRate="57", RWaveTimeVector=[48.36, 1130.03],
  )  # fmt: skip
  assert np.diff(clip.r_wave_ms) == pytest.approx([1081.7], abs=0.05)
  assert clip.heart_rate_bpm == 57 and clip.warnings == ()
  np.testing.assert_allclose(clip.r_wave_ms / 47.4359, [1.02, 23.82], atol=0.01)


@pytest.mark.parametrize(
  ("frame_time", "known"),
  [("40", True), ("-40", False), ("1e9", False), ("0.001", False)],
)
def test_impossible_frame_times(tmp_path, frame_time, known):
  clip = made(tmp_path, FrameTime=frame_time)
  assert np.isfinite(clip.frame_time_ms).all() == known
  told = any("wants 0.1 to 60000 ms" in w for w in clip.warnings)
  assert told != known


def test_green_mark_beside_a_grey_sector(tmp_path):
  """A probe mark is coloured, the picture is not: no colour Doppler."""
  rgb = np.repeat(CLIP[..., None], 3, -1)
  rgb[:, 2:8, 200:206] = (0, 255, 0)
  clip = made(tmp_path, region(RegionLocationMinY0=12), video=rgb)
  assert clip.frames[..., 1].max() == 255 and clip.coloured_pct == 0
  assert not any("coloured" in w for w in clip.warnings)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of making the file
def test_headers_of_other_times(tmp_path):
  path = write_dicom(
    tmp_path / "a", CLIP, [region()], FrameTime="40", StudyDate="1994.11.05",
    AccessionNumber=["1", "2"], PatientBirthDate="--", PatientName="PLA",
    PatientAge="0\u00b2Y",
  )  # fmt: skip
  clip, identity = read_recording(path), read_identity(path)
  assert np.isfinite(clip.frame_time_ms).all() and clip.kind == "cine"
  assert identity.patient == "|4711" and np.isnan(identity.age_years)
  record = to_record(
    clip, video_id="a:1", study_id="a:1", patient_id="a:1", split="test"
  )
  assert record["view"] == ""  # none is guessed from a name


def test_h264_movie_of_another_shape(tmp_path):
  """Two 112x112 pictures side by side, 50 Hz, h264 (EchoNet's examples)."""
  video = np.concatenate([drawn_clip(8)[:, :112, 100:212]] * 2, -1)
  path = tmp_path / "a.mp4"
  path.write_bytes(video_stream(video, "libx264", "mp4", rate_hz=50))
  clip = read_recording(path)
  assert clip.frames.shape == (8, 112, 224, 3)
  np.testing.assert_allclose(np.diff(clip.frame_time_ms), 20.0)
  assert clip.coding.endswith("h264") and clip.coded is None
