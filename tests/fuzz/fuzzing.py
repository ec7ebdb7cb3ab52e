"""Damaged input for every reader: mutate, read in a child process, count.

A case is (kind, number): the same number always gives the same damage.  Each
must end as read or refused; an error of another kind, a crash of the process,
more memory than `MEMORY_BYTES` or more than `SECONDS` is a finding.
"""

import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MEMORY_BYTES = 8 * 2**30  # of address space, of which libraries take most
SECONDS = 20
ITEMS = 3  # of a folder are read after its table was damaged
BATCH = 100
TEXT = (".csv", ".cfg", ".txt", ".hea", ".mhd")
WORDS = (
  b"", b",", b'"', b"\n", b"\r", b"\x00", b"nan", b"-1", b"1e999", b"0",
  b"99999999999999999999", b"\xff\xfe", "é".encode(), b"../..", b"A" * 70_000,
)  # fmt: skip


@dataclass
class Outcome:
  """Counts by (kind, how it ended), and what must be mended."""

  counts: Counter = field(default_factory=Counter)
  findings: list[str] = field(default_factory=list)


def mutate(data: bytes, text: bool, rng: np.random.Generator) -> bytes:
  """One to four random damages of a file's bytes."""
  for _ in range(rng.integers(1, 5)):
    data = _damage(data, text, rng)
  return data


def _damage(data: bytes, text: bool, rng: np.random.Generator) -> bytes:
  if not data:
    return bytes(rng.integers(0, 256, rng.integers(1, 64), np.uint8))
  # Most damage goes to the head, where formats keep their numbers.
  reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
  at = int(rng.integers(reach))
  end = min(at + int(rng.integers(1, 200)), len(data))
  match rng.integers(7):
    case 0:
      flipped = bytearray(data)
      flipped[at] ^= 1 << int(rng.integers(8))
      return bytes(flipped)
    case 1:
      return data[:at]
    case 2:
      return data[:at] + data[end:]
    case 3:
      return data[:end] + data[at:]
    case 4 if text:
      return data[:at] + WORDS[rng.integers(len(WORDS))] + data[at:]
    case 5 if text:
      lines = data.split(b"\n")
      rng.shuffle(lines)
      return b"\n".join(lines)
    case 4:
      extreme = (b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f")[rng.integers(3)]
      return data[:at] + extreme + data[at + 4 :]
  noise = bytes(rng.integers(0, 256, end - at, np.uint8))
  return data[:at] + noise + data[end:]


def fuzz(seeds: Path, kinds: Sequence[str], cases: int) -> Outcome:
  """Runs `cases` of each kind; `seeds` holds a folder of whole files a kind."""
  outcome = Outcome()
  for kind in kinds:
    start = 0
    while start < cases:
      stop = min(start + BATCH, cases)
      start = _run_batch(seeds, kind, range(start, stop), outcome)
  return outcome


def _run_batch(seeds: Path, kind: str, cases: range, outcome: Outcome) -> int:
  """Runs cases in a child process; returns the first that was not run."""
  mark = seeds / f"{kind}.now"
  spawn = multiprocessing.get_context("spawn")
  with ProcessPoolExecutor(1, spawn, _limit) as pool:
    try:
      found = pool.submit(_run_cases, seeds, kind, cases, mark).result()
    except BrokenProcessPool:
      case = int(mark.read_text())
      outcome.findings.append(f"{kind} {case}: the process died")
      return case + 1
  outcome.counts.update(found.counts)
  outcome.findings += found.findings
  return cases.stop


def _limit() -> None:
  resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
  signal.signal(signal.SIGALRM, _too_long)


def _too_long(number: int, frame: object) -> None:
  raise TimeoutError(f"still reading after {SECONDS} s")


def _run_cases(
  seeds: Path, kind: str, cases: range, mark: Path
) -> Outcome:
  outcome = Outcome()
  for case in cases:
    mark.write_text(str(case))
    signal.alarm(SECONDS)
    try:
      ended = run_case(seeds, kind, case)
    except Exception as error:  # whatever else is raised is a finding
      ended = "failed"
      outcome.findings.append(f"{kind} {case}: {type(error).__name__}: {error}")
    finally:
      signal.alarm(0)
    outcome.counts[kind, ended] += 1
  return outcome


def run_case(seeds: Path, kind: str, case: int) -> str:
  """Damages one file and reads it; `read` or `refused`."""
  rng = np.random.default_rng((zlib.crc32(kind.encode()), case))
  whole = seeds / kind
  files = sorted(path for path in whole.rglob("*") if path.is_file())
  if kind != "files":  # half of the cases damage a table
    tables = [path for path in files if path.suffix in (*TEXT, ".gz")]
    files = tables if tables and rng.random() < 0.5 else files
  chosen = files[rng.integers(len(files))]
  data = mutate(chosen.read_bytes(), chosen.suffix in TEXT, rng)
  with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch) / "source"
    if kind == "files":
      folder.mkdir()
      (folder / chosen.name).write_bytes(data)
      return _read_file(folder / chosen.name)
    shutil.copytree(whole, folder, copy_function=os.link)
    target = folder / chosen.relative_to(whole)
    target.unlink()
    target.write_bytes(data)
    return _read_folder(kind, folder, target)


def _read_file(path: Path) -> str:
  from echo_jax.data.ingest import read_recording, to_record
  from echo_jax.data.ledger import Rejected

  try:
    recording = read_recording(path)
    to_record(
      recording, video_id="f:v", study_id="f:s", patient_id="f:p", split="test"
    )
  except Rejected:
    return "refused"
  return "read"


def _read_folder(kind: str, folder: Path, damaged: Path) -> str:
  """Lists a builder's folder and reads the items that the damage may touch."""
  from echo_jax.data.ledger import Rejected
  from echo_jax.data.schema import check_record

  builder = importlib.import_module(f"data_builders.{kind}")
  options = {"ecg": folder / "mimic-iv-ecg"} if kind == "mimic_iv_echo" else {}
  try:
    dataset = builder.dataset(folder, **options)
  except (ValueError, OSError):  # said at the edge, in one line
    return "refused"
  near = [item for item in dataset.items if damaged.stem[:8] in str(item)]
  ended = "refused"
  for item in (near or list(dataset.items))[:ITEMS]:
    try:
      record, _ = dataset.read(item)
    except Rejected:
      continue
    check_record(record)
    ended = "read"
  return ended
