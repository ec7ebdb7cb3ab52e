"""A data card: what a built data set holds, from its own files and no other.

After Gebru et al., Datasheets for Datasets (2021), as far as a machine can
say it; what a person must say (consent, how labels came about) is in the
builder's README, to which the card points.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echo_jax.data.sources import fingerprint, read_index
from echo_jax.targets import TARGETS

WITHHELD = "withheld"
LEAST = 5  # people; fewer are not told apart, as is usual in health statistics
GROUPS = ("site", "device", "view", "kind", "sex", "quality")
AGES = (0, 40, 60, 75, np.inf)  # years


def data_card(folder: Path) -> str:
  """Markdown on a data set: splits, groups, ages, labels, what was refused.

  Args:
    folder: of a data set and version, as `find_dataset` gives it.

  A number of patients below 5 is given as "<5"; where that would be the only
  one of its table, the next smallest is withheld too, or the total would tell.
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
  groups = dict(list(index.groupby(column, observed=True)))
  told = _told({n: rows.patient_id.nunique() for n, rows in groups.items()})
  for name, rows in groups.items():
    yield f"| {name or 'not known'} | {_counts(rows, told[name])} |"
  yield f"| all | {_counts(index, f'{index.patient_id.nunique():,}')} |"


def _counts(rows: pd.DataFrame, told: str) -> str:
  patients = f"{rows.patient_id.nunique():,}"
  if told != patients:
    return f"{told} | {WITHHELD} | {WITHHELD}"
  return f"{patients} | {rows.study_id.nunique():,} | {len(rows):,}"


def _told(patients: Mapping[Any, int]) -> dict[Any, str]:
  """Numbers of patients of the groups of a whole, as they are told.

  Few are not; nor are the next in number, where the others' and the whole's
  would tell how few.
  """
  told = {name: f"{count:,}" for name, count in patients.items()}
  hidden = 0
  for name in sorted(patients, key=lambda one: patients[one]):
    count = patients[name]
    if 0 < count < LEAST:
      told[name] = f"<{LEAST}"
    elif not 0 < hidden < LEAST:
      continue
    else:
      told[name] = WITHHELD
    hidden += count
  return told


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
  counts = {}
  for low, high in zip(AGES, AGES[1:], strict=False):
    band = f"{low:g} to below {high:g}" if high < np.inf else f"{low:g} or more"
    counts[band] = int(((known >= low) & (known < high)).sum())
  counts["not known"] = int(people.isna().sum())
  for band, told in _told(counts).items():
    yield f"| {band} | {told} |"


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
        f"| {name} | {len(rows):,} | {patients:,} | {_spread(rows, name)} |"
        if patients >= LEAST
        else f"| {name} | {WITHHELD} | <{LEAST} | {WITHHELD} |"
      )


def _known(column: pd.Series) -> pd.Series:
  if pd.api.types.is_float_dtype(column):
    return column.notna()
  if pd.api.types.is_numeric_dtype(column):
    return column >= 0
  return column.astype(str) != ""


def _spread(rows: pd.DataFrame, name: str) -> str:
  column = rows[name]
  if pd.api.types.is_float_dtype(column):
    low, middle, high = np.nanquantile(column, (0.05, 0.5, 0.95))
    return f"median {middle:.3g}, 5 to 95 %: {low:.3g} to {high:.3g}"
  people = rows.groupby(name, observed=True).patient_id.nunique()
  told = _told({value: int(n) for value, n in people.items()})
  return ", ".join(f"{value}: {n}" for value, n in told.items())


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
