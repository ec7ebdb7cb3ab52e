"""From finished shards to a data set: duplicates, names, index, ledger."""

import errno
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from echo_jax.data.index import INDEX_FILE, write_index
from echo_jax.data.ledger import Ledger
from echo_jax.data.plan import Dataset, Plan, Shard
from echo_jax.data.shards import (
  Account,
  read_account,
  record_features,
  records_file,
  write_records,
)
from echo_jax.data.sources import digests_of

_NO_LINKS = (
  errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK,
  errno.EXDEV,
)  # fmt: skip


@dataclass(frozen=True)
class Counts:
  """What came of everything that was found."""

  found: int
  written: int
  rejected: int
  noted: int
  reasons: Mapping[str, int]
  splits: Mapping[str, int]


def finish(dataset: Dataset, plan: Plan, shards: Path, whole: Path) -> Counts:
  """Makes the folder `whole` from all finished shards.

  The shards stay as they are, so that this can be broken off and done again.
  """
  shutil.rmtree(whole, ignore_errors=True)
  whole.mkdir()
  accounts = [read_account(shards, shard) for shard in plan.shards]
  losers = find_duplicates(accounts)
  accounts = [
    _without(account, losers.get(i, {})) for i, account in enumerate(accounts)
  ]
  kept = _kept(plan.shards, accounts)
  if kept:
    _place_records(dataset.name, kept, losers, shards, whole)
    write_index(
      whole / INDEX_FILE,
      [
        pa.concat_tables(account.index for _, account in those)
        for those in kept.values()
      ],
    )
    lengths = {s: [len(a.items) for _, a in kept[s]] for s in kept}
    sizes = {s: sum(sum(a.record_bytes) for _, a in kept[s]) for s in kept}
    describe(
      dataset.name, dataset.version, dataset.description, whole, lengths, sizes
    )
  counts = _count(dataset, accounts, whole / "ledger.csv", kept)
  _write_json(whole / "counts.json", asdict(counts))
  _write_json(whole / "settings.json", dict(dataset.settings))
  if kept:
    digests = digests_of(whole, dataset.name, dataset.version)
    _write_json(whole / "fingerprint.json", digests)
  return counts


def find_duplicates(accounts: Sequence[Account]) -> dict[int, dict[int, str]]:
  """Shard number to {position in its file: id} of what must go.

  Of several records of one id the first in the listing stays.
  """
  first: dict[str, tuple[int, int, int]] = {}
  losers: dict[int, dict[int, str]] = defaultdict(dict)
  for shard, account in enumerate(accounts):
    ids = account.index["video_id"].to_pylist()
    for place, (item, name) in enumerate(zip(account.items, ids, strict=True)):
      here = (item, shard, place)
      if name in first:
        here, (_, *loser) = sorted([here, first[name]])
        losers[loser[0]][loser[1]] = name
      first[name] = here
  return dict(losers)


def _without(account: Account, losers: Mapping[int, str]) -> Account:
  """An account after its duplicates were taken out."""
  if not losers:
    return account
  gone = {account.items[place]: name for place, name in losers.items()}
  entries = []
  for entry in account.entries:
    number, item, split, status, _ = entry
    if number not in gone:
      entries.append(entry)
    elif status == "written":
      reason = f"duplicate id: {gone[number]} was written before"
      entries.append((number, item, split, "rejected", reason))
  stay = [i for i in range(len(account.items)) if i not in losers]
  return replace(
    account, entries=tuple(entries),
    index=account.index.take(pa.array(stay, pa.int64())),
    items=tuple(account.items[i] for i in stay),
    record_bytes=tuple(account.record_bytes[i] for i in stay),
  )  # fmt: skip


Kept = Mapping[str, Sequence[tuple[Shard, Account]]]


def _kept(shards: Sequence[Shard], accounts: Sequence[Account]) -> Kept:
  """Shards with records, by split; TFDS knows no empty file or split."""
  kept = defaultdict(list)
  for shard, account in zip(shards, accounts, strict=True):
    if account.items:
      kept[shard.split].append((shard, account))
  return dict(kept)


def _place_records(
  name: str, kept: Kept, losers: Mapping[int, Mapping[int, str]], folder: Path,
  whole: Path,
) -> None:  # fmt: skip
  """Puts the files of records into `whole`, under TFDS's names."""
  for split, those in kept.items():
    names = _template(name, split, whole).sharded_filepaths(len(those))
    for (shard, _), path in zip(those, names, strict=True):
      source = records_file(folder, shard.number)
      if shard.number in losers:
        _copy_without(source, Path(path), losers[shard.number])
      else:
        _link(source, Path(path))


def _copy_without(source: Path, path: Path, losers: Mapping[int, str]) -> None:
  reader = ArrayRecordReader(str(source))
  write_records(
    path,
    (
      reader.read([place])[0]
      for place in range(reader.num_records())
      if place not in losers
    ),
  )


def _link(source: Path, path: Path) -> None:
  """A second name of a file, or a new one where that cannot be had."""
  try:
    os.link(source, path)
  except OSError as error:
    if error.errno not in _NO_LINKS:
      raise
    source.rename(path)  # a kill before the end costs this shard


def _template(
  name: str, split: str, folder: Path
) -> tfds.core.ShardedFileTemplate:
  return tfds.core.ShardedFileTemplate(
    folder, dataset_name=name, split=split, filetype_suffix="array_record"
  )


def describe(
  name: str, version: str, description: str, folder: Path,
  lengths: Mapping[str, Sequence[int]], sizes: Mapping[str, int],
) -> None:  # fmt: skip
  """Writes what `tfds.builder_from_directory` wants to know.

  Args:
    name: of the data set.
    version: of the data set, `1.0.0`.
    description: one paragraph.
    folder: where the files lie.
    lengths: split to records in each of its files.
    sizes: split to bytes of its records.
  """
  identity = tfds.core.DatasetIdentity(
    name=name, version=tfds.core.Version(version), data_dir=str(folder),
    module_name="echo_jax.data.build",
  )  # fmt: skip
  info = tfds.core.DatasetInfo(
    builder=identity, description=description, features=record_features(),
    disable_shuffling=True,
  )  # fmt: skip
  info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
  splits = [
    tfds.core.SplitInfo(
      name=split, shard_lengths=list(lengths[split]), num_bytes=sizes[split],
      filename_template=_template(name, split, folder),
    )
    for split in lengths
  ]  # fmt: skip
  info.set_splits(tfds.core.SplitDict(splits))
  info.write_to_directory(folder)


def _count(
  dataset: Dataset, accounts: Sequence[Account], path: Path, kept: Kept
) -> Counts:
  """Writes the ledger: refused files, then items in the order of records."""
  with Ledger(path) as ledger:
    for name, reason in dataset.refused:
      ledger.rejected(name, "", reason)
    for account in accounts:
      for _, item, split, status, reason in account.entries:
        ledger.enter(item, split, status, reason)
  return Counts(
    len(dataset.items) + len(dataset.refused), ledger.counts["written"],
    ledger.counts["rejected"], ledger.counts["noted"], dict(ledger.reasons),
    {s: sum(len(a.items) for _, a in kept[s]) for s in kept},
  )  # fmt: skip


def _write_json(path: Path, value: Mapping) -> None:
  text = json.dumps(value, indent=2, sort_keys=True)
  path.write_text(text + "\n", encoding="utf-8")
