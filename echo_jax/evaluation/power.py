"""The smallest difference between two models that these patients could show.

Two models scored on the same patients differ by d = a - b.  With standard
error s of one metric and correlation c between the two models' metrics over
resampled patients, d has the standard error s·sqrt(2(1 - c)); a two-sided
5 % test finds it with 80 % power from (1.96 + 0.84)·s·sqrt(2(1 - c)) on.
A normal approximation: s is read off the interval's width, c is assumed.
"""

import math
from collections.abc import Sequence
from typing import Any

from scipy import stats

from echo_jax.evaluation.estimate import LABELS, Estimate

METRICS = ("mae", "mae_grades", "auroc", "macro_auroc", "mean_auroc")
CORRELATIONS = (0.5, 0.9)
SIZE, POWER = 0.05, 0.8


def smallest_difference(estimate: Estimate, correlation: float) -> float:
  """Smallest paired difference found with 80 % power, in the metric's unit.

  NaN where the estimate has no interval.

  Args:
    correlation: between the two models' metrics, -1 to below 1; models
      fine-tuned alike on the same data are rarely below 0.5.
  """
  if not -1 <= correlation < 1:
    raise ValueError(f"correlation is {correlation:g}; allowed: -1 to below 1")
  wide = 2 * stats.norm.ppf((1 + estimate.level) / 2)
  error = (estimate.high - estimate.low) / wide
  z = stats.norm.ppf(1 - SIZE / 2) + stats.norm.ppf(POWER)
  return float(z * error * math.sqrt(2 * (1 - correlation)))


def smallest_differences(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
  """The smallest difference of each MAE and AUROC, for JSON."""
  return [
    {
      "target": one.target, "metric": one.name, "unit": one.unit,
      "correlation": c, "power": POWER,
      "difference": smallest_difference(one, c),
    }
    for one in estimates
    if one.name in METRICS and math.isfinite(one.high - one.low)
    for c in CORRELATIONS
  ]  # fmt: skip


def power_lines(estimates: Sequence[Estimate]) -> list[str]:
  """The same as lines of text."""
  found = smallest_differences(estimates)
  if not found:
    return ["smallest difference: no MAE or AUROC with an interval"]
  return [
    f"Smallest difference between two models on these patients "
    f"({100 * POWER:g} % power, two-sided {100 * SIZE:g} % test):"
  ] + [
    f"  {one['target']} {LABELS[one['metric']]}: {one['difference']:.2g} "
    f"{one['unit']}".rstrip()
    + f" if the two models' values correlate {one['correlation']:g}"
    for one in found
  ]
