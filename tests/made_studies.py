"""A small made data set of whole studies, in which every kind of part lacks.

The size of the blot in the cines, the peak of the jet and the ECG's amplitude
follow one number of the patient, which the labels come from.
"""

import numpy as np
from made_signals import made_ecg, made_spectrum

from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.frames import encode_frame, encode_frames

COUNTS = {"train": 9, "validation": 6, "test": 5}
GRADES = ("none", "mild", "moderate", "severe")
LEADS = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
SIZE, FRAMES = 32, 24


def number_of(patient):
  """What is wrong with a patient, 0 to 1."""
  return (patient * 7 % 20) / 19


def labels_of(patient):
  """Labels and records of a patient; some unknown."""
  much = number_of(patient)
  grade = GRADES[patient % 4]
  return {
    "as_grade": "" if patient % 5 == 1 else grade,
    "ef_pct": float("nan") if patient % 5 == 2 else 70.0 - 40.0 * much,
    "age_years": 30.0 + 2 * patient,
    "sex": "FM"[patient % 2],
    "nt_probnp_pg_ml": float("nan") if patient % 3 == 0 else 10 ** (1 + much),
    "diabetes": ("yes", "no", "")[patient % 3],
    "polygenic_score_sd": float("nan") if patient % 4 == 1 else much - 0.5,
  }


def cine(patient, view):
  """A blot that beats; larger in some."""
  time = np.arange(FRAMES) * 40.0
  radius = 6 + 4 * number_of(patient) + 2 * np.sin(2 * np.pi * time / 800)
  y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
  frames = 40 + 160 * (np.hypot(x, y) < radius[:, None, None])
  frames += np.random.default_rng(patient).integers(0, 20, frames.shape)
  return {
    "kind": "cine", "view": view, "frame_time_ms": time,
    "frames": encode_frames(frames[..., None].astype(np.uint8), "raw"),
    "frames_codec": "raw", "frames_shape": (SIZE, SIZE, 1),
  }  # fmt: skip


def spectrum(patient, location, ms=4.0):
  """A jet whose peak follows the patient; without a scale if `ms` is NaN."""
  peak = {"aortic_cw": 500.0, "annulus_tdi": 20.0}.get(location, 120.0)
  cm_s = peak / 120.0
  picture, scale = made_spectrum(
    peak_cm_s=peak * (0.3 + 0.7 * number_of(patient)), cm_s=cm_s,
    shape=(200, 300),
  )  # fmt: skip
  return {
    "kind": location.rpartition("_")[2], "doppler_location": location,
    "frames": [encode_frame(picture[..., None], "raw")],
    "frames_codec": "raw", "frames_shape": (*picture.shape, 1),
    "frame_time_ms": [0.0], **scale.labels(), "doppler_ms": ms,
  }  # fmt: skip


def parts_of(patient):
  """The records of a patient's one study, without what they share."""
  views = ("A4C", "PLAX", "A4C")[: patient % 4]
  found = [cine(patient, view) for view in views]
  if patient % 6 != 5:
    found += [
      spectrum(patient, name)
      for name in ("aortic_cw", "mitral_pw", "annulus_tdi")[patient % 3 :]
    ]
  found.append(
    spectrum(patient, "outflow_pw", ms=float("nan" if patient % 2 else 4.0))
  )
  if patient % 5 != 3:
    mv = made_ecg(200.0, seconds=6.0) * (0.6 + number_of(patient))
    found[0] |= {"ecg_mv": mv, "ecg_hz": 200.0, "ecg_leads": LEADS}
  return found


def records_of(patient, split):
  """The records of a patient's one study."""
  person = f"made:p{patient}"
  return [
    schema.make_record(
      video_id=f"{person}-r{i}", study_id=f"{person}-s0", patient_id=person,
      patient_known=1, split=split, device="made", site="here",
      **labels_of(patient), **part,
    )
    for i, part in enumerate(parts_of(patient))
  ]  # fmt: skip


def dataset(counts=COUNTS, name="made_studies"):
  """Patients numbered through the splits; a study each."""
  splits = [split for split, n in counts.items() for _ in range(n)]
  items = tuple(
    Item(f"p{p}-r{i}", split, {"patient": p, "record": i})
    for p, split in enumerate(splits)
    for i in range(len(parts_of(p)))
  )
  return Dataset(
    name=name, version="1.0.0", description="made studies", settings={},
    items=items, read=read,
  )  # fmt: skip


def read(item):
  """One record, and nothing to note."""
  patient, number = item.facts["patient"], item.facts["record"]
  return records_of(patient, item.split)[number], ()
