"""From a predictions table to estimates: every metric at one level."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from echo_jax.data.schema import FIELDS
from echo_jax.evaluation import classification, delong, released
from echo_jax.evaluation.aggregate import at_level
from echo_jax.evaluation.bootstrap import (
  bca_interval,
  leave_one_out,
  number_patients,
  percentile_interval,
  resample,
)
from echo_jax.evaluation.estimate import NAN, Estimate
from echo_jax.evaluation.items import (
  Wide,
  check_sums,
  classes_of,
  count_items,
  item_columns,
  widen,
  with_truth,
)
from echo_jax.evaluation.labels import judged_labels
from echo_jax.evaluation.measured import (
  Measured,
  measure_binary,
  measure_classes,
  measure_grades,
  measure_labels,
  measure_ranking,
  measure_regression,
)
from echo_jax.evaluation.predictions import (
  PredictionsWarning,
  check_predictions,
  collected_notes,
  named_by_clip,
)
from echo_jax.targets import TARGETS

OF_CLASSES = ("multiclass", "ordinal", "multilabel")
# The one metric by which models, or groups of patients, are compared.
PRIMARY = {
  "regression": "mae", "binary": "auroc", "multiclass": "macro_auroc",
  "ordinal": "mae_grades", "multilabel": "mean_auroc",
}  # fmt: skip
DEFAULT_THRESHOLD = 0.5
FEW_PATIENTS = 20  # simulated at 20: "95 %" held 93 (MAE), 71 (AUROC 0.97)
METHODS = {
  "percentile": "percentile bootstrap by patient",
  "bca": "BCa bootstrap by patient",
  "delong": "percentile bootstrap by patient",  # of all but AUROC
  "released": released.METHOD,
}


def score(
  frame: pd.DataFrame, *, level: str | None = None, split: str = "test",
  seed: int = 0, resamples: int = 2000, threshold: float | int | None = None,
  targets: Sequence[str] | None = None, binary: Sequence[str] = (),
  ordinal: Mapping[str, Sequence[str]] | None = None,
  method: str = "percentile",
) -> list[Estimate]:  # fmt: skip
  """Every metric of every target on one split at one level.

  Args:
    frame: a predictions table (`check_predictions` is applied).
    level: clip, video or study; see `aggregate.at_level` for the default.
    threshold: the cut of a binary target; by default the one with the best
      Youden index on the validation rows of the same table and level, else
      0.5, marked as not fitted.
    targets: those to score; all by default.
    binary: names to be scored as binary though no task table says so.
    ordinal: names to be scored as ordinal, with their classes from the lowest
      up; those of the task table have theirs there.
    method: of the intervals: "percentile", "bca" (Efron 1987), "delong" (of
      AUROC, if each patient has one row; others as by "percentile"), or
      "released" (see `released`), whose values are means of repetitions too.

  Rows without a truth are left out with a PredictionsWarning.

  Raises:
    ValueError: nothing to score, or values that do not fit the target.
  """
  if method not in METHODS:
    raise ValueError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
  frame = at_level(check_predictions(frame), level)
  _warn_of_shared_patients(frame)
  there = list(dict.fromkeys(frame.target))
  ordinal = ordinal or {}
  for name in [*(targets or ()), *binary, *ordinal]:
    if name not in there:
      raise ValueError(f"no target {name!r} in the table; it has {there}")
  estimates = []
  for target in targets or there:
    rows = frame[frame.target == target]
    estimates += _score_target(
      rows, target, split, kind_of(rows, target, binary, ordinal), threshold,
      ordinal.get(target, ()),
      dict(seed=seed, resamples=resamples, method=method),
    )  # fmt: skip
  return estimates


class MeasuredRows(NamedTuple):
  """Metrics of one target on the rows of a table that have a truth.

  `items` has one row an item, in the order of `patient_id` and as they are
  resampled: its id and true values.  `cut` is how a binary target was called.
  """

  measured: Measured
  patient_id: np.ndarray
  items: pd.DataFrame
  unit: str
  without_truth: int
  protocol: str
  cut: str = ""


def measure_rows(
  frame: pd.DataFrame, target: str, split: str, threshold: float | None,
  order: Sequence[str] = (),
) -> MeasuredRows:  # fmt: skip
  """Values of one target's metrics and how to resample them.

  Args:
    threshold: of a binary target; None finds it as `score` does.
    order: classes of an ordinal one from the lowest up, if no task table has
      them.

  Raises:
    ValueError: as `score`; or items of more than one level.
  """
  rows = check_predictions(frame[frame.target == target])
  if rows.level.nunique() > 1:
    raise ValueError(f"{target}: rows of several levels; choose one before")
  kind = kind_of(rows, target)
  _check_range(rows, target, kind)
  with collected_notes():  # of rows without a truth, which are counted
    part, missing = with_truth(rows, target, split)
  part = part.sort_values(["item_id", "start_ms", "class"], kind="stable")
  about = _unit(rows, target), missing, _protocol(part, split)
  if kind not in OF_CLASSES:
    cut = ""
    if kind == "regression":
      measured = measure_regression(part)
    else:
      value, rule = _find_threshold(rows, threshold, split)
      measured, cut = measure_binary(part, value), f"{value:.4g} {rule}"
    names = [*item_columns(part), "truth"]
    return MeasuredRows(
      measured, part.patient_id.to_numpy(),
      part[names].reset_index(drop=True), *about, cut,
    )  # fmt: skip
  classes = ordered_classes(target, kind, order)
  wide = widen(part, target, classes, one_true=kind != "multilabel")
  measure = {
    "multiclass": measure_classes, "ordinal": measure_grades,
    "multilabel": measure_labels,
  }  # fmt: skip
  items = wide.keys.assign(
    **{
      f"truth {name}": of
      for name, of in zip(wide.classes, wide.truth.T, strict=True)
    }
  )
  return MeasuredRows(measure[kind](wide), wide.patient_id, items, *about)


def kind_of(
  rows: pd.DataFrame, target: str, binary: Sequence[str] = (),
  ordinal: Sequence[str] | Mapping[str, Any] = (),
) -> str:  # fmt: skip
  """The target's kind: task table, `kind`, `binary`, `ordinal`, `class`.

  Where there are classes and no more is known, it is multiclass.

  Raises:
    ValueError: two of them contradict each other.
  """
  given = set(rows.kind) - {""}
  if target in TARGETS:
    given.add(TARGETS[target].kind)
  if target in binary:
    given.add("binary")
  if target in ordinal:
    given.add("ordinal")
  if (rows["class"] != "").any() and not given & set(OF_CLASSES):
    given.add("multiclass")
  if len(given) > 1:
    both = " and ".join(sorted(given))
    raise ValueError(f"{target} is said to be {both}; it can be only one")
  return given.pop() if given else "regression"


def _score_target(
  rows: pd.DataFrame, target: str, split: str, kind: str,
  threshold: float | int | None, order: Sequence[str],
  bootstrap: dict[str, Any],
) -> list[Estimate]:  # fmt: skip
  _check_range(rows, target, kind)
  part, without_truth = with_truth(rows, target, split)
  base = Estimate(
    name="", value=NAN, target=target, split=split, level=0.95,
    method=METHODS[bootstrap["method"]], seed=bootstrap["seed"],
    row_level=rows.level.iloc[0], unit=_unit(rows, target),
    patients=part.patient_id.nunique(), without_truth=without_truth,
    rows=count_items(part),
    protocol=_protocol(part, split) + _patient_rule(part),
  )  # fmt: skip
  if kind == "regression":
    found = measure_regression(part)
    return _estimates(found, part.patient_id, base, bootstrap)
  if kind in OF_CLASSES:
    return _score_classes(part, kind, order, base, bootstrap)
  cut, rule = _find_threshold(rows, threshold, split)
  share = _share_positive(part)
  base = replace(
    base, positive=positive_class(target), threshold=cut, threshold_rule=rule,
    protocol=f"{base.protocol}, {share}",
  )  # fmt: skip
  found = measure_binary(part, cut)
  return _estimates(found, part.patient_id, base, bootstrap)


def _score_classes(
  part: pd.DataFrame, kind: str, order: Sequence[str], base: Estimate,
  bootstrap: dict[str, Any],
) -> list[Estimate]:  # fmt: skip
  """A target of several classes, of which one is true or any number are."""
  target = base.target
  classes = ordered_classes(target, kind, order)
  wide = widen(part, target, classes, one_true=kind != "multilabel")
  if kind == "multilabel":
    return _score_labels(part, wide, base, bootstrap)
  if kind == "ordinal":
    check_sums(wide, target)
  found = measure_grades(wide) if kind == "ordinal" else measure_classes(wide)
  return _estimates(found, wide.patient_id, base, bootstrap)


def ordered_classes(
  target: str, kind: str, order: Sequence[str]
) -> tuple[str, ...]:
  """Classes in their order; () where there is none and none is needed."""
  classes = classes_of(target) or tuple(order)
  if kind == "ordinal" and not classes:
    raise ValueError(
      f"{target} is ordinal, and the order of its classes is not known; give "
      f"it as in --ordinal {target}=none,mild,severe"
    )
  return classes


def _score_labels(
  part: pd.DataFrame, wide: Wide, base: Estimate, bootstrap: dict[str, Any]
) -> list[Estimate]:
  """The mean over the labels, then each label on the rows that know it."""
  both = len(judged_labels(wide.truth))
  over = f"mean over {both} of {len(wide.classes)} labels, with both classes"
  estimates = _estimates(
    measure_labels(wide), wide.patient_id,
    replace(base, protocol=f"{base.protocol}, {over}"), bootstrap,
  )  # fmt: skip
  for label in wide.classes:
    rows = part[part["class"] == label]
    known = rows[rows.truth.notna()]
    if not len(known):
      continue  # no row, no estimate; the mean's protocol counts the labels
    share = _share_positive(known)
    of_label = replace(
      base, target=f"{base.target}: {label}", rows=len(known),
      patients=known.patient_id.nunique(),
      without_truth=base.without_truth + len(rows) - len(known),
      positive=positive_class(base.target, label),
      protocol=f"{base.protocol}, {share}",
    )  # fmt: skip
    found = measure_ranking(known)
    estimates += _estimates(found, known.patient_id, of_label, bootstrap)
  return estimates


def _estimates(
  found: Measured, patient_id: Any, base: Estimate, bootstrap: dict[str, Any]
) -> list[Estimate]:
  """Adds an interval to each value, all from the same resamples."""
  patient, patients = number_patients(patient_id)
  method, rows = bootstrap["method"], len(patient)
  if method == "released":
    return _as_released(found, rows, base)
  if method == "delong" and found.ranked:
    delong.refuse_several_rows(base.target, rows, patients)
  resamples, samples, left_out = 0, {}, {}
  if patients > 1:
    resamples = bootstrap["resamples"]

    def statistic(counts):
      return found.statistic(patient, counts)

    samples = resample(
      statistic, patients, resamples=resamples, seed=bootstrap["seed"],
      rows=rows,
    )  # fmt: skip
    if method == "bca":
      left_out = leave_one_out(statistic, patients, rows)
  estimates = []
  for name in found.values:
    one = replace(_without_interval(name, found, base), resamples=resamples)
    if one.reason:
      pass  # it has no value
    elif patients == 1:
      one = replace(one, reason="one patient gives no interval")
    elif method == "delong" and name == "auroc" and found.ranked:
      one = _with_delong(one, found)
    else:
      one = _with_interval(
        one, samples[name], left_out.get(name), found.smallest_class
      )
    estimates.append(one)
  return estimates


def _without_interval(name: str, found: Measured, base: Estimate) -> Estimate:
  """One metric's value, or the reason why it has none."""
  one = replace(
    base, name=name, value=found.values[name],
    reason=found.reasons.get(name, ""),
  )  # fmt: skip
  if name not in found.in_unit:
    one = replace(one, unit="")
  if name not in found.thresholded:
    one = replace(one, threshold=NAN, threshold_rule="")
  return one


def _as_released(
  found: Measured, rows: int, base: Estimate
) -> list[Estimate]:
  """Means of repeated batches, which take rows for patients.

  Where there are too few rows that is said in place of values, as the rest of
  a report stands without them.
  """
  bare = [_without_interval(name, found, base) for name in found.values]
  try:
    counts = released.draw_batches(rows, base.seed)
  except ValueError as error:
    return [replace(one, value=NAN, reason=str(error)) for one in bare]
  samples, estimates = found.statistic(np.arange(rows), counts), []
  for one in bare:
    if not one.reason:
      each = samples[one.name]
      value, low, high = released.mean_and_interval(each, one.level)
      known = int(np.isfinite(each).sum())
      one = replace(
        one, value=value, low=low, high=high, dropped=len(counts) - known,
        reason="" if known > 1 else "undefined in all but one repetition",
      )  # fmt: skip
    estimates.append(replace(one, resamples=len(counts)))
  return estimates


def _with_delong(one: Estimate, found: Measured) -> Estimate:
  """The interval of DeLong, which takes no resamples."""
  one = replace(one, method=delong.METHOD, resamples=0)
  if found.smallest_class < 2:
    return replace(one, reason="one row of a class has no variance")
  low, high = delong.area_interval(*found.ranked, one.level)
  return _marked(replace(one, low=low, high=high), found.smallest_class)


def _with_interval(
  one: Estimate, samples: np.ndarray, left_out: np.ndarray | None,
  smallest_class: int | None,
) -> Estimate:  # fmt: skip
  if left_out is None:
    low, high = percentile_interval(samples, one.level)
  else:
    low, high = bca_interval(one.value, samples, left_out, one.level)
  dropped = int((~np.isfinite(samples)).sum())
  return _marked(
    replace(one, low=low, high=high, dropped=dropped), smallest_class
  )


def _marked(one: Estimate, smallest_class: int | None) -> Estimate:
  """Says what an interval is worth, if that is little."""
  fewest = one.patients if smallest_class is None else smallest_class
  of = "" if smallest_class is None else " in a class"
  reason = ""
  if not np.isfinite(one.low):
    reason = "undefined without some of the patients"
  elif one.low == one.high:
    reason = "every resample gives the same value: the interval says nothing"
  elif fewest < FEW_PATIENTS:
    reason = f"under {FEW_PATIENTS} patients{of}: interval likely too narrow"
  return replace(one, reason=reason)


def _find_threshold(
  rows: pd.DataFrame, given: float | int | None, split: str
) -> tuple[float, str]:
  """The cut of a binary target and the rule it comes from."""
  if given is not None:
    if not np.isfinite(given):
      raise ValueError(f"threshold is {given}, wants a finite number")
    return float(given), "(given)"
  if split in ("validation", "all"):
    why = "validation rows are among those scored"
    return DEFAULT_THRESHOLD, f"(default 0.5, not fitted: {why})"
  fit = rows[(rows.split == "validation") & rows.truth.notna()]
  if not len(fit):
    return DEFAULT_THRESHOLD, "(default 0.5, not fitted: no validation rows)"
  try:
    cut = classification.youden_threshold(
      fit.truth.to_numpy(), fit.prediction.to_numpy()
    )
  except ValueError as error:
    return DEFAULT_THRESHOLD, f"(default 0.5, not fitted: validation, {error})"
  rows = f"{len(fit):,} validation rows of {fit.patient_id.nunique():,}"
  return cut, f"(best Youden index on {rows} patients)"


def positive_class(target: str, label: str = "") -> str:
  """The positive class in words: `ef_below_50 = 1 (ef_pct < 50)`.

  `label` is one of those of a multilabel target.
  """
  known = TARGETS.get(target)
  place = known.classes.index(label) if known and label else 0
  said = f" ({known.rule(place)})" if known else ""
  return f"{label or target} = 1{said}"


def _unit(rows: pd.DataFrame, target: str) -> str:
  """The target's unit; refuses another than the task table has."""
  units = set(rows.unit) - {""}
  if target in TARGETS:
    units.add(TARGETS[target].unit)
  if len(units) > 1:
    raise ValueError(f"{target} is given in {' and '.join(sorted(units))!r}")
  return units.pop() if units else ""


def _check_range(rows: pd.DataFrame, target: str, kind: str) -> None:
  """Refuses a truth or a probability that cannot be one."""
  if kind == "regression":
    field = FIELDS.get(TARGETS[target].source) if target in TARGETS else None
    if field and not TARGETS[target].logarithm:
      _refuse_outside(rows, "truth", target, field.low, field.high)
    if target in TARGETS and TARGETS[target].unit == "%":
      _refuse_fractions(rows, target)
    return
  _refuse_outside(rows, "prediction", target, 0.0, 1.0)
  bad = rows.truth.notna() & ~rows.truth.isin([0, 1])
  if bad.any():
    raise ValueError(
      f"{target}: truth must be 0 or 1, is {rows.truth[bad].iloc[0]:g} "
      f"for {rows.item_id[bad].iloc[0]}"
    )


def _refuse_fractions(rows: pd.DataFrame, target: str) -> None:
  """Percent that were written as 0 to 1 would give a tiny error."""
  largest = rows.truth.max()
  if largest <= 1:
    raise ValueError(
      f"{target}: the largest truth is {largest:g}, which looks like a "
      "fraction; give percent, 0 to 100"
    )


def _refuse_outside(
  rows: pd.DataFrame, column: str, target: str, low: float, high: float
) -> None:
  bad = (rows[column] < low) | (rows[column] > high)
  if bad.any():
    raise ValueError(
      f"{target}: {column} is {rows[column][bad].iloc[0]:g} for "
      f"{rows.item_id[bad].iloc[0]}; allowed: {low:g} to {high:g}"
    )


def _share_positive(part: pd.DataFrame) -> str:
  """How many rows, and of how many patients, have truth 1."""
  positive = part[part.truth == 1]
  return (
    f"{len(positive):,} of {len(part):,} rows and "
    f"{positive.patient_id.nunique():,} of {part.patient_id.nunique():,} "
    "patients positive"
  )


def _protocol(part: pd.DataFrame, split: str) -> str:
  """What one scored row is, from the rows themselves."""
  level = part.level.iloc[0]
  text = f"{split} split, {level} level"
  if level == "clip":
    a_video = part.groupby(["item_id", "target", "class"]).size()
    if named_by_clip(part):
      return f"{text}, clips a video not stated"
    if a_video.max() == 1:
      return f"{text}, single clip"
    return f"{text}, {_span(a_video, 'clip')} a video, a row each"
  counted = [
    _span(part[f"{what}s"], what)
    for what in ("video", "clip")
    if f"{what}s" in part and part[f"{what}s"].notna().all()
  ]
  return f"{text}, mean over {' and '.join(counted)}" if counted else text


def _patient_rule(part: pd.DataFrame) -> str:
  """Says so where patients were not named by the owner of the data."""
  by_rule = part.patient_known == 0
  if by_rule.all():
    return ", patients by rule"
  return ", some patients by rule" if by_rule.any() else ""


def _span(counts: pd.Series, what: str) -> str:
  """`1 clip`, `4 clips` or `1 to 4 clips`."""
  low, high = int(counts.min()), int(counts.max())
  text = f"{low:,}" if low == high else f"{low:,} to {high:,}"
  return f"{text} {what}" + "s" * (high > 1)


def _warn_of_shared_patients(frame: pd.DataFrame) -> None:
  splits = frame.groupby("patient_id").split.nunique()
  shared = int((splits > 1).sum())
  if shared:
    warnings.warn(
      f"patients in more than one split: {shared:,}; scores may be too good",
      PredictionsWarning, stacklevel=3,
    )  # fmt: skip
