"""The task table: what each target is, its unit, and its classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Target:
  """One quantity a model predicts.

  `kind` is "regression", "binary" or "multiclass".  A binary target is 1 where
  `source` lies below `below`; its name says which class is the positive one.
  A multiclass target is the place of `source` in `classes`.
  """

  name: str
  kind: str
  unit: str
  source: str
  below: float = float("nan")
  classes: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
  target.name: target
  for target in (
    Target("ef_pct", "regression", "%", "ef_pct"),
    Target("edv_ml", "regression", "ml", "edv_ml"),
    Target("esv_ml", "regression", "ml", "esv_ml"),
    Target("ef_below_50", "binary", "", "ef_pct", below=50.0),
    *(
      Target(f"{name}_mm", "regression", "mm", f"{name}_mm")
      for name in ("ivsd", "lvidd", "lvpwd", "ivss", "lvids", "lvpws")
    ),
    Target("as_tmed5", "multiclass", "", "as_tmed5", classes=(
      "no_AS", "mild_AS", "mildtomod_AS", "moderate_AS", "severe_AS",
    )),
    Target("as_tmed3", "multiclass", "", "as_tmed3", classes=(
      "none", "early", "significant",
    )),
  )
}  # fmt: skip


def target_named(name: str) -> Target:
  """The target of that name.

  Raises:
    ValueError: no such target; the message lists those that exist.
  """
  if name not in TARGETS:
    raise ValueError(f"no target {name!r}; there are {sorted(TARGETS)}")
  return TARGETS[name]


def truth_of(target: Target, scalars: Mapping[str, Any]) -> float:
  """Value of a target for one record; NaN where its source is unknown.

  Raises:
    ValueError: a class that the target does not have.
  """
  if target.kind == "multiclass":
    return _class_of(target, scalars[target.source])
  value = float(scalars[target.source])
  if target.kind == "regression" or np.isnan(value):
    return value
  return float(value < target.below)


def _class_of(target: Target, name: str) -> float:
  if not name:
    return float("nan")
  if name not in target.classes:
    raise ValueError(
      f"{target.name} has no class {name!r}; there are {target.classes}"
    )
  return float(target.classes.index(name))
