"""Spectra, ECG and tables of a study as arrays of one shape.

What is not there, or doubtful, is absent: its mask says so and a note says
why.  Axes: k Doppler location, H W velocity and time of a spectrum, s sample,
l lead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from echo_jax.data.clinical import encode
from echo_jax.data.contract import recoloured
from echo_jax.data.frames import decode_frame
from echo_jax.data.ingest.spectrum import DopplerScale
from echo_jax.data.pipeline import Batch, stack
from echo_jax.data.schema import Record, frame_shape, names_in
from echo_jax.data.signals import LEADS, LIMB_LEADS, arm_doubt, prepare_ecg
from echo_jax.data.spectra import Spectrum, SpectrumGrid, resample_spectrum
from echo_jax.data.study_contract import (
  KIND_OF,
  LOCATIONS,
  TABLES,
  StudyContract,
  StudyScale,
  plausible,
)
from echo_jax.modalities import DOPPLER_KINDS as KINDS


class Part(NamedTuple):
  """One modality of a study, or several.

  Attributes:
    arrays: by their names in a batch.
    present: whether anything of it can be used.
    notes: what was not used: (of what, why).
  """

  arrays: Batch
  present: bool
  notes: list[tuple[str, str]]


def spectra_of(records: Sequence[Record], contract: StudyContract) -> Part:
  """The first spectrum of each location that can be used, [k H W]."""
  made, notes = [], []
  places: dict[str, list[Record]] = {name: [] for name in LOCATIONS}
  for record in records:
    if record["doppler_location"]:
      places[record["doppler_location"]].append(record)
    elif record["kind"] in KINDS:
      notes.append(("doppler", "a spectrum of unknown location: not used"))
  for name, those in places.items():
    example, why = _spectrum_at(name, those, contract.grid(name))
    made.append(example)
    notes += [(name, text) for text in why]
  arrays = stack(made)
  return Part(arrays, bool(arrays["doppler_valid"].any()), notes)


def _spectrum_at(
  location: str, records: Sequence[Record], grid: SpectrumGrid
) -> tuple[Batch, list[str]]:
  """One location's arrays, and what was not used and why."""
  shape, why = (grid.rows, grid.columns), []
  example = {
    "spectrum": np.zeros(shape, np.float32),
    "spectrum_shown": np.zeros(shape, bool),
    "velocity_cm_s": grid.velocity_cm_s,
    "time_ms": grid.time_ms,
    "doppler_kind": np.int32(KINDS.index(KIND_OF[location])),
    "doppler_valid": np.False_,
  }
  for number, record in enumerate(records, 1):
    try:
      found = _resampled(record, KIND_OF[location], grid)
    except ValueError as error:
      why.append(str(error))
      continue
    if number < len(records):
      why.append(f"{len(records) - number} more: the first is used")
    return example | {
      "spectrum": found.spectrum, "spectrum_shown": found.shown,
      "doppler_valid": np.True_,
    }, why  # fmt: skip
  return example, why


def _resampled(record: Record, kind: str, grid: SpectrumGrid) -> Spectrum:
  """A record's spectrum; raises ValueError if its meaning is not sure."""
  if record["kind"] != kind:
    raise ValueError(
      f"{record['doppler_location']} is {kind}, the record says "
      f"{record['kind']!r}: not used"
    )
  scale = DopplerScale(
    tuple(int(px) for px in record["doppler_box_px"]),
    float(record["doppler_zero_px"]), float(record["doppler_cm_s"]),
    float(record["doppler_ms"]),
  )  # fmt: skip
  frame = decode_frame(
    record["frames"][0], record["frames_codec"], frame_shape(record)
  )
  return resample_spectrum(recoloured(frame, 1)[..., 0], scale, grid)


def ecg_of(records: Sequence[Record], contract: StudyContract) -> Part:
  """The first ECG that can be used, [s l] in mV."""
  shape, notes = (contract.samples, len(contract.ecg_leads)), []
  nothing = {
    "ecg_mv": np.zeros(shape, np.float32),
    "lead_valid": np.zeros(shape[1], bool),
    "sample_valid": np.zeros(shape, bool),
  }
  for record in records:
    if not len(record["ecg_mv"]):
      continue
    try:
      arrays, flaws = _prepared(record, contract)
    except ValueError as error:
      notes.append(("ecg", str(error)))
      continue
    notes += [("ecg", flaw) for flaw in flaws]
    if arrays["lead_valid"].any():
      return Part(arrays, True, notes)
    notes.append(("ecg", "no lead of the model is left: not used"))
  return Part(nothing, False, notes)


def _prepared(
  record: Record, contract: StudyContract
) -> tuple[Batch, tuple[str, ...]]:
  """The model's leads of one recording, less those in doubt."""
  found = prepare_ecg(
    record["ecg_mv"], float(record["ecg_hz"]), names_in(record["ecg_leads"]),
    to_hz=contract.ecg_hz, span_s=contract.ecg_span_s,
  )  # fmt: skip
  valid = found.lead_valid.copy()
  mv = np.where(found.sample_valid, found.ecg_mv, np.nan)
  there = {n: mv[:, i] for i, n in enumerate(LEADS) if valid[i]}
  if arm_doubt(there):
    # Chest leads do not depend on which arm an electrode is on.
    valid[: len(LIMB_LEADS)] = False
  places = list(contract.lead_places)
  lead_valid = valid[places]
  sample_valid = found.sample_valid[:, places] & lead_valid
  return {
    "ecg_mv": np.where(sample_valid, found.ecg_mv[:, places], np.float32(0)),
    "lead_valid": lead_valid,
    "sample_valid": sample_valid,
  }, found.flaws


def table_of(name: str, row: Mapping[str, Any], scale: StudyScale) -> Part:
  """A row of `TABLES[name]`; present if one of its values is known."""
  kept, refused = plausible(row, TABLES[name])
  numbers, codes = encode([kept], TABLES[name], getattr(scale, name))
  known = not np.isnan(numbers).all() or bool((codes >= 0).any())
  arrays = {f"{name}_numbers": numbers[0], f"{name}_categories": codes[0]}
  return Part(arrays, known, [(name, f"{text}: not used") for text in refused])
