"""What a build has to do: listed items, cut into shards, with a digest.

The cut depends on the listing alone, so a build that was broken off, or that
runs with other workers or on Apache Beam, makes the same shards.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import echo_jax
from echo_jax.data import schema

SHARD_ITEMS = 256  # at most; 2,053 shards for 525,328 recordings
# Of this package, beside the floors of data and simulation: records hold what
# these compute.
MODULES = ("units.py", "simpson.py", "targets.py", "modalities.py")
# Other versions of what decodes and encodes may give other pixels.
PACKAGES = (
  "av", "contourpy", "nibabel", "numpy", "opencv-python",
  "opencv-python-headless", "pillow", "pydicom", "pylibjpeg",
  "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm",
  "scipy", "tensorflow-datasets", "wfdb",
)  # fmt: skip


class BuildFailed(ValueError):
  """No usable data set came out; the message says why and where to look."""


@dataclass(frozen=True)
class Item:
  """One recording that the owner's listing names; `facts` go to `read`."""

  name: str
  split: str
  facts: Mapping[str, Any] = field(default_factory=dict)


Read = Callable[[Item], tuple[schema.Record, tuple[str, ...]]]


@dataclass(frozen=True)
class Dataset:
  """What a builder module returns.

  Attributes:
    name: folder name under the data directory.
    version: of the builder's output, `1.0.0`.
    description: one paragraph; goes into the TFDS info.
    settings: every option that changes the records (kept with the data).
    items: what was found, in a fixed order.
    refused: what the listing itself found wrong, as (name, reason).
    read: makes the record of an item and notes for the ledger, or raises
      `Rejected`.  Must be picklable (a module-level function or a partial).
    files: what `read` opens for an item; a folder stands for all in it.  A
      build that goes on reads the item again if they were replaced.
  """

  name: str
  version: str
  description: str
  settings: Mapping[str, Any]
  items: tuple[Item, ...]
  read: Read
  refused: tuple[tuple[str, str], ...] = ()
  files: Callable[[Item], Iterable[Path]] = lambda item: ()


@dataclass(frozen=True)
class Shard:
  """Consecutive items of one split, written to one file.

  Attributes:
    number: of the shard, in the order of the records.
    split: of all its items.
    items: (number in the listing, item).
    crashed: item number to how its reader died; not read again.
    stamp: digest of sizes and times of what the items are read from.  It is
      no part of the plan's: a copy of the files makes the same data set.
  """

  number: int
  split: str
  items: tuple[tuple[int, Item], ...]
  crashed: Mapping[int, str] = field(default_factory=dict)
  stamp: str = ""


@dataclass(frozen=True)
class Plan:
  """The shards of a data set and digests of what they come from."""

  shards: tuple[Shard, ...]
  digests: Mapping[str, str]

  @property
  def digest(self) -> str:
    """One digest of all."""
    return _digest([json.dumps(dict(self.digests), sort_keys=True)])


def make_plan(dataset: Dataset) -> Plan:
  """Cuts a data set into shards.

  Raises:
    BuildFailed: an item has a split that the schema does not know.
  """
  listed = {item.split for item in dataset.items}
  if not listed <= set(schema.SPLITS):
    raise BuildFailed(f"splits {listed}; known are {schema.SPLITS}")
  return Plan(
    tuple(_cut(dataset)),
    {
      "listing": _digest(_listing(dataset)),
      "settings": _digest(
        [dataset.name, dataset.version, dataset.description]
        + [_canonical(dataset.settings), _canonical(dataset.read)]
      ),
      "code": _digest(_code(dataset.read)),
      "packages": _digest(map(_installed, PACKAGES)),
    },
  )


def items_a_shard(count: int) -> int:
  """The square root, so that small sets have work for many cores too."""
  return max(1, min(SHARD_ITEMS, math.isqrt(max(count - 1, 0)) + 1))


def _cut(dataset: Dataset) -> Iterator[Shard]:
  items = dataset.items
  size, number = items_a_shard(len(items)), 0
  for split in schema.SPLITS:
    those = [(i, item) for i, item in enumerate(items) if item.split == split]
    for start in range(0, len(those), size):
      mine = tuple(those[start : start + size])
      # Items of one folder follow each other; each path is looked at once.
      paths = dict.fromkeys(p for _, item in mine for p in dataset.files(item))
      stamp = _digest(line for path in paths for line in _state_of(path))
      yield Shard(number, split, mine, stamp=stamp)
      number += 1


def _state_of(path: Path) -> Iterator[str]:
  """Size and time of a file, or of each that a folder holds."""
  try:
    if path.is_dir():
      for name in sorted(os.listdir(path)):
        about = (path / name).stat()
        yield f"{name} {about.st_size} {about.st_mtime_ns}"
    else:
      about = path.stat()
      yield f"{about.st_size} {about.st_mtime_ns}"
  except OSError as error:  # reading will say so, or it is there by then
    yield f"{error.errno}"


def _listing(dataset: Dataset) -> Iterator[str]:
  for item in dataset.items:
    yield _canonical([item.name, item.split, item.facts])
  yield _canonical(dataset.refused)


def _code(read: Read) -> Iterator[str]:
  """Sources that make records: this floor, those above it, the builder."""
  house = Path(echo_jax.__file__).parent
  files = {*(house / "data").rglob("*.py"), *(house / "simulate").rglob("*.py")}
  files |= {house / name for name in MODULES}
  while isinstance(read, functools.partial):
    read = read.func
  module = inspect.getmodule(read)
  if getattr(module, "__file__", None):
    own = Path(module.__file__)
    packed = "." in (module.__package__ or "")  # data_builders.<name>
    files |= set(own.parent.rglob("*.py")) if packed else {own}
  for file in sorted(files):
    yield file.name
    yield file.read_text(encoding="utf-8")


def _installed(package: str) -> str:
  """The version of a package, or that it is not there."""
  try:
    return f"{package} {importlib.metadata.version(package)}"
  except importlib.metadata.PackageNotFoundError:
    return f"{package} absent"


def _digest(texts: Any) -> str:
  digest = hashlib.sha256()
  for text in texts:
    digest.update(f"{len(text)} {text}".encode("utf-8", "surrogateescape"))
  return digest.hexdigest()[:16]


def _canonical(value: Any) -> str:
  """The same text for the same value in every process."""
  return json.dumps(value, default=_plain, sort_keys=True)


def _plain(value: Any) -> Any:
  """What JSON does not know, in terms that it does."""
  match value:
    case np.ndarray():
      data = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
      return [str(value.dtype), list(value.shape), data]
    case np.generic():
      return value.item()
    case Mapping():
      return dict(value)
    case set() | frozenset():
      return sorted(map(_canonical, value))
    case functools.partial():
      return [value.func, value.args, value.keywords]
    case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
      return {
        each.name: getattr(value, each.name)
        for each in dataclasses.fields(value)
      }
    case _ if callable(value) and hasattr(value, "__qualname__"):
      return f"{value.__module__}.{value.__qualname__}"
  return repr(value)
