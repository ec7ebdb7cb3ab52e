"""Finished data sets as random-access sources of video records."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow_datasets as tfds

from echo_jax.data import schema
from echo_jax.data.index import INDEX_FILE, SHARED_TEXT, to_series
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
  precision that the records have.  Text but for ids is categorical: plain, it
  would be most of the table (see `index.as_text`).

  Raises:
    ValueError: the data set has no index of this form.
  """
  with _open_index(folder) as file:
    chosen = None
    if split:
      chosen = pc.equal(_read(file, "split").cast(pa.string()), split)
    # By column: unpacked all at once, half a million rows take twice the
    # memory; and so does a split that is taken from the whole table.
    columns = {
      name: to_series(name, _read(file, name, chosen))
      for name in file.schema_arrow.names
    }
  return pd.DataFrame(columns, copy=False)


def _open_index(folder: Path) -> pq.ParquetFile:
  """An index, whose shared text is read as a dictionary and codes."""
  path = Path(folder) / INDEX_FILE
  if not path.exists():
    raise ValueError(
      f"{folder} has no {INDEX_FILE}; build the data set again with this "
      "version of echo_jax"
    )
  # An earlier version may have had fewer columns.
  shared = set(pq.read_schema(path).names) & set(SHARED_TEXT)
  return pq.ParquetFile(path, read_dictionary=sorted(shared))


def _read(
  file: pq.ParquetFile, name: str, chosen: pa.ChunkedArray | None = None
) -> pa.ChunkedArray:
  """A column of an index, or its chosen rows."""
  column = file.read([name], use_threads=False)[name]
  return column if chosen is None else column.filter(chosen)


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
  pixels = hashlib.sha256()
  with _open_index(folder) as file:
    rows = file.metadata.num_rows
    labels = hashlib.sha256(f"{name}:{version} {rows}".encode())
    labels.update((folder / "settings.json").read_bytes())
    for column in file.schema_arrow.names:
      values = _read(file, column)
      if column in SHARED_TEXT:
        values = values.cast(pa.string())
      if column == "pixel_crc32":
        _add_column(pixels, values)
      else:
        labels.update(column.encode())
        _add_column(labels, values)
  return {
    "dataset": f"{name}:{version}",
    "labels": labels.hexdigest()[:16],
    "pixels": pixels.hexdigest()[:16],
  }


def _add_column(digest: "hashlib._Hash", column: pa.ChunkedArray) -> None:
  """Feeds a column's values; of text the lengths, then all as one."""
  if not pa.types.is_string(column.type):
    values = column.to_pandas().to_numpy()
    # NaN has many bit patterns; the addition leaves one.
    digest.update(np.where(values != values, np.nan, values).tobytes())
    return
  lengths = pc.utf8_length(column).to_numpy()
  digest.update(lengths.astype("<i4").tobytes())
  for chunk in column.chunks:
    digest.update(_joined(chunk))


def _joined(chunk: pa.StringArray) -> bytes:
  """All texts as one, without making each of them."""
  _, offsets, text = chunk.buffers()
  ends = np.frombuffer(offsets, np.int32)[chunk.offset :][: len(chunk) + 1]
  return text[ends[0] : ends[-1]].to_pybytes() if text else b""
