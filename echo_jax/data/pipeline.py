"""Batches of clips from video sources, as pure functions of (seed, step).

Training batch i depends on the seed and i only, not on workers, hosts or
where a run was resumed, so the step number is the whole data position.
A batch is a dict: arrays under the record's names plus `video`; `video_id`
is a list of text and stays on the host.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from echo_jax.data.clips import (
  choose_frames,
  latest_start_ms,
  spread_starts_ms,
)
from echo_jax.data.contract import InputContract, draw_clip, fit_sector
from echo_jax.data.schema import Record
from echo_jax.data.sources import VideoSource
from echo_jax.data.transforms import Augmentation, augment
from echo_jax.targets import Target, truth_of

Batch = dict[str, Any]


@dataclass(frozen=True)
class ClipMaker:
  """Turns a record and a start into one clip with its targets."""

  contract: InputContract
  targets: tuple[Target, ...] = ()
  augmentation: Augmentation = Augmentation()
  sector: bool = False

  def at(self, record: Record, start_ms: float) -> Batch:
    """The clip that starts at `start_ms`, without augmentation."""
    contract = self.contract
    clip = choose_frames(
      record["frame_time_ms"], contract.frames, contract.span_s, start_ms
    )
    example = {
      "video": draw_clip(record, clip, contract),
      "frame_time_ms": clip.time_ms - np.float32(clip.time_ms[0]),
      "frame_index": clip.index,
      "frame_valid": clip.valid,
      "target": np.asarray(
        [truth_of(target, record) for target in self.targets], np.float32
      ),
      "video_id": record["video_id"],
      "start_ms": np.float32(clip.start_ms),
    }
    if self.sector:
      example["sector"] = fit_sector(record, contract)
    return example

  def drawn(self, record: Record, rng: np.random.Generator) -> Batch:
    """A clip from a random start, augmented."""
    span_s = self.contract.span_s
    latest = latest_start_ms(record["frame_time_ms"], span_s) if span_s else 0.0
    example = self.at(record, rng.uniform(0.0, latest) if latest else 0.0)
    return augment(example, self.augmentation, rng)


def training_batches(
  source: Sequence[Record],
  maker: ClipMaker,
  *,
  seed: int,
  batch_size: int,
  first_step: int = 0,
  process: tuple[int, int] = (0, 1),
  threads: int = 2,
) -> Iterator[Batch]:
  """Endless batches from step `first_step` on.

  Args:
    source: records, read at random.
    maker: draws the clips.
    seed: with the step number, decides everything.
    batch_size: of the global batch.
    first_step: number of the first batch to give.
    process: this process and how many there are; each gets its rows.
    threads: readers; the result does not depend on them.

  Raises:
    ValueError: the source is empty, or processes do not divide the batch.
  """
  number, count = process
  if not len(source):
    raise ValueError("no videos to train on")
  if batch_size % count:
    raise ValueError(f"batch {batch_size} does not divide by {count} processes")
  # Endless in practice; grain's own endless repeat overflows in a batch of 1.
  epochs = 2**48 // len(source)
  clips = grain.MapDataset.source(source).seed(seed).shuffle().repeat(epochs)
  drawn = clips.random_map(maker.drawn)
  rows = drawn[number::count].batch(batch_size // count, batch_fn=stack)
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=8)
  return iter(rows[first_step:].to_iter_dataset(options))


def evaluation_batches(
  source: Sequence[Record],
  maker: ClipMaker,
  *,
  batch_size: int,
  clips_per_video: int,
  threads: int = 2,
) -> Iterator[Batch]:
  """Every clip of every video once, in order; the last batch is padded.

  `row_valid` and `frame_valid` are False in padding rows.  Starts are spread
  evenly over each video, so they depend on the video alone.
  """
  plan = [
    (position, start)
    for position in range(len(source))
    for start in _starts(source, position, maker.contract, clips_per_video)
  ]

  def load(entry: tuple[int, float]) -> Batch:
    return maker.at(source[entry[0]], entry[1]) | {"row_valid": np.True_}

  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=8)
  clips = grain.MapDataset.source(plan).map(load).to_iter_dataset(options)
  rows: list[Batch] = []
  for clip in clips:
    rows.append(clip)
    if len(rows) == batch_size:
      yield stack(rows)
      rows = []
  if rows:
    nothing = np.zeros(maker.contract.frames, bool)
    padding = rows[-1] | {"row_valid": np.False_, "frame_valid": nothing}
    yield stack(rows + [padding] * (batch_size - len(rows)))


def _starts(
  source: Sequence[Record], position: int, contract: InputContract, clips: int
) -> list[float]:
  if clips == 1 or contract.span_s == 0:
    return [0.0]
  times = source[position]["frame_time_ms"]
  return spread_starts_ms(times, contract.span_s, clips).tolist()


def stack(rows: Sequence[Batch]) -> Batch:
  """Rows to one batch; text becomes a list."""
  return {
    name: [row[name] for row in rows]
    if isinstance(rows[0][name], str)
    else np.stack([row[name] for row in rows])
    for name in rows[0]
  }


def arrays_of(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """What goes to the device: everything but text."""
  return {k: v for k, v in batch.items() if isinstance(v, np.ndarray)}


class Subset(Sequence):
  """Some positions of a source, in the order given, and their index rows."""

  def __init__(self, source: VideoSource, positions: Sequence[int]):
    self._source = source
    self._positions = list(positions)
    self.index = source.index.iloc[self._positions].reset_index(drop=True)

  def __len__(self) -> int:
    return len(self._positions)

  def __getitem__(self, position: int) -> Record:
    return self._source[self._positions[position]]

  def __repr__(self) -> str:
    return f"Subset({len(self)} of {self._source!r})"
