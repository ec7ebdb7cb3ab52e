"""The table of clinical and genetic columns: units, ranges, categories.

A row of a records file is checked here, value by value, before it becomes
arrays.  A missing value is None, NaN or ""; it stays missing.
Axes: b patient.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32

Value = float | int | str | bool | np.number | np.bool_ | None


@dataclass(frozen=True)
class Column:
  """One column.

  Attributes:
    name: ends in its unit, where it has one.
    kind: "number", "logarithm" (a number over decades, taken as its natural
      logarithm) or "category".
    unit: of a number.
    low, high: plausible range of a number; what lies outside is refused.
    others: units that people also write it in, with the factor that brings
      them to `unit`; only for the message of a refusal.
    categories: of a category, in the order of their codes.
  """

  name: str
  kind: str
  unit: str = ""
  low: float | int = -math.inf
  high: float | int = math.inf
  others: tuple[tuple[str, float], ...] = ()
  categories: tuple[str, ...] = ()

  @property
  def meaning(self) -> str:
    """The name in words, without its unit."""
    words = self.name
    for unit in ("_mg_dl", "_pg_ml", "_mmhg", "_bpm", "_sd", "_cm", "_kg"):
      words = words.removesuffix(unit)
    return words.replace("_", " ")

  def __post_init__(self):
    if self.kind not in ("number", "logarithm", "category"):
      raise ValueError(f"column {self.name!r} is of unknown kind {self.kind!r}")
    if (self.kind == "category") != bool(self.categories):
      raise ValueError(f"column {self.name!r}: categories are for categories")
    if self.kind == "logarithm" and not self.low > 0:
      raise ValueError(f"column {self.name!r}: a logarithm wants low above 0")


YES_NO = ("no", "yes")
# Ranges are chosen wide.  Factors: creatinine has 113.12 g/mol and NT-proBNP
# 8,457 g/mol; 1 kPa is 7.5006 mmHg.
CLINICAL = (
  Column("age_years", "number", "years", 0, 120, (("days", 1 / 365.25),)),
  Column("sex", "category", categories=("F", "M")),
  Column("height_cm", "number", "cm", 30, 250, (
    ("m", 100.0), ("mm", 0.1), ("inches", 2.54),
  )),
  Column("weight_kg", "number", "kg", 0.5, 350, (("g", 0.001),)),
  Column("systolic_mmhg", "number", "mmHg", 50, 300, (
    ("kPa", 7.5006), ("cmHg", 10.0),
  )),
  Column("diastolic_mmhg", "number", "mmHg", 20, 200, (
    ("kPa", 7.5006), ("cmHg", 10.0),
  )),
  Column("heart_rate_bpm", "number", "bpm", 20, 300, (("Hz", 60.0),)),
  Column("diabetes", "category", categories=YES_NO),
  Column("creatinine_mg_dl", "logarithm", "mg/dl", 0.1, 25, (
    ("umol/l", 0.011312), ("mmol/l", 11.312),
  )),
  Column("nt_probnp_pg_ml", "logarithm", "pg/ml", 1, 300_000, (
    ("pmol/l", 8.457), ("ng/ml", 1000.0),
  )),
  *(
    Column(name, "category", categories=YES_NO)
    for name in (
      "beta_blocker", "renin_angiotensin_inhibitor", "diuretic",
      "anticoagulant",
    )
  ),
)  # fmt: skip
# Genes with definitive evidence for dilated (TTN, LMNA, FLNC) or hypertrophic
# cardiomyopathy (MYH7, MYBPC3) in ClinGen's curations, and transthyretin.
GENETIC = (
  Column("polygenic_score_sd", "number", "SD", -8, 8),
  *(
    Column(f"carrier_{gene}", "category", categories=YES_NO)
    for gene in ("ttn", "lmna", "flnc", "myh7", "mybpc3", "ttr")
  ),
)


@dataclass(frozen=True)
class Statistics:
  """Mean and standard deviation of every number column, in table order.

  Of a "logarithm" they are those of the logarithm.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]


def number_columns(table: Sequence[Column]) -> tuple[Column, ...]:
  """Columns of numbers and logarithms, in table order."""
  return tuple(column for column in table if column.kind != "category")


def category_columns(table: Sequence[Column]) -> tuple[Column, ...]:
  """Columns of categories, in table order."""
  return tuple(column for column in table if column.kind == "category")


def is_missing(value: Value) -> bool:
  """True for None, NaN and ""; 0 is a value."""
  if value is None or (isinstance(value, str) and not value.strip()):
    return True
  return not isinstance(value, str) and math.isnan(value)


def check_row(
  row: Mapping[str, Value],
  table: Sequence[Column],
  units: Mapping[str, str] | None = None,
) -> None:
  """Refuses a row that could be misread.

  A range cannot see every wrong unit: a weight of 180 may be pounds.  Where
  the source states units, give them.

  Args:
    row: values by column name; a name may be absent.
    table: the columns.
    units: by column name, as the source states them.

  Raises:
    ValueError: a column that the table does not have, another unit, a value
      outside of its range (height 1.78), a category that is not known; names
      the value, its unit, the range and the remedy.
  """
  known = {column.name: column for column in table}
  strange = sorted((set(row) | set(units or {})) - set(known))
  if strange:
    raise ValueError(
      f"columns {strange} are not in the table; it has {sorted(known)}.  "
      "Rename or remove them (a name holds its unit: height_cm)"
    )
  for name, unit in (units or {}).items():
    if unit != known[name].unit:
      raise ValueError(
        f"{name} is stated in {unit!r}, wants {known[name].unit!r}"
        f"{_factor_to(known[name], unit)}"
      )
  for name, value in row.items():
    _value_of(known[name], value)


def _factor_to(column: Column, unit: str) -> str:
  factor = dict(column.others).get(unit)
  return f": multiply by {factor:.6g}" if factor else "; convert it"


def _value_of(column: Column, value: Value) -> float:
  """A number as it is or the code of a category; NaN if missing.

  Raises:
    ValueError: see `check_row`.
  """
  if is_missing(value):
    return math.nan
  if column.kind == "category":
    if column.categories == YES_NO and value in (0, 1):
      return float(value)
    if value not in column.categories:
      raise ValueError(
        f"{column.name} is {value!r}; its categories are {column.categories}, "
        "and an empty cell means unknown"
      )
    return float(column.categories.index(str(value)))
  try:
    number = float(value)
  except ValueError as error:
    raise ValueError(
      f"{column.name} is {value!r}, wants a number in {column.unit}; leave it "
      "empty if it is unknown"
    ) from error
  if not (column.low <= number <= column.high and math.isfinite(number)):
    raise ValueError(
      f"{column.name} is {number:g} {column.unit}; plausible is "
      f"{column.low:g} to {column.high:g} {column.unit}"
      f"{_guess(column, number)}"
    )
  return number


def _guess(column: Column, number: float) -> str:
  """In which other units the number would be plausible, and what to do."""
  fitting = [
    f"in {unit} it would be {number * factor:.4g} {column.unit}: multiply by "
    f"{factor:.6g}"
    for unit, factor in column.others
    if column.low <= number * factor <= column.high
  ]
  return ".  " + (
    "; ".join(fitting) if fitting else "Correct it, or leave it empty"
  )


def measure(
  rows: Sequence[Mapping[str, Value]], table: Sequence[Column]
) -> Statistics:
  """Statistics of the training rows; missing values do not count.

  A column without two different values has a deviation of 1.  One without any
  has a mean of NaN: `encode` takes its values for missing, since nobody knows
  what they mean.
  """
  means, deviations = [], []
  for column in number_columns(table):
    values = np.array([_number(column, row.get(column.name)) for row in rows])
    values = values[np.isfinite(values)]
    # Not by the deviation, which rounding keeps from being 0.
    varies = len(values) > 1 and np.ptp(values) > 0
    means.append(float(values.mean()) if len(values) else math.nan)
    deviations.append(float(values.std()) if varies else 1.0)
  return Statistics(tuple(means), tuple(deviations))


def _number(column: Column, value: Value) -> float:
  number = _value_of(column, value)
  return math.log(number) if column.kind == "logarithm" else number


def encode(
  rows: Sequence[Mapping[str, Value]],
  table: Sequence[Column],
  statistics: Statistics,
) -> tuple[Float32[np.ndarray, "b numbers"], Int32[np.ndarray, "b categories"]]:
  """Standardised numbers (NaN missing) and category codes (-1 missing).

  Raises:
    ValueError: as `check_row`.
  """
  for row in rows:
    check_row(row, table)
  numbers = _matrix(rows, number_columns(table), _number)
  codes = _matrix(rows, category_columns(table), _value_of)
  numbers = (numbers - statistics.mean) / statistics.std
  return (
    numbers.astype(np.float32),
    np.where(np.isnan(codes), -1, codes).astype(np.int32),
  )


def _matrix(
  rows: Sequence[Mapping[str, Value]],
  columns: Sequence[Column],
  read: Callable[[Column, Value], float],
) -> Float64[np.ndarray, "b columns"]:
  values = [[read(c, row.get(c.name)) for c in columns] for row in rows]
  return np.array(values, np.float64).reshape(len(rows), len(columns))
