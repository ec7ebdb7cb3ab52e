"""From the folder of one study to what a model of studies takes.

A header says neither where a spectrum was taken nor, often, which view a cine
shows; a user may state both by the names of files.  Nothing else is guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax.data.clips import UnknownTimes
from echo_jax.data.ingest import Recording, to_record
from echo_jax.data.ingest.recording import cut_to_picture
from echo_jax.data.ledger import Rejected
from echo_jax.data.pipeline import Batch, stack
from echo_jax.data.schema import SCALARS, Record, unknown
from echo_jax.data.study_batches import StudyMaker, row_of, with_video
from echo_jax.data.study_contract import KIND_OF, LOCATIONS
from echo_jax.data.study_files import SPECTRA
from echo_jax.data.study_folder import (
  Found,
  FoundStudy,
  Said,
  read_study_folder,
)
from echo_jax.modalities import MODALITIES

# The owner's identifiers do not enter what is made for the model.
NOBODY = {
  "video_id": "study:recording", "study_id": "study:one",
  "patient_id": "study:someone", "split": "test",
}  # fmt: skip
Rules = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Stated:
  """What a user says of files, by patterns of their names.

  The first pattern (as of a shell) that fits the path below the study's
  folder counts.

  Attributes:
    locations: (pattern, one of `schema.DOPPLER_LOCATIONS`) of spectra.
    views: (pattern, one of `schema.VIEWS`) of cines; goes before the header.
  """

  locations: Rules = ()
  views: Rules = ()


NOTHING_STATED = Stated()


@dataclass(frozen=True)
class StudyInput:
  """One study as a model takes it.

  Attributes:
    example: as of `StudyMaker.at`.
    present: modalities that the model reads and that hold something.
    found: what the folder held.
    said: on every file, then on what is absent or not read.
    views: of the cines that are shown to the model; "" is unknown.
  """

  example: Batch = field(repr=False)
  present: tuple[str, ...]
  found: FoundStudy = field(repr=False)
  said: tuple[Said, ...]
  views: tuple[str, ...]


@dataclass(frozen=True)
class StudyReader:
  """Reads folders for one model.

  Attributes:
    maker: of the model's contract.
    windows: clips of a cine, at most.
    needs_times: whether cines without frame times are refused.
    stated: by the user.
    cut: whether each cine is cut to its 2D region, for a model that never saw
      a machine's page with its words.
    encode: what frozen encoders make of the signals of studies [N ...].
  """

  maker: StudyMaker
  windows: int
  needs_times: bool = True
  stated: Stated = NOTHING_STATED
  cut: bool = False
  encode: Callable[[Batch], Batch] = lambda signals: signals

  def read(self, folder: Path, name_of: Callable | None = None) -> StudyInput:
    """The inputs of a study; see `read_study_folder`, also for errors."""
    found = read_study_folder(folder, name_of=name_of, keep=self.keep)
    spectra, of_spectra = self._located(found.spectra, folder)
    cines, of_cines = self._viewed(found.cines, folder)
    signals, notes = self.maker.signals(spectra + _ecg(found))
    signals = row_of(self.encode(stack([signals])), 0)
    row = _row({**(found.clinical or {}), **(found.genetic or {})})
    example = self.maker.ready(row, signals)
    if "video" in self.maker.contract.modalities:
      clips = self.maker.placed(cines, lambda cine: cine["clips"], self.windows)
      example |= clips
      example["present"] = with_video(example["present"], clips["video_valid"])
    there = dict(zip(MODALITIES, example["present"].tolist(), strict=True))
    named = [_note(what, why) for what, why in notes]
    said = [*found.said, *of_spectra, *of_cines, *named]
    ours = self.maker.contract.modalities
    said += [line for n in MODALITIES if (line := _fate(n, found, there, ours))]
    present = tuple(name for name in ours if there[name])
    views = tuple(cine["view"] for cine in cines) if "video" in ours else ()
    return StudyInput(example, present, found, tuple(said), views)

  def keep(self, recording: Recording) -> Record:
    """What is kept of a recording as soon as it is read: its clips.

    Raises:
      Rejected: a spectrum of several frames, or a cine whose frame times are
        needed and unknown, or that cannot be cut.
    """
    if recording.kind in SPECTRA:
      if len(recording.frames) > 1:
        raise Rejected(
          f"spectrum of {len(recording.frames)} frames: only a still one is "
          "read; export one frame of it"
        )
      return to_record(recording, **NOBODY)
    if "video" not in self.maker.contract.modalities:
      return {"view": recording.view, "clips": []}
    if self.cut:
      recording = cut_to_picture(recording)
    if self.needs_times and np.isnan(recording.frame_time_ms).any():
      raise Rejected("sampling: frame times are unknown; the model needs them")
    record = to_record(recording, codec="raw", **NOBODY)
    try:
      clips = self.maker.windows(record, self.windows)
    except UnknownTimes as error:
      raise Rejected(f"sampling: {error}") from error
    return {"view": record["view"], "clips": clips}

  def _located(
    self, spectra: Sequence[Found], folder: Path
  ) -> tuple[list[Record], list[Said]]:
    """Spectra with the location that was stated; others are not used."""
    records, said = [], []
    for found in spectra:
      location = _stated(self.stated.locations, found, folder)
      if not location:
        why = (
          "its header does not say where it was taken: not used; state it "
          "(predict: --doppler PATTERN=LOCATION)"
        )
        said.append(Said("doppler", found.file.name, "ignored", why))
        continue
      # DICOM has no word for tissue Doppler, which is pulsed; who states an
      # annulus says that it is.
      tissue = found.data["kind"] == "pw" and KIND_OF[location] == "tdi"
      kind = "tdi" if tissue else found.data["kind"]
      records.append(
        found.data | {"doppler_location": location, "kind": kind}
      )
      text = f"{location}, as was stated"
      said.append(Said("doppler", found.file.name, "noted", text))
    return records, said

  def _viewed(
    self, cines: Sequence[Found], folder: Path
  ) -> tuple[list[dict[str, Any]], list[Said]]:
    """The cines that the model takes, each with its view."""
    if "video" not in self.maker.contract.modalities:
      return [], []
    most = self.maker.contract.cines
    said = [
      Said("video", f.file.name, "ignored", f"beyond the first {most} cines")
      for f in cines[most:]
    ]
    used = []
    for found in cines[:most]:
      coded = found.data["view"]
      view = _stated(self.stated.views, found, folder) or coded
      used.append(found.data | {"view": view})
      text = f"view {view or 'unknown'}"
      if coded and view != coded:
        text += f", as was stated; its header says {coded}"
      said.append(Said("video", found.file.name, "noted", text))
    return used, said


def parse_rules(texts: Sequence[str], words: Sequence[str], what: str) -> Rules:
  """(pattern, word) of each "pattern=word".

  Raises:
    ValueError: no pattern, or none of the words.
  """
  rules = []
  for text in texts:
    pattern, _, word = text.rpartition("=")
    if not pattern or word not in words or not word:
      known = ", ".join(filter(None, words))
      raise ValueError(f"{text!r} is not PATTERN={what}, one of {known}")
    rules.append((pattern, word))
  return tuple(rules)


def parse_locations(texts: Sequence[str]) -> Rules:
  """Rules for spectra, see `parse_rules`."""
  return parse_rules(texts, LOCATIONS, "LOCATION")


def _stated(rules: Rules, found: Found, folder: Path) -> str:
  """What the first rule says whose pattern fits; "" if none does."""
  place = found.file.path.relative_to(folder).as_posix()
  words = (word for pattern, word in rules if fnmatchcase(place, pattern))
  return next(words, "")


def _ecg(found: FoundStudy) -> list[Record]:
  if found.ecg is None:
    return []
  ecg = found.ecg.data
  return [
    {
      "kind": "", "doppler_location": "", "ecg_mv": ecg.mv, "ecg_hz": ecg.hz,
      "ecg_leads": ",".join(ecg.leads),
    }
  ]  # fmt: skip


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
  """A row of the study index; numbers as exact as a stored record's."""
  row = {name: unknown(name) for name in SCALARS} | {"study_id": "study:one"}
  return row | {
    name: float(np.float32(value)) if isinstance(value, float) else value
    for name, value in values.items()
  }


def _note(what: str, why: str) -> Said:
  modality = "doppler" if what in LOCATIONS else what
  return Said(modality, "", "noted", why if modality == what else
              f"{what}: {why}")  # fmt: skip


def _fate(
  name: str, found: FoundStudy, there: Mapping[str, bool], ours: Sequence[str]
) -> Said | None:
  """What is to be said of a modality that was found and does not count."""
  if not found.present[name] or (name in ours and there[name]):
    return None
  if name not in ours:
    return Said(name, "", "ignored", "this model does not read it")
  return Said(name, "", "absent", "nothing of it can be used, see its files")
