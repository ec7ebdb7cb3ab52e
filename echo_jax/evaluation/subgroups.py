"""Metrics within groups of patients: by device, site, view, sex, age, quality.

A group is judged as the whole is, with the threshold of the whole.  Of groups
with few patients nothing is said, for it would be chance.  A worst group is
one that was chosen, so its interval promises less than it says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from echo_jax.evaluation.aggregate import at_level
from echo_jax.evaluation.estimate import LABELS, NAN, WITHHELD, Estimate
from echo_jax.evaluation.items import count_items
from echo_jax.evaluation.predictions import (
  check_predictions,
  collected_notes,
)
from echo_jax.evaluation.score import PRIMARY, kind_of, score
from echo_jax.targets import KINDS

LEAST_PATIENTS = 20
UNKNOWN = "unknown"
AGE_BANDS = ((40, "under 40"), (60, "40-59"), (75, "60-74"), (np.inf, "75+"))
BY = ("device", "site", "view", "sex", "age", "quality")
SELECTED = (
  "the worst of several groups was selected: its interval is not corrected "
  "for that"
)
# Of these more is worse, of `BEST_AT` what is far from it, of `GOOD` less.
ERRORS = (
  "mae", "rmse", "mae_grades", "brier", "ece_width", "ece_mass",
  "called_brier", "called_ece_width", "called_ece_mass",
)  # fmt: skip
BEST_AT = {
  "bias": 0.0, "calibration_slope": 1.0, "calibration_intercept": 0.0,
  "loa_low": 0.0, "loa_high": 0.0,
}  # fmt: skip

GOOD = (
  "r2", "pearson_r", "auroc", "auprc", "f1", "accuracy", "sensitivity",
  "specificity", "macro_auroc", "balanced_accuracy", "macro_f1",
  "quadratic_kappa", "mean_auroc", "mean_auprc",
)  # fmt: skip


@dataclass(frozen=True)
class Subgroups:
  """One metric of one target in each group of an attribute.

  Attributes:
    by: one of `BY`.
    whole: of all patients.
    groups: by name, with `unknown` last; withheld ones have no value and say
      so in `reason`.
    in_several: patients who are in more than one group.
  """

  by: str
  whole: Estimate
  groups: tuple[Estimate, ...]
  in_several: int = 0

  @property
  def judged(self) -> tuple[Estimate, ...]:
    """Groups that have a value."""
    return tuple(one for one in self.groups if one.defined)

  @property
  def worst(self) -> Estimate | None:
    """The group with the worst value, of two or more that have one."""
    if len(self.judged) < 2:
      return None
    return max(self.judged, key=badness)

  def to_dict(self) -> dict[str, Any]:
    """Plain JSON types."""
    worst = self.worst
    return {
      "by": self.by, "target": self.whole.target, "metric": self.whole.name,
      "whole": self.whole.to_dict(),
      "groups": [one.to_dict() for one in self.groups],
      "patients_in_several_groups": self.in_several,
      "worst": worst and {
        "group": worst.group, "value": worst.value, "of": len(self.judged),
        "note": SELECTED,
      },
    }  # fmt: skip


def badness(one: Estimate) -> float:
  """A number that is larger the worse a metric's value is.

  Raises:
    ValueError: of that metric it is not known which values are bad.
  """
  if one.name in BEST_AT:
    return abs(one.value - BEST_AT[one.name])
  if one.name not in (*ERRORS, *GOOD):
    raise ValueError(f"whether more of {one.name} is worse is not known")
  return one.value if one.name in ERRORS else -one.value


def group_names(frame: pd.DataFrame, by: str) -> pd.Series:
  """Each row's group: its device, site, view, sex, quality or band of age.

  Ages are under 40, 40-59, 60-74 and 75+ years; what is not known is
  "unknown".

  Raises:
    ValueError: another attribute.
  """
  if by not in BY:
    raise ValueError(f"no groups by {by!r}; there are {', '.join(BY)}")
  if by != "age":
    return frame[by].where(frame[by] != "", UNKNOWN).astype(object)
  ends, names = zip(*AGE_BANDS, strict=True)
  place = np.searchsorted(ends, frame.age_years, side="right")
  known = frame.age_years.notna()
  found = np.array([*names, UNKNOWN], object)[
    np.where(known, place, len(names))
  ]
  return pd.Series(found, frame.index)


def measure_subgroups(
  frame: pd.DataFrame, by: Sequence[str] = BY, *, level: str | None = None,
  split: str = "test", metrics: Sequence[str] = (),
  targets: Sequence[str] | None = None, least: int = LEAST_PATIENTS,
  binary: Sequence[str] = (),
  ordinal: Mapping[str, Sequence[str]] | None = None, **how: Any,
) -> list[Subgroups]:  # fmt: skip
  """Metrics in the groups of each attribute.

  Args:
    frame, level, split, targets, binary, ordinal: as of `score`.
    by: attributes; one that has no more than one group is left out.
    metrics: names; by default the one of `score.PRIMARY` for each kind.
    least: patients below which a group's value is withheld.
    how: what else `score` takes.

  Raises:
    ValueError: as `score`; or `least` below 2, which gives no interval.
  """
  if least < 2:
    raise ValueError(f"least is {least} patients; wants 2 or more")
  frame = at_level(check_predictions(frame), level)
  names = {one: group_names(frame, one) for one in by}
  found = []
  for target in targets or list(dict.fromkeys(frame.target)):
    rows = frame[frame.target == target]
    stated = {
      "binary": [one for one in binary if one == target],
      "ordinal": {n: of for n, of in (ordinal or {}).items() if n == target},
    }
    kind = kind_of(rows, target, **stated)
    of_kind = KINDS[kind].metrics
    wanted = [one for one in metrics or (PRIMARY[kind],) if one in of_kind]
    measure = partial(
      _measure, metrics=wanted, level=rows.level.iloc[0], split=split,
      **stated, **how,
    )  # fmt: skip
    scored = rows.split == (split if split != "all" else rows.split)
    whole = measure(rows) if wanted else {}
    for one in by:
      found += _groups_of(
        rows, names[one][rows.index], scored, one, whole, measure, least
      )
  return found


Values = Mapping[str, Estimate]


def _groups_of(
  rows: pd.DataFrame, names: pd.Series, scored: pd.Series, by: str,
  whole: Values, measure: Callable[[pd.DataFrame], Values], least: int,
) -> list[Subgroups]:  # fmt: skip
  """One target's groups by one attribute, a metric each."""
  known = scored & rows.truth.notna()
  there = sorted(set(names[known]), key=_place)
  if len(there) < 2:
    return []
  groups = []
  for name in there:
    own = names == name
    if rows[known & own].patient_id.nunique() < least:
      values = _withheld(rows[known & own], whole, least)
    else:
      # Other splits stay whole: the threshold is that of all patients.
      values = measure(rows[own | ~scored])
    groups.append(
      {metric: replace(one, group=f"{by}: {name}")
       for metric, one in values.items()}
    )  # fmt: skip
  each = names[known].groupby(rows.patient_id[known]).nunique()
  return [
    Subgroups(
      by, one, tuple(of[metric] for of in groups), int((each > 1).sum())
    )
    for metric, one in whole.items()
  ]


def _place(name: str) -> tuple[int, str]:
  """Where a group stands: bands of age in their order, unknown last."""
  bands = [band for _, band in AGE_BANDS]
  return (bands.index(name), "") if name in bands else (
    (len(bands) + (name == UNKNOWN), name)
  )  # fmt: skip


def _measure(
  rows: pd.DataFrame, metrics: Sequence[str], **how: Any
) -> dict[str, Estimate]:
  """A target's metrics by name; notes of `score` were given for the whole."""
  target = rows.target.iloc[0]
  with collected_notes():
    found = score(rows, **how)
  return {
    one.name: one
    for one in found
    if one.target == target and one.name in metrics
  }


def _withheld(
  rows: pd.DataFrame, whole: Values, least: int
) -> dict[str, Estimate]:
  """What is said of a group that is too small."""
  return {
    metric: replace(
      one, value=NAN, low=NAN, high=NAN, resamples=0, dropped=0,
      patients=rows.patient_id.nunique(), rows=count_items(rows),
      reason=f"{WITHHELD}fewer than {least} patients",
    )  # fmt: skip
    for metric, one in whole.items()
  }


def subgroup_table(found: Sequence[Subgroups]) -> str:
  """The groups as text for the terminal, a block an attribute and metric."""
  return "\n\n".join(_block(one) for one in found)


def _block(one: Subgroups) -> str:
  whole = one.whole
  label = LABELS.get(whole.name, whole.name)
  rows = [("all", whole), *((group_of(group), group) for group in one.groups)]
  wide = max(len(name) for name, _ in rows)
  lines = [f"{whole.target}, {label} by {one.by}: {whole.protocol}"]
  for name, of in rows:
    doubt = f"; {of.reason}" if of.defined and np.isfinite(of.low) else ""
    lines.append(f"  {name:{wide}}  {of}{doubt.removesuffix('; ')}")
  if one.in_several:
    lines.append(f"  {one.in_several:,} patients are in several groups")
  if (worst := one.worst) is not None:
    lines.append(
      f"  worst of {len(one.judged)} with a value: {group_of(worst)}, "
      f"{worst.value_text} ({worst.interval_text}); {SELECTED}"
    )
  return "\n".join(lines)


def group_of(one: Estimate) -> str:
  """A group's name without its attribute."""
  return one.group.partition(": ")[2]
