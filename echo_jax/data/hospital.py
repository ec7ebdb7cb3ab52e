"""A virtual hospital's folder: whole studies as DICOM, with records and truth.

    OUT/
      settings.json   what it was made from; another setting is refused
      truth.csv       true labels, a row a study; no hospital has this file
      studies/<patient>/<study>/
        cine-a4c-0.dcm ... doppler-aortic_cw.dcm ... ecg.dcm
        records.csv   what the hospital knows of the patient; empty: unknown

A study appears in one move when all of it is on the disk, so that a run which
was killed goes on where it was.
"""

import concurrent.futures
import contextlib
import csv
import dataclasses
import errno
import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from tqdm import tqdm

from echo_jax import simulate
from echo_jax.data.clinical import CLINICAL, GENETIC
from echo_jax.data.plan import BuildFailed
from echo_jax.data.shards import sync, write_text
from echo_jax.data.unfinished import lock
from echo_jax.simulate.dicom import cine_object, doppler_object, ecg_object
from echo_jax.simulate.doppler import LOCATIONS
from echo_jax.simulate.visit import Visit, plan_visit

VERSION = "1.0.1"
SETTINGS, TRUTH, RECORDS = "settings.json", "truth.csv", "records.csv"
STUDIES, UNFINISHED = "studies", ".unfinished"
WITH_ECG = "cine-a4c-0"
KINDS = {"cines": "cine", "Doppler stills": "doppler", "ECGs": "ecg"}
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_SWITCHES = simulate.Switches()
LIMITS = (
  ("patients", 1, 100_000), ("studies", 1, 100), ("seed", 0, 2**63),
  ("size", 32, 2048), ("duration_s", 0.1, 60), ("clips", 1, 100),
)  # fmt: skip
COLUMNS = tuple(column.name for column in (*CLINICAL, *GENETIC))


@dataclass(frozen=True)
class Hospital:
  """What a folder is made from.

  Attributes:
    cohort, seed, patients: who comes.
    studies: the most that a patient may have; the first are kept.
    size: rows and columns of a cine within its page.
    duration_s: of a cine.
    views, clips: cines of a study.
    switches: faults of the cohort "referral"; labels have none.
  """

  cohort: str = "independent"
  seed: int = 0
  patients: int = 200
  studies: int = 3
  size: int = 336
  duration_s: float | int = 2.0
  views: tuple[str, ...] = simulate.VIEWS
  clips: int = 1
  switches: simulate.Switches = NO_SWITCHES

  def __post_init__(self):
    """Raises ValueError for numbers of which no folder can be made."""
    for name, low, high in LIMITS:
      value = getattr(self, name)
      if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}, wants {low:g} to {high:g}")

  def settings(self) -> dict[str, Any]:
    """As JSON has them."""
    known = dataclasses.asdict(self) | {"version": VERSION}
    return json.loads(json.dumps(known))

  def all_studies(self) -> Iterator[simulate.Study]:
    """Every study of every patient."""
    for person in range(self.patients):
      count = simulate.count_studies(self.seed, person, self.cohort)
      for number in range(min(count, self.studies)):
        yield simulate.draw_study(
          self.seed, person, number, self.cohort, self.switches
        )


@dataclass(frozen=True)
class Task:
  """One recording: its name, and the view and clip or place that it shows."""

  name: str
  view: str = ""
  clip: int = 0
  location: str = ""


def list_recordings(
  hospital: Hospital, study: simulate.Study
) -> tuple[Task, ...]:
  """What is recorded at a study, in order."""
  clips = simulate.study_clips(study, hospital.views, hospital.clips)
  spectra, has_ecg = tuple(LOCATIONS), True
  if study.condition is not None:
    spectra, has_ecg = study.condition.spectra, study.condition.has_ecg
  return (
    *(Task(f"cine-{view.lower()}-{n}", view, n) for view, n in clips),
    *(Task(f"doppler-{place}", location=place) for place in spectra),
    *([Task("ecg")] * has_ecg),
  )


@dataclass(frozen=True)
class Written:
  """Counts of a run; they add up."""

  out: Path
  patients: int
  new: int
  kept: int
  kinds: Mapping[str, int]

  def __str__(self) -> str:
    files = " + ".join(f"{n} {kind}" for kind, n in self.kinds.items())
    return (
      f"{self.out}: {self.patients} patients, {self.new + self.kept} studies = "
      f"{self.new} written + {self.kept} there before; "
      f"{sum(self.kinds.values())} DICOM files = {files}"
    )


def place_of(study: simulate.Study) -> str:
  """Folder of a study below the output."""
  visit = plan_visit(study)
  return f"{STUDIES}/{visit.patient_id}/study-{visit.number}"


def write_hospital(
  hospital: Hospital, out: Path, *, workers: int = 1, progress: bool = True
) -> Written:
  """Writes what is not there yet.

  Args:
    hospital: what to write; nothing else may be in the folder.
    out: the folder.
    workers: processes; the bytes do not depend on them.
    progress: show a bar.

  Raises:
    BuildFailed: the folder holds something else or a study from which files
      were taken, another run is at work in it, or the disk is full.
  """
  out = Path(out)
  # Drawn before anything is written: a view that there is not is refused.
  planned = [
    (study, [task.name for task in list_recordings(hospital, study)])
    for study in hospital.all_studies()
  ]
  _check_settings(hospital, out)
  with contextlib.closing(lock(out / UNFINISHED)):
    try:
      with _full_disk_named(out, len(planned)):
        write_text(out / SETTINGS, json.dumps(hospital.settings(), indent=2))
        new = _write_studies(hospital, out, planned, workers, progress)
        truth = [truth_of(study, hospital.duration_s) for study, _ in planned]
        _write_table(out / TRUTH, truth)
    finally:
      shutil.rmtree(out / UNFINISHED)
  kinds = {
    kind: sum(name.startswith(start) for _, names in planned for name in names)
    for kind, start in KINDS.items()
  }
  return Written(out, hospital.patients, new, len(planned) - new, kinds)


def _write_studies(hospital, out, planned, workers, progress) -> int:
  """Makes the studies that are not there; returns how many."""
  to_do = []
  for study, names in planned:
    folder = out / place_of(study)
    if folder.exists():
      _check_whole(folder, names)
    else:
      to_do.append(study)
  # Of this process alone: a worker of a killed run may still write.
  work = out / UNFINISHED / str(os.getpid())
  for old in filter(Path.is_dir, work.parent.iterdir()):
    shutil.rmtree(old)
  bar = tqdm(
    total=len(planned), initial=len(planned) - len(to_do), desc="simulate",
    unit="study", disable=not progress,
  )  # fmt: skip
  with bar, contextlib.closing(_made(hospital, to_do, work, workers)) as made:
    for study, folder in made:
      final = out / place_of(study)
      final.parent.mkdir(parents=True, exist_ok=True)
      folder.rename(final)
      sync(final.parent)
      bar.update()
  return len(to_do)


def _made(
  hospital: Hospital, studies: Sequence[simulate.Study], work: Path,
  workers: int,
) -> Iterator[tuple[simulate.Study, Path]]:  # fmt: skip
  """Studies and the folders that hold them, in order."""
  make = partial(make_study, hospital, work)
  if workers == 1 or len(studies) < 2:
    yield from ((study, make(study)) for study in studies)
    return
  spawn = multiprocessing.get_context("spawn")
  workers = min(workers, len(studies))
  with concurrent.futures.ProcessPoolExecutor(workers, spawn) as pool:
    try:
      yield from zip(studies, pool.map(make, studies), strict=True)
    finally:
      pool.shutdown(cancel_futures=True)


def make_study(hospital: Hospital, work: Path, study: simulate.Study) -> Path:
  """Simulates one study; returns its folder below `work`."""
  visit = plan_visit(study)
  folder = work / visit.patient_id / f"study-{visit.number}"
  folder.mkdir(parents=True)
  for number, task in enumerate(list_recordings(hospital, study), start=1):
    path = folder / f"{task.name}.dcm"
    made = _record(hospital, study, visit, number, task)
    made.save_as(path, enforce_file_format=True)
    sync(path)
  _write_table(folder / RECORDS, [records_of(study)])
  sync(folder)
  return folder


def _record(
  hospital: Hospital, study: simulate.Study, visit: Visit, number: int,
  task: Task,
) -> Dataset:  # fmt: skip
  """One recording as DICOM."""
  if task.view:
    video = simulate.simulate_video(
      study, size=hospital.size, duration_s=hospital.duration_s,
      view=task.view, clip=task.clip,
    )  # fmt: skip
    return cine_object(video, visit, task.name, number)
  if task.location:
    spectrum = simulate.simulate_study_doppler(study, task.location)
    return doppler_object(spectrum, visit, task.name, number)
  ecg = simulate.simulate_study_ecg(study, video_s=hospital.duration_s)
  names = [one.name for one in list_recordings(hospital, study)]
  # It has the beats, so the time, of the first four-chamber cine.
  beside = names.index(WITH_ECG) + 1 if WITH_ECG in names else number
  return ecg_object(ecg, visit, task.name, beside)


def records_of(study: simulate.Study) -> dict[str, Any]:
  """What the hospital has on file; None is unknown."""
  visit = plan_visit(study)
  if study.condition is not None:
    known = study.condition.record | study.condition.genes
  else:
    known = {name: getattr(visit, name, None) for name in COLUMNS}
  row = {"patient_id": visit.patient_id}
  return row | {name: known[name] for name in COLUMNS}


def truth_of(study: simulate.Study, video_s: float | int) -> dict[str, Any]:
  """What is true of a study, by the names of the video record.

  Of a cohort without diseases, disease and outcome are unknown.
  """
  visit, condition = plan_visit(study), study.condition
  row = {
    "folder": place_of(study), "patient_id": visit.patient_id,
    "study_instance_uid": visit.uid("study"), "sex": visit.sex,
    "age_years": visit.age_years, "site": study.patient.site,
    "device": study.device.name, "acoustic_quality": study.quality,
    "heart_rate_bpm": visit.heart_rate_bpm,
    "disease": condition and condition.disease,
    "study_day": condition and condition.day,
    "arrhythmic_event_2y": condition and int(condition.event_2y),
  }  # fmt: skip
  return row | simulate.study_truth(study, video_s).labels()


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """A CSV file in one move."""
  part = path.with_name(f".{path.name}.part")
  with part.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
  sync(part)
  part.replace(path)


def _cell(value: Any) -> str:
  """Six digits of a number; an empty cell for what is unknown."""
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return ""
  return f"{value:.6g}" if isinstance(value, float) else str(value)


def _check_settings(hospital: Hospital, out: Path) -> None:
  """Refuses a folder of another setting, or of something else."""
  stated = out / SETTINGS
  if not stated.exists():
    if out.exists() and set(os.listdir(out)) - {UNFINISHED}:
      raise BuildFailed(
        f"{out} holds other files and no {SETTINGS}; name a new folder"
      )
    return
  before = json.loads(stated.read_text(encoding="utf-8"))
  changed = [
    f"{name} {before.get(name)!r}, not {value!r}"
    for name, value in hospital.settings().items()
    if before.get(name) != value
  ]
  if changed:
    raise BuildFailed(
      f"{out} was made with {'; '.join(changed)}; name another folder"
    )


def _check_whole(folder: Path, names: Sequence[str]) -> None:
  """Refuses a study from which files were taken or to which some came."""
  wanted = {RECORDS, *(f"{name}.dcm" for name in names)}
  wrong = sorted(wanted ^ set(os.listdir(folder)))
  if wrong:
    raise BuildFailed(
      f"{folder} is not as it was written: {', '.join(wrong)}; remove that "
      "folder to have it made again"
    )


@contextlib.contextmanager
def _full_disk_named(out: Path, studies: int) -> Iterator[None]:
  """Says what a full disk means for the folder."""
  try:
    yield
  except OSError as error:
    if error.errno not in FULL:
      raise
    whole = list((out / STUDIES).glob("*/*"))
    size = sum(file.stat().st_size for one in whole for file in one.iterdir())
    raise BuildFailed(
      f"no space left for {out}; {len(whole)} of {studies} studies "
      f"({size / 2**20:,.0f} MiB) are whole and kept: make room and run the "
      "same command to go on"
    ) from error
