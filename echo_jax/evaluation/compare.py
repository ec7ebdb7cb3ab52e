"""One model's predictions against others' on the same patients.

Each difference has its interval and a p value; all p values of one call are
adjusted together (Holm 1979), for who tests often finds something.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import pandas as pd

from echo_jax.evaluation import delong
from echo_jax.evaluation.aggregate import at_level
from echo_jax.evaluation.classification import THRESHOLDED
from echo_jax.evaluation.estimate import LABELS, NAN, Estimate
from echo_jax.evaluation.paired import PROTOCOLS_DIFFER, paired_rows
from echo_jax.evaluation.permutation import METHOD as PERMUTATION
from echo_jax.evaluation.permutation import exchange_p
from echo_jax.evaluation.predictions import (
  PredictionsWarning,
  check_predictions,
)
from echo_jax.evaluation.score import PRIMARY, kind_of, measure_rows
from echo_jax.targets import KINDS

TESTS = ("bootstrap", "permutation", "delong")


def compare(
  tables: Mapping[str, pd.DataFrame], *, level: str | None = None,
  split: str = "test", targets: Sequence[str] | None = None,
  metrics: Sequence[str] = (), binary: Sequence[str] = (),
  ordinal: Mapping[str, Sequence[str]] | None = None,
  threshold: float | int | None = None, test: str = "bootstrap",
  seed: int = 0, resamples: int = 2000,
) -> list[Estimate]:  # fmt: skip
  """The first model's metrics minus those of each other model.

  Args:
    tables: predictions tables by the models' names; two or more.
    level, split, binary, ordinal, threshold: as of `score`.
    targets: those to compare; by default all that every table has.
    metrics: names; by default the one of `score.PRIMARY` for each kind.
    test: where p comes from: "bootstrap" by patient, as the interval;
      "permutation" by patient, see `permutation`; or "delong", of AUROC where
      each patient has one row, which gives the interval too.

  Returns:
    Estimates with `p`, and `p_adjusted` over all of them (`holm`).

  Raises:
    ValueError: tables of different levels or without a target in common; or
      of different items, patients or truths, with counts; a test that does
      not fit.
  """
  if test not in TESTS:
    raise ValueError(f"test is {test!r}; allowed: {', '.join(TESTS)}")
  if len(tables) < 2:
    raise ValueError(f"{len(tables)} tables; two or more can be compared")
  order = ordinal or {}
  frames = {
    name: _at_one_level(table, level, binary, order)
    for name, table in tables.items()
  }
  _refuse_levels(frames)
  first, *others = frames
  found = []
  for target in _asked_for(frames, targets) or _shared_targets(frames):
    for metric in _metrics_of(frames[first], target, metrics, test):
      for other in others:
        pair = {name: frames[name] for name in (first, other)}
        found.append(
          _difference(
            pair, target, metric, split, threshold, test,
            tuple(order.get(target, ())), seed, resamples,
          )  # fmt: skip
        )
  if not found:
    raise ValueError(f"no target has a metric of {', '.join(metrics)}")
  _warn_of_protocols(found)
  adjusted = holm([one.p for one in found])
  tests = int(np.isfinite(adjusted).sum())
  return [
    replace(
      one, p_adjusted=float(p),
      p_method=f"{one.p_method}; adjusted by Holm over {tests} tests",
    )  # fmt: skip
    for one, p in zip(found, adjusted, strict=True)
  ]


def holm(p: Sequence[float]) -> np.ndarray:
  """P values adjusted for their number (Holm 1979); NaN counts as no test.

  The k-th smallest of m is multiplied by m - k + 1, is at least as large as
  the ones before, and 1 at most.
  """
  p = np.asarray(p, np.float64)
  known = np.flatnonzero(np.isfinite(p))
  rising = known[np.argsort(p[known], kind="stable")]
  adjusted = np.full(p.shape, np.nan)
  factors = np.arange(len(rising), 0, -1)
  adjusted[rising] = np.minimum(
    1, np.maximum.accumulate(factors * p[rising])
  )
  return adjusted


def _at_one_level(
  table: pd.DataFrame, level: str | None, binary: Sequence[str],
  ordinal: Mapping[str, Sequence[str]],
) -> pd.DataFrame:  # fmt: skip
  """The checked table at the level, with the kinds that the caller states."""
  frame = at_level(check_predictions(table), level)
  for name in {*binary, *ordinal}:
    of = frame.target == name
    frame.loc[of, "kind"] = kind_of(frame[of], name, binary, ordinal)
  return frame


def _refuse_levels(frames: Mapping[str, pd.DataFrame]) -> None:
  levels = {name: frame.level.iloc[0] for name, frame in frames.items()}
  if len(set(levels.values())) > 1:
    said = ", ".join(f"{name}: {level}" for name, level in levels.items())
    raise ValueError(f"tables of different levels ({said}); choose one level")


def _asked_for(
  frames: Mapping[str, pd.DataFrame], targets: Sequence[str] | None
) -> Sequence[str]:
  """The same targets, once it is known that every table has them."""
  for target in targets or ():
    for name, frame in frames.items():
      if not (frame.target == target).any():
        there = ", ".join(dict.fromkeys(frame.target))
        raise ValueError(f"{name} has no target {target!r}; it has {there}")
  return targets or ()


def _shared_targets(frames: Mapping[str, pd.DataFrame]) -> list[str]:
  """Targets of every table; says which are left out."""
  every = dict.fromkeys(t for frame in frames.values() for t in frame.target)
  shared = [
    name for name in every
    if all((frame.target == name).any() for frame in frames.values())
  ]  # fmt: skip
  if not shared:
    raise ValueError(f"the tables have no target in common: {list(every)}")
  if alone := [name for name in every if name not in shared]:
    warnings.warn(
      f"not compared, for not every table has them: {', '.join(alone)}",
      PredictionsWarning, stacklevel=3,
    )  # fmt: skip
  return shared


def _metrics_of(
  frame: pd.DataFrame, target: str, metrics: Sequence[str], test: str
) -> list[str]:
  """Metrics by which a target is compared, in the order asked for."""
  kind = kind_of(frame[frame.target == target], target)
  if metrics:
    return [name for name in metrics if name in KINDS[kind].metrics]
  if test == "delong" and kind != "binary":
    return []
  return [PRIMARY[kind]]


def _difference(
  pair: Mapping[str, pd.DataFrame], target: str, metric: str, split: str,
  threshold: float | int | None, test: str, order: tuple[str, ...], seed: int,
  resamples: int,
) -> Estimate:  # fmt: skip
  """One metric's difference by one of the tests."""
  tables = [table[table.target == target] for table in pair.values()]
  one = paired_rows(
    tables[:1], tables[1:], target, metric, split=split, names=tuple(pair),
    threshold=threshold, seed=seed, resamples=resamples, order=order,
  )  # fmt: skip
  one = replace(one, row_level=tables[0].level.iloc[0])
  if not np.isfinite(one.p) or test == "bootstrap":
    return one
  if test == "permutation":
    if metric in THRESHOLDED and threshold is None:
      raise ValueError(
        f"{metric}: a permutation test needs one threshold for both models"
      )
    p = exchange_p(
      *tables, target, metric, split=split, order=order, seed=seed,
      threshold=0.5 if threshold is None else float(threshold),
      permutations=resamples,
    )  # fmt: skip
    return replace(one, p=p, p_method=f"{PERMUTATION}, {resamples:,} drawn")
  if metric != "auroc":
    raise ValueError(f"DeLong's test is one of auroc, not of {metric}")
  return _by_delong(one, tables, split)


def _by_delong(
  one: Estimate, tables: Sequence[pd.DataFrame], split: str
) -> Estimate:
  """The same with DeLong's interval and p."""
  delong.refuse_several_rows(one.target, one.rows, one.patients)
  (truth, a), (_, b) = (
    measure_rows(table, one.target, split, 0.5).measured.ranked
    for table in tables
  )
  low, high, p = delong.area_difference(truth, a, b, one.level)
  return replace(
    one, low=low, high=high, p=p, method=delong.METHOD, resamples=0,
    dropped=0, p_method=f"two-sided, {delong.METHOD}",
    reason="" if np.isfinite(p) else "a difference without variance",
  )  # fmt: skip


def _warn_of_protocols(found: Sequence[Estimate]) -> None:
  said = {one.protocol for one in found if PROTOCOLS_DIFFER in one.protocol}
  for protocol in sorted(said):
    warnings.warn(protocol, PredictionsWarning, stacklevel=3)


def comparison_table(found: Sequence[Estimate]) -> str:
  """Differences as text for the terminal, a block a target."""
  blocks = []
  for target, group in groupby(found, lambda one: one.target):
    group = list(group)
    first = group[0]
    lines = [
      f"{target}: {first.split} split, {first.row_level} level, differences "
      f"on the same {first.patients:,} patients, {first.rows:,} rows"
    ]
    lines += [f"  {line}" for one in group for line in _lines(one)]
    blocks.append("\n".join(lines))
  one = found[0]
  how = f"{100 * one.level:g} % intervals: {one.method}"
  if one.resamples:
    how += f", {one.resamples:,} resamples, seed {one.seed}"
  return "\n\n".join([*blocks, f"{how}\np: {one.p_method}"])


def _lines(one: Estimate) -> list[str]:
  """A difference, and the values that it is of."""
  metric = one.name.removesuffix("_difference")
  label = LABELS.get(metric, metric)
  names = [name for name, _ in one.by_seed]
  head = f"{label}, {' minus '.join(names)}: {one.value_text}"
  if not np.isfinite(one.low):
    return [head if not one.defined else f"{head} (no interval: {one.reason})"]
  values = ", ".join(
    f"{name} {replace(one, value=value, p=NAN).value_text}"
    for name, value in one.by_seed
  )
  dropped = (
    f", {one.dropped:,} of {one.resamples:,} resamples dropped"
    if one.dropped else ""
  )  # fmt: skip
  return [
    f"{head} ({one.interval_text}), p {one.p:.2g}, Holm {one.p_adjusted:.2g}"
    f"{dropped}",
    f"  {values}",
  ]
