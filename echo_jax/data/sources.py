"""Finished data sets as random-access sources of video records."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import tensorflow_datasets as tfds

from echo_jax.data import schema
from echo_jax.data.stored import StoredRecords


def find_dataset(data_dir: Path, name: str) -> Path:
  """The folder of a built data set; the newest version unless `name:1.0.0`.

  Raises:
    FileNotFoundError: says what is there instead and how to build one.
  """
  name, _, version = name.partition(":")
  folder = Path(data_dir) / name
  versions = sorted(
    (path for path in folder.glob("*.*.*") if path.is_dir()),
    key=lambda path: tuple(int(part) for part in path.name.split(".")),
  )
  if version:
    versions = [path for path in versions if path.name == version]
  if not versions:
    there = sorted(p.name for p in Path(data_dir).glob("[!.]*") if p.is_dir())
    raise FileNotFoundError(
      f"no data set {name} {version} under {data_dir} (found: {there}); "
      f"make it with `echo-jax build {name} --data-dir {data_dir}`"
    )
  return versions[-1]


def read_index(folder: Path) -> pd.DataFrame:
  """One row a record: every scalar of the schema, length and checksum."""
  text = {n: str for n, f in schema.FIELDS.items() if f.type == "text"}
  text["pixel_crc32"] = str
  index = pd.read_csv(Path(folder) / "index.csv", dtype=text)
  index[list(text)] = index[list(text)].fillna("")
  return index


class VideoSource(Sequence):
  """The records of one split; `source[i]` is a record as schema.py has it."""

  def __init__(self, folder: Path, split: str):
    builder = tfds.builder_from_directory(str(folder))
    if split not in builder.info.splits:
      raise ValueError(
        f"{folder} has no split {split!r}; it has {sorted(builder.info.splits)}"
      )
    pieces = builder.info.splits[split].file_instructions
    self._source = StoredRecords(pieces)
    index = read_index(folder)
    self.index = index[index["split"] == split].reset_index(drop=True)
    if len(self.index) != len(self._source):
      raise ValueError(
        f"{folder}: index.csv lists {len(self.index)} records of {split}, "
        f"the files hold {len(self._source)}; build the data set again"
      )

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, position: int) -> schema.Record:
    return self._source[position]

  def __reduce__(self) -> tuple:
    # A reading process gets the list of files, not the index.
    return self._source.__reduce__()

  def __repr__(self) -> str:
    # grain puts a source's repr into what it keeps of an iterator.
    return f"VideoSource({len(self)} records)"


def fingerprint(folder: Path) -> dict[str, str]:
  """Digests of a data set: of ids, labels and settings, and of its pixels."""
  folder = Path(folder)
  index = read_index(folder).sort_values("video_id")
  pixels = index.pop("pixel_crc32")
  labels = index.to_csv(index=False) + (folder / "settings.json").read_text()
  labels += folder.parent.name + folder.name
  return {
    "dataset": f"{folder.parent.name}:{folder.name}",
    "labels": hashlib.sha256(labels.encode()).hexdigest()[:16],
    "pixels": hashlib.sha256("".join(pixels).encode()).hexdigest()[:16],
  }
