"""The index of a data set: one row a record, read without its pixels."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from echo_jax.data import schema

INDEX_FILE = "index.parquet"
GROUP_ROWS = 2**16  # what is unpacked at a time, whatever the size of the data
# As in the records: a value near a threshold must not differ between the two.
_ARROW = {"text": pa.string(), "int": pa.int32(), "float": pa.float32()}
INDEX_SCHEMA = pa.schema(
  [(name, _ARROW[schema.FIELDS[name].type]) for name in schema.SCALARS]
  + [
    ("has_sector", pa.bool_()),
    ("frame_count", pa.int32()),
    ("span_ms", pa.float32()),
    ("pixel_crc32", pa.string()),
    ("label_crc32", pa.uint32()),
  ]
)

# Text that many records share; ids are joined and compared.
SHARED_TEXT = tuple(
  name
  for name in schema.SCALARS
  if schema.FIELDS[name].type == "text" and not name.endswith("_id")
)


def index_row(record: schema.Record) -> dict[str, Any]:
  """The scalars of a record, its length, checksums of pixels and the rest."""
  row = {}
  for name in schema.SCALARS:
    kind = schema.FIELDS[name].type
    value = record[name]
    row[name] = value if kind == "text" else _NUMBER[kind](value)
  checksum = 0
  for frame in record["frames"]:
    checksum = zlib.crc32(frame, checksum)
  row["has_sector"] = bool(record["sector"])
  row["frame_count"] = len(record["frames"])
  row["span_ms"] = _NUMBER["float"](record["frame_time_ms"][-1])
  row["pixel_crc32"] = f"{checksum:08x}"
  row["label_crc32"] = _label_crc32(record)
  return row


def _label_crc32(record: schema.Record) -> int:
  """Checksum of every key but `frames`, as stored: arrays and masks too."""
  checksum = 0
  for name, field in schema.FIELDS.items():
    if name == "frames":
      continue
    value = record[name]
    match field.type:
      case "text":
        parts = [value.encode("utf-8")]
      case "image":
        parts = [value]
      case "images":
        parts = value
      case _:
        numbers = np.array(value, np.dtype(field.dtype).newbyteorder("<"))
        if numbers.dtype.kind == "f":
          numbers[np.isnan(numbers)] = np.nan  # it has many bit patterns
        parts = [numbers.tobytes()]
    # Lengths too: what moves from one key or mask to the next is a change.
    checksum = zlib.crc32(f"{name} {[*map(len, parts)]}".encode(), checksum)
    for part in parts:
      checksum = zlib.crc32(part, checksum)
  return checksum


_NUMBER = {"int": int, "float": lambda value: float(np.float32(value))}


def write_index(path: Path, tables: Iterable[pa.Table]) -> None:
  """Writes the tables one after another; a split is best one table."""
  with pq.ParquetWriter(path, INDEX_SCHEMA) as writer:
    for table in tables:
      writer.write_table(table, row_group_size=GROUP_ROWS)


def to_series(name: str, column: pa.ChunkedArray) -> pd.Series:
  """A column as pandas has it; a dictionary as a categorical.

  Its categories are in the order that text has.  Those of the schema are all
  there, so that the columns of two data sets can be joined and compared.
  """
  if not pa.types.is_dictionary(column.type):
    return column.to_pandas()
  found = column.unify_dictionaries().to_pandas()
  known = {*schema.FIELDS[name].choices, *found.cat.categories}
  return found.cat.set_categories(sorted(known))


def as_text(table: pd.DataFrame) -> pd.DataFrame:
  """The same with plain text for what `read_index` has as categories.

  For tables that other values come into, or that are grouped and counted by
  such a column: choices that nobody has are no groups of plain text.
  """
  categories = table.select_dtypes("category").columns
  return table.astype(dict.fromkeys(categories, str))
