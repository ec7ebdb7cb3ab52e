"""A reported number: value, interval, who it was measured on and how."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

NAN = float("nan")
WITHHELD = "withheld: "  # begins the reason of a value that is not told

LABELS = {
  "mae": "MAE", "rmse": "RMSE", "r2": "R²", "pearson_r": "Pearson r",
  "bias": "Bland–Altman bias",
  "loa_low": "lower limit of agreement",
  "loa_high": "upper limit of agreement",
  "auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "accuracy": "accuracy",
  "sensitivity": "sensitivity", "specificity": "specificity",
  "brier": "Brier score",
  "ece_width": "ECE, 10 bins of equal width",
  "ece_mass": "ECE, 10 bins of equal mass",
  "calibration_slope": "calibration slope",
  "calibration_intercept": "calibration intercept",
  "macro_auroc": "macro AUROC (one against rest)",
  "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1",
  "quadratic_kappa": "quadratic weighted kappa",
  "mae_grades": "MAE in grades",
  "called_brier": "Brier score of the called class",
  "called_ece_width": "ECE of the called class, equal width",
  "called_ece_mass": "ECE of the called class, equal mass",
  "mean_auroc": "AUROC, mean over labels",
  "mean_auprc": "AUPRC, mean over labels",
  "dice": "Dice",
}  # fmt: skip


@dataclass(frozen=True)
class Estimate:
  """One metric of one target, in `unit`, with its interval.

  `value`, `low` and `high` are NaN where undefined; `reason` then says why.
  `level` is the confidence level of the interval, `row_level` what one row
  is (clip, video or study).  `dropped` counts resamples in which the metric
  was undefined, `without_truth` rows left out for want of a true value.
  `positive` names the positive class of a binary target or of a label;
  `threshold` and `threshold_rule` are set for metrics that need one.  `p` is
  the two-sided p value of a difference by `p_method`, `p_adjusted` the same
  adjusted for how many were tested; `by_seed` the metric of every trained
  seed.  `group` is the part of the patients that it is of: `device: x`.
  """

  name: str
  value: float
  low: float = NAN
  high: float = NAN
  level: float = 0.95
  method: str = "percentile bootstrap by patient"
  resamples: int = 0
  dropped: int = 0
  seed: int = 0
  patients: int = 0
  rows: int = 0
  unit: str = ""
  target: str = ""
  split: str = ""
  row_level: str = ""
  protocol: str = ""
  positive: str = ""
  threshold: float = NAN
  threshold_rule: str = ""
  without_truth: int = 0
  reason: str = ""
  p: float = NAN
  by_seed: tuple[tuple[str, float], ...] = ()
  p_method: str = ""
  p_adjusted: float = NAN
  group: str = ""

  @property
  def defined(self) -> bool:
    """Whether the metric has a value on these rows."""
    return math.isfinite(self.value)

  @property
  def value_text(self) -> str:
    """Value and unit, to as many decimals as the interval supports."""
    if not self.defined:
      withheld = self.reason.startswith(WITHHELD)
      return self.reason if withheld else f"undefined ({self.reason})"
    return _with_unit(self._number(self.value), self.unit)

  @property
  def interval_text(self) -> str:
    """The interval without its unit: `3.8 to 4.4`."""
    if not (math.isfinite(self.low) and math.isfinite(self.high)):
      return "no interval" if self.defined else "–"
    return f"{self._number(self.low)} to {self._number(self.high)}"

  def _number(self, value: float) -> str:
    return f"{round(value, self._decimals) + 0.0:.{self._decimals}f}"  # no -0

  @property
  def _decimals(self) -> int:
    least = 1 if self.unit else 2
    half = (self.high - self.low) / 2
    if not (math.isfinite(half) and half > 0):
      return least
    return min(max(least, math.ceil(-math.log10(half))), 6)

  def __str__(self) -> str:
    """`4.1 % (95 % CI 3.8 to 4.4; 1,277 patients, 1,277 rows)`."""
    size = f"{self.patients:,} patients, {self.rows:,} rows"
    if not self.defined:
      return f"{self.value_text}; {size}"
    if not math.isfinite(self.low):
      return f"{self.value_text} (no interval: {self.reason}; {size})"
    p = "" if math.isnan(self.p) else f"; p = {self.p:.2g}"
    return (
      f"{self.value_text} ({100 * self.level:g} % CI {self.interval_text}; "
      f"{size}{p}{self._dropped_text})"
    )

  @property
  def _dropped_text(self) -> str:
    if not self.dropped:
      return ""
    return f"; {self.dropped:,} of {self.resamples:,} resamples dropped"

  @property
  def caveat(self) -> str:
    """`640 of 2,000 resamples dropped; …` of what has a value, else ""."""
    said = self._dropped_text.removeprefix("; "), self.reason
    return "; ".join(filter(None, said)) if self.defined else ""

  def to_dict(self) -> dict[str, Any]:
    """Plain JSON types; what is undefined is None."""
    return {
      name: _plain(value) for name, value in dataclasses.asdict(self).items()
    }

  @classmethod
  def from_dict(cls, plain: Mapping[str, Any]) -> "Estimate":
    """The inverse of `to_dict`."""
    number = ("value", "low", "high", "threshold", "p", "p_adjusted")
    known = {
      name: NAN if name in number and value is None else value
      for name, value in plain.items()
    }
    by_seed = tuple((name, float(x)) for name, x in plain.get("by_seed", ()))
    return cls(**{**known, "by_seed": by_seed})


def estimates_to_json(
  estimates: Iterable[Estimate], notes: Sequence[str] = ()
) -> dict[str, Any]:
  """What `metrics.json` holds: the estimates and what was noted on the way."""
  return {
    "estimates": [estimate.to_dict() for estimate in estimates],
    "notes": list(notes),
  }


def estimates_from_json(plain: Mapping[str, Any]) -> list[Estimate]:
  """The inverse of `estimates_to_json`."""
  return [Estimate.from_dict(one) for one in plain["estimates"]]


def format_table(estimates: Sequence[Estimate], format: str = "text") -> str:
  """A table for the terminal ("text") or for Markdown ("md").

  Raises:
    ValueError: another format.
  """
  if format == "md":
    return _markdown(estimates)
  if format != "text":
    raise ValueError(f"format is {format!r}; allowed: 'text', 'md'")
  return "\n\n".join(
    _text_block(list(group)) for _, group in groupby(estimates, _group)
  )


def _group(estimate: Estimate) -> tuple[str, ...]:
  return estimate.target, estimate.split, estimate.protocol


def _text_block(group: list[Estimate]) -> str:
  first = group[0]
  names = [LABELS.get(one.name, one.name) for one in group]
  wide = max(map(len, names))
  middle = max([len(one.value_text) for one in group if one.defined] or [0])
  size = f"{first.patients:,} patients, {first.rows:,} rows"
  if first.without_truth:
    size += f", {first.without_truth:,} more without truth left out"
  lines = [f"{first.target}: {first.protocol}", size]
  for name, one in zip(names, group, strict=True):
    line = f"  {name:{wide}}  {one.value_text:{middle}}  {one.interval_text}"
    lines.append(line + one._dropped_text.replace(";", " ", 1))
  lines += [f"  {text}" for text in _footnotes(group)]
  return "\n".join(line.rstrip() for line in lines)


def _footnotes(group: list[Estimate]) -> list[str]:
  one, notes = group[0], _method_notes(group)
  if one.positive:
    notes.append(f"positive class: {one.positive}")
  cut = next((e for e in group if e.threshold_rule), None)
  if cut:
    notes.append(f"threshold {cut.threshold:.4g} {cut.threshold_rule}")
  if any("ece_" in e.name for e in group):
    notes.append("ECE is biased upwards; its resamples, and interval, more so")
  reasons = {e.reason for e in group if e.defined and e.reason}
  return notes + sorted(reasons)


def _method_notes(group: list[Estimate]) -> list[str]:
  """How the intervals came about; of which metrics, if they differ."""
  names: dict[str, list[str]] = {}
  for one in group:
    how = f"{100 * one.level:g} % intervals: {one.method}"
    if one.resamples:
      how += f", {one.resamples:,} resamples, seed {one.seed}"
    names.setdefault(how, []).append(LABELS.get(one.name, one.name))
  usual = max(names, key=lambda how: len(names[how]))
  return [
    how if how == usual else f"{', '.join(of)}: {how}"
    for how, of in names.items()
  ]


def _markdown(estimates: Sequence[Estimate]) -> str:
  rows = [
    "| Target | Metric | Value | Interval | Patients | Rows | Protocol |",
    "|---|---|---|---|---|---|---|",
  ]
  for one in estimates:
    rows.append(
      f"| {one.target} | {LABELS.get(one.name, one.name)} | {one.value_text} "
      f"| {one.interval_text}{one._dropped_text} | {one.patients:,} "
      f"| {one.rows:,} | {one.protocol} |"
    )
  notes = dict.fromkeys(
    note for _, group in groupby(estimates, _group)
    for note in _footnotes(list(group))
  )  # fmt: skip
  return "\n".join([*rows, "", *(f"- {note}" for note in notes)])


def _with_unit(text: str, unit: str) -> str:
  return f"{text} {unit}" if unit else text


def _plain(value: Any) -> Any:
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else None
  if isinstance(value, tuple):
    return [_plain(part) for part in value]
  return value
