"""`echo-jax bench`: numbers of the right kind; how high is not tested here."""

import json
import math
import sys
from pathlib import Path

import made_readers
import pytest

from echo_jax.cli import main
from echo_jax.commands import reading_memory
from echo_jax.data.contract import InputContract

TINY = (
  "bench", "data", "--videos", "2", "--stored", "32", "--size", "32",
  "--frames", "2", "--rounds", "2", "--seconds", "0.01",
)  # fmt: skip
WAYS = [
  "usual: AVI by OpenCV", "decoding of it alone", "echo_jax, raw",
  "echo_jax, jpeg", "echo_jax, png",
]  # fmt: skip

needs_proc = pytest.mark.skipif(
  not Path("/proc/self/smaps_rollup").exists(), reason="there is no /proc here"
)


def check_ways(found):
  """Every way was measured, and the derived numbers follow."""
  assert list(found["ways"]) == WAYS and found["case"]["videos"] == 2
  for name, way in found["ways"].items():
    assert all(math.isfinite(value) and value > 0 for value in way.values())
    assert way["low"] <= way["clips_per_s"] <= way["high"], name
    assert way["gigabytes_525328"] == way["bytes_a_video"] * 525_328 / 1e9
  assert found["ways"][WAYS[0]]["times_usual"] == 1
  assert found["ways"][WAYS[1]]["times_decoding"] == 1


def test_every_way_is_measured(capsys):
  assert main([*TINY, "--workers", "0", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  check_ways(found)
  assert found["memory"] is None
  assert main([*TINY, "--workers", "0"]) == 0
  said = capsys.readouterr().out
  assert all(name in said for name in WAYS)


@pytest.mark.long
@needs_proc
def test_memory_of_reading_is_measured_too(capsys):
  assert main([*TINY, "--workers", "2", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  check_ways(found)
  memory = found["memory"]
  assert memory["workers"] == 2
  # Three processes that have loaded the package.
  assert 100 < memory["peak_pss_mib"] <= memory["peak_rss_mib"] < 8000


def measure(monkeypatch, read, workers=2):
  """What is measured of a stand-in."""
  monkeypatch.setattr(reading_memory, "read", read)
  return reading_memory.measure(Path("none"), InputContract(), workers)


@needs_proc
def test_the_memory_of_workers_counts(monkeypatch):
  found = measure(monkeypatch, made_readers.with_workers)
  alone = measure(monkeypatch, made_readers.with_workers, workers=0)
  assert found["workers"] == 2
  assert found["peak_rss_mib"] > alone["peak_rss_mib"] + 2  # MiB a worker


@needs_proc
@pytest.mark.parametrize(
  ("read", "message"),
  [
    (made_readers.without_one, "1 of 2 workers were seen"),
    (made_readers.failing, "with 2 workers ended in an error"),
  ],
)
def test_memory_of_which_a_part_is_unknown_is_refused(
  monkeypatch, read, message
):
  with pytest.raises(OSError, match=message):
    measure(monkeypatch, read)


def test_a_system_that_does_not_tell_the_children(
  monkeypatch, tmp_path, capsys
):
  (tmp_path / "self").mkdir()
  (tmp_path / "self" / "smaps_rollup").touch()
  monkeypatch.setattr(reading_memory, "PROC", tmp_path)
  assert measure(monkeypatch, sys.exit) is None
