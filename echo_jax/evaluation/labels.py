"""Several labels at once: the mean over labels of how each is ranked.

Truth is 0, 1 or NaN (unknown) a label; a label counts on the rows in which it
is known.  Axes: r resample, g patient, n row, k label.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn import metrics

from echo_jax.evaluation.bootstrap import Counts, Samples
from echo_jax.evaluation.classification import resample_ranking
from echo_jax.targets import KINDS

Table = Float[np.ndarray, "n k"]

LABEL_METRICS = KINDS["multilabel"].metrics


def judged_labels(truth: Table) -> list[int]:
  """Labels with both classes among the rows in which they are known."""
  return [
    k for k, column in enumerate(truth.T)
    if (column == 0).any() and (column == 1).any()
  ]  # fmt: skip


def label_metrics(truth: Table, prediction: Table) -> dict[str, float]:
  """Means over the labels with both classes; NaN if there is none."""
  areas = []
  for k in judged_labels(truth):
    known = ~np.isnan(truth[:, k])
    pair = truth[known, k], prediction[known, k]
    areas.append(
      (metrics.roc_auc_score(*pair), metrics.average_precision_score(*pair))
    )
  means = np.mean(areas, axis=0) if areas else (np.nan, np.nan)
  return dict(zip(LABEL_METRICS, map(float, means), strict=True))


def why_labels_undefined(
  truth: Table, names: Sequence[str]
) -> dict[str, str]:
  """Reason why there is no mean, for each metric."""
  if judged_labels(truth):
    return {}
  return dict.fromkeys(
    LABEL_METRICS, f"none of {', '.join(names)} has rows of both classes"
  )


def resample_labels(
  truth: Table, prediction: Table, patient: Int[np.ndarray, "n"],
  counts: Counts,
) -> dict[str, Samples]:  # fmt: skip
  """Means in every resample, of the same labels as on all rows.

  Undefined where one of them is drawn with one class only: a mean over fewer
  labels would be another quantity.
  """
  found = []
  for k in judged_labels(truth):
    known = ~np.isnan(truth[:, k])
    found.append(
      resample_ranking(
        truth[known, k], prediction[known, k], patient[known], counts
      )
    )
  if not found:
    return dict.fromkeys(LABEL_METRICS, np.full(len(counts), np.nan))
  return dict(zip(LABEL_METRICS, np.mean(found, axis=0), strict=True))
