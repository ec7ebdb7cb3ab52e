"""The made studies again, as a hospital's folder: lossless DICOM and tables."""

import numpy as np
from made_ecg import twelve, write_ecg
from made_files import region, write_dicom
from pydicom.uid import generate_uid
from test_ingest_doppler import spectral

from echo_jax.data.clinical import CLINICAL, GENETIC, is_missing
from echo_jax.data.frames import decode_frame
from tests import made_studies

SPACING_MM = 1.0
RULES = {
  "aortic_cw": "*aortic_cw*", "outflow_pw": "*outflow_pw*",
  "mitral_pw": "*mitral_pw*", "annulus_tdi": "*annulus_tdi*",
}  # fmt: skip
STATED = [f"--doppler={pattern}={name}" for name, pattern in RULES.items()]
STATED += ["--view=*A4C*=A4C", "--view=*PLAX*=PLAX"]
STEP_MV = 1e-4  # of an ECG's samples


def dataset():
  """Twenty validation patients: fewer give no intervals and no domain."""
  counts = {"train": 9, "validation": 20, "test": 5}
  made = made_studies.dataset(counts)
  return made.__class__(**{**vars(made), "read": read})


def read(item):
  """With a length in pixels that is known, and a volume to predict."""
  record, notes = made_studies.read(item)
  much = made_studies.number_of(item.facts["patient"])
  record["la_ml"] = 40.0 + 60.0 * much
  if record["kind"] == "cine":
    record["spacing_mm"] = np.full(2, SPACING_MM, np.float32)
  return record, notes


def write_study(folder, patient, **more):
  """The study of one of the patients; `more` goes into every header."""
  folder.mkdir(parents=True)
  whose = {
    "PatientID": f"secret{patient}", "StudyInstanceUID": generate_uid(),
    "PatientSex": None, "PatientAge": None, "PatientName": "SECRET^NAME",
    "AcquisitionDateTime": "21500102083000",
  } | more  # fmt: skip
  for number, part in enumerate(made_studies.parts_of(patient)):
    picture = np.stack(
      [decode_frame(f, "raw", part["frames_shape"])[..., 0]
       for f in part["frames"]]
    )  # fmt: skip
    rows, columns = picture.shape[1:]
    if part["kind"] == "cine":
      path = folder / f"{number}-{part['view']}.dcm"
      write_cine(path, picture, **whose)
    else:
      box = {
        "RegionLocationMinX0": 0, "RegionLocationMinY0": 0,
        "RegionLocationMaxX1": columns - 1, "RegionLocationMaxY1": rows - 1,
      }  # fmt: skip
      known = not np.isnan(part["doppler_ms"])
      scale = {
        "RegionDataType": 4 if part["kind"] == "cw" else 3,
        "PhysicalDeltaX": part["doppler_ms"] / 1000 if known else None,
        "PhysicalDeltaY": -part["doppler_cm_s"],
        "ReferencePixelY0": round(part["doppler_zero_px"]),
      }  # fmt: skip
      path = folder / f"{number}-{part['doppler_location']}"
      write_dicom(path, picture, [spectral(**box, **scale)], **whose)
    if "ecg_mv" in part:
      write_samples(folder / "ecg", part["ecg_mv"], **whose)
  write_records(folder, patient)
  return folder


def write_cine(path, picture, **whose):
  """Lossless, with the scale that all of them have."""
  box = region(
    RegionLocationMaxX1=picture.shape[2] - 1,
    RegionLocationMaxY1=picture.shape[1] - 1,
    PhysicalDeltaX=SPACING_MM / 10, PhysicalDeltaY=SPACING_MM / 10,
  )  # fmt: skip
  return write_dicom(path, picture, [box], FrameTime="40", **whose)


def write_samples(path, mv, step_mv=STEP_MV, leads=None, units=None, **whose):
  """An ECG object; `leads` are places among the twelve."""
  made = twelve(mv, step_mv=step_mv, SamplingFrequency=200)
  if leads is not None:
    stored = np.round(mv[:, leads] / step_mv).astype("<i2")
    made.WaveformData = stored.tobytes()
    made.ChannelDefinitionSequence = [
      made.ChannelDefinitionSequence[i] for i in leads
    ]
    made.NumberOfWaveformChannels = len(leads)
  for channel in made.ChannelDefinitionSequence:
    channel.ChannelSensitivity = repr(step_mv * 1000)
    if units == "none":
      del channel.ChannelSensitivityUnitsSequence
  return write_ecg(path, [made], **whose)


def write_records(folder, patient, **changed):
  """What is known of a patient; "" leaves a value out."""
  names = [column.name for column in (*CLINICAL, *GENETIC)]
  known = made_studies.labels_of(patient) | changed
  values = {n: known[n] for n in names if not is_missing(known.get(n))}
  lines = [",".join(values), ",".join(map(str, values.values()))]
  (folder / "records.csv").write_text("\n".join(lines) + "\n")
