"""The work of one shard: its items become one ArrayRecord file and an account.

A shard is the unit that is done or not done.  Its records and then its
account are each moved into place when whole, so that whatever kills the
process, a shard with an account is finished and any other is done again.
"""

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import tensorflow_datasets as tfds
from array_record.python.array_record_module import (
  ArrayRecordReader,
  ArrayRecordWriter,
)

from echo_jax.data import schema
from echo_jax.data.index import INDEX_SCHEMA, index_row
from echo_jax.data.ledger import Rejected
from echo_jax.data.plan import Item, Read, Shard

WRITER_OPTIONS = "group_size:1"  # as TFDS writes; one record can be read alone
PART = ".part"  # ends the name of a file that is being written

OnItem = Callable[[int | None], None]
Entry = tuple[int, str, str, str, str]  # number, item, split, status, reason


@dataclass(frozen=True)
class Account:
  """What became of the items of a shard.

  Attributes:
    items: number in the listing of each record, in the order of the file.
    entries: rows of the ledger.
    record_bytes: of each serialised record, before ArrayRecord packs it.
    index: a row a record.
  """

  items: tuple[int, ...]
  entries: tuple[Entry, ...]
  record_bytes: tuple[int, ...]
  index: pa.Table


def records_file(folder: Path, number: int) -> Path:
  """Where the records of a shard lie; no such file if it has none."""
  return folder / f"{number:06d}.array_record"


def account_file(folder: Path, number: int) -> Path:
  """Where the account of a finished shard lies."""
  return folder / f"{number:06d}.json"


def run_shard(
  read: Read,
  folder: Path,
  shard: Shard,
  on_item: OnItem = lambda number: None,
) -> None:
  """Reads, checks and writes the items of a shard, then its account.

  Args:
    read: of the data set.
    folder: of all shards.
    shard: what to do.
    on_item: told the number of each item before it is read, then None.
  """
  kept = _Kept()
  records = records_file(folder, shard.number)
  count = write_records(records, kept.records(read, shard, on_item))
  size = records.stat().st_size if count else 0
  columns = {
    name: [row[name] for row in kept.rows] for name in INDEX_SCHEMA.names
  }
  head = {
    "records": count, "file_bytes": size, "items": len(shard.items),
    "stamp": shard.stamp,
  }  # fmt: skip
  body = {
    "items": kept.items, "entries": kept.entries,
    "record_bytes": kept.record_bytes, "index": columns,
  }  # fmt: skip
  write_text(
    account_file(folder, shard.number), json.dumps(head), json.dumps(body)
  )


class _Kept:
  """Collects what an account says while the records pass by."""

  def __init__(self):
    self.items: list[int] = []
    self.entries: list[Entry] = []
    self.rows: list[dict] = []
    self.record_bytes: list[int] = []

  def records(
    self, read: Read, shard: Shard, on_item: OnItem
  ) -> Iterator[bytes]:
    """Serialised records of the items that become one."""
    for number, item in shard.items:
      on_item(number)
      try:
        record = self._accept(number, item, read, shard)
        if record is None:
          continue
        data = serialise(record)
      except Exception as error:
        error.add_note(f"(item {number} of the listing, counted from 0)")
        raise
      self.rows.append(index_row(record))
      self.items.append(number)
      self.record_bytes.append(len(data))
      yield data
    on_item(None)

  def _accept(
    self, number: int, item: Item, read: Read, shard: Shard
  ) -> schema.Record | None:
    """The checked record of an item, or None; either way ledger entries."""

    def enter(status: str, reason: str = "") -> None:
      self.entries.append((number, item.name, item.split, status, reason))

    if number in shard.crashed:
      enter("rejected", f"reader crashed: {shard.crashed[number]}")
      return None
    try:
      record, notes = read(item)
    except Rejected as reason:
      enter("rejected", str(reason))
      return None
    try:
      schema.check_record(record)
      if record["split"] != item.split:
        split = record["split"]
        raise ValueError(f"split is {split!r}, listed as {item.split!r}")
    except ValueError as error:
      enter("rejected", f"bad record: {error}")
      return None
    for note in notes:
      enter("noted", note)
    enter("written")
    return record


def is_finished(folder: Path, shard: Shard) -> bool:
  """Whether a shard has an account, of these files, and its records."""
  try:
    with account_file(folder, shard.number).open(encoding="utf-8") as file:
      head = json.loads(file.readline())
    if head["stamp"] != shard.stamp:
      return False
    if not head["records"]:
      return True
    records = records_file(folder, shard.number)
    return records.stat().st_size == head["file_bytes"]
  except (FileNotFoundError, json.JSONDecodeError):
    return False


def read_account(folder: Path, shard: Shard) -> Account:
  """The account of a finished shard."""
  text = account_file(folder, shard.number).read_text(encoding="utf-8")
  body = json.loads(text.partition("\n")[2])
  return Account(
    tuple(body["items"]),
    tuple(tuple(entry) for entry in body["entries"]),
    tuple(body["record_bytes"]),
    pa.Table.from_pydict(body["index"], INDEX_SCHEMA),
  )


def write_records(path: Path, records: Iterable[bytes]) -> int:
  """Writes an ArrayRecord file in one move; none if there is no record."""
  part, count = path.with_name(f"{path.name}.{os.getpid()}{PART}"), 0
  try:
    writer = ArrayRecordWriter(str(part), WRITER_OPTIONS)
    for record in records:
      writer.write(record)
      count += 1
    writer.close()
    found = ArrayRecordReader(str(part)).num_records() if count else 0
    if found != count:
      raise OSError(f"{path}: {count} records written, {found} found there")
    if count:
      sync(part)
      part.replace(path)
  finally:
    part.unlink(missing_ok=True)
  return count


def write_text(path: Path, *lines: str) -> None:
  """Writes lines to a file in one move."""
  part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
  try:
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sync(part)
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def sync(path: Path) -> None:
  """Waits until a file is on the disk, so that a power cut spares it."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def serialise(record: schema.Record) -> bytes:
  """A record as the `tf.train.Example` that TFDS reads.

  The keys of an Example are a map, whose order must be asked for: without it
  the same record gives other bytes in another process.
  """
  flat = record | {"ecg_mv": record["ecg_mv"].ravel()}
  features, serializer = _coding()
  example = serializer.get_tf_example(features.encode_example(flat))
  return example.SerializeToString(deterministic=True)


@functools.cache
def _coding() -> tuple[tfds.features.FeaturesDict, tfds.core.ExampleSerializer]:
  features = record_features()
  info = features.get_serialized_info()
  return features, tfds.core.ExampleSerializer(info)


def record_features() -> tfds.features.FeaturesDict:
  """The video record in the types of TFDS (none of which needs TensorFlow)."""
  return tfds.features.FeaturesDict(
    {name: _feature(field) for name, field in schema.FIELDS.items()}
  )


def _feature(field: schema.Field) -> tfds.features.FeatureConnector:
  if field.type in ("text", "image"):
    return tfds.features.Text()
  if field.type == "images":
    return tfds.features.Sequence(tfds.features.Text())
  # Without TensorFlow, TFDS cannot read a tensor of two unknown sizes back.
  shape = (None,) if field.shape.count(None) > 1 else field.shape
  return tfds.features.Tensor(shape=shape, dtype=field.dtype)
