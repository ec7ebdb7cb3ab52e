"""Where the files of CAMUS lie, in both releases, and who is in which split."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from echo_jax.data.build import Item
from echo_jax.data.folders import walk_folders
from echo_jax.data.ledger import Rejected
from echo_jax.data.splits import split_of

VIEWS = {"2CH": "A2C", "4CH": "A4C"}
SPLIT_FILES = {
  "train": "subgroup_training.txt",
  "validation": "subgroup_validation.txt",
  "test": "subgroup_testing.txt",
}
# As the released Echo-Vision-FM code splits, whatever the official lists say.
BY_NUMBER = {"train": (1, 400), "validation": (401, 450), "test": (451, 500)}
MHD_SHARES = {"train": 8 / 9, "validation": 1 / 9}  # of 450: 400 and 50
MACOS = "__MACOSX"  # shadows of the folders, left behind by its archiver
PATIENT = re.compile(r"patient(\d{4})")
SUFFIXES = (".nii.gz", ".nii", ".mhd")

Refused = tuple[tuple[str, str], ...]


class Absent(Rejected):
  """A file that is not there, rather than one that is of no use."""


@dataclass(frozen=True)
class Release:
  """One of the two releases, found on disk.

  `parts` are the folders of patients: database_nifti, or training and
  testing; `lists` is the folder of the official lists (NIfTI only).
  """

  name: str
  root: Path
  parts: Mapping[str, Path]
  lists: Path | None


def find_release(source: Path) -> Release:
  """The release in `source` or up to three folders below it.

  Raises:
    FileNotFoundError: none; says what is there.
    ValueError: several.
  """
  if not source.is_dir():
    raise FileNotFoundError(f"{source} is not a folder")
  if source.name in ("database_nifti", "training"):
    source = source.parent
  below = [source, *_folders(source, 3)]
  found = [
    Release("camus", at, {"": at / "database_nifti"}, at / "database_split")
    for at in below
    if (at / "database_nifti").is_dir() and at.name != "database_nifti"
  ] + [
    Release("camus_mhd", at, parts, None)
    for at in below
    if (at / "training").is_dir()
    for parts in [
      {n: at / n for n in ("training", "testing") if (at / n).is_dir()}
    ]
  ]
  if not found:
    there = sorted(path.name for path in source.iterdir())[:10]
    raise FileNotFoundError(
      f"neither database_nifti nor training in {source} or three folders "
      f"below it; it holds {there}"
    )
  if len(found) > 1:
    places = [str(release.root) for release in found]
    raise ValueError(f"CAMUS lies in {places}; pass one of them as --source")
  return found[0]


def _folders(at: Path, depth: int) -> list[Path]:
  """Folders below, except those of patients, nearest first."""
  level, found = [at], []
  for _ in range(depth):
    level = [
      path
      for folder in level
      for path in sorted(folder.iterdir())
      if path.is_dir()
      and path.name != MACOS
      and not PATIENT.fullmatch(path.name)
    ]
    found += level
  return found


def list_views(
  release: Release, split: str
) -> tuple[tuple[Item, ...], Refused]:
  """Two items a patient, or a reason why there are none.

  Raises:
    FileNotFoundError: an official list is absent, or there is no patient.
    ValueError: a patient is in two lists.
  """
  folders: dict[str, list[Path]] = {}
  for part, folder in release.parts.items():
    for path in _patients(folder):
      folders.setdefault(f"{part}/{path.name}".lstrip("/"), []).append(path)
  if not folders:
    raise FileNotFoundError(f"{release.root} has no folder patientNNNN")
  lists = {}
  if split == "official" and release.lists:
    lists = read_lists(release.lists)
  items, refused = [], []
  for name in sorted(folders.keys() | lists.keys()):
    try:
      folder = _only(folders.get(name, []), release.root)
      chosen = _split(name, split, release, lists)
    except Rejected as reason:
      refused += [(f"{name}/{view}", str(reason)) for view in VIEWS]
      continue
    items += [
      Item(f"{name}/{view}", chosen, {"folder": folder, "view": view})
      for view in VIEWS
    ]
  return tuple(items), tuple(refused)


def _patients(folder: Path) -> list[Path]:
  """Folders patientNNNN that hold files, also where they were doubled."""
  return [
    path
    for path, _ in walk_folders(folder)
    if PATIENT.fullmatch(path.name)
    and MACOS not in path.parts
    and not any(inner.is_dir() for inner in path.glob(path.name))
  ]


def _only(found: list[Path], root: Path) -> str:
  if not found:
    raise Rejected("patient absent: listed in a split, but has no folder")
  if len(found) > 1:
    places = [path.relative_to(root).as_posix() for path in found]
    raise Rejected(f"duplicate patient: folders {', '.join(places)}")
  return found[0].relative_to(root).as_posix()


def _split(
  name: str, rule: str, release: Release, lists: Mapping[str, str]
) -> str:
  number = int(PATIENT.search(name)[1])
  if release.lists is None and name.startswith("testing/"):
    return "test"
  if rule == "by_number":
    for split, (first, last) in BY_NUMBER.items():
      if first <= number <= last:
        return split
    raise Rejected(f"no split: patient {number} is not one of 1 to 500")
  if release.lists is None:  # the older release has no validation list
    return split_of(patient_id(name), MHD_SHARES)
  if name not in lists:
    raise Rejected("no split: in none of the official lists")
  return lists[name]


def patient_id(name: str) -> str:
  """The same for a training patient in both releases."""
  return f"camus:{name.removeprefix('training/')}"


def read_lists(folder: Path) -> dict[str, str]:
  """The split of each patient by the official lists; see `list_views`."""
  splits: dict[str, str] = {}
  for split, file in SPLIT_FILES.items():
    path = folder / file
    if not path.is_file():
      raise FileNotFoundError(
        f"{path} is absent; the official split needs "
        f"{', '.join(SPLIT_FILES.values())} (or pass --split by_number)"
      )
    for line in path.read_text(encoding="utf-8-sig").splitlines():
      name = line.strip()
      if name and splits.setdefault(name, split) != split:
        both = f"{splits[name]} and {split}"
        raise ValueError(f"{name} is in the lists of {both}")
  return splits


def find_file(folder: Path, stem: str) -> Path:
  """The one file of that name, whatever its format.

  Raises:
    Absent: none.
    Rejected: several.
  """
  found = [
    path
    for suffix in SUFFIXES
    if (path := folder / f"{stem}{suffix}").is_file()
  ]
  if not found:
    raise Absent(f"absent: no {stem}.nii.gz, .nii or .mhd")
  if len(found) > 1:
    names = ", ".join(path.name for path in found)
    raise Rejected(f"duplicate file: {names}")
  return found[0]
