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
from echo_jax.evaluation.score import MeasuredRows, measure_rows

Seeds = Float[np.ndarray, "s n"]
PROTOCOLS_DIFFER = "PROTOCOLS DIFFER"


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
  names: tuple[str, str] = ("a", "b"), threshold: float | int | None = 0.5,
  protocol: str = "", seed: int = 0, resamples: int = 2000,
  level: float = 0.95, order: Sequence[str] = (), paired_seeds: bool = False,
) -> Estimate:  # fmt: skip
  """The same of two models' tables of predictions, for targets of any kind.

  Args:
    rows_a: tables of one level, one a trained seed; rows_b likewise.  Rows
      without a truth are left out.
    target: of which the metric is taken.
    metric: a name of the metrics of its kind.
    threshold: of metrics of a binary target that need one; None takes that
      of each table's own validation rows, as `score` does.
    level: of the interval; at 0.9 its lower end is the one-sided 95 % bound.
    order: see `measure_rows`.
    paired_seeds: seed k of both has something in common (training patients,
      order of batches) that cancels: each resample draws the same seeds of
      both, and what they scatter is widened by sqrt(s / (s - 1)), as the
      bootstrap of a mean of s numbers gives too little by that.

  Where the two models were judged by different protocols (mean over 4 clips
  and over 1), the Estimate's protocol holds both.

  Raises:
    ValueError: the tables judge other items or patients, or hold other
      truths, or seeds of one model were judged by different protocols.
  """
  cut = None if threshold is None else float(threshold)
  found = [
    [measure_rows(table, target, split, cut, order) for table in tables]
    for tables in (rows_a, rows_b)
  ]
  refuse_unpaired(target, names, found)
  first = found[0][0]
  a, b = ([one.measured for one in models] for models in found)
  if metric not in a[0].values:
    raise ValueError(
      f"{target} has no metric {metric!r}; it has {', '.join(a[0].values)}"
    )
  unit = first.unit if metric in a[0].in_unit else ""
  said = [protocol, _differing_protocols(names, found)]
  if metric in a[0].thresholded:
    said += [
      f"{name}: threshold {', '.join(dict.fromkeys(one.cut for one in seeds))}"
      for name, seeds in zip(names, found, strict=True)
    ]
  found = difference_of(
    a, b, first.patient_id, metric, names=names, target=target, unit=unit,
    protocol="; ".join(filter(None, said)), seed=seed, resamples=resamples,
    level=level, paired_seeds=paired_seeds,
  )  # fmt: skip
  return replace(found, split=split, without_truth=first.without_truth)


def _differing_protocols(
  names: tuple[str, str], found: Sequence[Sequence[MeasuredRows]]
) -> str:
  """Both models' protocols, if they are not the same.

  Raises:
    ValueError: the seeds of one model differ, whose mean would hide it.
  """
  said = []
  for name, seeds in zip(names, found, strict=True):
    protocols = list(dict.fromkeys(one.protocol for one in seeds))
    if len(protocols) > 1:
      raise ValueError(
        f"{name}: seeds were judged by different protocols "
        f"({'; '.join(protocols)}); judge all of them alike"
      )
    said.append(f"{name}: {protocols[0]}")
  same = found[0][0].protocol == found[1][0].protocol
  return "" if same else f"{PROTOCOLS_DIFFER} ({'; '.join(said)})"


def refuse_unpaired(
  target: str, names: tuple[str, str],
  found: Sequence[Sequence[MeasuredRows]],
) -> None:  # fmt: skip
  """Raises ValueError where tables are not of the same items, with counts."""
  first = found[0][0]
  for name, seeds in zip(names, found, strict=True):
    for other in seeds:
      if why := _why_unpaired(first, other, names[0], name):
        raise ValueError(
          f"{target}: {names[0]} and {name} judge other items or hold other "
          f"truths of them: {why}"
        )


def _why_unpaired(
  one: MeasuredRows, other: MeasuredRows, name: str, other_name: str
) -> str:
  """What differs between two tables' items, in counts; "" if nothing."""
  keys = [set(map(tuple, _keys(of).to_numpy())) for of in (one, other)]
  if keys[0] != keys[1]:
    there = [set(of.patient_id) for of in (one, other)]
    return "; ".join(
      f"{len(keys[k] - keys[1 - k]):,} of {len(keys[k]):,} items and "
      f"{len(there[k] - there[1 - k]):,} of {len(there[k]):,} patients are in "
      f"{of} only"
      for k, of in enumerate((name, other_name))
    )
  moved = int((one.patient_id != other.patient_id).sum())
  if moved:
    return f"{moved:,} of {len(one.items):,} items are of another patient"
  same = one.items.eq(other.items) | one.items.isna() & other.items.isna()
  changed = int((~same.all(axis=1)).sum())
  if changed:
    return f"{changed:,} of {len(one.items):,} truths differ"
  return ""


def _keys(rows: MeasuredRows) -> pd.DataFrame:
  """What tells the items apart; a start that is not known equals another."""
  keys = rows.items.filter(regex="^(item_id|start_ms|clip_id)$")
  return keys.assign(start_ms=keys.start_ms.fillna(-1.0))


def difference_of(
  measured_a: Sequence[Measured], measured_b: Sequence[Measured],
  patient_id: ArrayLike | Sequence[str], metric: str, *,
  names: tuple[str, str], target: str, unit: str, protocol: str, seed: int,
  resamples: int, level: float, paired_seeds: bool = False,
) -> Estimate:  # fmt: skip
  """Metric of a minus that of b, measured on the same rows, one a seed.

  Raises:
    ValueError: paired seeds, and not as many of one as of the other.
  """
  models = (measured_a, measured_b)
  if paired_seeds and len(measured_a) != len(measured_b):
    raise ValueError(
      f"{len(measured_a)} seeds of {names[0]} and {len(measured_b)} of "
      f"{names[1]} cannot be paired"
    )
  patient, patients = number_patients(patient_id)
  values = [[one.values[metric] for one in model] for model in models]
  several = max(map(len, models)) > 1
  by = "by patient" + f" and {'paired ' * paired_seeds}seed" * several
  found = Estimate(
    name=f"{metric}_difference", target=target,
    value=float(np.mean(values[0]) - np.mean(values[1])), level=level,
    method=f"percentile bootstrap {by}",
    seed=seed, patients=patients, rows=len(patient), unit=unit,
    protocol=f"{names[0]} minus {names[1]}, same rows"
    + f"; {protocol}" * bool(protocol),
    p_method=f"two-sided, bootstrap {by}",
    by_seed=_by_seed(names, values),
  )  # fmt: skip
  if not found.defined:
    return replace(found, reason=f"{metric} is undefined on these rows")
  if patients == 1:
    return replace(found, reason="one patient gives no interval")
  samples = _resample_difference(
    metric, models, patient, patients, resamples, seed, paired_seeds
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
  metric, models, patient, patients, resamples, seed, paired_seeds
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
  first, second = (
    np.stack([samples[f"{side} {k}"] for k in range(len(model))])
    for side, model in enumerate(models)
  )  # s r
  if not paired_seeds:
    return _mean_of_drawn(first, rng) - _mean_of_drawn(second, rng)
  each = first - second
  drawn, mean = _mean_of_drawn(each, rng), each.mean(0)
  return mean + (drawn - mean) * (len(each) / max(len(each) - 1, 1)) ** 0.5


def _mean_of_drawn(
  each: Float[np.ndarray, "s r"], rng: np.random.Generator
) -> Samples:
  """Mean of as many seeds as there are, drawn anew for each resample."""
  drawn = rng.integers(len(each), size=each.shape)
  return np.take_along_axis(each, drawn, axis=0).mean(0)


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
