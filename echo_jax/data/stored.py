"""Records of ArrayRecord files read at random, frames left undecoded.

Parses the `tf.train.Example` that TFDS writes.  Of a video only the frames
that are asked for are copied out of it, and nothing of TFDS or pandas is
imported, so that a reading process stays small.
"""

import ctypes
import functools
import platform
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf import (
  descriptor_pb2,
  descriptor_pool,
  message_factory,
  text_format,
)

from echo_jax.data import schema

# At once by one source: a large set has thousands, a process may open no more
# than 1,024 (256 on a Mac), and several sources are read side by side.
OPEN_FILES = 64
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True)
class Piece:
  """The part of one file that belongs to a split (TFDS's FileInstruction)."""

  filename: str
  skip: int
  take: int


class StoredRecords(Sequence):
  """Records in the order of their files; pickles as a list of files."""

  def __init__(self, pieces: Sequence[Any]):
    self._pieces = tuple(
      Piece(each.filename, each.skip, each.take) for each in pieces
    )
    self._ends = list(accumulate(piece.take for piece in self._pieces))
    # A reader that is dropped closes its file once nobody reads with it.
    self._open = functools.lru_cache(maxsize=OPEN_FILES)(_open_file)
    _keep_freed_memory()

  def __len__(self) -> int:
    return self._ends[-1] if self._ends else 0

  def __getitem__(self, position: int) -> schema.Record:
    if not 0 <= position < len(self):
      raise IndexError(f"record {position} of {len(self)}")  # ends `for`
    number = bisect_right(self._ends, position)
    piece = self._pieces[number]
    place = piece.skip + piece.take - (self._ends[number] - position)
    return parse_record(self._open(piece.filename).read([place])[0])

  def __reduce__(self) -> tuple:
    return StoredRecords, (self._pieces,)

  def __repr__(self) -> str:
    return f"StoredRecords({len(self)})"


def _open_file(filename: str) -> ArrayRecordReader:
  """A reader that fetches no more than it is asked for."""
  return ArrayRecordReader(
    filename, options="readahead_buffer_size:0", file_reader_buffer_size=2**15
  )


def _keep_freed_memory() -> None:
  """Has the C library keep freed megabytes for the next record.

  By default glibc gives them back to the system after each one, and getting
  them again page by page takes longer than reading what goes there.
  """
  if platform.libc_ver()[0] == "glibc":
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the most it allows
    library.mallopt(_TRIM_THRESHOLD, 64 * 2**20)


def parse_record(data: bytes) -> schema.Record:
  """The record that a serialised example holds.

  Lists of images (`frames`, masks) stay inside the parsed message: they can
  be indexed, counted and compared like lists; who stores them again makes
  lists of them.

  Raises:
    ValueError: the example lacks a key of the schema.
  """
  found = _Example.FromString(data).features.feature
  record = {}
  for name, read in _READERS.items():
    if name not in found:
      raise ValueError(
        f"a stored record has no {name}; the data set is of an older version "
        "of echo_jax: build it again"
      )
    record[name] = read(found[name])
  ecg, leads = record["ecg_mv"], len(schema.names_in(record["ecg_leads"]))
  record["ecg_mv"] = ecg.reshape(len(ecg) // max(leads, 1), leads)
  return record


def _reader(field: schema.Field) -> Callable[[Any], Any]:
  """What takes a field's value out of its parsed feature."""
  match field.type:
    case "text":
      return lambda feature: feature.bytes_list.value[0].decode("utf-8")
    case "int":
      return lambda feature: feature.int64_list.value[0]
    case "float":
      return lambda feature: feature.float_list.value[0]
    case "image":
      return lambda feature: feature.bytes_list.value[0]
    case "images":
      return lambda feature: feature.bytes_list.value
  dtype = field.dtype
  # A tensor of two unknown sizes is stored flat; see `parse_record`.
  flat = field.shape.count(None) > 1
  shape = (-1,) if flat else tuple(n or -1 for n in field.shape)
  if np.issubdtype(dtype, np.integer):
    return lambda f: np.array(f.int64_list.value[:], dtype).reshape(shape)
  return lambda f: np.array(f.float_list.value[:], dtype).reshape(shape)


_READERS = {name: _reader(field) for name, field in schema.FIELDS.items()}


# tensorflow/core/example/{example,feature}.proto in short.  The class that
# TFDS brings reads the same bytes, but importing it imports TFDS.
_PROTO = """
name: "echo_jax/example.proto" package: "echo_jax" syntax: "proto3"
message_type { name: "BytesList" field {
  name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field {
  name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field {
  name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".echo_jax.BytesList" }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".echo_jax.FloatList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".echo_jax.Int64List" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED
          type: TYPE_MESSAGE type_name: ".echo_jax.Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL
            type: TYPE_MESSAGE type_name: ".echo_jax.Feature" } } }
message_type { name: "Example" field {
  name: "features" number: 1 label: LABEL_OPTIONAL
  type: TYPE_MESSAGE type_name: ".echo_jax.Features" } }
"""


def _message_class() -> type:
  file = text_format.Parse(_PROTO, descriptor_pb2.FileDescriptorProto())
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  example = pool.FindMessageTypeByName("echo_jax.Example")
  return message_factory.GetMessageClass(example)


_Example = _message_class()
