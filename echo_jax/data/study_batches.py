"""Study batches: all modalities of a study as arrays of one shape.

Axes: b study, v clip, T H W frames and pixels, c channel, m modality,
e embedding of a clip, u label.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from echo_jax.data.clinical import category_columns, number_columns
from echo_jax.data.pipeline import Batch, ClipMaker, padded_batches, stack
from echo_jax.data.schema import VIEWS, Record
from echo_jax.data.studies import StudySource
from echo_jax.data.study_contract import TABLES, StudyContract, StudyScale
from echo_jax.data.study_parts import ecg_of, spectra_of, table_of
from echo_jax.data.transforms import Augmentation
from echo_jax.modalities import MODALITIES
from echo_jax.targets import Target, truths_of

VIDEO = MODALITIES.index("video")
ARRAYS = {
  "doppler": (
    "spectrum", "spectrum_shown", "velocity_cm_s", "time_ms", "doppler_kind",
    "doppler_valid",
  ),
  "ecg": ("ecg_mv", "lead_valid", "sample_valid"),
  **{name: (f"{name}_numbers", f"{name}_categories") for name in TABLES},
}  # fmt: skip
Notes = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Prepared:
  """One study: what of it is ready, and its cines, read when asked for.

  `cines` is None where no clip is to be drawn.
  """

  ready: Batch
  cines: Callable[[], Sequence[Record]] | None = None


@dataclass(frozen=True)
class StudyMaker:
  """Turns a study into arrays with its targets.

  Attributes:
    contract: how a study reaches the model.
    targets: whose truth goes with it.
    scale: statistics of the training split.
    augmentation: of clips that are drawn for training.
  """

  contract: StudyContract
  targets: tuple[Target, ...]
  scale: StudyScale
  augmentation: Augmentation = Augmentation()

  def signals(self, records: Sequence[Record]) -> tuple[Batch, Notes]:
    """Spectra and ECG of a study, with `doppler_present`, `ecg_present`."""
    doppler = spectra_of(records, self.contract)
    ecg = ecg_of(records, self.contract)
    return {
      **doppler.arrays, "doppler_present": np.bool_(doppler.present),
      **ecg.arrays, "ecg_present": np.bool_(ecg.present),
    }, [*doppler.notes, *ecg.notes]  # fmt: skip

  def tables(self, row: Mapping[str, Any]) -> tuple[Batch, Notes]:
    """Records and genes of a row of the study index, with `.._present`."""
    arrays, notes = {}, []
    for name in TABLES:
      part = table_of(name, row, self.scale)
      arrays |= part.arrays | {f"{name}_present": np.bool_(part.present)}
      notes += part.notes
    return arrays, notes

  def ready(self, row: Mapping[str, Any], signals: Batch) -> Batch:
    """A study without its clips; `row` is of the study index."""
    arrays = signals | self.tables(row)[0]
    there = {name: arrays[f"{name}_present"] for name in ARRAYS}
    read = [n for n in self.contract.modalities if n in ARRAYS]
    return {
      **{k: arrays[k] for one in read for k in names_read(one, arrays)},
      "present": np.array([there.get(name, False) for name in MODALITIES]),
      "target": np.asarray(truths_of(self.targets, row), np.float32),
      "study_id": row["study_id"],
    }

  def drawn(self, study: Prepared, rng: np.random.Generator) -> Batch:
    """A study of training: one random, augmented window a cine."""
    maker = ClipMaker(self.contract.clip, (), self.augmentation)
    return self._with_clips(study, lambda cine: [maker.drawn(cine, rng)], 1)

  def at(self, study: Prepared, windows: int) -> Batch:
    """A study with at most so many windows a cine, spread evenly over it."""
    return self._with_clips(
      study, lambda cine: self.windows(cine, windows), windows
    )

  def windows(self, cine: Record, windows: int) -> list[Batch]:
    """Fixed clips of a cine, at most so many."""
    maker = ClipMaker(self.contract.clip)
    return [maker.at(cine, start) for start in maker.starts(cine, windows)]

  def _with_clips(
    self, study: Prepared, clips_of: Callable[[Record], list[Batch]],
    windows: int,
  ) -> Batch:  # fmt: skip
    """The study with its clips, in as many places as every study has."""
    if study.cines is None:
      return study.ready
    clips = self.placed(study.cines(), clips_of, windows)
    return study.ready | clips | {
      "present": with_video(study.ready["present"], clips["video_valid"])
    }

  def placed(
    self, cines: Sequence[Record], clips_of: Callable[[Record], list[Batch]],
    windows: int,
  ) -> Batch:  # fmt: skip
    """Clips one after the other, then places that are not valid."""
    contract = self.contract
    places = contract.cines * windows
    batch = {
      "video": np.zeros((places, *contract.clip.shape), np.uint8),
      "frame_valid": np.zeros((places, contract.clip.frames), bool),
      "view": np.zeros(places, np.int32),
      "video_valid": np.zeros(places, bool),
      "clip_spacing_mm": np.full((places, 2), np.nan, np.float32),
    }
    pairs = [(cine, clip) for cine in cines for clip in clips_of(cine)]
    for place, (cine, clip) in enumerate(pairs):
      batch["video"][place] = clip["video"]
      batch["frame_valid"][place] = clip["frame_valid"]
      batch["view"][place] = VIEWS.index(cine["view"])
      batch["video_valid"][place] = True
      batch["clip_spacing_mm"][place] = clip["spacing_mm"]
    return batch


def names_read(modality: str, arrays: Mapping[str, Any]) -> tuple[str, ...]:
  """Arrays that a model reads of a modality: what a frozen encoder gave."""
  if f"{modality}_tokens" not in arrays:
    return ARRAYS[modality]
  valid = ("doppler_valid",) if modality == "doppler" else ()
  return (f"{modality}_tokens", *valid)


def with_video(present: np.ndarray, video_valid: np.ndarray) -> np.ndarray:
  """`present` where video is there if a clip is."""
  present = present.copy()
  present[..., VIDEO] = video_valid.any(axis=-1)
  return present


def without(batch: Batch, names: Sequence[str]) -> Batch:
  """The batch as if those modalities had not been recorded.

  Raises:
    ValueError: a name that is no modality.
  """
  if strange := set(names) - set(MODALITIES):
    raise ValueError(f"no modality {sorted(strange)}; there are {MODALITIES}")
  gone = [name in names for name in MODALITIES]
  return batch | {"present": batch["present"] & ~np.array(gone)}


class PreparedStudies(Sequence):
  """Studies whose signals are ready; `[i]` is a `Prepared`.

  Args:
    source: the studies.
    maker: makes them.
    signals: of all of them, from `prepare_signals`.
    features: of all of them, from `encode_studies`: no clip is drawn then.
    clips: whether the model reads video at all.
  """

  def __init__(
    self, source: StudySource, maker: StudyMaker, signals: Batch,
    features: Batch | None = None, clips: bool = True,
  ):  # fmt: skip
    self._source = source
    self._draws = clips and features is None
    self.index = source.index
    rows = source.index.to_dict("records")
    self._ready = stack(
      [maker.ready(row, row_of(signals, i)) for i, row in enumerate(rows)]
    )
    if clips and features is not None:
      self._ready |= features
      self._ready["present"] = with_video(
        self._ready["present"], features["video_valid"]
      )

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, number: int) -> Prepared:
    ready = row_of(self._ready, number)
    if not self._draws:
      return Prepared(ready)
    return Prepared(ready, lambda: self._source.cines(number))

  def __repr__(self) -> str:
    return f"PreparedStudies({self._source!r})"

  def counts(self) -> dict[str, int]:
    """In how many studies each modality is there."""
    there = self._ready["present"].sum(axis=0)
    if self._draws:
      there[VIDEO] = self._source.with_cine
    return dict(zip(MODALITIES, there.tolist(), strict=True))


def example_study(contract: StudyContract) -> Batch:
  """A batch of one study with nothing in it, to initialise models with."""
  arrays = spectra_of((), contract).arrays | ecg_of((), contract).arrays
  for name, table in TABLES.items():
    arrays[f"{name}_numbers"] = np.zeros(len(number_columns(table)), np.float32)
    codes = np.zeros(len(category_columns(table)), np.int32)
    arrays[f"{name}_categories"] = codes
  arrays |= {
    "video": np.zeros((1, *contract.clip.shape), np.float32),
    "frame_valid": np.ones((1, contract.clip.frames), bool),
    "view": np.zeros(1, np.int32), "video_valid": np.ones(1, bool),
    "present": np.ones(len(MODALITIES), bool),
  }  # fmt: skip
  return {name: np.asarray(value)[None] for name, value in arrays.items()}


def row_of(batch: Batch, number: int) -> Batch:
  """One study of many."""
  return {name: values[number] for name, values in batch.items()}


def prepare_signals(
  source: StudySource, maker: StudyMaker, name: str
) -> Batch:
  """Spectra and ECGs of all studies, with the notes as `notes` [n 2]."""
  made, notes = [], []
  for records in tqdm(source, desc=f"signals of {name}", disable=None):
    signals, why = maker.signals(records)
    made.append(signals)
    notes += why
  return stack(made) | {"notes": np.array(notes, str).reshape(-1, 2)}


def encode_signals(
  signals: Batch, modality: str, encode: Callable[[Batch], Any], batch: int = 32
) -> Batch:
  """Signals with what a frozen encoder makes of one modality, [N n d].

  Args:
    signals: of all studies, from `prepare_signals`.
    modality: "doppler" or "ecg"; its own arrays are left out.
    encode: arrays of `batch` studies -> tokens.
  """
  count = len(signals["doppler_valid"])
  size = min(batch, count)
  read = {name: signals[name] for name in ARRAYS[modality]}
  parts = []
  for start in tqdm(
    range(0, count, size), desc=f"{modality} tokens", disable=None
  ):
    rows = np.arange(start, start + size) % count  # one shape, one program
    parts.append(np.asarray(encode({k: v[rows] for k, v in read.items()})))
  tokens = np.concatenate(parts)[:count].astype(np.float32)
  kept = {k: v for k, v in signals.items() if k not in ARRAYS[modality]}
  valid = {k: read[k] for k in names_read(modality, {f"{modality}_tokens": 0})
           if k in read}  # fmt: skip
  return kept | valid | {f"{modality}_tokens": tokens}


def encode_studies(
  source: StudySource, maker: StudyMaker, encode: Callable, windows: int,
  name: str, batch: int = 32,
) -> Batch:  # fmt: skip
  """`clip_features` [N v e] of fixed windows, with what is of each clip.

  Args:
    encode: (video uint8 [b T H W c], frame_valid [b T]) -> [b e], of a frozen
      encoder.
    windows: a cine, at most.
    batch: clips at once.
  """
  studies = []
  for number in tqdm(
    range(len(source)), desc=f"clips of {name}", disable=None
  ):
    clips = maker.placed(
      source.cines(number), lambda cine: maker.windows(cine, windows), windows
    )
    studies.append(clips | {"clip_features": _encoded(clips, encode, batch)})
  names = ("clip_features", "view", "video_valid", "clip_spacing_mm")
  return stack([{name: study[name] for name in names} for study in studies])


def _encoded(clips: Batch, encode: Callable, batch: int) -> np.ndarray:
  """Features of a study's clips, in batches of one size; 0 without a clip."""
  places = len(clips["video"])
  size = min(batch, places)
  rows = [np.arange(k, k + size) % places for k in range(0, places, size)]
  parts = [
    np.asarray(encode(clips["video"][row], clips["frame_valid"][row]))
    for row in rows
  ]
  found = np.concatenate(parts)[:places]
  return np.where(clips["video_valid"][:, None], found, np.float32(0))


def kept(path: Path | None, make: Callable[[], Batch]) -> Batch:
  """What `make` gives, from the file if it is there; None keeps nothing.

  The file's name must say all that the arrays depend on.
  """
  if path is None:
    return make()
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    with unfinished.open("wb") as file:
      np.savez(file, **make())
    unfinished.replace(path)
  with np.load(path) as arrays:
    return dict(arrays)


def count_notes(notes: Notes) -> list[str]:
  """One line a kind of note: how many, and the first of them."""
  lines = []
  for what, count in Counter(what for what, _ in notes).items():
    first = next(why for of, why in notes if of == what)
    lines.append(f"{what}: {count} times something not used, first: {first}")
  return lines


def study_batches(
  studies: PreparedStudies, maker: StudyMaker, *, batch_size: int,
  windows: int, threads: int = 2,
) -> Iterator[Batch]:  # fmt: skip
  """Every study once, in order, for evaluation; the last batch is padded."""
  nothing = {"present": np.zeros(len(MODALITIES), bool)}
  return padded_batches(
    len(studies), lambda number: [maker.at(studies[number], windows)],
    nothing, batch_size, threads,
  )  # fmt: skip
