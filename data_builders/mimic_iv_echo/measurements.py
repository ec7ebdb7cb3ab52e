"""Labels of a study from release 1.0's structured measurements.

The table has one row a value: measurement_id, measurement_datetime,
test_type (tte, tee, stress), measurement (the name), result (text) and unit.
echo-study-list.csv links a study to measurement_id.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from data_builders.mimic_iv_echo.tables import (
  hours_between,
  read_table,
  read_time,
)  # fmt: skip
from echo_jax.data import schema
from echo_jax.units import ef_pct, mm_from_cm

TABLE = "structured-measurement.csv"
COLUMNS = (
  "subject_id", "measurement_id", "measurement_datetime", "test_type",
  "measurement", "result", "unit",
)  # fmt: skip
EF, EF_UPPER = "lvef", "lvef_upper"
BIPLANE_EF, EF_3D = "biplane_lvef", "lvef_3d"
BIPLANE_VOLUMES = {"edv_ml": "biplane_lvedv", "esv_ml": "biplane_lvesv"}
VOLUMES_3D = {"edv_ml": "lvedv_3d", "esv_ml": "lvesv_3d"}
LENGTHS = {
  "ivsd_mm": "septal_thickness",
  "lvpwd_mm": "inf_lat_thickness",  # there is no other posterior wall
  "lvidd_mm": "lvedd",
  "lvids_mm": "lvesd",
  "height_cm": "height_cm",
}
WANTED = frozenset(
  (
    EF, EF_UPPER, BIPLANE_EF, EF_3D, *BIPLANE_VOLUMES.values(),
    *VOLUMES_3D.values(), *LENGTHS.values(),
  )
)  # fmt: skip
UNITS = {"pct": ("%",), "ml": ("ml", "cc"), "mm": ("cm", "mm"), "cm": ("cm",)}
WIDEST_EF_RANGE_PCT = 20.0
TRANSTHORACIC = "tte"
METHODS = ("reported", "biplane")
EF_DIFFERS_PCT = 1.0

# Name of a measurement -> its (result, unit), several where rows differ.
Values = Mapping[str, set[tuple[str, str]]]

_NUMBER = r"(\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}(?:\s*(?:-|\u2013|to)\s*{_NUMBER})?\s*(%?)")
_OPEN = re.compile(rf"(?:<|>|\u2264|\u2265)=?\s*{_NUMBER}\s*%?")


class Doubtful(ValueError):
  """A value that must stay unknown; the message is the note."""


@dataclass
class Measured:
  """What one measurement_id holds of the names that are wanted.

  Its rows should agree on subject, time and test; each set is of all of them.
  """

  subjects: set[str] = field(default_factory=set)
  times: set[datetime | None] = field(default_factory=set)
  tests: set[str] = field(default_factory=set)
  values: dict[str, set[tuple[str, str]]] = field(default_factory=dict)


def read_measurements(path: Path, linked: set[str]) -> dict[str, Measured]:
  """The wanted values of the linked measurements; the others are passed over.

  Raises:
    ValueError: a column is missing, or the file is damaged.
  """
  found: dict[str, Measured] = {}
  for piece in read_table(path, COLUMNS):
    rows = piece[piece["measurement_id"].isin(linked)]
    for row in rows[rows["measurement"].isin(WANTED)].itertuples(index=False):
      one = found.setdefault(row.measurement_id, Measured())
      one.subjects.add(row.subject_id)
      one.times.add(read_time(row.measurement_datetime))
      one.tests.add(row.test_type.lower())
      if row.result:
        pair = row.result, row.unit.lower()
        one.values.setdefault(row.measurement, set()).add(pair)
  return found


def labels_of(
  linked: Iterable[str], subject: str, time: datetime | None,
  measured: Mapping[str, Measured], *, method: str, window_h: float,
) -> tuple[dict[str, float | str], tuple[str, ...]]:  # fmt: skip
  """Labels of one study, and notes on what had to stay unknown.

  Args:
    linked: measurement_id that the study list names for the study.
    subject: whose study it is.
    time: of the study.
    measured: from `read_measurements`.
    method: "reported" takes lvef, the middle of lvef to lvef_upper, and only
      where there is none biplane_lvef or lvef_3d; "biplane" takes
      biplane_lvef, biplane_lvedv and biplane_lvesv alone.
    window_h: a measurement further from the study is not used.
  """
  notes: list[str] = []
  usable = []
  for one in (measured[name] for name in sorted(linked) if name in measured):
    fault = _unfit(one, subject, time, window_h)
    if fault:
      notes.append(f"measurement not used: {fault}")
    else:
      usable.append(one)
  if not usable:
    notes.append("no structured measurement: labels unknown")
    return {}, tuple(notes)
  values: dict[str, set[tuple[str, str]]] = {}
  for one in usable:
    for name, pairs in one.values.items():
      values.setdefault(name, set()).update(pairs)
  labels: dict[str, float | str] = {}
  try:
    labels |= _ef(values, method)
  except Doubtful as doubt:
    notes.append(f"ef_pct unknown: {doubt}")
  labels |= _volumes(values, labels, method, notes)
  labels |= _read(values, LENGTHS, notes)
  return labels, tuple(notes)


def _read(
  values: Values, names: Mapping[str, str], notes: list[str]
) -> dict[str, float | str]:
  """Labels by key, of those that are there and can be believed."""
  labels: dict[str, float | str] = {}
  for key, name in names.items():
    try:
      if name in values:
        low, high = _bounds(values, name, key.rpartition("_")[2])
        labels[key] = _within(key, name, (low + high) / 2)
    except Doubtful as doubt:
      notes.append(f"{key} unknown: {doubt}")
  return labels


def _volumes(
  values: Values, ef: Mapping[str, float | str], method: str, notes: list[str]
) -> dict[str, float | str]:
  """Volumes measured as EF was, since one ef_method names how all three were.

  lvef is a reader's estimate, and "reported" is as true of the volumes beside
  it; they must only be both biplane or both 3-D.  Without EF the method is
  that of the volumes.
  """
  source = _ef_source(values, method) if ef else ""
  allowed = (BIPLANE_VOLUMES, VOLUMES_3D)
  if method == "biplane" or source == BIPLANE_EF:
    allowed = (BIPLANE_VOLUMES,)
  elif source == EF_3D:
    allowed = (VOLUMES_3D,)
  known = [set(names.values()) & set(values) for names in allowed]
  if not any(known):
    others = {*BIPLANE_VOLUMES.values(), *VOLUMES_3D.values()} & set(values)
    if others and method != "biplane":
      notes.append(
        f"volumes unknown: EF is {source}, they are {', '.join(sorted(others))}"
      )
    return {}
  names = allowed[0] if known[0] else allowed[1]
  labels = _read(values, names, notes)
  if labels and not ef:
    biplane = names is BIPLANE_VOLUMES
    labels["ef_method"] = "biplane" if biplane else "reported"
  return _consistent(labels, ef, notes)


def _consistent(
  labels: dict[str, float | str], ef: Mapping[str, float | str],
  notes: list[str],
) -> dict[str, float | str]:  # fmt: skip
  """The volumes, unless they contradict each other; EF is held to them."""
  if not {"edv_ml", "esv_ml"} <= set(labels):
    return labels
  edv, esv = labels["edv_ml"], labels["esv_ml"]
  if esv > edv:
    notes.append(f"volumes unknown: ESV {esv:g} ml above EDV {edv:g} ml")
    return {}
  computed = float(ef_pct(edv, esv))
  if ef and abs(computed - ef["ef_pct"]) > EF_DIFFERS_PCT:
    notes.append(
      f"EF {ef['ef_pct']:.1f} % but its volumes give {computed:.1f} %"
    )
  return labels


def _unfit(
  one: Measured, subject: str, time: datetime | None, window_h: float
) -> str:
  """Why a measurement does not belong to a study; "" if it does."""
  if len(one.subjects) > 1 or len(one.times) > 1:
    return (
      f"its rows are of {len(one.subjects)} subjects and {len(one.times)} times"
    )
  if one.subjects != {subject}:
    return "it is of another subject than the study"
  if one.tests != {TRANSTHORACIC}:
    return f"test_type is {sorted(one.tests)}, wants {TRANSTHORACIC}"
  (measured,) = one.times
  if measured is None or time is None:
    return "its time or the study's cannot be read"
  apart_h = abs(hours_between(time, measured))
  if apart_h > window_h:
    return f"it is {apart_h:.0f} h from the study, wants at most {window_h:g}"
  return ""


def _ef_source(values: Values, method: str) -> str:
  """The name of the EF that counts, "" if there is none."""
  if method == "biplane":
    order = (BIPLANE_EF,)
  else:
    order = (EF, BIPLANE_EF, EF_3D)
  return next((name for name in order if name in values), "")


def _ef(values: Values, method: str) -> dict[str, float | str]:
  """Ejection fraction with its method; empty if it was not measured."""
  name = _ef_source(values, method)
  if not name:
    return {}
  low, high = _bounds(values, name, "pct")
  if name == EF and EF_UPPER in values:
    _, upper = _bounds(values, EF_UPPER, "pct")
    if low < high != upper:
      raise Doubtful(f"lvef ends at {high:g} %, lvef_upper is {upper:g} %")
    high = upper
  if not 0 <= high - low <= WIDEST_EF_RANGE_PCT:
    raise Doubtful(
      f"its range is {low:g} to {high:g} %; believable is one of 0 to "
      f"{WIDEST_EF_RANGE_PCT:g} points"
    )
  ef = _within("ef_pct", name, (low + high) / 2)
  return {
    "ef_pct": ef, "ef_method": "biplane" if name == BIPLANE_EF else "reported"
  }  # fmt: skip


def _bounds(
  values: Values, name: str, unit: str
) -> tuple[float, float]:
  """Lower and upper end of a value in `unit`; equal for a single number.

  Raises:
    Doubtful: several that differ, no number, an open range, a strange unit.
  """
  ranges = {_range(name, *pair, unit) for pair in values[name]}
  if len(ranges) > 1:
    shown = " and ".join(f"{low:g}" for low, _ in sorted(ranges))
    raise Doubtful(f"{name} is {shown} {unit} in one study")
  return ranges.pop()


def _range(name: str, text: str, given: str, unit: str) -> tuple[float, float]:
  match = _RANGE.fullmatch(text)
  if _OPEN.fullmatch(text):
    raise Doubtful(f"{name} is an open range ({text})")
  if not match:
    raise Doubtful(f"the result of {name} is not a number or range")
  given = given or match[3]  # the sign may stand in the result
  if given not in UNITS[unit]:
    raise Doubtful(
      f"{name} has unit {given!r}, wants {' or '.join(UNITS[unit])}"
    )
  low = float(match[1])
  high = float(match[2]) if match[2] else low
  if unit == "mm" and given == "cm":
    return float(mm_from_cm(low)), float(mm_from_cm(high))
  return low, high


def _within(key: str, name: str, value: float) -> float:
  limits = schema.FIELDS[key]
  if not limits.low <= value <= limits.high:
    unit = key.rpartition("_")[2]
    raise Doubtful(
      f"{name} is {value:g} {unit}, wants {limits.low:g} to {limits.high:g}"
    )
  return value
