"""The task table: what each target is, its unit, and its positive class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Target:
  """One quantity a model predicts.

  `kind` is "regression" or "binary".  A binary target is 1 where `source`
  lies below `below`; its name says which class is the positive one.
  """

  name: str
  kind: str
  unit: str
  source: str
  below: float = float("nan")


TARGETS: dict[str, Target] = {
  target.name: target
  for target in (
    Target("ef_pct", "regression", "%", "ef_pct"),
    Target("edv_ml", "regression", "ml", "edv_ml"),
    Target("esv_ml", "regression", "ml", "esv_ml"),
    Target("ef_below_50", "binary", "", "ef_pct", below=50.0),
  )
}


def target_named(name: str) -> Target:
  """The target of that name.

  Raises:
    ValueError: no such target; the message lists those that exist.
  """
  if name not in TARGETS:
    raise ValueError(f"no target {name!r}; there are {sorted(TARGETS)}")
  return TARGETS[name]


def truth_of(target: Target, scalars: Mapping[str, Any]) -> float:
  """Value of a target for one record; NaN where its source is unknown."""
  value = float(scalars[target.source])
  if target.kind == "regression" or np.isnan(value):
    return value
  return float(value < target.below)
