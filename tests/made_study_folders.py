"""The made studies again, as a hospital's folder: lossless DICOM and tables."""

import dataclasses

import made_studies
import numpy as np
from made_ecg import channel, group, write_ecg
from made_files import region, write_dicom

from echo_jax.data.clinical import CLINICAL, GENETIC, is_missing
from echo_jax.data.frames import decode_frame
from echo_jax.data.signals import LEADS

SPACING_MM = 1.0
COUNTS = {"train": 9, "validation": 20, "test": 5}
TESTED = range(29, 34)
LOCATIONS = ("aortic_cw", "outflow_pw", "mitral_pw", "annulus_tdi")
STATED = [f"--doppler=*{name}*={name}" for name in LOCATIONS]
STATED += ["--view=*A4C*=A4C", "--view=*PLAX*=PLAX"]


def dataset():
  """Twenty validation patients: fewer give no intervals and no domain."""
  return dataclasses.replace(made_studies.dataset(COUNTS), read=read)


def read(item):
  """With a known spacing, and a volume to predict."""
  record, notes = made_studies.read(item)
  record["la_ml"] = 40.0 + 60.0 * made_studies.number_of(item.facts["patient"])
  if record["kind"] == "cine":
    record["spacing_mm"] = np.full(2, SPACING_MM, np.float32)
  return record, notes


def header_of(patient):
  """Whose a file is; age and sex are in the records alone."""
  return {
    "PatientID": f"secret-{patient}", "StudyInstanceUID": f"1.2.{patient}",
    "PatientSex": None, "PatientAge": None,
    "AcquisitionDateTime": "21500102083000",
  }  # fmt: skip


def write_study(folder, patient):
  """The study of a patient; returns its folder."""
  folder.mkdir(parents=True)
  whose = header_of(patient)
  for number, part in enumerate(made_studies.parts_of(patient)):
    name = f"{number}-{part.get('view') or part['doppler_location']}"
    write = write_cine if part["kind"] == "cine" else write_spectrum
    write(folder / name, part, **whose)
    if "ecg_mv" in part:
      write_samples(folder / "ecg", part["ecg_mv"], **whose)
  write_records(folder, patient)
  return folder


def _picture(part):
  shape = part["frames_shape"]
  frames = [decode_frame(f, "raw", shape)[..., 0] for f in part["frames"]]
  return np.stack(frames)


def _box(picture):
  rows, columns = picture.shape[1:]
  return {
    "RegionLocationMaxX1": columns - 1, "RegionLocationMaxY1": rows - 1,
  }  # fmt: skip


def write_cine(path, part, **whose):
  """Lossless, with the spacing that all of them have."""
  picture, step = _picture(part), SPACING_MM / 10
  scale = region(
    **_box(picture), PhysicalDeltaX=step, PhysicalDeltaY=step
  )
  times = {"FrameTime": "40"}
  return write_dicom(path, picture, [scale], **times, **whose)


def write_spectrum(path, part, **whose):
  """Lossless; without a scale of time where the part has none."""
  picture, timed = _picture(part), not np.isnan(part["doppler_ms"])
  scale = region(
    **_box(picture), RegionSpatialFormat=3,
    RegionDataType=4 if part["kind"] == "cw" else 3,
    PhysicalUnitsXDirection=4 if timed else 0, PhysicalUnitsYDirection=7,
    PhysicalDeltaX=part["doppler_ms"] / 1000 if timed else 0.0,
    PhysicalDeltaY=-part["doppler_cm_s"], ReferencePixelX0=0,
    ReferencePixelY0=round(part["doppler_zero_px"]),
    ReferencePixelPhysicalValueX=0.0, ReferencePixelPhysicalValueY=0.0,
  )  # fmt: skip
  return write_dicom(path, picture, [scale], **whose)


def write_samples(path, mv, leads=LEADS, names=None, unit=True, **whose):
  """Some leads of an ECG, in steps of 0.1 uV; `names` is what they are called.
  """
  places = [LEADS.index(lead) for lead in leads]
  changes = {"ChannelSensitivity": "0.1"}
  if not unit:
    changes["ChannelSensitivityUnitsSequence"] = None
  channels = [channel(name, **changes) for name in names or leads]
  made = group(
    np.asarray(mv)[:, places], channels, step_mv=1e-4, SamplingFrequency=200
  )
  return write_ecg(path, [made], **whose)


def write_records(folder, patient, **changed):
  """What is known of a patient; "" leaves a value out."""
  names = [column.name for column in (*CLINICAL, *GENETIC)]
  known = made_studies.labels_of(patient) | changed
  values = {n: known[n] for n in names if not is_missing(known.get(n))}
  lines = [",".join(values), ",".join(map(str, values.values()))]
  (folder / "records.csv").write_text("\n".join(lines) + "\n")
