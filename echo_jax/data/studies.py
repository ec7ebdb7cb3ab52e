"""Studies: all that one patient had on one occasion, as one source.

A study is the records of one `study_id`.  What they say alike (labels, age,
blood pressure) is known of the study; where two of them contradict each other
it is unknown, and counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from echo_jax.data.index import as_text
from echo_jax.data.schema import FIELDS, Record, unknown

SHOWN = 5


class StudySource(Sequence):
  """The studies of an opened split, in the order of their first records.

  `source[i]` is the records of a study; `index` has one row a study and the
  scalars of the schema, unknown where records contradict each other;
  `contradictions` says in how many studies, by column.  `with_cine` counts
  studies with a usable cine, `left_out` cines above `most`.

  Args:
    records: with an `index` (a `VideoSource`, or one that is changed).
    usable: which of them are cines that a model may be shown; all of kind
      "cine" by default.
    most: cines of a study that are used, from the first on.

  Raises:
    ValueError: records of two patients share a study.
  """

  def __init__(
    self,
    records: Sequence[Record],
    usable: Bool[np.ndarray, "N"] | None = None,
    most: int = 6,
  ):
    index = records.index
    if usable is None:
      usable = (index["kind"] == "cine").to_numpy()
    study, _ = pd.factorize(index["study_id"])
    refuse_two_patients(index, study)
    self._records = records
    self._rows = _positions(study)
    self._cines = [rows[usable[rows]][:most] for rows in self._rows]
    self.index, self.contradictions = study_index(index, study)
    counts = [len(rows) for rows in self._cines]
    self.with_cine = sum(count > 0 for count in counts)
    self.left_out = int(usable.sum()) - sum(counts)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, number: int) -> list[Record]:
    return [self._records[int(row)] for row in self._rows[number]]

  def cines(self, number: int) -> list[Record]:
    """The cines of a study that are used."""
    return [self._records[int(row)] for row in self._cines[number]]

  def __repr__(self) -> str:
    return f"StudySource({len(self)} studies of {self._records!r})"


def _positions(study: Int[np.ndarray, "N"]) -> list[Int[np.ndarray, "n"]]:
  """Rows of each study, numbered 0, 1, ...; a study's rows in their order."""
  order = np.argsort(study, kind="stable")
  return np.split(order, np.flatnonzero(np.diff(study[order])) + 1)


def refuse_two_patients(index: pd.DataFrame, study: np.ndarray) -> None:
  """Raises ValueError where records of two patients share a study."""
  patients = index.groupby(study)["patient_id"].nunique()
  several = patients.index[patients > 1]
  if len(several):
    names = index["study_id"].groupby(study).first()[several]
    more = ", ..." if len(names) > SHOWN else ""
    raise ValueError(
      f"{len(several)} studies hold records of two patients "
      f"({', '.join(names[:SHOWN])}{more}); give each patient's records a "
      "study_id of their own"
    )


def study_index(
  index: pd.DataFrame, study: Int[np.ndarray, "N"]
) -> tuple[pd.DataFrame, dict[str, int]]:
  """One row a study, and in how many of them each column is contradicted."""
  columns: dict[str, Any] = {}
  contradictions = {}
  for name in index:
    if name not in FIELDS:
      continue
    column, nothing = as_text(index[[name]])[name], unknown(name)
    known = column.notna() if nothing != nothing else column != nothing
    groups = column.where(known).groupby(study)
    differ = groups.nunique() > 1
    value = groups.first().where(~differ)
    value = value.where(value.notna(), nothing)
    columns[name] = value.astype(column.dtype).to_numpy()
    if differ.any():
      contradictions[name] = int(differ.sum())
  return pd.DataFrame(columns), contradictions
