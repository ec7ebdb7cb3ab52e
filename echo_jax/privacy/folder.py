"""A whole archive: every file to a copy or a reason, resumable, counted."""

import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from echo_jax.data.folders import walk
from echo_jax.data.ledger import Ledger
from echo_jax.privacy.audit import read_outcome
from echo_jax.privacy.deidentify import Options, Outcome, deidentify
from echo_jax.privacy.keys import Key
from echo_jax.privacy.private_map import PrivateMap, check_outside
from echo_jax.privacy.text import Reader, make_reader

PSEUDONYM = r"[a-z2-7]{16}"
AUDIT_FOLDER, LEDGER = "audit", "ledger.csv"


@dataclass(frozen=True)
class Task:
  """One file and where its results go."""

  path: Path
  out: Path
  figures: Path | None
  options: Options


@dataclass(frozen=True)
class Result:
  """What became of a file: written, kept (from an earlier run) or refused."""

  file: str
  status: str
  reason: str
  notes: tuple[str, ...] = ()


def files_in(source: Path) -> list[Path]:
  """The files of a folder in a fixed order, or the file itself."""
  if not source.exists():
    raise FileNotFoundError("the input does not exist")
  if source.is_file():
    return [source]
  # Broken links and pipes too: each is counted, as one that stays closed.
  return list(walk(source))


def check_places(
  source: Path, out: Path, key_file: Path, map_file: Path, figures: Path | None
) -> None:
  """Refuses places where a secret would leave with the copies.

  Raises:
    ValueError: one of them lies where it must not.
  """
  apart = "put it elsewhere"
  check_outside(key_file, out, "the key file", apart)
  check_outside(map_file, out, "the map of pseudonyms", "use --map")
  check_outside(out, source, "the output", apart)
  check_outside(source, out, "the input", apart)
  check_outside(key_file, source, "the key file", apart)
  check_outside(map_file, source, "the map of pseudonyms", "use --map")
  if figures is not None:
    check_outside(figures, out, "the folder of figures", apart)


def run_folder(
  source: Path, out: Path, key: Key, map_file: Path, options: Options,
  figures: Path | None = None, jobs: int = 1, progress: bool = True,
) -> dict[str, int]:  # fmt: skip
  """De-identifies every file of a folder; returns the counts by status.

  The counts of written, kept, repeated and refused add up to the files.
  A copy is kept from an earlier run if its audit record says that it passed
  with these settings and its bytes are still those that were checked.

  Raises:
    NoReader: OCR is not installed; nothing is written.
  """
  make_reader()  # refuses before anything is written
  paths = files_in(source)
  out.mkdir(parents=True, exist_ok=True)
  counts = dict.fromkeys(("written", "kept", "repeated", "refused"), 0)
  tasks = [Task(path, out, figures, options) for path in paths]
  seen: set[str] = set()
  with (
    PrivateMap(map_file) as names,
    Ledger(out / LEDGER) as ledger,
    tqdm(total=len(tasks), unit="file", disable=not progress) as bar,
  ):
    for name in _remove_doubtful(out):
      ledger.noted(name, "", "removed: a copy without a record that it passed")
    for path, result in _run(tasks, key, jobs):
      names.add(result.file, path)
      status = result.status
      if status != "refused" and result.file in seen:
        status = "repeated"
      seen.add(result.file)
      counts[status] += 1
      _enter(ledger, result, status)
      bar.update()
  return counts


def _enter(ledger: Ledger, result: Result, status: str) -> None:
  if status == "refused":
    ledger.rejected(result.file, "", result.reason)
    return
  if status == "repeated":
    ledger.noted(result.file, "", "repeated: the same bytes under another name")
    return
  for note in result.notes:
    ledger.noted(result.file, "", note)
  ledger.written(result.file, "")


def _run(
  tasks: Sequence[Task], key: Key, jobs: int
) -> Iterator[tuple[Path, Result]]:
  """Results in the order of the tasks, from one process or several."""
  if jobs == 1:
    read = make_reader()
    for task in tasks:
      yield task.path, run_task(task, key, read)
    return
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(
    jobs, spawn, initializer=_start_worker, initargs=(key,)
  ) as pool:
    for task, result in zip(tasks, pool.map(_work, tasks), strict=True):
      yield task.path, result


_worker: tuple[Key, Reader] | None = None


def _start_worker(key: Key) -> None:
  global _worker
  _worker = key, make_reader()


def _work(task: Task) -> Result:
  key, read = _worker
  return run_task(task, key, read)


def run_task(
  task: Task, key: Key, read: Reader,
  clean: Callable[..., Outcome] = deidentify,
) -> Result:  # fmt: skip
  """One file: its copy and its audit record on disk, or the record alone."""
  file, _ = key.name_file(task.path)
  record = _record_of(file, task.out)
  before = read_outcome(record)
  if _still_good(before, task, key):
    return Result(file, "kept", "", tuple(before["notes"]))
  outcome = clean(task.path, key, read, task.options)
  audit = outcome.audit
  _forget(before, task.out)
  # The record first: there is never a copy without one.
  _write(record, audit.to_json().encode())
  if outcome.data is not None:
    _write(task.out / audit.copy, outcome.data)
  if task.figures is not None and outcome.after is not None:
    _draw(task.figures / f"{file}.png", outcome)
  status = "refused" if outcome.data is None else "written"
  return Result(file, status, audit.reason, audit.notes)


def _still_good(before: dict, task: Task, key: Key) -> bool:
  """True if a copy of an earlier run needs no second look."""
  settings = json.loads(json.dumps(task.options.settings(key)))
  if before.get("outcome") != "written" or before.get("settings") != settings:
    return False
  copy = task.out / before["copy"]
  if not copy.is_file():
    return False
  return _sha256(copy) == before["sha256"]


def _sha256(path: Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()


def _record_of(file: str, out: Path) -> Path:
  return out / AUDIT_FOLDER / file[:2] / f"{file}.json"


def _remove_doubtful(out: Path) -> list[str]:
  """Deletes copies that no record vouches for; returns their names."""
  removed = []
  for copy in sorted(out.glob("*/*/*.dcm")):
    if not re.fullmatch(PSEUDONYM, copy.stem):
      continue  # not ours
    before = read_outcome(_record_of(copy.stem, out))
    named = before.get("copy") == copy.relative_to(out).as_posix()
    if before.get("outcome") != "written" or not named:
      copy.unlink()
      removed.append(copy.stem)
  return removed


def _forget(before: dict, out: Path) -> None:
  """The copy of an earlier run goes before it is made again, or refused."""
  if before.get("outcome") == "written":
    (out / before["copy"]).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
  """The file appears whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    partial.write_bytes(data)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def _draw(path: Path, outcome: Outcome) -> None:
  """Before and after side by side, mode 600: the left half has identities."""
  path.parent.mkdir(parents=True, exist_ok=True)
  halves = [
    np.broadcast_to(frames.max(0), (*frames.shape[1:3], 3))
    for frames in (outcome.before, outcome.after)
  ]
  coded, data = cv2.imencode(".png", np.hstack(halves)[..., ::-1])
  if not coded:
    raise OSError("a figure could not be coded as PNG")
  flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
  with open(os.open(path, flags, 0o600), "wb") as file:
    file.write(data.tobytes())
