"""The shared way of every builder: items in, TFDS records and a ledger out.

A data set is listed (cheap, no pixels) and cut into shards (plan.py).  Each
shard is read, checked and written by itself (shards.py), in this process, in
several (crew.py) or on Apache Beam (beam.py), and when all are there they
become a data set (finish.py).  Everything happens in a hidden folder beside
the final one (unfinished.py): a build that was killed goes on where it was,
and is never taken for a finished one.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from echo_jax.data.crew import Crew, run_here
from echo_jax.data.finish import Counts, finish
from echo_jax.data.plan import (
  BuildFailed,
  Dataset,
  Item,
  Plan,
  Shard,
  make_plan,
)
from echo_jax.data.unfinished import Unfinished

__all__ = ["BuildFailed", "BuildReport", "Dataset", "Item", "build"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class BuildReport:
  """Where the data set lies and the counts that must add up."""

  path: Path
  found: int
  written: int
  rejected: int
  noted: int
  reasons: Mapping[str, int]

  def __str__(self) -> str:
    lines = [
      f"{self.path}: {self.found} found = {self.written} written "
      f"+ {self.rejected} rejected; {self.noted} notes in ledger.csv"
    ]
    lines += [f"  {count} x {why}" for why, count in self.reasons.items()]
    return "\n".join(lines)


def build(
  dataset: Dataset,
  data_dir: Path,
  *,
  workers: int = 0,
  overwrite: bool = False,
  progress: bool = True,
  beam: Sequence[str] | None = None,
) -> BuildReport:
  """Writes a data set under `data_dir/name/version`.

  A build that was broken off goes on where it was, if listing, settings and
  code are the same.

  Args:
    dataset: what to build.
    data_dir: the folder of all data sets.
    workers: processes that read items; the result does not depend on it.  0
      reads in this process: quick to start, but a reader that crashes ends it.
    overwrite: replace a finished data set of that name and version.
    progress: show a bar.
    beam: options of an Apache Beam pipeline that does the reading instead.

  Raises:
    BuildFailed: nothing could be written, or the disk is full.
  """
  final = Path(data_dir) / dataset.name / dataset.version
  plan = make_plan(dataset)
  with _full_disk_named(final, plan), Unfinished(final) as unfinished:
    if final.exists() and not overwrite:
      raise BuildFailed(f"{final} exists; remove it or pass --overwrite")
    to_do, folder = unfinished.start(plan), unfinished.shards(plan)
    if beam is not None:
      from echo_jax.data.beam import run_on_beam  # an extra, not at the top

      run_on_beam(dataset.read, folder, to_do, beam)
    else:
      _run(dataset, to_do, folder, workers, progress)
    counts = finish(dataset, plan, folder, unfinished.whole)
    report = _report(dataset, final, counts, unfinished)
    unfinished.move()
  return report


def _run(
  dataset: Dataset, to_do: Sequence[Shard], folder: Path, workers: int,
  progress: bool,
) -> None:  # fmt: skip
  """Works through the shards under a bar that counts items."""
  left = sum(len(shard.items) for shard in to_do)
  bar = tqdm(
    total=len(dataset.items), initial=len(dataset.items) - left,
    desc=f"build {dataset.name}", unit="video", disable=not progress,
  )  # fmt: skip
  with bar:
    if not workers:
      run_here(dataset.read, folder, to_do, bar.update)
      return
    with Crew(dataset.read, folder, min(workers, len(to_do))) as crew:
      crew.run(to_do, bar.update)


def _report(
  dataset: Dataset, final: Path, counts: Counts, unfinished: Unfinished
) -> BuildReport:
  """The counts of a build; refuses those that are empty or do not add up."""
  report = BuildReport(
    final, counts.found, counts.written, counts.rejected, counts.noted,
    counts.reasons,
  )  # fmt: skip
  adds_up = report.found == report.written + report.rejected
  if adds_up and report.written:
    return report
  kept = final.parent.parent / f"{dataset.name}-{dataset.version}-failed.csv"
  shutil.copy(unfinished.whole / "ledger.csv", kept)
  unfinished.clear()  # to try again means to read again
  if not adds_up:
    raise BuildFailed(f"counts do not add up: {report}")
  raise BuildFailed(
    f"{dataset.name}: none of {report.found} files became a record; the "
    f"reasons are in {kept}"
  )


@contextlib.contextmanager
def _full_disk_named(final: Path, plan: Plan) -> Iterator[None]:
  """Says what a full disk means for the build."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    # ArrayRecord and Beam raise a RuntimeError without a number.
    known = getattr(error, "errno", None) in _FULL
    if known or any(os.strerror(code) in str(error) for code in _FULL):
      raise BuildFailed(_no_space(final, plan)) from error
    raise


def _no_space(final: Path, plan: Plan) -> str:
  """Where space is wanting, how much, and what was kept."""
  unfinished = Unfinished(final)
  done = unfinished.finished(plan)
  size = unfinished.size_bytes(plan)
  items = sum(len(shard.items) for shard in done)
  left = sum(len(shard.items) for shard in plan.shards) - items
  free = shutil.disk_usage(_existing(final)).free
  need = f"about {_mib(left * size / items)}" if items else "not known yet"
  kept = (
    f"{len(done):,} of {len(plan.shards):,} shards ({_mib(size)}) are kept in "
    f"{unfinished.folder}: make room and run the same command to go on"
    if done
    else "nothing was kept of this build"
  )
  return (
    f"no space left for {final} ({_mib(free)} free); needed for the other "
    f"{left:,} of {left + items:,} items: {need}; {kept}"
  )


def _mib(size: float | int) -> str:
  return f"{size / 2**20:,.0f} MiB"


def _existing(path: Path) -> Path:
  """The path or the nearest folder above it that is there."""
  return path if path.exists() else _existing(path.parent)
