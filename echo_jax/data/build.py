"""The shared way of every builder: items in, TFDS records and a ledger out.

A data set is listed (cheap, no pixels), then each item is read, checked and
written to ArrayRecord files by TFDS.  Everything is made in a folder beside
the final one and moved there when it is whole, so that a build which was
killed, or ran out of disk, is never taken for a finished one.
"""

import contextlib
import csv
import errno
import itertools
import json
import multiprocessing
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from echo_jax.data import schema
from echo_jax.data.ledger import Ledger, Rejected

INDEX_COLUMNS = (*schema.SCALARS, "frame_count", "span_ms", "pixel_crc32")


@dataclass(frozen=True)
class Item:
  """One recording that the owner's listing names; `facts` go to `read`."""

  name: str
  split: str
  facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
  """What a builder module returns.

  Attributes:
    name: folder name under the data directory.
    version: of the builder's output, `1.0.0`.
    description: one paragraph; goes into the TFDS info.
    settings: every option that changes the records (kept with the data).
    items: what was found, in a fixed order.
    refused: what the listing itself found wrong, as (name, reason).
    read: makes the record of an item and notes for the ledger, or raises
      `Rejected`.  Must be picklable (a module-level function or a partial).
  """

  name: str
  version: str
  description: str
  settings: Mapping[str, Any]
  items: tuple[Item, ...]
  read: Callable[[Item], tuple[schema.Record, tuple[str, ...]]]
  refused: tuple[tuple[str, str], ...] = ()


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


class BuildFailed(ValueError):
  """No usable data set came out; the message says why and where to look."""


def build(
  dataset: Dataset,
  data_dir: Path,
  *,
  workers: int = 1,
  overwrite: bool = False,
  progress: bool = True,
) -> BuildReport:
  """Writes a data set under `data_dir/name/version`.

  Args:
    dataset: what to build.
    data_dir: the folder of all data sets.
    workers: processes that read items; the result does not depend on it.
    overwrite: replace a finished data set of that name and version.
    progress: show a bar.

  Raises:
    BuildFailed: nothing could be written, or the disk is full.
  """
  data_dir = Path(data_dir)
  final = data_dir / dataset.name / dataset.version
  if final.exists() and not overwrite:
    raise BuildFailed(f"{final} exists; remove it or pass --overwrite")
  folder = data_dir / f".{dataset.name}-{dataset.version}-unfinished"
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  try:
    with Ledger(folder / "ledger.csv") as ledger:
      _write(dataset, folder, ledger, workers, progress)
      report = _report(dataset, final, ledger)
    final.parent.mkdir(parents=True, exist_ok=True)
    whole = folder / dataset.name / dataset.version
    (folder / "ledger.csv").rename(whole / "ledger.csv")
    if final.exists():  # aside in one move, never half removed
      final.rename(folder / "replaced")
    whole.rename(final)
  except (OSError, RuntimeError) as error:
    # ArrayRecord reports a full disk as a RuntimeError without a number.
    if os.strerror(errno.ENOSPC) in str(error):
      free = shutil.disk_usage(data_dir).free
      raise BuildFailed(
        f"no space left for {final} ({free / 2**20:.0f} MiB free); nothing "
        "was kept of this build"
      ) from error
    raise
  except BuildFailed:
    kept = data_dir / f"{dataset.name}-{dataset.version}-failed.csv"
    shutil.copy(folder / "ledger.csv", kept)
    raise
  finally:
    shutil.rmtree(folder, ignore_errors=True)
  return report


def _report(dataset: Dataset, final: Path, ledger: Ledger) -> BuildReport:
  """The counts of a build; refuses those that are empty or do not add up."""
  found = len(dataset.items) + len(dataset.refused)
  counts = ledger.counts
  report = BuildReport(
    final, found, counts["written"], counts["rejected"], counts["noted"],
    dict(ledger.reasons),
  )  # fmt: skip
  if found != report.written + report.rejected:
    raise BuildFailed(f"counts do not add up: {report}")
  if not report.written:
    raise BuildFailed(
      f"{dataset.name}: none of {found} files became a record; the reasons "
      f"are in {final.parent}-{dataset.version}-failed.csv"
    )
  return report


def _write(
  dataset: Dataset, folder: Path, ledger: Ledger, workers: int, progress: bool
) -> None:
  """Reads every item and writes records, index and settings to `folder`."""
  for name, reason in dataset.refused:
    ledger.rejected(name, "", reason)
  bar = tqdm(
    total=len(dataset.items), desc=f"build {dataset.name}", unit="video",
    disable=not progress,
  )  # fmt: skip
  rows: dict[str, dict[str, Any]] = {}
  with bar, _Readers(dataset.read, workers) as readers:

    def records(split: str) -> Iterator[tuple[int, schema.Record]]:
      items = [item for item in dataset.items if item.split == split]
      for item, result in readers.in_order(items):
        record = _accept(item, result, rows, ledger)
        bar.update()
        if record is not None:
          yield len(rows), record | {"ecg_mv": record["ecg_mv"].ravel()}

    listed = {item.split for item in dataset.items}
    if not listed <= set(schema.SPLITS):
      raise BuildFailed(f"splits {listed}; known are {schema.SPLITS}")
    if not listed:
      return
    # TFDS refuses a split without records, so each one's first is read now.
    splits = {s: records(s) for s in schema.SPLITS if s in listed}
    first = {s: next(found, None) for s, found in splits.items()}
    splits = {
      s: itertools.chain([first[s]], found)
      for s, found in splits.items()
      if first[s] is not None
    }
    if not splits:
      return
    writer = _tfds_writer(dataset, splits, folder)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(None):  # TFDS speaks of a download
      writer.download_and_prepare()
  whole = folder / dataset.name / dataset.version
  _write_index(whole / "index.csv", rows.values())
  settings = json.dumps(dict(dataset.settings), indent=2, sort_keys=True)
  (whole / "settings.json").write_text(settings + "\n", encoding="utf-8")


def _accept(
  item: Item,
  result: "Rejected | tuple[schema.Record, tuple[str, ...]]",
  rows: dict[str, dict[str, Any]],
  ledger: Ledger,
) -> schema.Record | None:
  """Checks a read item, enters it in ledger and index; None if refused."""
  if isinstance(result, Rejected):
    ledger.rejected(item.name, item.split, str(result))
    return None
  record, notes = result
  try:
    schema.check_record(record)
    if record["split"] != item.split:
      split = record["split"]
      raise ValueError(f"split is {split!r}, listed as {item.split!r}")
  except ValueError as error:
    ledger.rejected(item.name, item.split, f"bad record: {error}")
    return None
  if record["video_id"] in rows:
    reason = f"duplicate id: {record['video_id']} was written before"
    ledger.rejected(item.name, item.split, reason)
    return None
  for note in notes:
    ledger.noted(item.name, item.split, note)
  ledger.written(item.name, item.split)
  rows[record["video_id"]] = _index_row(record)
  return record


def _index_row(record: schema.Record) -> dict[str, Any]:
  """The scalars of a record, its length and a checksum of its pixels."""
  row = {name: record[name] for name in schema.SCALARS}
  checksum = 0
  for frame in record["frames"]:
    checksum = zlib.crc32(frame, checksum)
  row["frame_count"] = len(record["frames"])
  row["span_ms"] = float(record["frame_time_ms"][-1])
  row["pixel_crc32"] = f"{checksum:08x}"
  return row


def _write_index(path: Path, rows: Iterable[dict[str, Any]]) -> None:
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, INDEX_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)


class _Readers:
  """Reads items in one process or several; results come in item order."""

  def __init__(self, read: Callable, workers: int):
    self._read = read
    self._window = 4 * workers
    spawn = multiprocessing.get_context("spawn")
    self._pool = ProcessPoolExecutor(workers, spawn) if workers > 1 else None

  def in_order(self, items: list[Item]) -> Iterator[tuple[Item, Any]]:
    """Each item with its record and notes, or with its `Rejected`."""
    if self._pool is None:
      for item in items:
        yield item, _read_one(self._read, item)
      return
    # A short queue: records are megabytes and must not pile up in memory.
    queue: deque[tuple[Item, Future]] = deque()
    for item in items:
      queue.append((item, self._pool.submit(_read_one, self._read, item)))
      if len(queue) >= self._window:
        first, future = queue.popleft()
        yield first, future.result()
    while queue:
      first, future = queue.popleft()
      yield first, future.result()

  def __enter__(self) -> "_Readers":
    return self

  def __exit__(self, *error: object) -> None:
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)


def _read_one(read: Callable, item: Item) -> Any:
  try:
    return read(item)
  except Rejected as reason:
    return reason


def _features() -> tfds.features.FeaturesDict:
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


def _tfds_writer(
  dataset: Dataset, splits: Mapping[str, Iterator], folder: Path
) -> tfds.core.GeneratorBasedBuilder:
  """A TFDS builder of that name that writes our splits."""

  class Writer(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    name = dataset.name
    VERSION = tfds.core.Version(dataset.version)

    def _info(self) -> tfds.core.DatasetInfo:
      return tfds.core.DatasetInfo(
        builder=self, description=dataset.description, features=_features(),
        disable_shuffling=True,
      )  # fmt: skip

    def _split_generators(self, _: object) -> dict[str, Iterator]:
      return dict(splits)

    def _generate_examples(self) -> Iterator:
      raise AssertionError("splits bring their own generators")

  return Writer(data_dir=folder, file_format="array_record")
