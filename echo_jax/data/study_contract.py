"""How a study reaches a model, and what the training split says of its units.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from echo_jax.data.clinical import (
  CLINICAL,
  GENETIC,
  Column,
  Statistics,
  check_row,
  measure,
)
from echo_jax.data.contract import InputContract, settings_hash
from echo_jax.data.schema import DOPPLER_LOCATIONS
from echo_jax.data.signals import LEADS
from echo_jax.data.spectra import GRIDS, SpectrumGrid
from echo_jax.data.studies import StudySource
from echo_jax.modalities import MODALITIES
from echo_jax.objectives.outputs import Standardisation

LOCATIONS = tuple(name for name in DOPPLER_LOCATIONS if name)
KIND_OF = {name: name.rpartition("_")[2] for name in LOCATIONS}
TABLES = {"clinical": CLINICAL, "genetic": GENETIC}


@dataclass(frozen=True)
class StudyContract:
  """How a study reaches a model.

  Attributes:
    clip: how each of its clips does.
    modalities: those that are read, in the order of `MODALITIES`.
    cines: most that are used of a study.
    coarsening: how many rows and columns of `spectra.GRIDS` become one.
    ecg_hz, ecg_span_s, ecg_leads: rate, length and leads of an ECG.
  """

  clip: InputContract
  modalities: tuple[str, ...] = MODALITIES
  cines: int = 6
  coarsening: int = 2
  ecg_hz: float | int = 100.0
  ecg_span_s: float | int = 5.0
  ecg_leads: tuple[str, ...] = ("i", "ii", "v1", "v2", "v3", "v4", "v5", "v6")

  def __post_init__(self) -> None:
    # Equal contracts must hash equally: 1 and 1.0 are two texts in JSON.
    for name in ("ecg_hz", "ecg_span_s"):
      object.__setattr__(self, name, float(getattr(self, name)))
    some = tuple(name for name in MODALITIES if name in self.modalities)
    leads = set(self.ecg_leads)
    rows, columns = GRIDS["cw"].rows, GRIDS["cw"].columns
    divides = self.coarsening >= 1 and not (
      rows % self.coarsening or columns % self.coarsening
    )
    for name, fits, wanted in (
      ("modalities", some and some == self.modalities,
       f"some of {MODALITIES}, each once and in this order"),
      ("cines", self.cines >= 1, "1 or more"),
      ("coarsening", divides, f"a divisor of {rows} and {columns}"),
      ("ecg_hz", self.ecg_hz > 0, "a rate above 0 Hz"),
      ("ecg_span_s", self.ecg_span_s > 0, "more than 0 s"),
      ("ecg_leads", leads and leads <= set(LEADS)
       and len(leads) == len(self.ecg_leads), f"some of {LEADS}, each once"),
    ):  # fmt: skip
      if not fits:
        raise ValueError(
          f"{name} is {getattr(self, name)!r}; the study contract wants "
          f"{wanted}"
        )

  def hash(self, targets: Sequence[str] = ()) -> str:
    """Short digest of all settings, the tables' columns and the targets."""
    columns = {
      name: [dataclasses.asdict(column) for column in table]
      for name, table in TABLES.items()
    }
    return settings_hash(
      dataclasses.asdict(self) | {"tables": columns, "targets": list(targets)}
    )

  @property
  def samples(self) -> int:
    """Samples of an ECG."""
    return round(self.ecg_hz * self.ecg_span_s)

  @property
  def lead_places(self) -> tuple[int, ...]:
    """Places of its leads among the twelve."""
    return tuple(LEADS.index(name) for name in self.ecg_leads)

  def grid(self, location: str) -> SpectrumGrid:
    """The grid of a location's spectra: as wide as the fine one."""
    fine, by = GRIDS[KIND_OF[location]], self.coarsening
    return SpectrumGrid(
      fine.rows // by, fine.columns // by, fine.step_cm_s * by,
      fine.step_ms * by,
    )  # fmt: skip


@dataclass(frozen=True)
class StudyScale(Standardisation):
  """What a model of studies takes from the training split, and only there."""

  clinical: Statistics
  genetic: Statistics

  @classmethod
  def measured(
    cls, targets: Standardisation, source: StudySource
  ) -> "StudyScale":
    """Statistics of a source's tables beside those of its targets."""
    rows = source.index.to_dict("records")
    found = {
      name: measure([plausible(row, table)[0] for row in rows], table)
      for name, table in TABLES.items()
    }
    return cls(targets.mean, targets.std, **found)

  @classmethod
  def from_dict(cls, plain: Mapping[str, Any]) -> "StudyScale":
    """The inverse of `dataclasses.asdict`, also after JSON."""
    tables = {
      name: Statistics(**{k: tuple(v) for k, v in plain[name].items()})
      for name in TABLES
    }
    return cls(tuple(plain["mean"]), tuple(plain["std"]), **tables)


def plausible(
  row: Mapping[str, Any], table: Sequence[Column]
) -> tuple[dict[str, Any], list[str]]:
  """The values of a table that may be used, and why others may not."""
  kept, refused = {}, []
  for column in table:
    value = row.get(column.name)
    try:
      check_row({column.name: value}, (column,))
    except ValueError as error:
      refused.append(str(error))
    else:
      kept[column.name] = value
  return kept, refused
