"""Simulated recordings as the DICOM objects that a hospital's archive holds.

Pictures are grey (MONOCHROME2) and JPEG Baseline of quality 90: a tenth of the
bytes of lossless RLE, which speckle defeats.  Coding costs a grey level or
two; of an ECG every sample is as it was simulated.  Words that name the
patient are burned in (`page.py`).
Source: DICOM PS3.3 A.6 and A.7 (ultrasound), C.8.5.5 (regions), A.34.3
(12-lead ECG); codes of PS3.16 CID 3001 (leads) and CID 12226 (views).
"""

import datetime

import cv2
import numpy as np
from jaxtyping import UInt8
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
  ExplicitVRLittleEndian,
  JPEGBaseline8Bit,
  TwelveLeadECGWaveformStorage,
  UltrasoundImageStorage,
  UltrasoundMultiFrameImageStorage,
)

from echo_jax import units
from echo_jax.simulate import ecg as leads
from echo_jax.simulate.doppler import SimulatedDoppler
from echo_jax.simulate.ecg import SimulatedECG
from echo_jax.simulate.page import Page, Words, lay_out
from echo_jax.simulate.video import SimulatedVideo
from echo_jax.simulate.visit import Visit

JPEG_QUALITY = 90  # chosen
SAMPLE_MV = leads.STEP_MV / 2  # the augmented leads are halves of a step
DEPTH_STEP_MM = 5.0  # a machine offers depths in such steps
TIME_DIGITS = 6  # of a millisecond
FRAME_TIME_VECTOR = 0x00181065
# Spatial formats, data types and units of a region (C.8.5.5.1).
PICTURE, SPECTRUM = 1, 3
TISSUE, PULSED, CONTINUOUS = 1, 3, 4
CENTIMETRES, SECONDS, CM_PER_S = 3, 4, 7
# C.8.5.5.1.3: nothing is protected, and a spectrum's scale is velocity; with
# bit 2 it would be frequency.
FLAGS = 0
# Fourth value of ImageType (C.8.5.6.1.1).
TWO_D, CW_MODE, PW_MODE = "0001", "0004", "0008"
# Data type, mode, words.  DICOM has no data type for tissue Doppler: it is
# pulsed, and the words say of what.
SPECTRA = {
  "aortic_cw": (CONTINUOUS, CW_MODE, "CW aortic valve"),
  "outflow_pw": (PULSED, PW_MODE, "PW LVOT"),
  "mitral_pw": (PULSED, PW_MODE, "PW mitral valve"),
  "annulus_tdi": (PULSED, PW_MODE, "TDI mitral annulus"),
}
VIEW_CODES = {
  "A4C": ("399214001", "Apical four chamber"),
  "A2C": ("399232001", "Apical two chamber"),
  "A3C": ("399339008", "Apical long axis"),
  "PLAX": ("399139001", "Parasternal long axis"),
  "PSAX": (
    "399271003",
    "Parasternal short axis at the Papillary Muscle level",
  ),
}
LEAD_CODES = dict(
  zip(
    leads.LEADS,
    ("1", "2", "61", "62", "63", "64", "3", "4", "5", "6", "7", "8"),
    strict=True,
  )
)
# Machines that write their settings there, and the depth in the picture.
SETTINGS_RIGHT, DEPTH_INSIDE = ("device-b",), ("device-c",)


def cine_object(
  video: SimulatedVideo, visit: Visit, name: str, number: int
) -> Dataset:
  """An Ultrasound Multi-frame Image with the true times, scale and R waves.

  Args:
    video: the cine.
    visit: whose it is.
    name: of the recording within its study; its UID is made from it.
    number: of the recording within its series, from 1.
  """
  rows, columns = video.sector.shape
  times = np.round(video.frame_time_ms.astype(np.float64), TIME_DIGITS)
  settings = ["Adult echo"]
  if len(times) > 1:
    settings += [f"FR {units.MS_PER_S / np.diff(times).mean():.0f} Hz"]
  if video.device not in DEPTH_INSIDE:
    settings += [f"Depth {units.cm_from_mm(_depth_mm(video)):.1f} cm"]
  page = lay_out(rows, columns, _words(visit, number, settings))
  made = _image(UltrasoundMultiFrameImageStorage, visit, name, number, TWO_D)
  _put_frames(made, [page.show(frame) for frame in video.frames])
  made.NumberOfFrames = len(times)
  made.FrameIncrementPointer = FRAME_TIME_VECTOR
  steps = np.diff(times, prepend=times[0])
  made.FrameTimeVector = [f"{step:.{TIME_DIGITS}f}" for step in steps]
  if video.r_wave_ms.size:
    made.RWaveTimeVector = video.r_wave_ms.tolist()
  made.ViewCodeSequence = [_code(*VIEW_CODES[video.view], "SCT")]
  step_y, step_x = units.cm_from_mm(video.spacing_mm).tolist()
  made.SequenceOfUltrasoundRegions = [
    _region(
      page, (0, 0, columns - 1, rows - 1), (PICTURE, TISSUE),
      (CENTIMETRES, CENTIMETRES), (step_x, step_y),
    )
  ]  # fmt: skip
  return made


def doppler_object(
  doppler: SimulatedDoppler, visit: Visit, name: str, number: int
) -> Dataset:
  """An Ultrasound Image with a calibrated spectral region.

  As the standard counts, y runs down, so its step is negative: up is positive.

  Args:
    doppler: the spectrum on its own page of scales.
    visit, name, number: as of `cine_object`.
  """
  data_type, mode, place = SPECTRA[doppler.location]
  x0, y0, x1, _ = doppler.box_px
  sweep_s = float(units.s_from_ms(doppler.ms * (x1 - x0 + 1)))
  page = lay_out(*doppler.picture.shape, _words(visit, number, (
    *place.split(" ", 1), f"Sweep {sweep_s:.1f} s",
    f"HR {visit.heart_rate_bpm:.0f} bpm",
  )))  # fmt: skip
  made = _image(UltrasoundImageStorage, visit, name, number, mode)
  _put_frames(made, [page.show(doppler.picture)])
  made.ImageComments = place
  region = _region(
    page, doppler.box_px, (SPECTRUM, data_type), (SECONDS, CM_PER_S),
    (float(units.s_from_ms(doppler.ms)), -doppler.cm_s),
  )  # fmt: skip
  region.ReferencePixelX0 = 0
  region.ReferencePixelY0 = round(doppler.zero_px) - y0
  region.ReferencePixelPhysicalValueX = 0.0
  region.ReferencePixelPhysicalValueY = 0.0
  made.SequenceOfUltrasoundRegions = [region]
  return made


def ecg_object(
  ecg: SimulatedECG, visit: Visit, name: str, number: int
) -> Dataset:
  """A 12-lead ECG whose 16-bit samples hold the simulated ones exactly.

  Its time is that of recording `number`: sample 0 is the first frame of that
  cine, with which it was recorded.

  Raises:
    ValueError: a lead beyond 16 bits, +-16 mV.
  """
  samples = np.rint(ecg.mv.astype(np.float64) / SAMPLE_MV)
  limits = np.iinfo(np.int16)
  if samples.min() < limits.min or samples.max() > limits.max:
    raise ValueError(
      f"ECG reaches {np.abs(ecg.mv).max():.1f} mV, more than 16 bits hold"
    )
  made = _object(TwelveLeadECGWaveformStorage, visit, name, number, "ECG")
  made.AcquisitionDateTime = visit.time_of(number).strftime("%Y%m%d%H%M%S")
  made.AcquisitionContextSequence = []
  group = Dataset()
  group.MultiplexGroupTimeOffset = 0.0
  group.WaveformOriginality = "ORIGINAL"
  group.NumberOfWaveformChannels = len(ecg.leads)
  group.NumberOfWaveformSamples = len(samples)
  group.SamplingFrequency = ecg.hz
  group.MultiplexGroupLabel = "RHYTHM"
  group.ChannelDefinitionSequence = [_channel(lead) for lead in ecg.leads]
  group.WaveformBitsAllocated = 16
  group.WaveformSampleInterpretation = "SS"
  group.WaveformData = samples.astype("<i2").tobytes()
  group["WaveformData"].VR = "OW"
  made.WaveformSequence = [group]
  made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
  return made


def _depth_mm(video: SimulatedVideo) -> float:
  """Depth shown, from the sector's middle; its flanks begin above the face."""
  rows = int(video.sector[:, video.sector.shape[1] // 2].sum())
  steps = rows * float(video.spacing_mm[0]) / DEPTH_STEP_MM
  return DEPTH_STEP_MM * round(steps)


def _channel(lead):
  """What one lead is and what a step of it means."""
  channel = Dataset()
  channel.ChannelLabel = lead
  meaning = lead if lead.startswith("aV") else f"Lead {lead}"
  channel.ChannelSourceSequence = [
    _code(f"2:{LEAD_CODES[lead]}", meaning, "MDC")
  ]
  channel.ChannelSensitivity = repr(SAMPLE_MV)
  channel.ChannelSensitivityUnitsSequence = [_code("mV", "millivolt", "UCUM")]
  channel.ChannelSensitivityCorrectionFactor = 1
  channel.ChannelBaseline = 0
  channel.ChannelSampleSkew = 0
  channel.WaveformBitsStored = 16
  return channel


def _code(value, meaning, scheme) -> Dataset:
  code = Dataset()
  code.CodeValue, code.CodeMeaning = value, meaning
  code.CodingSchemeDesignator = scheme
  return code


def _words(visit: Visit, number: int, settings) -> Words:
  """What every screen of a visit says."""
  return Words(
    patient=(
      f"{visit.family}, {visit.given}", f"ID {visit.patient_id}",
      f"born {visit.born:%Y-%m-%d}  {visit.sex}  {int(visit.age_years)} y",
    ),
    hospital=(
      visit.hospital, f"{visit.time_of(number):%Y-%m-%d %H:%M}",
      f"{visit.maker} {visit.model}",
    ),
    settings=settings,
    settings_left=visit.model not in SETTINGS_RIGHT,
  )  # fmt: skip


def _object(sop_class, visit, name, number, modality) -> Dataset:
  """Who, when, with what: the modules that all objects share."""
  made = Dataset()
  made.file_meta = FileMetaDataset()
  made.file_meta.MediaStorageSOPClassUID = sop_class
  made.SOPClassUID = sop_class
  made.SOPInstanceUID = visit.uid("recording", name)
  made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
  made.Modality = modality
  made.SeriesInstanceUID = visit.uid("series", modality)
  made.SeriesNumber = 2 if modality == "ECG" else 1
  made.InstanceNumber = number
  _put_patient(made, visit)
  made.StudyInstanceUID = visit.uid("study")
  made.StudyID, made.AccessionNumber = str(visit.number), ""
  made.StudyDescription = "Simulated echocardiogram"
  made.ReferringPhysicianName = "Simulated^Referrer"
  made.StudyDate, made.StudyTime = _date(visit.start), _time(visit.start)
  begun = visit.time_of(number)
  made.ContentDate, made.ContentTime = _date(begun), _time(begun)
  made.AcquisitionDate, made.AcquisitionTime = _date(begun), _time(begun)
  made.Manufacturer, made.ManufacturerModelName = visit.maker, visit.model
  made.InstitutionName = visit.hospital
  return made


def _put_patient(made: Dataset, visit: Visit) -> None:
  made.PatientName = f"{visit.family}^{visit.given}"
  made.PatientID = visit.patient_id
  made.PatientBirthDate = _date(visit.born)
  made.PatientSex = visit.sex
  made.PatientAge = f"{int(visit.age_years):03d}Y"
  if visit.height_cm is not None:
    made.PatientSize = f"{units.m_from_cm(visit.height_cm):.3f}"
  if visit.weight_kg is not None:
    made.PatientWeight = f"{visit.weight_kg:.1f}"


def _date(when: datetime.date) -> str:
  return when.strftime("%Y%m%d")


def _time(when: datetime.datetime) -> str:
  return when.strftime("%H%M%S")


def _image(sop_class, visit, name, number, mode) -> Dataset:
  """An ultrasound object without its pixels."""
  made = _object(sop_class, visit, name, number, "US")
  made.ImageType = ["ORIGINAL", "PRIMARY", "TTE", mode]
  made.HeartRate = round(visit.heart_rate_bpm)
  made.PatientOrientation = ""
  made.BurnedInAnnotation = "YES"
  made.UltrasoundColorDataPresent = 0
  return made


def _put_frames(
  made: Dataset, screens: list[UInt8[np.ndarray, "H W"]]
) -> None:
  """Pixels and what describes them."""
  quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
  coded = [cv2.imencode(".jpg", s, quality)[1].tobytes() for s in screens]
  made.Rows, made.Columns = screens[0].shape
  made.SamplesPerPixel = 1
  made.PhotometricInterpretation = "MONOCHROME2"
  made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
  made.PixelRepresentation = 0
  ratio = sum(s.size for s in screens) / sum(map(len, coded))
  made.LossyImageCompression = "01"
  made.LossyImageCompressionRatio = f"{ratio:.2f}"
  made.LossyImageCompressionMethod = "ISO_10918_1"
  made.PixelData = encapsulate(coded)
  made["PixelData"].VR = "OB"
  made["PixelData"].is_undefined_length = True
  made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit


def _region(page: Page, box, kind, unit, step) -> Dataset:
  """One region; `box` counts from the corner of the page's picture."""
  region = Dataset()
  region.RegionSpatialFormat, region.RegionDataType = kind
  region.RegionFlags = FLAGS
  region.RegionLocationMinX0 = page.x0 + box[0]
  region.RegionLocationMinY0 = page.y0 + box[1]
  region.RegionLocationMaxX1 = page.x0 + box[2]
  region.RegionLocationMaxY1 = page.y0 + box[3]
  region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = unit
  region.PhysicalDeltaX, region.PhysicalDeltaY = step
  return region
