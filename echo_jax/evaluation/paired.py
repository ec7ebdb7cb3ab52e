"""The difference between two models on the same rows.

Both models are scored on the same resampled patients, so what patients have
in common cancels.  With several trained seeds a model, the seeds are drawn
again too: the difference is then one between ways of training, not between
two runs.  Axes: s seed, n row, r resample.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from echo_jax.evaluation import classification, regression
from echo_jax.evaluation.bootstrap import (
  Samples,
  number_patients,
  percentile_interval,
  resample,
)
from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.measured import Measured
from echo_jax.evaluation.score import measure_rows

Seeds = Float[np.ndarray, "s n"]


def paired_difference(
  truth: ArrayLike, pred_a: ArrayLike, pred_b: ArrayLike,
  patient_id: ArrayLike | Sequence[str], metric: str, *,
  names: tuple[str, str] = ("a", "b"), threshold: float | int = 0.5,
  unit: str = "", target: str = "", protocol: str = "", seed: int = 0,
  resamples: int = 2000, level: float = 0.95,
) -> Estimate:  # fmt: skip
  """Metric of a minus metric of b, with interval and two-sided p.

  Args:
    truth: [n], finite.
    pred_a: [n], or [s, n] with a row a trained seed; pred_b likewise.  Where
      there are several seeds the value is the difference of the means over
      seeds, and each resample draws patients (the same for both) and seeds
      (apart for each model).  With few seeds (3) their spread is still
      underestimated, by about a fifth: look at `by_seed`.
    metric: a name of `regression.METRICS` or `classification.BINARY_METRICS`.
    unit: of the difference; dropped for metrics without one.

  Returns:
    An Estimate whose `p` is twice the smaller share of resampled differences
    on either side of 0, counted with one more (Davison & Hinkley 1997).

  Raises:
    ValueError: unknown metric, shapes that do not fit, or values not finite.
  """
  truth = np.asarray(truth, np.float64)
  a, b = (
    [_measured(metric, truth, one, threshold) for one in _seeds(pred, truth)]
    for pred in (pred_a, pred_b)
  )
  if len(np.asarray(patient_id)) != len(truth):
    raise ValueError(
      f"{len(np.asarray(patient_id))} patient ids for {len(truth)} rows"
    )
  return difference_of(
    a, b, patient_id, metric, names=names, target=target, protocol=protocol,
    unit=unit if regression.METRICS.get(metric) else "", seed=seed,
    resamples=resamples, level=level,
  )  # fmt: skip


def paired_rows(
  rows_a: Sequence[pd.DataFrame], rows_b: Sequence[pd.DataFrame],
  target: str, metric: str, *, split: str = "test",
  names: tuple[str, str] = ("a", "b"), threshold: float | int = 0.5,
  protocol: str = "", seed: int = 0, resamples: int = 2000,
  level: float = 0.95,
) -> Estimate:  # fmt: skip
  """The same of two models' tables of predictions, for targets of any kind.

  Args:
    rows_a: tables of one level, one a trained seed; rows_b likewise.  Rows
      without a truth are left out.
    target: of which the metric is taken.
    metric: a name of the metrics of its kind.
    threshold: of metrics of a binary target that need one.
    level: of the interval; at 0.9 its lower end is the one-sided 95 % bound.

  Raises:
    ValueError: the tables judge other items, or hold other truths.
  """
  found = [
    [measure_rows(table, target, split, float(threshold)) for table in tables]
    for tables in (rows_a, rows_b)
  ]
  first = found[0][0]
  for other in (*found[0], *found[1]):
    if not first.items.equals(other.items):
      raise ValueError(
        f"{target}: {names[0]} and {names[1]} judge other items or hold other "
        "truths of them"
      )
  a, b = ([one.measured for one in models] for models in found)
  if metric not in a[0].values:
    raise ValueError(
      f"{target} has no metric {metric!r}; it has {', '.join(a[0].values)}"
    )
  unit = first.unit if metric in a[0].in_unit else ""
  found = difference_of(
    a, b, first.patient_id, metric, names=names, target=target, unit=unit,
    protocol=protocol, seed=seed, resamples=resamples, level=level,
  )  # fmt: skip
  return replace(found, split=split, without_truth=first.without_truth)


def difference_of(
  measured_a: Sequence[Measured], measured_b: Sequence[Measured],
  patient_id: ArrayLike | Sequence[str], metric: str, *,
  names: tuple[str, str], target: str, unit: str, protocol: str, seed: int,
  resamples: int, level: float,
) -> Estimate:  # fmt: skip
  """Metric of a minus that of b, measured on the same rows, one a seed."""
  models = (measured_a, measured_b)
  patient, patients = number_patients(patient_id)
  values = [[one.values[metric] for one in model] for model in models]
  several = max(map(len, models)) > 1
  found = Estimate(
    name=f"{metric}_difference", target=target,
    value=float(np.mean(values[0]) - np.mean(values[1])), level=level,
    method="percentile bootstrap by patient" + " and seed" * several,
    seed=seed, patients=patients, rows=len(patient), unit=unit,
    protocol=f"{names[0]} minus {names[1]}, same rows"
    + f"; {protocol}" * bool(protocol),
    by_seed=_by_seed(names, values),
  )  # fmt: skip
  if not found.defined:
    return replace(found, reason=f"{metric} is undefined on these rows")
  if patients == 1:
    return replace(found, reason="one patient gives no interval")
  samples = _resample_difference(
    metric, models, patient, patients, resamples, seed
  )
  low, high = percentile_interval(samples, level)
  return replace(
    found, low=low, high=high, p=two_sided_p(samples), resamples=resamples,
    dropped=int((~np.isfinite(samples)).sum()),
    reason="" if np.isfinite(low) else f"{metric} is undefined in resamples",
  )  # fmt: skip


def two_sided_p(samples: Samples) -> float:
  """How rarely resampled differences cross 0; never exactly 0."""
  known = samples[np.isfinite(samples)]
  side = min((known <= 0).sum(), (known >= 0).sum())
  return float(min(1.0, 2 * (side + 1) / (len(known) + 1)))


def metric_value(
  metric: str, truth: Float[np.ndarray, "n"],
  prediction: Float[np.ndarray, "n"], threshold: float | int = 0.5,
) -> float:  # fmt: skip
  """One metric on all rows; NaN where undefined.

  Raises:
    ValueError: no such metric; the message lists those that exist.
  """
  if metric in regression.METRICS:
    return regression.regression_metrics(truth, prediction)[metric]
  if metric in classification.BINARY_METRICS:
    return classification.binary_metrics(
      truth, prediction, float(threshold)
    )[metric]
  known = [*regression.METRICS, *classification.BINARY_METRICS]
  raise ValueError(f"no metric {metric!r}; there are {', '.join(known)}")


def _measured(
  metric: str, truth: Float[np.ndarray, "n"],
  prediction: Float[np.ndarray, "n"], threshold: float | int,
) -> Measured:  # fmt: skip
  """One metric of one model on numbers or on 0 and 1."""
  value = metric_value(metric, truth, prediction, threshold)
  if metric in regression.METRICS:
    return Measured(
      {metric: value}, {},
      lambda patient, counts: regression.resample_regression(
        truth, prediction, patient, counts
      ),
    )  # fmt: skip
  return Measured(
    {metric: value}, {},
    lambda patient, counts: classification.resample_binary(
      truth, prediction, patient, counts, float(threshold)
    ),
  )  # fmt: skip


def _resample_difference(
  metric, models, patient, patients, resamples, seed
) -> Samples:
  def statistic(counts):
    return {
      f"{side} {k}": one.statistic(patient, counts)[metric]
      for side, model in enumerate(models)
      for k, one in enumerate(model)
    }

  samples = resample(
    statistic, patients, resamples=resamples, seed=seed,
    rows=len(patient),
  )  # fmt: skip
  rng = np.random.default_rng((seed, 1))
  means = []
  for side, model in enumerate(models):
    each = np.stack([samples[f"{side} {k}"] for k in range(len(model))])
    drawn = rng.integers(len(model), size=each.shape)  # s r
    means.append(np.take_along_axis(each, drawn, axis=0).mean(0))
  return means[0] - means[1]


def _seeds(prediction: ArrayLike, truth: np.ndarray) -> Seeds:
  seeds = np.atleast_2d(np.asarray(prediction, np.float64))
  if seeds.ndim != 2 or seeds.shape[1] != len(truth) or truth.ndim != 1:
    raise ValueError(
      f"truth has shape {truth.shape}, a model's predictions {seeds.shape}; "
      "want [n] and [n] or [s, n]"
    )
  if not (np.isfinite(seeds).all() and np.isfinite(truth).all()):
    raise ValueError("truth and predictions must be finite; drop other rows")
  return seeds


def _by_seed(names, values) -> tuple[tuple[str, float], ...]:
  return tuple(
    (f"{name} seed {k}" if len(model) > 1 else name, float(value))
    for name, model in zip(names, values, strict=True)
    for k, value in enumerate(model)
  )
