"""The video record: what every builder yields and every reader may rely on.

A value that is not known is NaN (float), -1 (int) or "" (text); it is never
guessed.  `frames` holds one encoded frame an element (see `frames.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from echo_jax.data.clinical import CLINICAL, GENETIC, Column

VIEWS = ("A4C", "A2C", "A3C", "A5C", "PLAX", "PSAX", "SC", "OTHER", "")
KINDS = ("cine", "still", "colour", "pw", "cw", "tdi", "mmode", "mr")
SPLITS = ("pretrain", "train", "validation", "test")
CODECS = ("raw", "jpeg", "png")
EF_METHODS = (
  "simulated", "biplane", "single_plane", "area_length", "short_axis_stack",
  "reported", "",
)  # fmt: skip
AS_TMED5 = (
  "no_AS", "mild_AS", "mildtomod_AS", "moderate_AS", "severe_AS", ""
)  # fmt: skip
AS_TMED3 = ("none", "early", "significant", "")
VALVE_GRADES = ("none", "mild", "moderate", "severe", "")
DISEASES = (
  "none", "dilated", "hypertrophic", "infiltrative", "ischaemic", "valvular",
  "",
)  # fmt: skip
RHYTHMS = (
  "sinus", "atrial_fibrillation", "ventricular_ectopy",
  "left_bundle_branch_block", "",
)  # fmt: skip
SEGMENT_FUNCTIONS = ("normal", "hypokinetic", "akinetic", "dyskinetic", "")
DOPPLER_LOCATIONS = (
  "aortic_cw", "outflow_pw", "mitral_pw", "annulus_tdi", ""
)  # fmt: skip

Record = dict[str, Any]


@dataclass(frozen=True)
class Field:
  """One key of the record: its type, shape, plain meaning and valid range."""

  type: str  # text, int, float, array, image or images
  meaning: str
  shape: tuple[int | None, ...] = ()
  dtype: type = np.float32
  low: float = -np.inf
  high: float = np.inf
  choices: tuple[str, ...] = ()


def _text(meaning: str, choices: tuple[str, ...] = ()) -> Field:
  return Field("text", meaning, choices=choices)


def _int(meaning: str, high: float = np.inf) -> Field:
  return Field("int", meaning, dtype=np.int32, low=-1.0, high=high)


def _float(meaning: str, low: float, high: float) -> Field:
  return Field("float", meaning, low=low, high=high)


def _array(meaning: str, *shape: int | None, dtype: type = np.float32) -> Field:
  return Field("array", meaning, shape=shape, dtype=dtype)


def _column(column: Column) -> Field:
  """A column of the table of clinical and genetic records."""
  if column.kind == "category":
    return _text(column.meaning, (*column.categories, ""))
  return _float(column.meaning, float(column.low), float(column.high))


FIELDS: dict[str, Field] = {
  "video_id": _text("<source>:<owner's id of the recording>"),
  "study_id": _text("<source>:<owner's id of the occasion>"),
  "patient_id": _text("<source>:<owner's id of the person>"),
  "patient_known": _int(
    "1 if the owner names the person, 0 if a rule does", high=1.0
  ),
  "site": _text("hospital or centre"),
  "device": _text("manufacturer and model, or simulated preset"),
  "view": _text("echocardiographic view", VIEWS),
  "kind": _text("kind of recording", KINDS),
  "split": _text("part of the data set", SPLITS),
  "frames": Field("images", "one encoded frame an element"),
  "frames_codec": _text("coding of frames", CODECS),
  "frames_shape": _array("rows, columns, channels", 3, dtype=np.int32),
  "colour": _text("photometric interpretation of passed-through JPEG"),
  "frame_time_ms": _array("time from the first frame, NaN if unknown", None),
  "spacing_mm": _array("row and column spacing of the stored frames", 2),
  "sector": Field("image", "1-bit PNG: inside the ultrasound sector"),
  "ed_frame": _int("end-diastolic frame"),
  "es_frame": _int("end-systolic frame"),
  "r_wave_ms": _array("R waves from the first frame, rising", None),
  "tracing_frame": _array("frames with a contour", None, dtype=np.int32),
  "tracing_count": _array("points of each contour", None, dtype=np.int32),
  "tracing_px": _array("contour points, x and y, flat", None, 2),
  "caliper_name": _text("what each caliper measures, joined by commas"),
  "caliper_frame": _array("frames with a caliper", None, dtype=np.int32),
  "caliper_px": _array("caliper ends x1 y1 x2 y2", None, 4),
  "volume_ml": _array("left-ventricular volume a frame", None),
  "lv_mask": Field("images", "1-bit PNG a frame: left-ventricular cavity"),
  "myo_mask": Field("images", "1-bit PNG a frame: left-ventricular wall"),
  "la_mask": Field("images", "1-bit PNG a frame: left atrium"),
  "rv_mask": Field("images", "1-bit PNG a frame: right-ventricular cavity"),
  "quality": _text("image quality grade"),
  "sex": _text("F, M or empty", ("F", "M", "")),
  "age_years": _float("age at the study", 0.0, 120.0),
  "height_cm": _float("body height", 20.0, 260.0),
  "weight_kg": _float("body weight", 0.3, 400.0),
  "heart_rate_bpm": _float("heart rate", 10.0, 300.0),
  "ef_pct": _float("left-ventricular ejection fraction", 0.0, 100.0),
  "edv_ml": _float("left-ventricular end-diastolic volume", 1.0, 1000.0),
  "esv_ml": _float("left-ventricular end-systolic volume", 0.0, 1000.0),
  "ef_method": _text("how EF and volumes were measured", EF_METHODS),
  "ivsd_mm": _float("septal thickness at end-diastole", 1.0, 60.0),
  "lvidd_mm": _float("LV internal diameter at end-diastole", 5.0, 150.0),
  "lvpwd_mm": _float("posterior wall thickness at end-diastole", 1.0, 60.0),
  "ivss_mm": _float("septal thickness at end-systole", 1.0, 60.0),
  "lvids_mm": _float("LV internal diameter at end-systole", 2.0, 150.0),
  "lvpws_mm": _float("posterior wall thickness at end-systole", 1.0, 60.0),
  "ef_beat_pct": _array("EF of every complete beat", None),
  "la_ml": _float("largest volume of the left atrium", 1.0, 1000.0),
  "lv_mass_g": _float("mass of the LV muscle", 5.0, 1500.0),
  "rv_basal_mm": _float("RV width at its base, end-diastole", 5.0, 150.0),
  **{
    f"segment_{number:02d}": _text(
      f"function of AHA segment {number}", SEGMENT_FUNCTIONS
    )
    for number in range(1, 18)
  },
  "as_grade": _text("aortic stenosis by valve area", VALVE_GRADES),
  "as_vmax_cm_s": _float("peak velocity over the aortic valve", 1.0, 1000.0),
  "as_mean_mmhg": _float("mean gradient of the aortic valve", 0.0, 300.0),
  "as_area_cm2": _float("effective area of the aortic valve", 0.1, 10.0),
  "as_discordant": _int(
    "1 if area and jet disagree on severe aortic stenosis", high=1.0
  ),
  "stroke_index_ml_m2": _float("forward stroke volume over BSA", 1.0, 150.0),
  "mr_grade": _text("mitral regurgitation", VALVE_GRADES),
  "mr_ml": _float("mitral regurgitant volume of a beat", 0.0, 300.0),
  "rhythm": _text("heart rhythm during the study", RHYTHMS),
  "disease": _text("main heart disease", DISEASES),
  "study_day": _float("days since the patient's first study", -1e5, 1e5),
  "arrhythmic_event_2y": _int(
    "1 if a ventricular arrhythmia came within two years", high=1.0
  ),
  "as_tmed5": _text("aortic stenosis, the five grades of TMED-2", AS_TMED5),
  "as_tmed3": _text("aortic stenosis, the three of TMED-2", AS_TMED3),
  "ecg_mv": _array("ECG, samples x leads", None, None),
  "ecg_hz": _float("sampling rate of the ECG", 1.0, 10_000.0),
  "ecg_leads": _text("names of the ECG leads, joined by commas"),
  "ecg_after_video_h": _float(
    "hours from the video to an ECG that was taken apart", -1e6, 1e6
  ),
  "doppler_location": _text("where a spectrum was taken", DOPPLER_LOCATIONS),
  "doppler_box_px": _array(
    "spectrum in the picture: x0 y0 x1 y1, both ends inside", 4, dtype=np.int32
  ),
  "doppler_zero_px": _float("row of zero velocity", -1e5, 1e5),
  "doppler_cm_s": _float("velocity of one pixel row, up is positive", 0.0, 1e3),
  "doppler_ms": _float("time of one pixel column", 0.0, 1e3),
}
# Records and genes, but for what a video record has anyway (age, size).
FIELDS |= {
  column.name: _column(column)
  for column in (*CLINICAL, *GENETIC)
  if column.name not in FIELDS
}

SCALARS = tuple(
  name
  for name, field in FIELDS.items()
  if field.type in ("text", "int", "float")
)
_UNKNOWN = {"text": "", "int": -1, "float": float("nan"), "image": b""}
_REQUIRED = ("video_id", "study_id", "patient_id", "kind", "split")


def unknown(name: str) -> Any:
  """The value that means "not known" for a key."""
  field = FIELDS[name]
  if field.type == "images":
    return []
  if field.type != "array":
    return _UNKNOWN[field.type]
  if None in field.shape:
    return np.zeros([n or 0 for n in field.shape], field.dtype)
  missing = -1 if np.issubdtype(field.dtype, np.integer) else np.nan
  return np.full(field.shape, missing, field.dtype)


def make_record(**known: Any) -> Record:
  """A whole record from what is known; the rest is marked unknown.

  Raises:
    ValueError: a key that the schema does not have, or a bad value.
  """
  strange = set(known) - set(FIELDS)
  if strange:
    raise ValueError(f"not in the video record: {sorted(strange)}")
  record = {name: known.get(name, unknown(name)) for name in FIELDS}
  for name, field in FIELDS.items():
    if field.type == "array":
      record[name] = np.asarray(record[name], field.dtype)
  check_record(record)
  return record


def frame_shape(record: Mapping[str, Any]) -> tuple[int, int, int]:
  """Rows, columns and channels of a record's frames."""
  rows, columns, channels = (int(n) for n in record["frames_shape"])
  return rows, columns, channels


def check_record(record: Mapping[str, Any]) -> None:
  """Refuses a record that later code could misread.

  Raises:
    ValueError: names the key, the value, its unit and what is allowed.
  """
  for name in _REQUIRED:
    if not record[name]:
      raise ValueError(f"{name} is empty; every record must have one")
  for name, field in FIELDS.items():
    _check_value(name, field, record[name])
  _check_frames(record)


def _check_value(name: str, field: Field, value: Any) -> None:
  if field.type == "text" and not _is_utf8(value):
    raise ValueError(
      f"{name} cannot be stored as UTF-8; if it comes from the name of a "
      "file, give the file another name"
    )
  if field.choices and value not in field.choices:
    raise ValueError(f"{name} is {value!r}; allowed: {field.choices}")
  if field.type in ("int", "float"):
    unknown_float = field.type == "float" and np.isnan(value)
    if not (unknown_float or field.low <= value <= field.high):
      raise ValueError(
        f"{name} ({field.meaning}) is {value:g}; "
        f"allowed: {field.low:g} to {field.high:g}"
      )
  if field.type == "array":
    fits = len(value.shape) == len(field.shape) and all(
      want in (None, got)
      for want, got in zip(field.shape, value.shape, strict=True)
    )
    if not fits:
      raise ValueError(f"{name} has shape {value.shape}, wants {field.shape}")


def _is_utf8(text: str) -> bool:
  """False for the name of a file whose bytes are not UTF-8."""
  try:
    text.encode("utf-8")
  except UnicodeEncodeError:
    return False
  return True


def _check_frames(record: Mapping[str, Any]) -> None:
  frames, times = len(record["frames"]), record["frame_time_ms"]
  if not frames:
    raise ValueError("frames is empty; a record holds at least one frame")
  if len(times) != frames:
    raise ValueError(f"{frames} frames but {len(times)} frame times")
  if not np.isnan(times).all():
    rising = np.isfinite(times).all() and (np.diff(times) > 0).all()
    if times[0] != 0 or not rising:
      raise ValueError(
        "frame_time_ms must start at 0 and rise; "
        f"it starts {times[:3]} and its smallest step is "
        f"{np.diff(times).min() if frames > 1 else 0:g} ms"
      )
  waves = record["r_wave_ms"]
  if not (np.isfinite(waves).all() and (np.diff(waves) > 0).all()):
    raise ValueError(
      f"r_wave_ms is {waves.tolist()}; R waves must be finite and rise, each "
      "listed once"
    )
  for name in ("volume_ml", "lv_mask", "myo_mask", "la_mask", "rv_mask"):
    if len(record[name]) not in (0, frames):
      raise ValueError(f"{name} has {len(record[name])} values for {frames}")
  for name in ("ed_frame", "es_frame"):
    if record[name] >= frames:
      raise ValueError(f"{name} is {record[name]} but frames end at {frames-1}")
  spacing = record["spacing_mm"]
  known = np.isfinite(spacing).all() and (spacing > 0).all()
  if not (np.isnan(spacing).all() or known):
    raise ValueError(f"spacing_mm is {spacing}; both must be above 0 mm")
  if min(frame_shape(record)) < 1 or frame_shape(record)[2] not in (1, 3):
    raise ValueError(
      f"frames_shape is {frame_shape(record)}; it must be rows, columns and "
      "1 (grey) or 3 (RGB) channels"
    )
  _check_tracings(record, frames)
  _check_calipers(record, frames)
  _check_ecg(record)


def _check_tracings(record: Mapping[str, Any], frames: int) -> None:
  where, counts = record["tracing_frame"], record["tracing_count"]
  points = len(record["tracing_px"])
  if len(where) != len(counts) or counts.sum() != points:
    raise ValueError(
      f"tracing_count is {counts.tolist()} for {len(where)} tracing_frame "
      f"and {points} points of tracing_px"
    )
  if len(where) and not (0 <= where.min() and where.max() < frames):
    raise ValueError(
      f"tracing_frame is {where.tolist()} but frames end at {frames - 1}"
    )


def names_in(text: str) -> list[str]:
  """Names that a text field joins by commas; none if it is empty."""
  return text.split(",") if text else []


def _check_calipers(record: Mapping[str, Any], frames: int) -> None:
  names, where = names_in(record["caliper_name"]), record["caliper_frame"]
  if not len(names) == len(where) == len(record["caliper_px"]):
    raise ValueError(
      f"caliper_name has {len(names)} names for {len(where)} caliper_frame "
      f"and {len(record['caliper_px'])} caliper_px"
    )
  if len(where) and not (0 <= where.min() and where.max() < frames):
    raise ValueError(
      f"caliper_frame is {where.tolist()} but frames end at {frames - 1}"
    )


def _check_ecg(record: Mapping[str, Any]) -> None:
  samples, leads = record["ecg_mv"].shape
  names = names_in(record["ecg_leads"])
  if leads != len(names):
    raise ValueError(f"ecg_mv has {leads} leads, ecg_leads names {len(names)}")
  if samples and np.isnan(record["ecg_hz"]):
    raise ValueError(f"ecg_mv has {samples} samples but ecg_hz is unknown")
