"""The items of a predictions table: what is scored once, and its classes.

An item is a clip, video or study; with several classes it has a row a class.
Axes: n item, k class or label.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from echo_jax.evaluation.predictions import PredictionsWarning
from echo_jax.targets import TARGETS

SUM_SLACK = 0.05  # of probabilities that were rounded to two decimals


class Wide(NamedTuple):
  """One row an item and one column a class; NaN where a label is unknown."""

  item_id: np.ndarray
  patient_id: np.ndarray
  classes: list[str]
  truth: Float[np.ndarray, "n k"]
  prediction: Float[np.ndarray, "n k"]
  keys: pd.DataFrame  # what tells the items apart, see `item_columns`


def classes_of(target: str) -> tuple[str, ...]:
  """Its classes in the order of the task table; () if that has none."""
  return TARGETS[target].classes if target in TARGETS else ()


def count_items(part: pd.DataFrame) -> int:
  """How many items there are, whatever the number of classes."""
  return len(part[item_columns(part)].drop_duplicates())


def item_columns(part: pd.DataFrame) -> list[str]:
  """What tells scored items apart; several classes share one item."""
  return ["item_id", "start_ms", *(["clip_id"] if "clip_id" in part else [])]


def with_truth(
  rows: pd.DataFrame, target: str, split: str
) -> tuple[pd.DataFrame, int]:
  """The rows of the split's items that have a truth, and how many have none.

  Raises:
    ValueError: the split has no rows, or none with a truth.
  """
  part = rows if split == "all" else rows[rows.split == split]
  if not len(part):
    raise ValueError(
      f"no rows of split {split!r} for {target}; "
      f"there are {', '.join(sorted(set(rows.split)))}"
    )
  known = part.truth.notna()
  if not known.any():
    raise ValueError(f"{target}: no row of split {split!r} has a truth")
  if (part["class"] != "").any():  # an item counts once, not once a class
    items = [part[name].fillna(-1) for name in item_columns(part)]
    known = known.groupby(items).transform("any")
  kept, count = part[known], count_items(part)
  missing = count - count_items(kept)
  if missing:
    warnings.warn(
      f"{target}: {missing:,} of {count:,} rows of split {split!r} have "
      "no truth and are left out", PredictionsWarning, stacklevel=4,
    )  # fmt: skip
  return kept, missing


def widen(
  part: pd.DataFrame, target: str, classes: Sequence[str], *, one_true: bool
) -> Wide:
  """Turns one row a class into one column a class.

  Args:
    classes: in their order; () takes them as they are found.
    one_true: whether every item must have exactly one true class.

  Raises:
    ValueError: classes that are not those, an item without a row for each, or
      not with one true class.
  """
  _check_classes(part, target, classes)
  part = part.assign(start_ms=part.start_ms.fillna(-1.0))
  index = [*item_columns(part), "patient_id"]
  wide = part.pivot(index=index, columns="class", values="prediction")
  if wide.isna().any(axis=None):
    item = wide.index[np.flatnonzero(wide.isna().any(axis=1))[0]][0]
    raise ValueError(f"{target}: {item} does not have a row for every class")
  truth = part.pivot(index=index, columns="class", values="truth")
  wrong = truth.fillna(2).sum(axis=1) != 1  # partly unknown is wrong too
  if one_true and wrong.any():
    item = truth.index[np.flatnonzero(wrong)[0]][0]
    raise ValueError(f"{target}: {item} must have truth 1 in exactly one class")
  names = list(classes or wide.columns)
  return Wide(
    wide.index.get_level_values("item_id").to_numpy(),
    wide.index.get_level_values("patient_id").to_numpy(), names,
    truth[names].to_numpy(), wide[names].to_numpy(),
    wide.index.to_frame(index=False)[item_columns(part)],
  )  # fmt: skip


def _check_classes(
  part: pd.DataFrame, target: str, classes: Sequence[str]
) -> None:
  """Refuses classes that are not those of the task table, where it has any.

  A class without rows would leave the macro metrics without a word.
  """
  if not classes:
    return
  given, wanted = set(part["class"]), classes
  strange, absent = sorted(given - set(wanted)), sorted(set(wanted) - given)
  if strange:
    raise ValueError(
      f"{target} has no class {strange[0]!r}; there are {', '.join(wanted)}, "
      "one row each"
    )
  if absent:
    raise ValueError(f"{target}: no row of class {', '.join(absent)}")


def check_sums(wide: Wide, target: str) -> None:
  """Raises ValueError where the classes' probabilities do not add up to 1."""
  sums = wide.prediction.sum(1)
  if (abs(sums - 1) > SUM_SLACK).any():
    worst = sums[np.argmax(abs(sums - 1))]
    raise ValueError(
      f"{target}: the predictions of one item add up to {worst:g}; want the "
      "probability of each class, in all 1"
    )
