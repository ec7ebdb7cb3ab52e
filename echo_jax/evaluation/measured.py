"""What is measured on the rows of one target: values and how to resample them.

One function a kind of target; each takes the rows that have a truth.  Axes:
n item, k class or label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from echo_jax.evaluation import (
  calibration,
  classification,
  grades,
  labels,
  regression,
)
from echo_jax.evaluation.bootstrap import sum_by_patient
from echo_jax.evaluation.items import Wide


@dataclass(frozen=True)
class Measured:
  """Values on all rows, reasons for those undefined, and how to resample.

  `smallest_class` is the number of patients in the rarest class.  `ranked`
  is truth and prediction of each row, where the metric `auroc` is of them.
  """

  values: Mapping[str, float]
  reasons: Mapping[str, str]
  statistic: Callable[..., Any] = field(repr=False)
  in_unit: tuple[str, ...] = ()
  thresholded: tuple[str, ...] = ()
  smallest_class: int | None = None
  ranked: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)


def measure_regression(part: pd.DataFrame) -> Measured:
  """Agreement of a number with its truth."""
  truth, prediction = part.truth.to_numpy(), part.prediction.to_numpy()
  return Measured(
    values=regression.regression_metrics(truth, prediction),
    reasons=regression.why_undefined(truth, prediction),
    statistic=lambda patient, counts: regression.resample_regression(
      truth, prediction, patient, counts
    ),
    in_unit=tuple(n for n, has in regression.METRICS.items() if has),
  )


def measure_binary(part: pd.DataFrame, cut: float) -> Measured:
  """Discrimination and calibration; positive where prediction >= cut."""
  truth, prediction = part.truth.to_numpy(), part.prediction.to_numpy()

  def statistic(patient, counts):
    rows = truth, prediction, patient, counts
    return (
      classification.resample_binary(*rows, cut)
      | calibration.resample_errors(*rows)
      | calibration.resample_recalibration(*rows)
    )

  return Measured(
    values=classification.binary_metrics(truth, prediction, cut)
    | calibration.calibration_errors(truth, prediction)
    | calibration.recalibration(truth, prediction),
    reasons=classification.why_binary_undefined(truth)
    | calibration.why_no_slope(truth, prediction),
    statistic=statistic,
    thresholded=classification.THRESHOLDED,
    smallest_class=int(part.groupby("truth").patient_id.nunique().min()),
    ranked=(truth, prediction),
  )


def measure_ranking(part: pd.DataFrame) -> Measured:
  """AUROC and AUPRC of one label of several."""
  truth, prediction = part.truth.to_numpy(), part.prediction.to_numpy()
  names = ("auroc", "auprc")
  missing = classification.why_binary_undefined(truth)
  values = classification.binary_metrics(truth, prediction, 0.5)  # no cut here
  return Measured(
    values={name: values[name] for name in names},
    reasons={name: missing[name] for name in names if name in missing},
    statistic=lambda patient, counts: dict(
      zip(
        names,
        classification.resample_ranking(truth, prediction, patient, counts),
        strict=True,
      )
    ),
    smallest_class=int(part.groupby("truth").patient_id.nunique().min()),
    ranked=(truth, prediction),
  )


def measure_classes(wide: Wide) -> Measured:
  """Discrimination among several classes; the most probable one is called."""
  truth, prediction = wide.truth, wide.prediction
  event = called_event(wide, *call_classes(wide, ordered=False))
  return Measured(
    values=classification.class_metrics(truth, prediction)
    | _called_values(*event),
    reasons=classification.why_class_undefined(truth, wide.classes),
    smallest_class=_smallest(wide, (1,)),
    statistic=lambda patient, counts: classification.resample_classes(
      truth, prediction, patient, counts
    )
    | _resample_called(*event, patient, counts),
  )


def call_classes(
  wide: Wide, *, ordered: bool
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
  """True and called class of each item: the most probable, or the median."""
  call = grades.call_grades if ordered else (lambda table: table.argmax(1))
  return wide.truth.argmax(1), call(wide.prediction)


def called_event(
  wide: Wide, true: Int[np.ndarray, "n"], called: Int[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
  """Whether the call is right, 0 or 1, and the probability given to it."""
  chance = np.take_along_axis(wide.prediction, called[:, None], axis=1)[:, 0]
  return (called == true).astype(np.float64), chance


def _called_values(right, chance) -> dict[str, float]:
  """Calibration of the called class on all rows."""
  errors = calibration.calibration_errors(right, chance)
  return {"called_brier": float(np.square(chance - right).mean())} | {
    f"called_{name}": value for name, value in errors.items()
  }


def _resample_called(right, chance, patient, counts) -> dict[str, Any]:
  """The same in every resample."""
  square = np.square(chance - right)
  columns = np.stack((square, np.ones_like(square)), 1)
  sums = counts @ sum_by_patient(columns, patient, counts.shape[1])
  errors = calibration.resample_errors(right, chance, patient, counts)
  return {"called_brier": sums[:, 0] / sums[:, 1]} | {
    f"called_{name}": value for name, value in errors.items()
  }


def measure_grades(wide: Wide) -> Measured:
  """The same of classes in order, called by their median, and how far off."""
  truth, prediction = wide.truth, wide.prediction
  true, called = call_classes(wide, ordered=True)
  event = called_event(wide, true, called)

  def statistic(patient, counts):
    return (
      classification.resample_classes(
        truth, prediction, patient, counts, called
      )
      | grades.resample_grades(true, called, patient, counts)
      | _resample_called(*event, patient, counts)
    )

  return Measured(
    values=classification.class_metrics(truth, prediction, called)
    | grades.grade_metrics(true, called, truth.shape[1])
    | _called_values(*event),
    reasons=classification.why_class_undefined(truth, wide.classes)
    | grades.why_grades_undefined(true, called),
    smallest_class=_smallest(wide, (1,)),
    statistic=statistic,
  )


def measure_labels(wide: Wide) -> Measured:
  """Mean AUROC and AUPRC over the labels that have both classes."""
  truth, prediction = wide.truth, wide.prediction
  judged = labels.judged_labels(truth)
  return Measured(
    values=labels.label_metrics(truth, prediction),
    reasons=labels.why_labels_undefined(truth, wide.classes),
    smallest_class=_smallest(wide, (0, 1), judged) if judged else None,
    statistic=lambda patient, counts: labels.resample_labels(
      truth, prediction, patient, counts
    ),
  )


def _smallest(
  wide: Wide, values: Sequence[int], columns: Sequence[int] | None = None
) -> int:
  """Patients in the rarest of what occurs in each column."""
  columns = range(wide.truth.shape[1]) if columns is None else columns
  found = [
    len(set(wide.patient_id[wide.truth[:, k] == value]))
    for k in columns
    for value in values
  ]
  return min(count for count in found if count)
