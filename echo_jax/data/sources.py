"""Finished data sets as random-access sources of video records."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import tensorflow_datasets as tfds

from echo_jax.data import schema
from echo_jax.data.index import INDEX_FILE
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


def read_index(folder: Path, split: str = "") -> pd.DataFrame:
  """One row a record, of one split or all, in the order of the records.

  Columns are the scalars of the schema, `has_sector`, `frame_count`, `span_ms`,
  `pixel_crc32` (of frames) and `label_crc32` (of all else); numbers have the
  precision that the records have.

  Raises:
    ValueError: the data set has no index of this form.
  """
  path = Path(folder) / INDEX_FILE
  if not path.exists():
    raise ValueError(
      f"{folder} has no {INDEX_FILE}; build the data set again with this "
      "version of echo_jax"
    )
  # By column: unpacked all at once, half a million rows take twice the memory.
  with pq.ParquetFile(path) as file:
    columns = {
      name: file.read([name], use_threads=False)[name].to_pandas()
      for name in file.schema_arrow.names
    }
  index = pd.DataFrame(columns, copy=False)
  if not split or (index["split"] == split).all():
    return index
  return index[index["split"] == split].reset_index(drop=True)


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
    self.index = read_index(folder, split)
    if len(self.index) != len(self._source):
      raise ValueError(
        f"{folder}: the index lists {len(self.index)} records of {split}, "
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
  """Digests of a data set: of ids, labels and settings, and of its pixels.

  The order of the records counts: the batches of a seed depend on it.
  """
  folder = Path(folder)
  return digests_of(folder, folder.parent.name, folder.name)


def digests_of(folder: Path, name: str, version: str) -> dict[str, str]:
  """The fingerprint of a folder that will have that name and version."""
  index = read_index(folder)
  pixels = hashlib.sha256()
  _add_column(pixels, index.pop("pixel_crc32"))
  labels = hashlib.sha256(f"{name}:{version} {len(index)}".encode())
  labels.update((folder / "settings.json").read_bytes())
  for column in index:
    labels.update(column.encode())
    _add_column(labels, index[column])
  return {
    "dataset": f"{name}:{version}",
    "labels": labels.hexdigest()[:16],
    "pixels": pixels.hexdigest()[:16],
  }


def _add_column(digest: "hashlib._Hash", column: pd.Series) -> None:
  """Feeds a column's values, whatever pandas keeps them in."""
  if column.dtype.kind in "biuf":
    # NaN has many bit patterns; the addition leaves one.
    values = column.to_numpy()
    digest.update(np.where(values != values, np.nan, values).tobytes())
    return
  digest.update(column.str.len().to_numpy("<i4").tobytes())
  digest.update("".join(column).encode())
