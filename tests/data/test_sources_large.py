"""A data set of 525,328 records opens in 5 s and 450 MiB; nothing is read.

Run as a script it prints the figures:  python test_sources_large.py FOLDER
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import echo_jax
from echo_jax.data import schema
from echo_jax.data.finish import describe
from echo_jax.data.index import INDEX_FILE, INDEX_SCHEMA, write_index
from echo_jax.data.plan import items_a_shard
from echo_jax.data.sources import VideoSource, fingerprint

RECORDS = 525_328  # the recordings of MIMIC-IV-ECHO 0.1
PATIENTS = 4_579


def made_column(name, count, rng):
  """Values of the kind that a large data set has, from no patient."""
  number = np.arange(count)
  if name == "video_id":
    ids = ((90_000_000 + i // 70, i % 70) for i in number)
    return [f"mimic_iv_echo:{study}_{file:04d}" for study, file in ids]
  if name in ("study_id", "patient_id"):
    every = 70 if name == "study_id" else count // PATIENTS + 1
    return [f"mimic_iv_echo:{90_000_000 + i // every}" for i in number]
  if name == "split":
    return np.repeat("pretrain", count)
  if name == "pixel_crc32":
    return [f"{n:08x}" for n in rng.integers(0, 2**32, count)]
  if name in schema.FIELDS and schema.FIELDS[name].type == "text":
    choices = schema.FIELDS[name].choices or ("GE Vivid E95", "Philips EPIQ")
    return rng.choice(np.array(choices, object), count)
  if INDEX_SCHEMA.field(name).type == pa.bool_():
    return rng.random(count) < 0.9
  return rng.integers(0, 100, count)


def make_data_set(folder, count):
  """Index and description of a data set whose files are not there."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  table = pa.Table.from_pydict(
    {n: made_column(n, count, rng) for n in INDEX_SCHEMA.names}, INDEX_SCHEMA
  )
  write_index(folder / INDEX_FILE, [table])
  size = items_a_shard(count)
  lengths = [min(size, count - i) for i in range(0, count, size)]
  describe(
    "large", "1.0.0", "made", folder, {"pretrain": lengths}, {"pretrain": count}
  )
  (folder / "settings.json").write_text("{}\n")
  return lengths


def open_and_measure(folder):
  """Seconds of the processor and peak memory of opening, in this process."""
  began = time.process_time(), time.monotonic()
  source = VideoSource(folder, "pretrain")
  used = time.process_time() - began[0], time.monotonic() - began[1]
  # Not getrusage, whose peak is that of the process that started this one.
  status = Path("/proc/self/status").read_text()
  peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
  began = time.monotonic()
  fingerprint(folder)
  return {
    "records": len(source), "rows": len(source.index),
    "cpu_s": used[0], "wall_s": used[1], "peak_mib": peak,
    "fingerprint_s": time.monotonic() - began,
  }  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
  folder = tmp_path_factory.mktemp("large") / "large" / "1.0.0"
  return folder, make_data_set(folder, RECORDS)


def test_a_large_data_set_opens_quickly_and_in_little_memory(large):
  folder, lengths = large
  assert len(lengths) == 2_053 and sum(lengths) == RECORDS
  paths = os.environ | {"PYTHONPATH": str(Path(echo_jax.__file__).parents[1])}
  words = [sys.executable, __file__, str(folder)]
  done = subprocess.run(words, capture_output=True, text=True, env=paths)
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout)
  assert found["records"] == found["rows"] == RECORDS
  assert found["cpu_s"] < 5  # of the processor: other tests may run beside
  # Of which 150 are imports.  As plain text each of forty columns is 10 MiB.
  assert found["peak_mib"] < 450


if __name__ == "__main__":
  print(json.dumps(open_and_measure(Path(sys.argv[1]))))
