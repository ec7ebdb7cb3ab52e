"""Any folder of ultrasound DICOM files, searched with all its subfolders.

Example:
  echo-jax build dicom_folder --source archive --data-dir data --name ward7
"""

import argparse
import hashlib
import hmac
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item
from echo_jax.data.folders import walk
from echo_jax.data.ingest import (
  AS_IS,
  as_is_notes,
  read_recording,
  to_record,
)  # fmt: skip
from echo_jax.data.ingest.dicom import Identity, read_identity
from echo_jax.data.ingest.reading import sniff
from echo_jax.data.ledger import Rejected
from echo_jax.data.splits import (
  DEFAULT_SHARES,
  check_shares,
  parse_shares,
  split_of,
)  # fmt: skip

VERSION = "1.0.0"


def add_options(parser: argparse.ArgumentParser) -> None:
  """Where the files are and how they are stored."""
  shares = ",".join(f"{name}={share}" for name, share in DEFAULT_SHARES.items())
  parser.add_argument("--source", type=Path, required=True)
  parser.add_argument(
    "--name", default="dicom_folder",
    help="of the data set, and the first part of its ids",
  )  # fmt: skip
  parser.add_argument(
    "--splits", default=shares, help=f"shares of the patients ({shares})"
  )
  parser.add_argument(
    "--size", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
    help="size of the stored frames (default: as in the files)",
  )  # fmt: skip
  parser.add_argument(
    "--channels", type=int, choices=(1, 3), help="default: as in the files"
  )
  parser.add_argument(
    "--codec", choices=(*schema.CODECS, AS_IS), default="png",
    help="as-is keeps frames that are JPEG already and codes others as png",
  )  # fmt: skip
  parser.add_argument(
    "--key-file", type=Path,
    help="a secret that keys the pseudonyms; without it, who can list the "
    "patient numbers of the hospital can undo them",
  )  # fmt: skip


def from_options(args: argparse.Namespace) -> Dataset:
  """The data set that the command line asks for."""
  key = args.key_file.read_bytes().strip() if args.key_file else b""
  if args.key_file and not key:
    raise ValueError(f"{args.key_file} is empty; put a secret into it")
  return dataset(
    args.source, name=args.name, shares=parse_shares(args.splits),
    size=tuple(args.size) if args.size else None, channels=args.channels,
    codec=args.codec, key=key,
  )  # fmt: skip


def dataset(
  source: Path, *, name: str = "dicom_folder",
  shares: Mapping[str, float] = DEFAULT_SHARES,
  size: tuple[int, int] | None = None, channels: int | None = None,
  codec: str = "png", key: bytes = b"",
) -> Dataset:  # fmt: skip
  """Lists the files of a folder; every file is an item or is refused.

  Ids are `<name>:<pseudonym>`, see `pseudonym`.  A file without PatientID
  has its study for patient, one without StudyInstanceUID its folder for
  study, and one without SOPInstanceUID its path for recording.

  Args:
    source: the folder; every file in it and below is looked at, also behind
      links.
    name: of the data set.
    shares: of the patients for each split (`splits.split_of`).
    size: rows and columns of the stored frames; None keeps the owner's.
    channels: 1 or 3; None keeps the owner's.
    codec: raw, png, jpeg or as-is (`ingest.to_record`).
    key: secret of the pseudonyms.

  Raises:
    FileNotFoundError: there is no such folder.
    OSError: a folder below it cannot be read.
  """
  source = Path(source)
  if not source.is_dir():
    raise FileNotFoundError(f"{source} is not a folder")
  check_shares(shares)
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  for path in walk(source):
    place = path.relative_to(source).as_posix()
    try:
      facts = _facts(path, place, name, key)
    except Rejected as error:
      refused.append((place, str(error)))
      continue
    split = split_of(facts["patient_id"], shares)
    items.append(Item(place, split, facts | {"path": str(path)}))
  settings = {
    "shares": dict(shares), "size": size, "channels": channels, "codec": codec,
    "key": hashlib.sha256(key).hexdigest()[:8] if key else "none",
  }  # fmt: skip
  read = partial(_read, size=size, channels=channels, codec=codec)
  return Dataset(
    name, VERSION, f"Ultrasound DICOM files of {name}.", settings,
    tuple(items), read, tuple(refused),
    lambda item: (Path(item.facts["path"]),),
  )  # fmt: skip


def pseudonym(text: str, key: bytes) -> str:
  """16 hexadecimal digits of HMAC-SHA256(key, text): always the same."""
  data = text.encode("utf-8", "surrogateescape")  # a name may be other bytes
  return hmac.new(key, data, hashlib.sha256).hexdigest()[:16]


def _facts(path: Path, place: str, name: str, key: bytes) -> dict:
  """What the header alone tells: ids, sex, age, and notes for the ledger."""
  try:
    container = sniff(path)
    if container != "dicom":
      raise Rejected("not DICOM: a movie; this builder takes DICOM only")
    identity = read_identity(path)
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  notes = []
  study = identity.study
  if not study:
    notes.append("no StudyInstanceUID: its folder was taken as study")
    study = f"folder|{place.rpartition('/')[0]}"
  recording = identity.recording
  if not recording:
    notes.append("no SOPInstanceUID: its path was taken as recording")
    recording = f"file|{place}"
  patient = identity.patient
  if not patient:
    notes.append("no PatientID: its study was taken as patient")
    patient = f"study|{study}"
  return {
    "video_id": f"{name}:{pseudonym(recording, key)}",
    "study_id": f"{name}:{pseudonym(study, key)}",
    "patient_id": f"{name}:{pseudonym(patient, key)}",
    "patient_known": int(bool(identity.patient)),
    "notes": tuple(notes),
    **_person(identity),
  }


def _person(identity: Identity) -> dict:
  return {"sex": identity.sex, "age_years": identity.age_years}


def _read(
  item: Item, size: tuple[int, int] | None, channels: int | None, codec: str
) -> tuple[schema.Record, tuple[str, ...]]:
  facts = dict(item.facts)
  notes = facts.pop("notes")
  path = Path(facts.pop("path"))
  try:
    recording = read_recording(path)
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  record = to_record(
    recording, split=item.split, codec=codec, size=size, channels=channels,
    **facts,
  )  # fmt: skip
  notes += as_is_notes(recording, record, codec, size, channels)
  return record, notes + recording.warnings
