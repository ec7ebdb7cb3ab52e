"""Batches of clips from video sources, as pure functions of (seed, step).

Training batch i depends on the seed and i only, not on threads, workers,
hosts or where a run was resumed, so the step number is the whole data
position.  A batch is a dict: arrays under the record's names plus `video`;
`video_id` is a list of text and stays on the host.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags

from echo_jax.data.clips import (
  Windows,
  choose_frames,
  duration_ms,
  thin_frames,
  windows_of_beats,
  windows_of_seconds,
)
from echo_jax.data.contract import (
  InputContract,
  draw_cavity,
  draw_clip,
  fit_sector,
  fitted_spacing,
)  # fmt: skip
from echo_jax.data.mixing import Mixture, Shares
from echo_jax.data.phase import beats_of_clip
from echo_jax.data.schema import Record
from echo_jax.data.transforms import (
  Augmentation,
  apply_draw,
  draw_numbers,
  thinning,
)
from echo_jax.targets import Target, truths_of
from echo_jax.units import s_from_ms

Batch = dict[str, Any]


@dataclass(frozen=True)
class ClipMaker:
  """Turns a record and a start into one clip with its targets.

  Attributes:
    contract: how a clip reaches the model.
    targets: whose truth goes with it.
    augmentation: of training clips.
    sector: whether the batch has the sector of each clip.
    cavity: whether it has `lv_mask` [T H W] and `lv_mask_known` of each clip.
    beats: whether it has `beat` [T] of each clip, see `phase.beats_of_clip`.
    person: whether it has a number of each clip's patient, which one pair of
      patients in 2**31 shares: enough to say who is not to be contrasted.

  Raises:
    ValueError: cavities beside an augmentation that would move only frames.
  """

  contract: InputContract
  targets: tuple[Target, ...] = ()
  augmentation: Augmentation = Augmentation()
  sector: bool = False
  cavity: bool = False
  beats: bool = False
  person: bool = False

  def __post_init__(self) -> None:
    if self.cavity and self.augmentation.moves:
      raise ValueError(
        f"{self.augmentation} moves frames and not the cavity's masks; use "
        "augmentations of brightness only"
      )

  def windows(self, record: Record) -> Windows:
    """Where clips of this video may lie.

    Raises:
      UnknownTimes, UnknownBeats: the contract asks for what is not known.
    """
    times, contract = record["frame_time_ms"], self.contract
    if contract.span_beats:
      return windows_of_beats(
        times, record["r_wave_ms"], record["heart_rate_bpm"],
        contract.span_beats,
      )  # fmt: skip
    return windows_of_seconds(times, contract.span_s)

  def starts(self, record: Record, clips: int) -> list[float]:
    """At most `clips` starts in ms, spread evenly over the video."""
    return self.windows(record).spread(clips)

  def at(self, record: Record, start_ms: float) -> Batch:
    """The clip that starts at `start_ms`, without augmentation."""
    window = self.windows(record).at(start_ms)
    return self._make(record, window, None, self.sector)

  def drawn(self, record: Record, rng: np.random.Generator) -> Batch:
    """A clip from a random start, augmented."""
    how, windows = self.augmentation, self.windows(record)
    window = windows.at(windows.draw(rng))
    draw = draw_numbers(rng)
    among = thin_frames(record["frame_time_ms"], *thinning(how, draw))
    sector = self.sector or how.needs_sector
    example = self._make(record, window, among, sector)
    example = apply_draw(example, how, draw)
    if sector and not self.sector:
      example.pop("sector")
    return example

  def _make(
    self,
    record: Record,
    window: tuple[float, float],
    among: np.ndarray | None,
    sector: bool,
  ) -> Batch:
    contract, times = self.contract, record["frame_time_ms"]
    start_ms, span_ms = window
    clip = choose_frames(
      times, contract.frames, s_from_ms(span_ms), start_ms, among
    )
    example = {
      "video": draw_clip(record, clip, contract),
      "frame_time_ms": clip.time_ms - np.float32(clip.time_ms[0]),
      "frame_index": clip.index,
      "frame_valid": clip.valid,
      "spacing_mm": fitted_spacing(record, contract),
      "target": np.asarray(truths_of(self.targets, record), np.float32),
      "video_id": record["video_id"],
      "start_ms": np.float32(clip.start_ms),
      "span_ms": np.float32(span_ms or duration_ms(times)),
    }
    if "cohort" in record:
      example["cohort"] = np.int32(record["cohort"])
      example["cohort_name"] = record["cohort_name"]
    if sector:
      example["sector"] = fit_sector(record, contract)
    if self.cavity:
      example["lv_mask_known"] = np.bool_(len(record["lv_mask"]) > 0)
      example["lv_mask"] = draw_cavity(record, clip, contract)
    if self.beats:
      example["beat"] = beats_of_clip(
        record, clip.time_ms, example["video"], clip.valid
      )
    if self.person:
      example["person"] = person_number(record["patient_id"])
    return example


def person_number(patient_id: str) -> np.int32:
  """A number of a patient that is the same in every process and run."""
  return np.int32(zlib.crc32(patient_id.encode()) >> 1)


@runtime_checkable
class Draws(Protocol):
  """Makes an example of training of an element of a source."""

  def drawn(self, record: Any, rng: np.random.Generator) -> Batch:
    """All that is random comes from `rng`."""


@runtime_checkable
class Places(Protocol):
  """Makes examples of evaluation of an element of a source."""

  contract: InputContract

  def starts(self, record: Any, clips: int) -> list[Any]:
    """Where at most so many examples are."""

  def at(self, record: Any, start_ms: Any) -> Batch:
    """The example that is there."""


def training_batches(
  source: Sequence[Any],
  maker: Draws,
  *,
  seed: int,
  batch_size: int,
  first_step: int = 0,
  rows: Sequence[int] | None = None,
  clips_per_video: int = 1,
  threads: int = 2,
  workers: int = 0,
) -> Iterator[Batch]:
  """Endless batches from step `first_step` on.

  Every record comes once an epoch (of its cohort, in a `Mixture`).  A batch
  goes over the end of an epoch: it is filled up from the next one, so nothing
  is left out or padded when they do not divide.

  Args:
    source: records, or whole studies, read at random; a `Mixture` has its
      weights respected.
    maker: draws the clips.
    seed: with the step number, decides everything.
    batch_size: of the global batch.
    first_step: number of the first batch to give.
    rows: positions in the global batch of what one of several processes
      reads, ascending; all by default.
    clips_per_video: clips of each record that follow one another, each drawn
      by itself: with 2, rows 2i and 2i + 1 are a pair.  Of a record no longer
      than a clip they differ by augmentation only.
    threads: that read clips in this process; 0 reads when asked.
    workers: processes that make whole batches instead of `threads`.  They are
      started afresh: a script must guard itself by `__name__ == "__main__"`.

  Raises:
    ValueError: the source is empty, a row is not of the batch, or a batch
      would part the clips of a record.
  """
  rows = tuple(range(batch_size) if rows is None else rows)
  if not len(source):
    raise ValueError("no videos to train on")
  if not rows or min(rows) < 0 or max(rows) >= batch_size:
    raise ValueError(f"rows {rows} are not of a batch of {batch_size}")
  if batch_size % clips_per_video:
    raise ValueError(
      f"run.batch_size is {batch_size} clips, {clips_per_video} of each video; "
      f"use a multiple of {clips_per_video}"
    )
  mine = len(rows)
  clips = grain.MapDataset.select_from_datasets(
    [_drawn_clips(source, maker, seed, clips_per_video)],
    _RowsOf(rows, batch_size),
  )[first_step * mine :]
  if not workers:
    # Threads take single clips: whole batches would wait in memory by dozens.
    ahead = min(2 * mine, 64 + mine) if threads else 0
    options = grain.ReadOptions(threads, ahead)
    return iter(clips.to_iter_dataset(options).batch(mine, batch_fn=stack))
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # grain's processes ask for its flags
  batches = clips.batch(mine, batch_fn=stack)
  one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
  processes = grain.MultiprocessingOptions(workers, per_worker_buffer_size=1)
  return iter(batches.to_iter_dataset(one).mp_prefetch(processes))


def _drawn_clips(
  source: Sequence[Any], maker: Draws, seed: int, clips_per_video: int
) -> grain.MapDataset:
  """Row after row of training, before it is parted into batches."""
  if isinstance(source, Mixture):
    orders = [
      _shuffled(len(each), (seed + 7919 * cohort) % 2**32).map(_Tag(cohort))
      for cohort, each in enumerate(source.sources)
    ]
    rows = grain.MapDataset.select_from_datasets(
      orders, Shares(source.weights, seed)
    ).seed(seed)
  else:
    rows = _shuffled(len(source), seed)
  if clips_per_video > 1:
    rows = grain.MapDataset.select_from_datasets(
      [rows], _Repeated(clips_per_video)
    ).seed(seed)
  return rows.random_map(_Draw(source, maker))


def _shuffled(count: int, seed: int) -> grain.MapDataset:
  """Positions in epochs, each in another order.

  Positions, not records: grain measures what a source gives, and would count
  the frames of every video.
  """
  # Endless in practice; grain's own endless repeat overflows in a batch of 1.
  epochs = 2**48 // count
  return grain.MapDataset.range(count).seed(seed).shuffle().repeat(epochs)


@dataclass(frozen=True)
class _Tag:
  """Puts the number of its cohort before a position."""

  cohort: int

  def __call__(self, position: int) -> tuple[int, int]:
    return self.cohort, int(position)


@dataclass(frozen=True)
class _Draw:
  """Reads a record by its position and draws a clip from it."""

  source: Sequence[Any]
  maker: Draws

  def __call__(self, where: Any, rng: np.random.Generator) -> Batch:
    if isinstance(where, tuple):
      return self.maker.drawn(self.source.read(*where), rng)
    return self.maker.drawn(self.source[int(where)], rng)


@dataclass(frozen=True)
class _RowsOf(grain.transforms.DatasetSelectionMap):
  """The rows that one of several processes reads of each batch."""

  rows: tuple[int, ...]
  batch_size: int

  def __len__(self) -> int:
    return 2**47 // self.batch_size * len(self.rows)

  def __getitem__(self, mine: int) -> tuple[int, int]:
    step, row = divmod(mine, len(self.rows))
    return 0, step * self.batch_size + self.rows[row]


@dataclass(frozen=True)
class _Repeated(grain.transforms.DatasetSelectionMap):
  """Each row so many times in a row."""

  times: int

  def __len__(self) -> int:
    return 2**47

  def __getitem__(self, row: int) -> tuple[int, int]:
    return 0, row // self.times


def evaluation_batches(
  source: Sequence[Any],
  maker: Places,
  *,
  batch_size: int,
  clips_per_video: int,
  fill_up: bool = False,
  threads: int = 2,
) -> Iterator[Batch]:
  """Every clip of every video once, in order; the last batch is padded.

  `row_valid` and `frame_valid` are False in padding rows.  Starts are spread
  evenly over each video (or its R waves), so they depend on it alone.  One too
  short for that many different ones has fewer; with `fill_up` it has as many
  rows as others, of which those without a clip are padding.
  """
  nothing = {"frame_valid": np.zeros(maker.contract.frames, bool)}

  def load(position: int) -> list[Batch]:
    record = source[int(position)]
    starts = maker.starts(record, clips_per_video)
    rows = [maker.at(record, start) for start in starts]
    missing = clips_per_video - len(rows) if fill_up else 0
    return rows + [_padding(rows[-1], nothing)] * missing

  yield from padded_batches(len(source), load, nothing, batch_size, threads)


def padded_batches(
  count: int,
  load: Callable[[int], list[Batch]],
  nothing: Batch,
  batch_size: int,
  threads: int = 2,
) -> Iterator[Batch]:
  """The rows that `load` gives of each of `count` positions, in order.

  The last batch is filled up with a row that has `nothing` in it; `row_valid`
  is False there.
  """
  options = grain.ReadOptions(threads, 2 * threads)
  loaded = grain.MapDataset.range(count).map(lambda place: load(int(place)))
  rows: list[Batch] = []
  for some in loaded.to_iter_dataset(options):
    for row in some:
      rows.append({"row_valid": np.True_} | row)
      if len(rows) == batch_size:
        yield stack(rows)
        rows = []
  if rows:
    padding = _padding(rows[-1], nothing)
    yield stack(rows + [padding] * (batch_size - len(rows)))


def _padding(row: Batch, nothing: Batch) -> Batch:
  """A row like that one, of which nothing counts."""
  return row | nothing | {"row_valid": np.False_}


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


def item_ids(batch: Mapping[str, Any]) -> list[str]:
  """Which video, or which study, each row is of."""
  return list(batch.get("video_id", batch.get("study_id")))


class Subset(Sequence):
  """Some positions of a source, in the order given, and their index rows."""

  def __init__(
    self, source: Sequence[Record], positions: Sequence[int] | np.ndarray
  ):
    self._source = source
    self._positions = np.asarray(positions, np.int64)
    self.index = source.index.iloc[self._positions].reset_index(drop=True)

  def __len__(self) -> int:
    return len(self._positions)

  def __getitem__(self, position: int) -> Record:
    return self._source[int(self._positions[position])]

  def __getstate__(self) -> dict[str, Any]:
    # A reading process needs positions, not a table of half a million rows.
    return {k: v for k, v in self.__dict__.items() if k != "index"}

  def __repr__(self) -> str:
    return f"Subset({len(self)} of {self._source!r})"
