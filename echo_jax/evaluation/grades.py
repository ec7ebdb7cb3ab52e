"""Agreement of ordinal grades: how far a call is from the true grade.

Grades are 0 … k-1, all steps alike.  Axes: r resample, g patient, n row,
k grade.
"""

import numpy as np
from jaxtyping import Float, Int
from sklearn import metrics

from echo_jax.evaluation.bootstrap import Counts, Samples, sum_by_patient

Grades = Int[np.ndarray, "n"]

def call_grades(prediction: Float[np.ndarray, "n k"]) -> Grades:
  """The median of each row's distribution over grades.

  The number of thresholds that the grade is above with a probability of more
  than half (Cao et al. 2020); of all calls it has the smallest expected error
  in grades, where the most probable grade may lie at an end.
  """
  upto = prediction.cumsum(1)
  return (upto[:, :-1] < upto[:, -1:] / 2).sum(1)


def grade_metrics(
  true: Grades, called: Grades, count: int
) -> dict[str, float]:
  """Quadratic weighted kappa (Cohen 1968) and mean absolute error in grades.

  Kappa is scikit-learn's over all `count` grades, since a grade that does not
  occur still lies between its neighbours; NaN where `why_grades_undefined`
  says so.
  """
  kappa = float("nan")
  if not why_grades_undefined(true, called):
    kappa = metrics.cohen_kappa_score(
      true, called, labels=np.arange(count), weights="quadratic"
    )
  return {
    "quadratic_kappa": float(kappa),
    "mae_grades": float(np.abs(called - true).mean()),
  }


def why_grades_undefined(true: Grades, called: Grades) -> dict[str, str]:
  """Reason why there is no kappa: nothing that chance could get wrong."""
  if len(set(true) | set(called)) > 1:
    return {}
  return {"quadratic_kappa": "every row is, and is called, the same grade"}


def resample_grades(
  true: Grades, called: Grades, patient: Int[np.ndarray, "n"], counts: Counts
) -> dict[str, Samples]:
  """Both in every resample, from sums over each patient's rows.

  The disagreement expected by chance, the mean of (t - c)² over all pairs of
  a true and a called grade, is E t² + E c² - 2 E t E c.
  """
  t, c = true.astype(float), called.astype(float)
  columns = (np.ones_like(t), t, c, t * t, c * c, (t - c) ** 2, abs(t - c))
  sums = sum_by_patient(np.stack(columns, 1), patient, counts.shape[1])
  n, t1, c1, tt, cc, square, absolute = (counts @ sums).T
  with np.errstate(divide="ignore", invalid="ignore"):
    chance = tt + cc - 2 * t1 * c1 / n
    some = chance > 1e-9 * n
    return {
      "quadratic_kappa": np.where(some, 1 - square / chance, np.nan),
      "mae_grades": absolute / n,
    }
