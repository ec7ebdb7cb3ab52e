"""Stored records: equal to what TFDS reads, small to pickle, loud if old."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import made_builds as made
import numpy as np
import pytest
import tensorflow_datasets as tfds

from echo_jax.data import schema
from echo_jax.data.shards import serialise, write_records
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.data.stored import OPEN_FILES, Piece, StoredRecords, parse_record


@pytest.fixture(scope="module")
def folder(data_dir):
  return find_dataset(data_dir, "synthetic_echo")


def test_records_are_those_that_tfds_reads(folder):
  source = VideoSource(folder, "train")
  oracle = tfds.builder_from_directory(str(folder)).as_data_source("train")
  assert len(source) == len(oracle) > 2
  for ours, theirs in zip(source, oracle, strict=True):
    assert set(ours) == set(theirs) == set(schema.FIELDS)
    for name, field in schema.FIELDS.items():
      mine, wanted = ours[name], theirs[name]
      if field.type == "text":
        assert mine == wanted.decode()
      elif field.type in ("image", "images"):
        assert mine == wanted
      else:
        np.testing.assert_array_equal(np.ravel(mine), np.ravel(wanted))
      if field.type == "array":
        assert mine.dtype == field.dtype
    schema.check_record(ours)


def test_a_worker_gets_a_list_of_files_and_reads_the_same(folder):
  source = VideoSource(folder, "train")
  sent = pickle.dumps(source)
  assert len(sent) < 1000  # no index, no record
  again = pickle.loads(sent)
  assert isinstance(again, StoredRecords) and len(again) == len(source)
  assert again[1]["video_id"] == source[1]["video_id"]
  assert again[1]["frames"][3] == source[1]["frames"][3]


def test_a_position_behind_the_end_ends_a_loop(folder):
  source = VideoSource(folder, "train")
  assert len(list(source)) == len(source)
  with pytest.raises(IndexError, match="of "):
    source[len(source)]
  with pytest.raises(IndexError, match="record -1 of "):
    source[-1]


def test_many_files_are_read_with_few_of_them_open(tmp_path):
  """2,053 shards of a large set must not need as many descriptors."""
  files = OPEN_FILES + 40
  for i in range(files):
    stored = [serialise(made.tiny_record(f"t:{i}-{k}")) for k in range(3)]
    write_records(tmp_path / f"{i}.array_record", stored)
  # Of each file the last two: a part of a split.
  source = StoredRecords(
    [Piece(str(tmp_path / f"{i}.array_record"), 1, 2) for i in range(files)]
  )
  wanted = [f"t:{i}-{k}" for i in range(files) for k in (1, 2)]
  before = len(os.listdir("/dev/fd"))
  order = np.random.default_rng(0).permutation(np.repeat(range(len(source)), 3))
  with ThreadPoolExecutor(8) as threads:  # one drops what others read with
    found = list(threads.map(lambda i: source[i]["video_id"], order.tolist()))
  assert found == [wanted[i] for i in order]
  assert len(os.listdir("/dev/fd")) <= before + OPEN_FILES


def test_a_record_of_an_older_schema_is_refused_by_name():
  with pytest.raises(ValueError, match="no video_id; .* build it again"):
    parse_record(b"")
