"""A data card: what a built data set holds, from its own files and no other.

After Gebru et al., Datasheets for Datasets (2021), as far as a machine can
say it; what a person must say (consent, how labels came about) is in the
builder's README, to which the card points.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from echo_jax.data.sources import fingerprint, read_index
from echo_jax.targets import TARGETS

WITHHELD = "withheld"
LEAST = 5  # people; fewer are not told apart, as is usual in health statistics
FEW = f"<{LEAST}"
GROUPS = ("site", "device", "view", "kind", "sex", "quality")
OF_VIDEOS = ("view", "kind")  # a study has several
AGES = (0, 40, 60, 75, np.inf)  # years


class Counts:
  """How numbers are told: exactly, or rounded where one of them is small.

  Attributes:
    base: told numbers are multiples of it.
    small: whether a number of people below `LEAST` was asked for.
  """

  def __init__(self, base: int = 1):
    self.base, self.small = base, False

  def __call__(self, count: int) -> str:
    """Of videos or studies."""
    return f"{self.base * round(count / self.base):,}"

  def people(self, count: int) -> str:
    """Of patients, or of what may be one each; below `LEAST` no number."""
    few = 0 < count < LEAST
    self.small |= few
    return FEW if few else self(count)


def data_card(folder: Path) -> str:
  """Markdown on a data set: splits, groups, ages, labels, what was refused.

  Args:
    folder: of a data set and version, as `find_dataset` gives it.

  A number of patients below 5, or of items left out for one reason, is given
  as "<5".  Where there is one, all others are rounded to the nearest 5, or it
  would follow from sums.
  """
  folder = Path(folder)
  index, counts = read_index(folder), Counts()
  text = _card(folder, index, counts)
  return _card(folder, index, Counts(LEAST)) if counts.small else text


def _card(folder: Path, index: pd.DataFrame, counts: Counts) -> str:
  identity = fingerprint(folder)
  rounded = (
    f"Some counts are below {LEAST}: all others are rounded to {LEAST}.", ""
  )  # fmt: skip
  parts = [
    f"# Data card: {identity['dataset']}", "",
    "Made by `echo-jax card` from the data set's own index. Access, licence, "
    "layout and known faults: the README of its builder "
    "(`data_builders/`).", "",
    *(rounded if counts.base > 1 else ()),
    f"Fingerprint: labels `{identity['labels']}`, pixels "
    f"`{identity['pixels']}`.", "",
    "## How it was built", "", *_settings(folder), "",
    "## Splits", "", *count_table(index, "split", counts), "",
    *_names_rule(index, counts), "",
  ]  # fmt: skip
  for column in GROUPS:
    if column in index and (index[column].astype(str) != "").any():
      table = count_table(index, column, counts)
      parts += [f"## By {column}", "", *table, ""]
  parts += [
    "## By age", "", *_ages(index, counts), "",
    "## Labels", "", *label_table(index, counts), "",
    "## Left out", "", *_left_out(folder, counts), "",
  ]  # fmt: skip
  return "\n".join(parts)


def _settings(folder: Path) -> Iterator[str]:
  path = folder / "settings.json"
  settings = json.loads(path.read_text(encoding="utf-8"))
  yield "```json"
  yield json.dumps(settings, sort_keys=True)
  yield "```"


def count_table(
  index: pd.DataFrame, column: str, counts: Counts
) -> Iterator[str]:
  """Patients, studies and videos of each value of a column."""
  yield f"| {column} | patients | studies | videos |"
  yield "|---|---|---|---|"
  for name, rows in index.groupby(column, observed=True):
    yield f"| {name or 'not known'} | {_counts(rows, counts)} |"
  yield f"| all | {_counts(index, counts)} |"


def _counts(rows: pd.DataFrame, counts: Counts) -> str:
  return _told(_sizes(rows), counts)


def _sizes(rows: pd.DataFrame) -> list[int]:
  """Patients, studies, videos."""
  return [rows.patient_id.nunique(), rows.study_id.nunique(), len(rows)]


def _told(sizes: Sequence[int], counts: Counts) -> str:
  patients = counts.people(sizes[0])
  few = patients == FEW
  others = (WITHHELD if few else counts(size) for size in sizes[1:])
  return " | ".join((patients, *others))


def group_sizes(
  index: pd.DataFrame, of_studies: bool = False
) -> dict[str, list[int]]:
  """Patients, studies and videos in all and in each group, by its name.

  With `of_studies` a row is a study: its videos are not counted, and there
  are no groups by what differs among them.
  """
  sizes = {"all": _sizes(index)}
  for column in GROUPS:
    if column in index and not (of_studies and column in OF_VIDEOS):
      for name, rows in index.groupby(column, observed=True):
        sizes[f"{column}: {name or 'not known'}"] = _sizes(rows)
  return {name: of[: 3 - of_studies] for name, of in sizes.items()}


def size_table(
  sizes: Mapping[str, Sequence[int]], counts: Counts
) -> Iterator[str]:
  """What `group_sizes` found."""
  names = ("patients", "studies", "videos")[: len(sizes["all"])]
  yield f"| group | {' | '.join(names)} |"
  yield "|---" * (1 + len(names)) + "|"
  for name, of in sizes.items():
    yield f"| {name} | {_told(of, counts)} |"


def _names_rule(index: pd.DataFrame, counts: Counts) -> Iterator[str]:
  by_rule = int((index.patient_known == 0).sum())
  if by_rule:
    yield (
      f"The owner names no patient for {counts(by_rule)} of "
      f"{counts(len(index))} videos: "
      "who is one person follows from a rule in the builder's README."
    )
  else:
    yield "Every patient is named by the owner."


def _ages(index: pd.DataFrame, counts: Counts) -> Iterator[str]:
  people = index.groupby("patient_id", observed=True).age_years.min()
  known = people.dropna()
  yield "| age, years | patients |"
  yield "|---|---|"
  for low, high in zip(AGES, AGES[1:], strict=False):
    band = f"{low:g} to below {high:g}" if high < np.inf else f"{low:g} or more"
    count = int(((known >= low) & (known < high)).sum())
    yield f"| {band} | {counts.people(count)} |"
  yield f"| not known | {counts.people(int(people.isna().sum()))} |"


def label_table(index: pd.DataFrame, counts: Counts) -> Iterator[str]:
  """A row a source of a target: who has it, and how it is spread."""
  names = dict.fromkeys(
    name for target in TARGETS.values() for name in target.sources
  )
  everybody = index.patient_id.nunique()
  yield "| label | videos that have it | patients | spread |"
  yield "|---|---|---|---|"
  for name in names:
    rows = index[_known(index[name])] if name in index else index[:0]
    if not len(rows):
      continue
    known = rows.patient_id.nunique()
    patients = counts.people(known)
    counts.people(everybody - known)  # who has none follows from both
    yield f"| {name} | " + (
      f"{WITHHELD} | {FEW} | {WITHHELD} |" if patients == FEW else
      f"{counts(len(rows))} | {patients} | {_spread(rows, name, counts)} |"
    )


def _known(column: pd.Series) -> pd.Series:
  if pd.api.types.is_float_dtype(column):
    return column.notna()
  if pd.api.types.is_numeric_dtype(column):
    return column >= 0
  return column.astype(str) != ""


def _spread(rows: pd.DataFrame, name: str, counts: Counts) -> str:
  column = rows[name]
  if pd.api.types.is_float_dtype(column):
    low, middle, high = np.nanquantile(column, (0.05, 0.5, 0.95))
    return f"median {middle:.3g}, 5 to 95 %: {low:.3g} to {high:.3g}"
  people = rows.groupby(name, observed=True).patient_id.nunique()
  return ", ".join(
    f"{value}: {counts.people(int(n))}" for value, n in people.items()
  )


def _left_out(folder: Path, counts: Counts) -> Iterator[str]:
  """Whose the rejected are is not known: so few items are so few patients."""
  path = folder / "counts.json"
  of = json.loads(path.read_text(encoding="utf-8"))
  yield (
    f"{counts(of['found'])} items found = {counts(of['written'])} written + "
    f"{counts.people(of['rejected'])} rejected; {counts.people(of['noted'])} "
    "with a note. Each is in `ledger.csv`."
  )
  for reason, count in sorted(of["reasons"].items()):
    yield f"- {reason}: {counts.people(count)}"
