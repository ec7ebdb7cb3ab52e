"""Where the patients of ACDC lie and how many slices each of them has."""

import re
from collections.abc import Mapping
from pathlib import Path

from data_builders.acdc.stack import series_of, series_shape
from echo_jax.data.build import Item
from echo_jax.data.folders import walk_folders
from echo_jax.data.ledger import Rejected
from echo_jax.data.splits import split_of

PARTS = ("training", "testing")
MACOS = "__MACOSX"  # shadows of the folders, left behind by its archiver
PATIENT = re.compile(r"patient\d{3}")

Refused = tuple[tuple[str, str], ...]


def find_parts(source: Path) -> dict[str, Path]:
  """The folders training and testing in `source` or three folders below.

  The testing part may be missing: old downloads have none.

  Raises:
    FileNotFoundError: no training folder; says what is there.
    ValueError: several.
  """
  if not source.is_dir():
    raise FileNotFoundError(f"{source} is not a folder")
  if source.name in PARTS:
    source = source.parent
  levels = ("", "*/", "*/*/", "*/*/*/")
  found = [
    path.parent
    for level in levels
    for path in sorted(source.glob(f"{level}training"))
    if path.is_dir()
    and path.parent.name != "training"
    and MACOS not in path.relative_to(source).parts
  ]
  if not found:
    there = sorted(path.name for path in source.iterdir())[:10]
    raise FileNotFoundError(
      f"no folder training in {source} or three folders below it; it holds "
      f"{there}"
    )
  if len(found) > 1:
    places = [str(path) for path in found]
    raise ValueError(f"ACDC lies in {places}; pass one of them as --source")
  return {n: found[0] / n for n in PARTS if (found[0] / n).is_dir()}


def list_slices(
  parts: Mapping[str, Path], validation: float
) -> tuple[tuple[Item, ...], Refused]:
  """One item a slice, or one refusal for a patient without readable series.

  Raises:
    FileNotFoundError: no folder of a patient.
  """
  folders: dict[str, list[tuple[str, Path]]] = {}
  for part, root in parts.items():
    for path, _ in walk_folders(root):
      if PATIENT.fullmatch(path.name) and not _outer(path):
        folders.setdefault(path.name, []).append((part, path))
  if not folders:
    raise FileNotFoundError(f"no folder patientNNN in {parts['training']}")
  items: list[Item] = []
  refused: list[tuple[str, str]] = []
  for name, found in sorted(folders.items()):
    part, folder = found[0]
    split = "test"
    if part == "training":
      shares = {"train": 1 - validation, "validation": validation}
      split = split_of(f"acdc:{name}", shares)
    try:
      if len(found) > 1:
        raise Rejected(f"duplicate patient: {len(found)} folders")
      slices = series_shape(series_of(folder))[1]
    except Rejected as reason:
      refused.append((name, str(reason)))
      continue
    items += [
      Item(
        f"{name}/slice{number:02d}", split,
        {"folder": str(folder), "patient": name, "slice": number},
      )
      for number in range(slices)
    ]  # fmt: skip
  return tuple(items), tuple(refused)


def _outer(path: Path) -> bool:
  """True for a folder that only wraps another one of its name, or of macOS."""
  return MACOS in path.parts or (path / path.name).is_dir()
