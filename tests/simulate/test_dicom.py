"""Simulated recordings as DICOM: another reader finds what was simulated."""

import dataclasses
import functools
import io

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from echo_jax.data.ingest import read_recording
from echo_jax.data.ingest.sector import find_sector
from echo_jax.simulate import (
  dicom,
  doppler,
  draw_study,
  page,
  simulate_study_doppler,
  simulate_study_ecg,
  simulate_video,
  visit,
)

# PS3.3, Type 1 and 2 attributes of the mandatory modules, and those whose
# condition holds: Patient C.7.1.1, General Study C.7.2.1, General Series
# C.7.3.1, General Equipment C.7.5.1, SOP Common C.12.1.
EVERY_OBJECT = {
  "PatientName": 2, "PatientID": 2, "PatientBirthDate": 2, "PatientSex": 2,
  "StudyInstanceUID": 1, "StudyDate": 2, "StudyTime": 2,
  "ReferringPhysicianName": 2, "StudyID": 2, "AccessionNumber": 2,
  "Modality": 1, "SeriesInstanceUID": 1, "SeriesNumber": 2,
  "Manufacturer": 2, "SOPClassUID": 1, "SOPInstanceUID": 1,
}  # fmt: skip
# General Image C.7.6.1, Image Pixel C.7.6.3, US Region Calibration C.8.5.5,
# US Image C.8.5.6.
IMAGE = EVERY_OBJECT | {
  "InstanceNumber": 2, "PatientOrientation": 2, "ContentDate": 2,
  "ContentTime": 2, "SamplesPerPixel": 1, "PhotometricInterpretation": 1,
  "Rows": 1, "Columns": 1, "BitsAllocated": 1, "BitsStored": 1, "HighBit": 1,
  "PixelRepresentation": 1, "PixelData": 1, "SequenceOfUltrasoundRegions": 1,
  "ImageType": 2, "LossyImageCompression": 1, "LossyImageCompressionRatio": 1,
  "LossyImageCompressionMethod": 1,
}  # fmt: skip
# Cine C.7.6.5, Multi-frame C.7.6.6.
CINE = IMAGE | {
  "NumberOfFrames": 1, "FrameIncrementPointer": 1, "FrameTimeVector": 1
}  # fmt: skip
# Waveform Identification C.10.8, Waveform C.10.9, Acquisition Context
# C.7.6.14.
ECG = EVERY_OBJECT | {
  "InstanceNumber": 1, "ContentDate": 1, "ContentTime": 1,
  "AcquisitionDateTime": 1, "WaveformSequence": 1,
  "AcquisitionContextSequence": 2,
}  # fmt: skip
REGION = (
  "RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1",
  "RegionLocationMaxY1", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection",
  "PhysicalDeltaX", "PhysicalDeltaY", "RegionSpatialFormat", "RegionDataType",
  "RegionFlags",
)  # fmt: skip
GROUP = (
  "MultiplexGroupTimeOffset", "WaveformOriginality",
  "NumberOfWaveformChannels", "NumberOfWaveformSamples", "SamplingFrequency",
  "ChannelDefinitionSequence", "WaveformBitsAllocated",
  "WaveformSampleInterpretation", "WaveformData",
)  # fmt: skip
CHANNEL = (
  "ChannelSourceSequence", "ChannelSensitivity",
  "ChannelSensitivityUnitsSequence", "ChannelSensitivityCorrectionFactor",
  "ChannelBaseline", "ChannelSampleSkew", "WaveformBitsStored",
)  # fmt: skip
PLACES = tuple(doppler.LOCATIONS)


@functools.cache
def a_study():
  """On device-b, whose frames come unevenly; settings on the right."""
  return next(
    study
    for patient in range(20)
    for study in [draw_study(3, patient, 0, "referral")]
    if study.device.name == "device-b" and study.heart.rhythm == "sinus"
  )


@functools.cache
def simulated(name):
  if name == "cine":
    return simulate_video(a_study(), size=224, duration_s=1.5, view="A3C")
  if name == "ecg":
    return simulate_study_ecg(a_study(), duration_s=2.0)
  return simulate_study_doppler(a_study(), name)


def make(name):
  maker = {"cine": dicom.cine_object, "ecg": dicom.ecg_object}.get(
    name, dicom.doppler_object
  )
  return maker(simulated(name), visit.plan_visit(a_study()), name, 3)


def coded(name) -> bytes:
  buffer = io.BytesIO()
  make(name).save_as(buffer, enforce_file_format=True)
  return buffer.getvalue()


@functools.cache
def stored(name):
  """As pydicom reads it back."""
  return pydicom.dcmread(io.BytesIO(coded(name)))


@pytest.fixture(scope="module")
def read(tmp_path_factory):
  """Our reader, on the name of a recording."""
  folder = tmp_path_factory.mktemp("files")

  @functools.cache
  def one(name):
    path = folder / f"{name}.dcm"
    path.write_bytes(coded(name))
    return read_recording(path)

  return one


def test_a_cine_keeps_time_scale_and_beats(read):
  video, found = simulated("cine"), read("cine")
  assert np.ptp(np.diff(video.frame_time_ms)) > 0.1  # uneven
  np.testing.assert_allclose(
    found.frame_time_ms, video.frame_time_ms, atol=1e-6, rtol=0
  )
  assert found.time_source == "FrameTimeVector" and found.kind == "cine"
  np.testing.assert_array_equal(found.r_wave_ms, video.r_wave_ms)
  np.testing.assert_allclose(found.spacing_mm, video.spacing_mm, rtol=1e-6)
  assert found.heart_rate_bpm == round(video.heart_rate_bpm)
  assert found.device == "SynthEcho device-b" and found.warnings == ()


def test_a_cine_lies_where_its_region_says(read):
  video, found = simulated("cine"), read("cine")
  box = found.regions[0]
  where = slice(box.y0, box.y1 + 1), slice(box.x0, box.x1 + 1)
  away = np.abs(found.frames[:, *where, 0].astype(int) - video.frames)
  assert away.mean() < 1.5 and away.max() < 30  # JPEG
  inside = found.sector[where]
  assert found.sector.sum() == inside.sum() > 0.6 * video.sector.sum()
  assert inside[~video.sector].sum() < 0.03 * inside.sum()
  bare = find_sector(video.frames)
  assert (inside & bare).sum() > 0.95 * (inside | bare).sum()


def standard_cm_s(dataset, rows):
  """Velocity of rows of the whole picture, by PS3.3 C.8.5.5.1 alone."""
  region = dataset.SequenceOfUltrasoundRegions[0]
  reference = region.RegionLocationMinY0 + region.ReferencePixelY0
  return region.ReferencePixelPhysicalValueY + (
    (rows - reference) * region.PhysicalDeltaY
  )


@pytest.mark.parametrize("place", PLACES)
def test_a_spectrum_keeps_its_scales(place, read):
  made, found, dataset = simulated(place), read(place), stored(place)
  shift = page.BANNER_PX
  assert found.kind == made.kind and found.doppler.cm_s == made.cm_s
  assert found.doppler.ms == pytest.approx(made.ms)
  assert found.doppler.zero_px == made.zero_px + shift
  assert np.ptp(found.doppler.box_px[::2]) == np.ptp(made.box_px[::2])
  region = dataset.SequenceOfUltrasoundRegions[0]
  assert region.RegionSpatialFormat == 3
  assert region.RegionDataType == (4 if made.kind == "cw" else 3)
  assert not region.RegionFlags & 0b100  # C.8.5.5.1.3: set is frequency
  assert (region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection) == (
    4, 7,
  )  # fmt: skip
  # the zero line is drawn: by the standard's arithmetic its velocity is 0
  columns = slice(region.RegionLocationMinX0, region.RegionLocationMaxX1 + 1)
  grey = found.frames[0, :, columns, 0]
  line = int(np.argmin(np.abs(standard_cm_s(dataset, np.arange(len(grey))))))
  assert np.median(grey[line]) > 80
  assert standard_cm_s(dataset, line) == 0


@pytest.mark.parametrize("place", ["aortic_cw", "outflow_pw"])
def test_a_peak_read_off_the_stored_picture_is_true(place, read):
  """The lowest bright edge, in the standard's own arithmetic."""
  made, found, dataset = simulated(place), read(place), stored(place)
  x0, y0, x1, y1 = found.doppler.box_px
  grey = cv2.blur(
    found.frames[0, y0 : y1 + 1, x0 : x1 + 1, 0].astype(np.float32), (3, 3)
  )
  bright = grey > 0.55 * np.percentile(grey, 99)
  run = bright[:-2] & bright[1:-1] & bright[2:]
  rows = y0 + np.arange(len(run)) + 2.5  # lower edge of the third
  speed = -standard_cm_s(dataset, rows)
  edge = np.where(run, speed[:, None], 0).max(axis=0)
  starts = np.rint(made.r_wave_ms / made.ms).astype(int)
  peaks = [
    edge[a:b].max() for a, b in zip(starts[:-1], starts[1:], strict=True)
  ]
  name = {"aortic_cw": "aortic_peak_cm_s", "outflow_pw": "outflow_peak_cm_s"}
  true = getattr(made.truth, name[place])
  assert np.mean(peaks) == pytest.approx(true, rel=0.05)


def test_an_ecg_is_millivolts_to_the_last_bit():
  made, dataset = simulated("ecg"), stored("ecg")
  assert np.ptp(made.mv) > 0.5
  np.testing.assert_array_equal(dataset.waveform_array(0), made.mv)
  group = dataset.WaveformSequence[0]
  assert group.SamplingFrequency == 500 and group.WaveformBitsAllocated == 16
  known = {c.value: c.meaning for c in codes.cid3001.concepts.values()}
  for lead, channel in zip(
    made.leads, group.ChannelDefinitionSequence, strict=True
  ):
    (source,), (unit,) = (
      channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence
    )  # fmt: skip
    assert source.CodingSchemeDesignator == "MDC"
    assert known[source.CodeValue].split(",")[0] == source.CodeMeaning
    assert source.CodeMeaning.removeprefix("Lead ") == lead
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("mV", "UCUM")


def test_an_ecg_beyond_16_bits_is_refused():
  ecg = dataclasses.replace(simulated("ecg"), mv=simulated("ecg").mv * 100)
  with pytest.raises(ValueError, match="mV, more than 16 bits"):
    dicom.ecg_object(ecg, visit.plan_visit(a_study()), "ecg", 1)


def test_views_are_coded_as_the_standard_codes_them():
  known = {c.value: c.meaning for c in codes.cid12226.concepts.values()}
  for value, meaning in dicom.VIEW_CODES.values():
    assert known[value] == meaning
  assert stored("cine").ViewCodeSequence[0].CodeValue == "399339008"


@pytest.mark.parametrize(
  ("name", "wanted"),
  [("cine", CINE), *((place, IMAGE) for place in PLACES), ("ecg", ECG)],
)
def test_what_the_standard_requires_is_there(name, wanted):
  dataset = stored(name)
  for keyword, kind in wanted.items():
    assert keyword in dataset, keyword
    if kind == 1:
      assert dataset[keyword].value not in ("", None), keyword
  parts = [(REGION, dataset.get("SequenceOfUltrasoundRegions", ()))]
  groups = dataset.get("WaveformSequence", ())
  parts += [(GROUP, groups)]
  parts += [(CHANNEL, g.ChannelDefinitionSequence) for g in groups]
  for keywords, items in parts:
    for item in items:
      assert not [k for k in keywords if item.get(k) in ("", None)]
  assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID


@pytest.mark.parametrize("name", ["cine", "ecg", *PLACES])
def test_the_same_study_makes_the_same_bytes(name):
  assert coded(name) == coded(name)


def test_uids_tell_recordings_and_studies_apart():
  one = [stored(name) for name in ("cine", "ecg", *PLACES)]
  assert len({d.SOPInstanceUID for d in one}) == len(one)
  assert len({d.StudyInstanceUID for d in one}) == 1
  assert len({d.SeriesInstanceUID for d in one}) == 2  # ultrasound and ECG
  assert all(pydicom.uid.UID(d.SOPInstanceUID).is_valid for d in one)
  others = [(1, 11), (11, 1), (0, 111)]  # as digits in a row these are alike
  found = {
    visit.plan_visit(draw_study(seed, patient, 0, "clinic_like")).uid("study")
    for seed, patient in others
  }
  assert len(found | {one[0].StudyInstanceUID}) == 4


def test_a_patient_stays_who_they_are():
  studies = [draw_study(0, 3, number, "referral") for number in (0, 1)]
  first, second = (visit.plan_visit(study) for study in studies)
  for name in ("patient_id", "family", "given", "born", "sex"):
    assert getattr(first, name) == getattr(second, name)
  assert first.uid("study") != second.uid("study")
  assert (second.start - first.start).days == studies[1].condition.day > 0
  for one in (first, second):
    years = (one.start.date() - one.born).days / 365.25
    assert years == pytest.approx(one.age_years, abs=0.01)


def test_a_header_knows_no_more_than_the_clinic():
  study = a_study()
  unknown = study.condition.record | {"height_cm": None}
  study = dataclasses.replace(
    study, condition=dataclasses.replace(study.condition, record=unknown)
  )
  ecg = dicom.ecg_object(simulated("ecg"), visit.plan_visit(study), "ecg", 1)
  assert "PatientSize" not in ecg and "PatientSize" in stored("ecg")


def test_words_are_burned_in_beside_the_picture():
  dataset = stored("cine")
  assert dataset.BurnedInAnnotation == "YES"
  made = page.lay_out(40, 60, page.Words(("Phantom, Ada",), ("x",), ("y",)))
  picture = np.full((40, 60), 7, np.uint8)
  shown = made.show(picture)
  place = slice(made.y0, made.y0 + 40), slice(made.x0, made.x0 + 60)
  assert not made.pixels[place].any() and (shown[place] == 7).all()
  assert (shown != made.pixels).sum() == picture.size
  assert made.pixels[: page.BANNER_PX, :120].any()
  assert made.x0 % 8 == made.y0 % 8 == 0
  right = page.lay_out(
    40, 60, page.Words((), (), ("Depth 15.0 cm",), settings_left=False)
  )
  beside = right.pixels[right.y0 : right.y0 + 40]
  assert beside[:, right.x0 + 60 :].any() and not beside[:, : right.x0].any()


def test_the_depth_shown_is_the_machine_s():
  """Presets are 145, 155 and 165 mm deep, and change in steps of 10 mm."""
  for patient in range(4):
    study = draw_study(0, patient, 0, "clinic_like")
    video = simulate_video(study, size=112, duration_s=0.05)
    depth_mm = dicom._depth_mm(video)
    assert (depth_mm - study.device.depth_mm) % 10 == 0
    assert depth_mm >= study.device.depth_mm
