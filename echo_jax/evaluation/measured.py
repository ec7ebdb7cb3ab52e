"""What is measured on the rows of one target: values and how to resample them.

One function a kind of target; each takes the rows that have a truth.  Axes:
n item, k class or label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from echo_jax.evaluation import classification, grades, labels, regression
from echo_jax.evaluation.items import Wide


@dataclass(frozen=True)
class Measured:
  """Values on all rows, reasons for those undefined, and how to resample.

  `smallest_class` is the number of patients in the rarest class.
  """

  values: Mapping[str, float]
  reasons: Mapping[str, str]
  statistic: Callable[..., Any] = field(repr=False)
  in_unit: tuple[str, ...] = ()
  thresholded: tuple[str, ...] = ()
  smallest_class: int | None = None


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
  return Measured(
    values=classification.binary_metrics(truth, prediction, cut),
    reasons=classification.why_binary_undefined(truth),
    statistic=lambda patient, counts: classification.resample_binary(
      truth, prediction, patient, counts, cut
    ),
    thresholded=classification.THRESHOLDED,
    smallest_class=int(part.groupby("truth").patient_id.nunique().min()),
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
  )


def measure_classes(wide: Wide) -> Measured:
  """Discrimination among several classes; the most probable one is called."""
  truth, prediction = wide.truth, wide.prediction
  return Measured(
    values=classification.class_metrics(truth, prediction),
    reasons=classification.why_class_undefined(truth, wide.classes),
    smallest_class=_smallest(wide, (1,)),
    statistic=lambda patient, counts: classification.resample_classes(
      truth, prediction, patient, counts
    ),
  )


def call_classes(
  wide: Wide, *, ordered: bool
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
  """True and called class of each item: the most probable, or the median."""
  call = grades.call_grades if ordered else (lambda table: table.argmax(1))
  return wide.truth.argmax(1), call(wide.prediction)


def measure_grades(wide: Wide) -> Measured:
  """The same of classes in order, called by their median, and how far off."""
  truth, prediction = wide.truth, wide.prediction
  true, called = call_classes(wide, ordered=True)

  def statistic(patient, counts):
    return classification.resample_classes(
      truth, prediction, patient, counts, called
    ) | grades.resample_grades(true, called, patient, counts)

  return Measured(
    values=classification.class_metrics(truth, prediction, called)
    | grades.grade_metrics(true, called, truth.shape[1]),
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
