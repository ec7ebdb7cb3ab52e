"""MIMIC-IV-ECHO (PhysioNet), releases 0.1 and 1.0, as its owner ships it.

Example:
  echo-jax build mimic_iv_echo --source mimic-iv-echo/1.0 --data-dir data \\
    --patients mimiciv/3.1/hosp/patients.csv.gz --ecg mimic-iv-ecg/1.0
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from data_builders.mimic_iv_echo.linked import (
  ECG_LIST,
  Recorded,
  nearest_ecg,
  read_ecg_list,
  read_patients,
)  # fmt: skip
from data_builders.mimic_iv_echo.listing import (
  FILES,
  RECORDS,
  STUDIES,
  Key,
  Study,
  list_files,
  listed_studies,
  read_studies,
)  # fmt: skip
from data_builders.mimic_iv_echo.measurements import (
  METHODS,
  TABLE,
  labels_of,
  read_measurements,
)  # fmt: skip
from data_builders.mimic_iv_echo.tables import find_root, read_time, table_path
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.ingest import (
  AS_IS,
  as_is_notes,
  read_recording,
  to_record,
)  # fmt: skip
from echo_jax.data.ingest.dicom import read_identity
from echo_jax.data.ingest.ecg import read_wfdb, require_wfdb
from echo_jax.data.ledger import Rejected
from echo_jax.data.splits import (
  DEFAULT_SHARES,
  check_shares,
  parse_shares,
  split_of,
)  # fmt: skip

NAME = "mimic_iv_echo"
VERSION = "1.0.0"
SOURCE = "mimic_iv"  # of ids: the same persons as in MIMIC-IV-ECG
SITE = "Beth Israel Deaconess Medical Center"


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the folders are, what is linked and how frames are stored."""
  shares = ",".join(f"{name}={share}" for name, share in DEFAULT_SHARES.items())
  add = parser.add_argument
  add(
    "--source", type=Path, required=True,
    help=f"the folder with {RECORDS}, or one above it",
  )  # fmt: skip
  add("--splits", default=shares, help=f"shares of the patients ({shares})")
  add(
    "--no-labels", action="store_true",
    help=f"do not read {TABLE}.gz (release 1.0)",
  )  # fmt: skip
  add(
    "--ef", choices=METHODS, default="reported",
    help="EF and volumes as reported, or by biplane Simpson only",
  )  # fmt: skip
  add(
    "--label-window-h", type=float, default=48.0,
    help="a measurement further from the study is not used (48 h)",
  )  # fmt: skip
  add("--ecg", type=Path, help="the MIMIC-IV-ECG folder")
  add(
    "--ecg-window-h", type=float, default=24.0,
    help="an ECG further from the video is not linked (24 h)",
  )  # fmt: skip
  add("--patients", type=Path, help="hosp/patients.csv.gz of MIMIC-IV")
  add(
    "--size", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
    help="size of the stored frames (default: as in the files)",
  )  # fmt: skip
  add("--channels", type=int, choices=(1, 3), help="default: as in the files")
  add(
    "--codec", choices=(*schema.CODECS, AS_IS), default=AS_IS,
    help="as-is keeps frames that are JPEG already and codes others as png",
  )  # fmt: skip


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  return dataset(
    args.source, shares=parse_shares(args.splits), labels=not args.no_labels,
    ef=args.ef, label_window_h=args.label_window_h, ecg=args.ecg,
    ecg_window_h=args.ecg_window_h, patients=args.patients,
    size=tuple(args.size) if args.size else None, channels=args.channels,
    codec=args.codec,
  )  # fmt: skip


def dataset(
  source: Path, *, shares: Mapping[str, float] = DEFAULT_SHARES,
  labels: bool = True, ef: str = "reported", label_window_h: float = 48.0,
  ecg: Path | None = None, ecg_window_h: float = 24.0,
  patients: Path | None = None, size: tuple[int, int] | None = None,
  channels: int | None = None, codec: str = AS_IS,
) -> Dataset:  # fmt: skip
  """Lists the recordings; every row and every file is accounted for.

  Args:
    source: the folder with echo-record-list.csv, or one above it.
    shares: of the patients for each split (`splits.split_of`).
    labels: read release 1.0's structured measurements.
    ef: "reported" or "biplane", see `measurements.labels_of`.
    label_window_h: a measurement further from the study is not used.
    ecg: folder of MIMIC-IV-ECG, to link the ECG nearest in time.
    ecg_window_h: an ECG further from the video is not linked.
    patients: MIMIC-IV's hosp/patients.csv, for sex and age; without it they
      come from the DICOM headers.
    size: rows and columns of the stored frames; None keeps the owner's.
    channels: 1 or 3; None keeps the owner's.
    codec: raw, png, jpeg or as-is (`ingest.to_record`).

  Raises:
    FileNotFoundError: a list or table is not there.
    ValueError: a column is missing (named, with those found), or a window
      below 0 h.
  """
  check_shares(shares)
  for name, window_h in (("label", label_window_h), ("ecg", ecg_window_h)):
    if not window_h >= 0:
      raise ValueError(f"{name}_window_h is {window_h:g} h, wants 0 or more")
  root = find_root(Path(source), RECORDS)
  if not (root / FILES).is_dir():
    raise FileNotFoundError(f"{root} has {RECORDS} but no folder {FILES}")
  studies, links = read_studies(root)
  recorded = listed_studies(root)
  subjects = {subject for subject, _ in recorded}
  people = read_patients(Path(patients), subjects) if patients else {}
  ecg_root, records, unusable = "", None, 0
  if ecg:
    require_wfdb()
    ecg_root, records, unusable = read_ecg_list(Path(ecg), subjects)
  label = _make_labels(root, studies, ef, label_window_h, links and labels)
  facts_of = _make_facts(studies, label, people, records, ecg_window_h)
  split = cache(lambda subject: split_of(f"{SOURCE}:{subject}", shares))
  items, refused = list_files(root, facts_of, split)
  counted = (
    (STUDIES, len(set(studies) - recorded), "studies without a recording"),
    (ECG_LIST, unusable, "rows without a time or with another's path"),
  )
  refused += tuple((t, f"{what}: {n}") for t, n, what in counted if n)
  settings = {
    "release": "1.0" if links else "0.1", "shares": dict(shares), "ef": ef,
    "labels": links and labels, "label_window_h": label_window_h,
    "ecg_window_h": ecg_window_h if ecg else None, "patients": bool(patients),
    "size": size, "channels": channels, "codec": codec,
  }  # fmt: skip
  return Dataset(
    NAME, VERSION,
    "Echocardiograms of Beth Israel Deaconess Medical Center, 2017-2019 "
    "(Gow et al.): cines, colour, spectral and M-mode, each typed.",
    settings, items,
    partial(
      _read, root=str(root), ecg_root=str(ecg_root), size=size,
      channels=channels, codec=codec,
    ),
    refused, partial(_files_of, root=root, ecg_root=Path(ecg_root)),
  )  # fmt: skip


def _files_of(item: Item, root: Path, ecg_root: Path) -> Iterator[Path]:
  """The recording, and the folder of the ECG that goes with it."""
  yield root / item.name
  if "ecg" in item.facts:
    yield (ecg_root / item.facts["ecg"][0]).parent


def _make_labels(
  root: Path, studies: Mapping[Key, Study], ef: str, window_h: float, read: bool
) -> Callable[[Key], tuple[dict[str, Any], tuple[str, ...]]]:
  """A function from a study to its labels and notes.

  Raises:
    FileNotFoundError: there are links but no table.
  """
  if not read:
    return lambda key: ({}, ())
  path = table_path(root, TABLE)
  if path is None:
    raise FileNotFoundError(
      f"{root} links studies to measurements but has no {TABLE}.gz; copy it "
      "there, or pass --no-labels"
    )
  linked = {one for study in studies.values() for one in study.linked}
  measured = read_measurements(path, linked)
  return lambda key: labels_of(
    studies[key].linked, key[0], studies[key].time, measured, method=ef,
    window_h=window_h,
  )  # fmt: skip


def _make_facts(
  studies: Mapping[Key, Study],
  label: Callable[[Key], tuple[dict[str, Any], tuple[str, ...]]],
  people: Mapping[str, Any],
  ecgs: Mapping[str, Recorded] | None,
  ecg_window_h: float,
) -> Callable[[Key, str], dict[str, Any]]:
  """A function from (study, acquisition time) to the facts of an item.

  What belongs to a study is one object that all of its items share.
  """

  @cache
  def of_study(key: Key) -> dict[str, Any]:
    subject, study = key
    known: dict[str, Any] = {
      "study_id": f"{SOURCE}:{study}", "patient_id": f"{SOURCE}:{subject}"
    }  # fmt: skip
    notes: tuple[str, ...] = ()
    if key in studies:
      labels, notes = label(key)
      known |= labels
      if subject in people:
        known |= people[subject].at(studies[key].time)
    else:
      notes = (f"study not in {STUDIES}: no labels",)
    return {"known": known, "notes": notes}

  def facts_of(key: Key, acquired: str) -> dict[str, Any]:
    shared = of_study(key)
    time = read_time(acquired)
    if ecgs is None:
      return shared
    if time is None:
      note = "acquisition_datetime is not a time: no ECG linked"
      return shared | {"notes": (*shared["notes"], note)}
    near = nearest_ecg(ecgs.get(key[0], []), time, ecg_window_h)
    return shared | {"ecg": near} if near else shared

  return facts_of


def _read(
  item: Item, root: str, ecg_root: str, size: tuple[int, int] | None,
  channels: int | None, codec: str,
) -> tuple[schema.Record, tuple[str, ...]]:  # fmt: skip
  """The record of one file, and what is odd about it."""
  known = dict(item.facts["known"])
  notes = [*item.facts["notes"]]
  path = Path(root) / item.name
  try:
    recording = read_recording(path)
    if "sex" not in known:
      identity = read_identity(path)
      known |= {"sex": identity.sex, "age_years": identity.age_years}
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  known |= _read_ecg(item, ecg_root, notes)
  record = to_record(
    recording, video_id=f"{SOURCE}:{path.stem}", patient_known=1, site=SITE,
    split=item.split, codec=codec, size=size, channels=channels, **known,
  )  # fmt: skip
  notes += as_is_notes(recording, record, codec, size, channels)
  return record, (*notes, *recording.warnings)


def _read_ecg(item: Item, ecg_root: str, notes: list[str]) -> dict[str, Any]:
  """The ECG that goes with a recording, if one was found and can be read."""
  if "ecg" not in item.facts:
    return {}
  path, after_h = item.facts["ecg"]
  try:
    ecg = read_wfdb(Path(ecg_root) / path)
  except Rejected as reason:
    notes.append(f"ECG left out: {reason}")
    return {}
  return {
    "ecg_mv": ecg.mv, "ecg_hz": ecg.hz, "ecg_leads": ",".join(ecg.leads),
    "ecg_after_video_h": after_h,
  }  # fmt: skip
