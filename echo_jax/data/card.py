"""A data card: what a built data set holds, from its own files and no other.

After Gebru et al., Datasheets for Datasets (2021), as far as a machine can
say it; what a person must say (consent, how labels came about) is in the
builder's README, to which the card points.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from echo_jax.data.sources import fingerprint, read_index
from echo_jax.targets import TARGETS

LEAST = 5  # people; fewer are not told apart, as is usual in health statistics
GROUPS = ("site", "device", "view", "kind", "sex", "quality")
AGES = (0, 40, 60, 75, np.inf)  # years


def data_card(folder: Path) -> str:
  """Markdown on a data set: splits, groups, ages, labels, what was refused.

  Args:
    folder: of a data set and version, as `find_dataset` gives it.

  A number of patients below 5 is given as "<5".
  """
  folder = Path(folder)
  index = read_index(folder)
  identity = fingerprint(folder)
  parts = [
    f"# Data card: {identity['dataset']}", "",
    "Made by `echo-jax card` from the data set's own index. Access, licence, "
    "layout and known faults: the README of its builder "
    "(`data_builders/`).", "",
    f"Fingerprint: labels `{identity['labels']}`, pixels "
    f"`{identity['pixels']}`.", "",
    "## How it was built", "", *_settings(folder), "",
    "## Splits", "", *_count_table(index, "split"), "",
    *_names_rule(index), "",
  ]  # fmt: skip
  for column in GROUPS:
    if column in index and (index[column].astype(str) != "").any():
      parts += [f"## By {column}", "", *_count_table(index, column), ""]
  parts += [
    "## By age", "", *_ages(index), "",
    "## Labels", "", *_labels(index), "",
    "## Left out", "", *_left_out(folder), "",
  ]  # fmt: skip
  return "\n".join(parts)


def _settings(folder: Path) -> Iterator[str]:
  path = folder / "settings.json"
  settings = json.loads(path.read_text(encoding="utf-8"))
  yield "```json"
  yield json.dumps(settings, sort_keys=True)
  yield "```"


def _count_table(index: pd.DataFrame, column: str) -> Iterator[str]:
  yield f"| {column} | patients | studies | videos |"
  yield "|---|---|---|---|"
  for name, rows in index.groupby(column, observed=True):
    yield f"| {name or 'not known'} | {_counts(rows)} |"
  yield f"| all | {_counts(index)} |"


def _counts(rows: pd.DataFrame) -> str:
  patients = rows.patient_id.nunique()
  if patients < LEAST:
    return f"<{LEAST} | withheld | withheld"
  return f"{patients:,} | {rows.study_id.nunique():,} | {len(rows):,}"


def _names_rule(index: pd.DataFrame) -> Iterator[str]:
  by_rule = int((index.patient_known == 0).sum())
  if by_rule:
    yield (
      f"The owner names no patient for {by_rule:,} of {len(index):,} videos: "
      "who is one person follows from a rule in the builder's README."
    )
  else:
    yield "Every patient is named by the owner."


def _ages(index: pd.DataFrame) -> Iterator[str]:
  people = index.groupby("patient_id", observed=True).age_years.min()
  known = people.dropna()
  yield "| age, years | patients |"
  yield "|---|---|"
  for low, high in zip(AGES, AGES[1:], strict=False):
    count = int(((known >= low) & (known < high)).sum())
    band = f"{low:g} to below {high:g}" if high < np.inf else f"{low:g} or more"
    yield f"| {band} | {_small(count)} |"
  yield f"| not known | {_small(int(people.isna().sum()))} |"


def _small(count: int) -> str:
  return f"<{LEAST}" if 0 < count < LEAST else f"{count:,}"


def _labels(index: pd.DataFrame) -> Iterator[str]:
  """A row a source of a target: who has it, and how it is spread."""
  names = dict.fromkeys(
    name for target in TARGETS.values() for name in target.sources
  )
  yield "| label | videos that have it | patients | spread |"
  yield "|---|---|---|---|"
  for name in names:
    if name not in index:
      continue
    rows = index[_known(index[name])]
    if len(rows):
      patients = rows.patient_id.nunique()
      yield (
        f"| {name} | {len(rows):,} | {_small(patients)} | "
        f"{_spread(rows, name)} |"
      )


def _known(column: pd.Series) -> pd.Series:
  if pd.api.types.is_float_dtype(column):
    return column.notna()
  if pd.api.types.is_numeric_dtype(column):
    return column >= 0
  return column.astype(str) != ""


def _spread(rows: pd.DataFrame, name: str) -> str:
  if rows.patient_id.nunique() < LEAST:
    return "withheld"
  column = rows[name]
  if pd.api.types.is_float_dtype(column):
    low, middle, high = np.nanquantile(column, (0.05, 0.5, 0.95))
    return f"median {middle:.3g}, 5 to 95 %: {low:.3g} to {high:.3g}"
  people = rows.groupby(name, observed=True).patient_id.nunique()
  return ", ".join(f"{value}: {_small(int(n))}" for value, n in people.items())


def _left_out(folder: Path) -> Iterator[str]:
  path = folder / "counts.json"
  counts = json.loads(path.read_text(encoding="utf-8"))
  yield (
    f"{counts['found']:,} items found = {counts['written']:,} written + "
    f"{counts['rejected']:,} rejected; {counts['noted']:,} with a note. Each "
    "is in `ledger.csv`."
  )
  for reason, count in sorted(counts["reasons"].items()):
    yield f"- {reason}: {count:,}"
