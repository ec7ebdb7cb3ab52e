"""Damaged input for every reader: mutate, read in a child process, count.

A case is (kind, number): the same number always gives the same damage.  Each
must end as read or refused, with the damaged file opened; an error of another
kind, a crash of the process, or more time or memory than `Limits` allow is a
finding.  A case whose damaged file nobody opened is "not reached".
"""

import contextlib
import functools
import gzip
import importlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ITEMS = 3  # of a folder are read in one case
TRIES = 10
BATCH = 500
TEXT = (".csv", ".cfg", ".txt", ".hea", ".mhd")
TABLES = (*TEXT, ".csv.gz")
WORDS = (
  b"", b",", b'"', b"\n", b"\r", b"\x00", b"nan", b"-1", b"1e999", b"0",
  b"99999999999999999999", b"\xff\xfe", "é".encode(), b"../..", b"A" * 70_000,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
  """What one case may take: seconds, growth of resident memory.

  `space_bytes` is address space of the whole process, of which libraries take
  most.
  """

  seconds: float = 20
  growth_bytes: int = 2**30
  space_bytes: int = 8 * 2**30


class TooLong(BaseException):
  """Raised by the alarm; no reader catches it, as it would a TimeoutError."""


@dataclass
class Outcome:
  """Counts by (kind, how it ended), and what must be mended."""

  counts: Counter = field(default_factory=Counter)
  findings: list[str] = field(default_factory=list)


def mutate(data: bytes, text: bool, rng: np.random.Generator) -> bytes:
  """One random damage of a file's bytes, or up to four."""
  for _ in range(rng.integers(2, 5) if rng.random() < 0.5 else 1):
    # Where lengths and tables' forms stay, readers come further.
    if rng.random() < 0.3:
      data = _cut(data, rng)
    else:
      data = (_reword if text else _overwrite)(data, rng)
  return data


def _place(data: bytes, rng: np.random.Generator) -> int:
  """Half of the damage goes to the head, where formats keep their numbers."""
  reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
  return int(rng.integers(reach))


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
  if not data:
    return bytes(rng.integers(0, 256, rng.integers(1, 64), np.uint8))
  at = _place(data, rng)
  end = min(at + int(rng.integers(1, 200)), len(data))
  return (data[:at], data[:at] + data[end:], data[:end] + data[at:])[
    rng.integers(3)
  ]


def _overwrite(data: bytes, rng: np.random.Generator) -> bytes:
  """Damage that keeps the length."""
  if not data:
    return data
  at = _place(data, rng)
  match rng.integers(3):
    case 0:
      new = bytes([data[at] ^ 1 << int(rng.integers(8))])
    case 1:
      new = (b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f")[rng.integers(3)]
    case _:
      new = bytes(rng.integers(0, 256, rng.integers(1, 64), np.uint8))
  return (data[:at] + new + data[at + len(new) :])[: len(data)]


def _reword(data: bytes, rng: np.random.Generator) -> bytes:
  """Damage that leaves text: words, cells and lines."""
  lines = data.split(b"\n")
  row = int(rng.integers(len(lines)))
  match rng.integers(5):
    case 0:
      at = int(rng.integers(len(data) + 1))
      return data[:at] + WORDS[rng.integers(len(WORDS))] + data[at:]
    case 1:
      cells = re.split(rb"([,:=\s]+)", lines[row])
      cells[rng.integers(len(cells))] = WORDS[rng.integers(len(WORDS))]
      lines[row] = b"".join(cells)
    case 2:
      digits = re.sub(
        rb"\d", lambda _: b"%d" % rng.integers(10), lines[row]
      )
      lines[row] = digits
    case 3:
      lines.insert(int(rng.integers(len(lines))), lines[row])
    case _:
      head = int(rng.integers(2))  # mostly below the names of columns
      rest = lines[head:]
      rng.shuffle(rest)
      lines = lines[:head] + rest
  return b"\n".join(lines)


Case = tuple[str, int]
Reader = Callable[[Path, str, int], str]


def fuzz(
  seeds: Path, kinds: Sequence[str], count: int, *,
  limits: Limits | None = None, reader: Reader | None = None,
) -> Outcome:  # fmt: skip
  """Runs `count` cases of each kind; `seeds` has a folder of files a kind."""
  outcome = Outcome()
  cases = [(kind, number) for kind in kinds for number in range(count)]
  how = limits or Limits(), reader or run_case
  while cases:
    done = _run_batch(seeds, cases[:BATCH], *how, outcome)
    cases = cases[done:]
  return outcome


def _run_batch(
  seeds: Path, cases: Sequence[Case], limits: Limits, reader: Reader,
  outcome: Outcome,
) -> int:  # fmt: skip
  """Runs cases in a child process; returns how many of them are done."""
  spawn = multiprocessing.get_context("spawn")
  mark = spawn.RawValue("i", 0)  # the case that the child is at
  ours, theirs = spawn.Pipe(duplex=False)
  child = spawn.Process(
    target=_work, args=(theirs, mark, seeds, cases, limits, reader)
  )
  child.start()
  theirs.close()
  try:
    found = _received(ours, mark, 2 * limits.seconds)
  except (EOFError, TooLong) as error:
    done = mark.value
    why = "still reading" if isinstance(error, TooLong) else "the process died"
    outcome.findings.append("{} {}: {}".format(*cases[done], why))
    return done + 1
  finally:
    child.kill()  # what hangs in C hears no alarm
    child.join()
  outcome.counts.update(found.counts)
  outcome.findings += found.findings
  return len(cases)


def _received(ours: Connection, mark: Any, seconds: float) -> Outcome:
  """What the child sends, as long as it goes from case to case."""
  before = -1  # the first case has twice the time: it imports
  while not ours.poll(seconds):
    if mark.value == before:
      raise TooLong
    before = mark.value
  return ours.recv()


def _work(
  theirs: Connection, mark: Any, seeds: Path, cases: Sequence[Case],
  limits: Limits, reader: Reader,
) -> None:  # fmt: skip
  space = limits.space_bytes, limits.space_bytes
  resource.setrlimit(resource.RLIMIT_AS, space)
  theirs.send(_run_cases(mark, seeds, cases, limits, reader))


def _too_long(number: int, frame: object) -> None:
  raise TooLong


def _run_cases(
  mark: Any, seeds: Path, cases: Sequence[Case], limits: Limits,
  reader: Reader,
) -> Outcome:  # fmt: skip
  outcome = Outcome()
  signal.signal(signal.SIGALRM, _too_long)
  peak = _peak_bytes()
  for done, (kind, case) in enumerate(cases):
    mark.value = done
    fault = ""
    try:
      try:
        # Again and again: where Python cannot raise it, the first one is lost.
        signal.setitimer(signal.ITIMER_REAL, limits.seconds, limits.seconds)
        ended = reader(seeds, kind, case)
      finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    except TooLong:
      ended, fault = "failed", f"still reading after {limits.seconds:g} s"
    except Exception as error:  # whatever else is raised is a finding
      ended, fault = "failed", f"{type(error).__name__}: {error}"
    grown = _peak_bytes() - peak
    if grown > limits.growth_bytes:
      fault = f"{fault} memory grew by {grown / 2**20:.0f} MiB".strip()
      peak += grown
    outcome.findings += [f"{kind} {case}: {fault}"] if fault else []
    outcome.counts[kind, ended] += 1
  return outcome


def _peak_bytes() -> int:
  """The most memory that was ever resident.

  What `getrusage` says of a child starts at its parent's, so that growth up
  to there is hidden; Linux tells both apart.
  """
  status = Path("/proc/self/status")
  if status.is_file():
    lines = dict(x.split(":", 1) for x in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024


def run_case(seeds: Path, kind: str, case: int) -> str:
  """Damages one file and reads it; `read`, `refused` or `not reached`.

  Another file is taken where nobody opens the damaged one: a copy, say,
  which is known by its size.
  """
  rng = np.random.default_rng((zlib.crc32(kind.encode()), case))
  whole = seeds / kind
  openers = _openers(whole, kind)
  for _ in range(TRIES):
    chosen = _chosen(sorted(openers), kind, rng)
    ended = _run_damaged(whole, kind, chosen, openers[chosen], rng)
    if ended != "not reached":
      break
  return ended


def _chosen(
  files: list[Path], kind: str, rng: np.random.Generator
) -> Path:
  """A table in half of the cases; else each sort of file is as likely."""
  if kind != "files":
    tables = [path for path in files if "".join(path.suffixes) in TABLES]
    files = tables if tables and rng.random() < 0.5 else files
  sorts: dict[str, list[Path]] = {}
  for path in files:
    sorts.setdefault(re.sub(r"0X\w+|\d+", "", path.name), []).append(path)
  alike = list(sorts.values())[rng.integers(len(sorts))]
  return alike[rng.integers(len(alike))]


def _run_damaged(
  whole: Path, kind: str, chosen: Path, names: frozenset[str],
  rng: np.random.Generator,
) -> str:  # fmt: skip
  data = _damaged(whole / chosen, rng)
  with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch).resolve() / "source"
    shutil.copytree(whole, folder, copy_function=os.link)
    (folder / chosen).unlink()
    (folder / chosen).write_bytes(data)
    _opened.clear()
    if kind == "files":
      ended = _read_file(folder / chosen)
    elif kind == "study":
      ended = _read_study(folder)
    else:
      ended = _read_folder(kind, folder, names, rng)
    return ended if str(folder / chosen) in _opened else "not reached"


def _damaged(path: Path, rng: np.random.Generator) -> bytes:
  """The bytes of a file with damage; mostly inside of what gzip packs."""
  data = path.read_bytes()
  if path.suffix == ".gz" and rng.random() < 0.8:
    with contextlib.suppress(EOFError, OSError):  # the seed has faults, too
      inside = gzip.decompress(data)
      inside = mutate(inside, path.suffixes[0] in TEXT, rng)
      return gzip.compress(inside, 1, mtime=0)
  return mutate(data, path.suffix in TEXT, rng)


_opened: set[str] = set()


@functools.cache
def _listen() -> None:
  sys.addaudithook(_note_opened)  # for good: none can be taken away


def _note_opened(event: str, args: tuple) -> None:
  if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
    _opened.add(os.path.abspath(os.fsdecode(args[0])))


@functools.cache
def _openers(whole: Path, kind: str) -> Mapping[Path, frozenset[str]]:
  """Files that reading a whole folder opens, and the items that open each.

  A file without items is opened to list them.  What nobody opens would not
  be missed, whatever its damage.
  """
  _listen()
  files = [path for path in whole.rglob("*") if path.is_file()]
  if kind in ("files", "study"):
    return {path.relative_to(whole): frozenset() for path in files}
  found: dict[Path, set[str]] = {}

  def note(name: str) -> None:
    for path in files:
      if str(path) in _opened:
        found.setdefault(path.relative_to(whole), set()).update({name} - {""})
    _opened.clear()

  _opened.clear()
  dataset = _dataset(kind, whole)
  note("")
  for item in dataset.items:
    _read_item(dataset, item)
    note(item.name)
  return {path: frozenset(names) for path, names in found.items()}


def _dataset(kind: str, folder: Path) -> Any:
  builder = importlib.import_module(f"data_builders.{kind}")
  options = {}
  if kind == "mimic_iv_echo":
    options["ecg"] = folder / "mimic-iv-ecg"
    options["patients"] = folder / "patients.csv.gz"
  return builder.dataset(folder, **options)


def _read_study(folder: Path) -> str:
  from echo_jax.data.ledger import Rejected
  from echo_jax.data.study_folder import read_study_folder

  try:
    study = read_study_folder(folder)
  except Rejected:
    return "refused"
  files = [path for path in folder.rglob("*") if path.is_file()]
  if sum(study.counts.values()) != len(files):
    raise AssertionError(f"{len(files)} files, but {study.counts}")
  return "refused" if study.counts["refused"] else "read"


def _read_file(path: Path) -> str:
  from echo_jax.data.ingest import read_recording, to_record
  from echo_jax.data.ingest.reading import is_ecg, read_ecg
  from echo_jax.data.ledger import Rejected

  try:
    if is_ecg(path):
      read_ecg(path)
      return "read"
    recording = read_recording(path)
    to_record(
      recording, video_id="f:v", study_id="f:s", patient_id="f:p", split="test"
    )
  except Rejected:
    return "refused"
  return "read"


def _read_folder(
  kind: str, folder: Path, names: frozenset[str], rng: np.random.Generator
) -> str:
  """Lists a builder's folder and reads items that the damage may touch."""
  try:
    dataset = _dataset(kind, folder)
  except (ValueError, OSError):  # said at the edge, in one line
    return "refused"
  near = [item for item in dataset.items if not names or item.name in names]
  chosen = sorted(rng.permutation(len(near))[:ITEMS])
  read = [_read_item(dataset, near[place]) for place in chosen]
  return "read" if any(read) else "refused"


def _read_item(dataset: Any, item: Any) -> bool:
  from echo_jax.data.ledger import Rejected
  from echo_jax.data.schema import check_record

  try:
    record, _ = dataset.read(item)
  except Rejected:
    return False
  check_record(record)
  return True
