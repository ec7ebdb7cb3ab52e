"""Values that others published, each with where it is from and how measured.

A file of them is refused as a whole if one cannot be told apart, has no
source, or is of a metric or unit that its table does not have.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from echo_jax.evaluation.regression import METRICS
from echo_jax.targets import Target

# Stated in a paper, read in its public code, in a log of its authors, or
# stated by somebody else.
MARKS = ("paper", "code", "log", "third")
SOURCES = ("doi:", "https://")
NEVER_NEGATIVE = ("mae", "rmse", "auroc", "auprc", "f1", "accuracy")


@dataclass(frozen=True)
class Published:
  """One published value.

  Attributes:
    table: which it belongs to.
    model: a row's name, or the model's own if it is none of ours.
    metric: as the evaluation names it.
    value, low, high: in `unit`; the interval is NaN if none was given.
    unit: of the target; "ln ml" where the metric is of logarithms.
    n: how many patients, videos or studies; 0 if that was not said.
    positive: the positive class of a binary target, if another than ours.
    protocol: split, and clips a video, as far as they are known.
    mark: one of `MARKS`.
    source: `doi:…` or an address.
    note: why it cannot be compared as it stands; "" if nothing is known.
    digits: the value as it was written.
  """

  table: str
  model: str
  metric: str
  value: float
  unit: str
  low: float
  high: float
  n: int
  positive: str
  protocol: str
  mark: str
  source: str
  note: str
  digits: str

  @property
  def value_text(self) -> str:
    """Value as it was published, with unit and interval."""
    text = f"{self.digits} {self.unit}".rstrip()
    if math.isnan(self.low):
      return text
    return f"{text} ({self.low:g} to {self.high:g})"


def read_published(
  path: Path, tables: Mapping[str, Target]
) -> tuple[Published, ...]:
  """The values of a CSV file, in its order.

  Args:
    tables: the target that each table is of.

  Raises:
    ValueError: names the line and what is wrong with it.
  """
  names = [one.name for one in fields(Published) if one.name != "digits"]
  found: dict[tuple[str, ...], Published] = {}
  with Path(path).open(encoding="utf-8", newline="") as file:
    reader = csv.DictReader(file, strict=True)
    if reader.fieldnames != names:
      raise ValueError(f"{path}: columns are {reader.fieldnames}, want {names}")
    for cells in reader:
      where = f"{Path(path).name}, line {reader.line_num}"
      try:
        one = _parse(cells)
        _check(one, tables)
      except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
      key = one.table, one.model, one.metric, one.protocol, one.source
      if key in found:
        raise ValueError(f"{where}: {', '.join(key)} is there already")
      found[key] = one
  return tuple(found.values())


def _parse(cells: Mapping[str, str | None]) -> Published:
  if None in cells or None in cells.values():
    raise ValueError("too many or too few cells")
  numbers = {
    name: float(cells[name]) if cells[name] else math.nan
    for name in ("value", "low", "high")
  }
  n = int(cells["n"]) if cells["n"] else 0
  return Published(**{**cells, **numbers, "n": n}, digits=cells["value"])


def _check(one: Published, tables: Mapping[str, Target]) -> None:
  """Raises ValueError where one value cannot be what it says."""
  if one.table not in tables:
    raise ValueError(f"no table {one.table!r}; there are {sorted(tables)}")
  target = tables[one.table]
  if one.metric not in target.metrics:
    raise ValueError(
      f"{target.name} has no metric {one.metric!r}; it has {target.metrics}"
    )
  in_unit = target.kind == "regression" and METRICS[one.metric]
  units = (target.unit, f"ln {target.unit}") if in_unit else ("",)
  if one.unit not in units:
    raise ValueError(f"{one.metric} is in {one.unit!r}, wants one of {units}")
  most = math.inf if in_unit or one.metric == "mae_grades" else 1.0
  least = 0.0 if one.metric in NEVER_NEGATIVE else -math.inf
  if not (math.isfinite(one.value) and least <= one.value <= most):
    raise ValueError(f"{one.metric} is {one.value:g}: no such value")
  given = [not math.isnan(end) for end in (one.low, one.high)]
  if any(given) and not one.low <= one.value <= one.high:
    raise ValueError(
      f"the interval {one.low:g} to {one.high:g} does not hold {one.value:g}"
    )
  if one.n < 0 or not one.model or not one.protocol:
    raise ValueError("n is below 0, or the model or protocol is empty")
  if one.mark not in MARKS:
    raise ValueError(f"mark is {one.mark!r}, wants one of {MARKS}")
  if not one.source.startswith(SOURCES) or one.source in SOURCES:
    raise ValueError(f"source is {one.source!r}, wants one of {SOURCES}…")
