"""Discrimination by predicted probabilities, and Brier's score.

Binary: truth is 0 or 1, prediction is the probability of 1; a row is called
positive where prediction >= threshold.  Several classes: one column a class;
the call is the most probable one unless it is given (`grades.call_grades`).
Axes: r resample, g patient, n row, k class.
"""

import numpy as np
from jaxtyping import Float, Int
from sklearn import metrics

from echo_jax.evaluation.bootstrap import Counts, Samples, sum_by_patient

Rows = Float[np.ndarray, "n"]
Table = Float[np.ndarray, "n k"]
Patient = Int[np.ndarray, "n"]
Calls = Int[np.ndarray, "n"]

BINARY_METRICS = (
  "auroc", "auprc", "f1", "accuracy", "sensitivity", "specificity", "brier"
)  # fmt: skip
THRESHOLDED = ("f1", "accuracy", "sensitivity", "specificity")
MACRO_METRICS = ("macro_auroc", "balanced_accuracy", "macro_f1")


def binary_metrics(
  truth: Rows, prediction: Rows, threshold: float
) -> dict[str, float]:
  """Every binary metric on all rows, by scikit-learn; NaN where undefined.

  `auprc` is average precision (no interpolation).
  """
  called = (prediction >= threshold).astype(float)
  functions = {
    "auroc": lambda: metrics.roc_auc_score(truth, prediction),
    "auprc": lambda: metrics.average_precision_score(truth, prediction),
    "f1": lambda: metrics.f1_score(truth, called),
    "accuracy": lambda: metrics.accuracy_score(truth, called),
    "sensitivity": lambda: metrics.recall_score(truth, called),
    "specificity": lambda: metrics.recall_score(truth, called, pos_label=0),
    "brier": lambda: metrics.brier_score_loss(truth, prediction),
  }
  missing = why_binary_undefined(truth)
  return {
    name: float("nan") if name in missing else float(compute())
    for name, compute in functions.items()
  }


def why_binary_undefined(truth: Rows) -> dict[str, str]:
  """Reason for each binary metric that these truths cannot give."""
  if (truth == 1).all():
    needs = ("auroc", "auprc", "specificity")
  elif (truth == 0).all():
    needs = ("auroc", "auprc", "f1", "sensitivity")
  else:
    return {}
  return dict.fromkeys(needs, f"one class only: every truth is {truth[0]:g}")


def youden_threshold(truth: Rows, prediction: Rows) -> float:
  """The cut that maximises sensitivity + specificity - 1 (Youden 1950).

  The largest such cut where several tie.

  Raises:
    ValueError: only one class is present.
  """
  if len(np.unique(truth)) < 2:
    raise ValueError(f"one class only: every truth is {truth[0]:g}")
  false, true, cuts = metrics.roc_curve(
    truth, prediction, drop_intermediate=False
  )
  index = np.round(true - false, 12)[1:]  # so that ties are ties
  return float(cuts[1:][np.argmax(index)])  # cuts[0] is infinite


def resample_binary(
  truth: Rows, prediction: Rows, patient: Patient, counts: Counts,
  threshold: float,
) -> dict[str, Samples]:  # fmt: skip
  """Every binary metric in every resample."""
  called = prediction >= threshold
  positive = truth == 1
  columns = (
    called & positive, called & ~positive, ~called & positive,
    ~called & ~positive, np.square(prediction - truth),
  )  # fmt: skip
  sums = sum_by_patient(
    np.stack(columns, 1).astype(float), patient, counts.shape[1]
  )
  tp, fp, fn, tn, square = (counts @ sums).T
  auroc, auprc = resample_ranking(truth, prediction, patient, counts)
  with np.errstate(divide="ignore", invalid="ignore"):
    f1 = np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)
    return {
      "auroc": auroc, "auprc": auprc, "f1": f1,
      "accuracy": (tp + tn) / (tp + fp + fn + tn),
      "sensitivity": tp / (tp + fn),
      "specificity": tn / (tn + fp),
      "brier": square / (tp + fp + fn + tn),
    }  # fmt: skip


def resample_ranking(
  truth: Rows, prediction: Rows, patient: Patient, counts: Counts
) -> tuple[Samples, Samples]:
  """AUROC and average precision in every resample, ties counted as half.

  Rows are put in falling order of prediction once; a resample only changes
  their weights.  AUROC is the weighted Mann-Whitney statistic.
  """
  order = np.argsort(-prediction, kind="stable")
  starts = np.flatnonzero(np.diff(prediction[order], prepend=np.inf))
  weight = counts[:, patient[order]]  # r n
  every = np.add.reduceat(weight, starts, axis=1)  # a column a distinct value
  weight *= truth[order]
  positive = np.add.reduceat(weight, starts, axis=1)
  negative = every - positive
  positives, negatives = positive.sum(1), negative.sum(1)
  below = negatives[:, None] - negative.cumsum(1) + negative / 2
  precision = positive.cumsum(1) / np.maximum(every.cumsum(1), 1e-300)
  with np.errstate(divide="ignore", invalid="ignore"):
    auroc = (positive * below).sum(1) / (positives * negatives)
    auprc = (positive * precision).sum(1) / positives
  both = (positives > 0) & (negatives > 0)
  return np.where(both, auroc, np.nan), np.where(both, auprc, np.nan)


def class_metrics(
  truth: Table, prediction: Table, called: Calls | None = None
) -> dict[str, float]:
  """Metrics over several classes; macro ones are NaN if a class is never true.

  Accuracy, which common classes dominate, needs no class to be there.

  Args:
    truth: 1 in the true class of each row, else 0.
    prediction: probability of each class.
    called: class that each row is called; by default the most probable.
  """
  true = truth.argmax(1)
  called = prediction.argmax(1) if called is None else called
  accuracy = {"accuracy": float(metrics.accuracy_score(true, called))}
  if why_class_undefined(truth):
    return dict.fromkeys(MACRO_METRICS, float("nan")) | accuracy
  areas = [
    metrics.roc_auc_score(truth[:, k], prediction[:, k])
    for k in range(truth.shape[1])
  ]
  return {
    "macro_auroc": float(np.mean(areas)),
    "balanced_accuracy": float(metrics.balanced_accuracy_score(true, called)),
    "macro_f1": float(metrics.f1_score(true, called, average="macro")),
  } | accuracy


def why_class_undefined(
  truth: Table, names: list[str] | None = None
) -> dict[str, str]:
  """Reason why macro metrics cannot be given, for each of them."""
  absent = np.flatnonzero(~truth.any(0))
  if not len(absent):
    return {}
  named = [names[k] if names else str(k) for k in absent]
  return dict.fromkeys(MACRO_METRICS, f"no row is of class {named}")


def resample_classes(
  truth: Table, prediction: Table, patient: Patient, counts: Counts,
  called: Calls | None = None,
) -> dict[str, Samples]:  # fmt: skip
  """Metrics in every resample; macro ones need every class to be drawn."""
  k = truth.shape[1]
  one = np.eye(k)[prediction.argmax(1) if called is None else called]
  columns = np.concatenate((truth * one, truth, one), 1)
  sums = sum_by_patient(columns, patient, counts.shape[1])
  hit, true, calls = np.split(counts @ sums, 3, axis=1)  # each r k
  areas = [
    resample_ranking(truth[:, c], prediction[:, c], patient, counts)[0]
    for c in range(k)
  ]
  with np.errstate(divide="ignore", invalid="ignore"):
    f1 = np.where(true > 0, 2 * hit / (true + calls), np.nan)
    return {
      "macro_auroc": np.mean(areas, axis=0),
      "balanced_accuracy": (hit / true).mean(1),
      "macro_f1": f1.mean(1),
      "accuracy": hit.sum(1) / true.sum(1),
    }
