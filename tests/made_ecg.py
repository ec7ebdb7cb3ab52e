"""ECG files that the tests make: DICOM waveform objects and WFDB records."""

from pathlib import Path

import numpy as np
import wfdb
from made_signals import made_ecg
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from echo_jax.data.signals import LEADS

TWELVE = "1.2.840.10008.5.1.4.1.1.9.1.1"
HZ = 250
MDC = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, *range(3, 9)), strict=True))


def code(value, scheme, meaning="of a test"):
  item = Dataset()
  item.CodeValue, item.CodingSchemeDesignator = value, scheme
  item.CodeMeaning = meaning
  return item


def channel(lead, **changes):
  """2.5 uV a step; None leaves an attribute out."""
  item = Dataset()
  values = {
    "ChannelSourceSequence": [code(f"2:{MDC.get(lead, 0)}", "MDC")],
    "ChannelSensitivity": "2.5",
    "ChannelSensitivityUnitsSequence": [code("uV", "UCUM")],
    "ChannelSensitivityCorrectionFactor": "1", "ChannelBaseline": "0",
    "ChannelSampleSkew": "0", "WaveformBitsStored": 16,
  }  # fmt: skip
  for keyword, value in (values | changes).items():
    if value is not None:
      setattr(item, keyword, value)
  return item


def group(mv, channels, step_mv=0.0025, dtype="<i2", **changes):
  """A multiplex group of what was recorded, in millivolts: S lead."""
  stored = np.round(np.asarray(mv) / step_mv).astype(dtype)
  item = Dataset()
  values = {
    "WaveformOriginality": "ORIGINAL", "MultiplexGroupTimeOffset": "0",
    "NumberOfWaveformChannels": len(channels),
    "NumberOfWaveformSamples": len(stored), "SamplingFrequency": HZ,
    "ChannelDefinitionSequence": channels, "WaveformBitsAllocated": 16,
    "WaveformSampleInterpretation": "SS", "WaveformData": stored.tobytes(),
  }  # fmt: skip
  for keyword, value in (values | changes).items():
    if value is not None:
      setattr(item, keyword, value)
  item["WaveformData"].VR = "OW"
  if "WaveformPaddingValue" in item:
    item["WaveformPaddingValue"].VR = "OW"
  return item


def twelve(**changes):
  """4 s of twelve leads, with changes of every channel."""
  return group(made_ecg(HZ), [channel(lead, **changes) for lead in LEADS])


def write_ecg(path, groups, syntax=ExplicitVRLittleEndian, **header):
  """An ECG waveform object of patient 4711, F, 60 years, 2150-01-02 08:30."""
  meta = FileMetaDataset()
  meta.TransferSyntaxUID = syntax
  meta.MediaStorageSOPClassUID = header.get("SOPClassUID", TWELVE)
  meta.MediaStorageSOPInstanceUID = generate_uid()
  dataset = Dataset()
  dataset.file_meta = meta
  values = {
    "SOPClassUID": TWELVE, "Modality": "ECG",
    "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
    "StudyInstanceUID": generate_uid(), "PatientName": "SECRET^NAME",
    "PatientID": "4711", "PatientSex": "F", "PatientAge": "060Y",
    "AcquisitionDateTime": "21500102083000", "WaveformSequence": groups,
  }  # fmt: skip
  for keyword, value in (values | header).items():
    if value is not None:
      setattr(dataset, keyword, value)
  dataset.save_as(path, enforce_file_format=True)
  return Path(path)


def write_wfdb(folder, name="rec", mv=None, leads=None, units="mV", **comments):
  """Twelve leads as PTB-XL has them; comments become lines `# key: value`."""
  mv = made_ecg(HZ) if mv is None else mv
  leads = leads or LEADS
  wfdb.wrsamp(
    name, fs=HZ, units=[units] * len(leads), sig_name=list(leads), p_signal=mv,
    fmt=["16"] * len(leads), write_dir=str(folder),
    comments=[f"{key}: {value}" for key, value in comments.items()],
  )  # fmt: skip
  return Path(folder) / f"{name}.hea"
