"""What other modules of MIMIC-IV say of a patient: ECG records, sex and age."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data_builders.mimic_iv_echo.tables import (
  find_root,
  hours_between,
  read_table,
  read_time,
  table_path,
)  # fmt: skip

ECG_LIST = "record_list.csv"
ECG_COLUMNS = ("subject_id", "study_id", "ecg_time", "path")
ECG_PATH = re.compile(r"files/p\d+/p(\d+)/s(\d+)/(\d+)")
OLDEST, OVER_OLDEST = 89, 91  # years; the owner writes 91 for all above
PATIENT_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year")

# (time, path under the ECG folder), in order of time.
Recorded = list[tuple[datetime, str]]


def read_ecg_list(
  source: Path, subjects: set[str]
) -> tuple[Path, dict[str, Recorded], int]:
  """The ECG folder, the records of these subjects, and how many rows are bad.

  Raises:
    FileNotFoundError: no record_list.csv.
    ValueError: a column is missing.
  """
  root = find_root(Path(source), ECG_LIST)
  records: dict[str, Recorded] = {}
  bad = 0
  for piece in read_table(table_path(root, ECG_LIST), ECG_COLUMNS):
    of_ours = piece[piece["subject_id"].isin(subjects)]
    for row in of_ours.itertuples(index=False):
      time, match = read_time(row.ecg_time), ECG_PATH.fullmatch(row.path)
      ours = (row.subject_id, row.study_id, row.study_id)
      if time is None or not match or match.groups() != ours:
        bad += 1
        continue
      records.setdefault(row.subject_id, []).append((time, row.path))
  return root, {s: sorted(set(of)) for s, of in records.items()}, bad


def nearest_ecg(
  records: Recorded, time: datetime, window_h: float
) -> tuple[str, float] | None:
  """Path of the ECG nearest to a video and hours from the video to it.

  Of two that are equally far the earlier one; None outside the window.
  """
  place = bisect_left(records, (time, ""))
  near = [
    (hours_between(time, at), path)
    for at, path in records[max(place - 1, 0) : place + 1]
  ]
  after_h, path = min(near, key=lambda one: abs(one[0]), default=(0.0, ""))
  return (path, after_h) if path and abs(after_h) <= window_h else None


@dataclass(frozen=True)
class Person:
  """Sex, and age in the patient's anchor year (both shifted alike)."""

  sex: str
  anchor_age: int
  anchor_year: int

  def at(self, time: datetime | None) -> dict[str, str | float]:
    """Sex and age in years at a time; 91 stands for all above 89.

    Years before an anchor age of 91 the age is not known.
    """
    if time is None:
      return {"sex": self.sex}
    age = self.anchor_age + time.year - self.anchor_year
    if self.anchor_age > OLDEST:  # a code for anything above, not an age
      age = OVER_OLDEST if time.year >= self.anchor_year else -1
    if not 0 <= age <= 120:
      return {"sex": self.sex}
    age = age if age <= OLDEST else OVER_OLDEST
    return {"sex": self.sex, "age_years": float(age)}


def read_patients(path: Path, subjects: set[str]) -> Mapping[str, Person]:
  """These subjects in MIMIC-IV's hosp/patients.csv (or .gz).

  Raises:
    OSError: no such file.
    ValueError: a column is missing, or an age or year is not a number.
  """
  people: dict[str, Person] = {}
  for piece in read_table(path, PATIENT_COLUMNS):
    for row in piece[piece["subject_id"].isin(subjects)].itertuples():
      if not (row.anchor_age.isdigit() and row.anchor_year.isdigit()):
        raise ValueError(
          f"{path.name}: anchor_age {row.anchor_age!r} or anchor_year "
          f"{row.anchor_year!r} is not a whole number"
        )
      sex = row.gender if row.gender in ("F", "M") else ""
      people[row.subject_id] = Person(
        sex, int(row.anchor_age), int(row.anchor_year)
      )
  return people
