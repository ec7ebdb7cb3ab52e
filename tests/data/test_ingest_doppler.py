"""Spectra, M-mode and tissue Doppler: told apart, with their scales."""

import numpy as np
import pytest
from made_files import drawn_clip, region, sector_mask, write_dicom

from echo_jax.data.frames import decode_frame
from echo_jax.data.ingest import read_recording, to_record

ROWS, COLUMNS = 240, 320
IDS = {
  "video_id": "x:1", "study_id": "x:2", "patient_id": "x:3", "split": "train",
}  # fmt: skip
# The scale of a real tissue Doppler clip (FIELD.md 7): 37.3 px per 5 cm/s,
# 170 px per s, here on 60..299 x 100..219 with the zero line 70 rows down.
CM_S, SECONDS = 5 / 37.3, 1 / 170
ZERO = 100 + 70


def spectral(**changes):
  values = {
    "RegionSpatialFormat": 3, "RegionDataType": 3,
    "RegionLocationMinX0": 60, "RegionLocationMinY0": 100,
    "RegionLocationMaxX1": 299, "RegionLocationMaxY1": 219,
    "PhysicalUnitsXDirection": 4, "PhysicalUnitsYDirection": 7,
    "PhysicalDeltaX": SECONDS, "PhysicalDeltaY": -CM_S,
    "ReferencePixelX0": 0, "ReferencePixelY0": 70,
    "ReferencePixelPhysicalValueX": 0.0, "ReferencePixelPhysicalValueY": 0.0,
  }  # fmt: skip
  known = {k: v for k, v in (values | changes).items() if v is not None}
  return region(**known)


def drawn_spectrum(period_s=0.939, peak_cm_s=8.0):
  """Systolic waves of 8 cm/s up every beat, on a line at zero: H W."""
  picture = np.zeros((ROWS, COLUMNS), np.uint8)
  columns = np.arange(60, 300)
  phase = (columns - 60) * SECONDS % period_s / period_s
  velocity = peak_cm_s * np.exp(-0.5 * ((phase - 0.3) / 0.05) ** 2)
  for column, v in zip(columns, velocity, strict=True):
    top = round(ZERO - v / CM_S)
    picture[top : ZERO + 1, column] = 200
  return picture


def still(folder, *regions, **header):
  return read_recording(
    write_dicom(folder / "a", drawn_spectrum()[None], regions, **header)
  )


def test_velocity_and_time_of_a_drawn_spectrum(tmp_path):
  """Measured in the stored picture with the record's own scale."""
  record = to_record(still(tmp_path, spectral()), **IDS)
  assert record["kind"] == "pw"
  x0, y0, x1, y1 = record["doppler_box_px"].tolist()
  assert (x0, y0, x1, y1) == (60, 100, 299, 219)
  assert record["doppler_zero_px"] == ZERO
  picture = decode_frame(record["frames"][0], "png", (ROWS, COLUMNS, 1))
  inside = picture[y0 : y1 + 1, x0 : x1 + 1, 0] > 100
  edge = y0 + inside.argmax(0)
  velocity = (record["doppler_zero_px"] - edge) * record["doppler_cm_s"]
  assert velocity.max() == pytest.approx(8.0, rel=0.01)
  peaks = np.flatnonzero(velocity > 0.95 * velocity.max())
  beats = np.split(peaks, np.flatnonzero(np.diff(peaks) > 20) + 1)
  rr_px = np.diff([beat.mean() for beat in beats])
  assert rr_px * record["doppler_ms"] == pytest.approx([939], rel=0.01)


def test_half_the_size_keeps_velocities(tmp_path):
  clip = still(tmp_path, spectral())
  record = to_record(clip, size=(ROWS // 2, COLUMNS // 4), **IDS)
  assert record["doppler_box_px"].tolist() == [15, 50, 74, 109]
  assert record["doppler_cm_s"] == pytest.approx(2 * CM_S)
  assert record["doppler_ms"] == pytest.approx(4000 * SECONDS)
  # A point 20 rows above the zero line is as fast as before.
  row = (ZERO - 20 + 0.5) / 2 - 0.5
  velocity = (record["doppler_zero_px"] - row) * record["doppler_cm_s"]
  assert velocity == pytest.approx(20 * CM_S)


def test_up_is_positive_whatever_the_sign_in_the_header(tmp_path):
  down, up = (
    still(tmp_path, spectral(PhysicalDeltaY=sign * CM_S)).doppler
    for sign in (1, -1)
  )
  assert down == up and up.cm_s == pytest.approx(CM_S)


def test_reference_pixel_need_not_be_zero(tmp_path):
  """30 rows down the header says 40 rows' worth of velocity upwards."""
  scale = still(
    tmp_path,
    spectral(ReferencePixelY0=30, ReferencePixelPhysicalValueY=40 * CM_S),
  ).doppler
  assert scale.zero_px == pytest.approx(ZERO)


@pytest.mark.parametrize(
  ("changes", "unknown", "warning"),
  [
    ({"PhysicalUnitsYDirection": 5}, "cm_s zero_px", "unit Hz along y"),
    ({"PhysicalUnitsYDirection": 0}, "cm_s zero_px", "unit no unit along y"),
    ({"PhysicalUnitsXDirection": 3}, "ms", "unit cm along x, wants s"),
    ({"PhysicalDeltaX": -SECONDS}, "ms", "its 240 pixels -1.412 s"),
    ({"PhysicalDeltaX": 0.5}, "ms", "its 240 pixels 120 s; believable"),
    ({"PhysicalDeltaY": 0.0}, "cm_s zero_px", "its 120 pixels 0 cm/s"),
    ({"PhysicalDeltaY": 100.0}, "cm_s zero_px", "its 120 pixels 1.2e+04 cm/s"),
    ({"ReferencePixelY0": None}, "zero_px", "no ReferencePixelY0"),
    ({"ReferencePixelY0": 130}, "zero_px", "zero line at row 230 lies outside"),
    (
      {"ReferencePixelPhysicalValueY": None}, "",
      "its reference pixel was taken for the zero line",
    ),
  ],
)  # fmt: skip
def test_what_cannot_be_trusted_is_unknown(tmp_path, changes, unknown, warning):
  clip = still(tmp_path, spectral(**changes))
  for name in ("cm_s", "ms", "zero_px"):
    is_unknown = np.isnan(getattr(clip.doppler, name))
    assert is_unknown == (name in unknown.split()), name
  assert any(warning in w for w in clip.warnings), clip.warnings


def test_spectrum_outside_of_the_picture(tmp_path):
  clip = still(tmp_path, spectral(RegionLocationMaxX1=500))
  assert clip.doppler is None and clip.kind == "pw"
  assert any("x 60..500, y 100..219 does not fit" in w for w in clip.warnings)
  record = to_record(clip, **IDS)
  assert record["doppler_box_px"].tolist() == [-1] * 4


def test_a_small_picture_above_its_spectrum(tmp_path):
  """Spacing is that of the 2D region, though it is not that of the page."""
  small = region(
    RegionLocationMaxX1=99, RegionLocationMaxY1=89, PhysicalDeltaX=0.2,
    PhysicalDeltaY=0.2,
  )  # fmt: skip
  clip = still(tmp_path, small, spectral(RegionDataType=4))
  assert clip.kind == "cw"
  np.testing.assert_allclose(clip.spacing_mm, 2.0)  # 20 x 18 cm, page 64 cm
  assert clip.doppler.box_px == (60, 100, 299, 219)


def test_m_mode_has_no_spectrum_and_no_spacing(tmp_path):
  strip = region(RegionSpatialFormat=2, PhysicalUnitsXDirection=4)
  clip = still(tmp_path, strip, PixelSpacing=[0.5, 0.5])
  assert clip.kind == "mmode" and clip.doppler is None
  assert np.isnan(clip.spacing_mm).all() and not clip.sector.any()


@pytest.mark.parametrize(
  ("header", "regions", "kind"),
  [
    ({"ImageComments": "TDI septal"}, [spectral()], "tdi"),
    ({"ImageComments": "tissue velocity"}, [region(RegionDataType=2)], "tdi"),
    ({"ImageComments": "STDIN"}, [region(RegionDataType=2)], "colour"),
    ({"ImageComments": "TDI"}, [region()], "cine"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "", "0004"]}, [], "cw"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "", "0008"]}, [], "pw"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "", "0020"]}, [], "mmode"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "", "0100"]}, [], "colour"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "", "0001"]}, [], "cine"),
  ],
)
def test_kinds(tmp_path, header, regions, kind):
  video = drawn_clip(3, sector_mask())
  path = write_dicom(tmp_path / "a", video, regions, **header)
  clip = read_recording(path)
  assert clip.kind == kind
  said = any("names tissue Doppler" in w for w in clip.warnings)
  assert said == (kind == "tdi")
