"""Which folders below one that was given are of one study each."""

from pathlib import Path

from echo_jax.data.folders import walk
from echo_jax.data.ingest.dicom import (
  Identity,
  check_is_ultrasound,
  identity_in,
  load_dataset,
  quiet,
)  # fmt: skip
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.reading import is_wfdb, sniff
from echo_jax.data.ledger import Rejected


def find_studies(
  folder: Path, on_the_way: frozenset[Path] = frozenset()
) -> tuple[list[Path], list[Path]]:
  """Folders that are read as one study each, and files that lie in none.

  A folder in which a recording lies is a study, with all that is below it.
  One that has only folders is parted into these where the headers below name
  several patients, or ultrasound of several StudyInstanceUIDs; else it is a
  study in parts.  Headers are read; pixels are not.

  Raises:
    OSError: a folder cannot be read.
  """
  way = on_the_way | {folder.resolve()}
  children = sorted(folder.iterdir())
  # A link back to a folder on the way would have no end.
  below = [p for p in children if p.is_dir() and p.resolve() not in way]
  files = [p for p in children if not p.is_dir()]
  if not below or any(map(_is_recording, files)) or not _has_several(folder):
    return [folder], []
  found = [find_studies(child, way) for child in below if any(walk(child))]
  return (
    [study for studies, _ in found for study in studies],
    files + [file for _, left in found for file in left],
  )


def _is_recording(path: Path) -> bool:
  try:
    return path.is_file() and (is_wfdb(path) or bool(sniff(path)))
  except (Rejected, OSError):
    return False


def _has_several(folder: Path) -> bool:
  """Whether headers below name several patients or several ultrasounds."""
  patients: set[str] = set()
  studies: set[str] = set()
  for path in walk(folder):
    identity, is_ultrasound = _identity(path)
    if identity is None:
      continue
    patients |= {identity.patient} - {""}
    studies |= {identity.study} if is_ultrasound else set()
    if len(patients) > 1 or len(studies) > 1:
      return True
  return False


def _identity(path: Path) -> tuple[Identity | None, bool]:
  """Whose a DICOM file is, and whether it is ultrasound."""
  try:
    if not path.is_file() or sniff(path) != "dicom":
      return None, False
    dataset = load_dataset(path, pixels=False)
  except (Rejected, OSError):  # is said when the study is read
    return None, False
  header = Header(dataset)
  try:
    with quiet():
      check_is_ultrasound(header, dataset)
  except Rejected:
    return identity_in(header), False
  return identity_in(header), True
