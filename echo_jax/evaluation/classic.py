"""Baselines of scikit-learn: from a table of features to predictions.

One function for records, for what was measured on masks or on an ECG: a row
of features a study, targets of every kind.  Fitted on the training split; of
several candidates the one that does best on validation is taken.
Axes: n study, u label (a column of truth), y value (one a class).
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
  HistGradientBoostingClassifier,
  HistGradientBoostingRegressor,
  RandomForestClassifier,
  RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from echo_jax.data.clinical import (
  Column,
  Statistics,
  category_columns,
  encode,
  number_columns,
)
from echo_jax.data.index import as_text
from echo_jax.evaluation.predict import rows_of
from echo_jax.evaluation.predictions import PredictionsWarning
from echo_jax.targets import Target, layout, truths_of

# Of a study; those that follow may differ between its videos.
SAME = ("study_id", "patient_id", "split")
ABOUT = ("site", "device", "view", "quality")
WHO = (*SAME, *ABOUT, "sex", "age_years", "patient_known")

# All chosen, the most restrained first.
PENALTIES = (100.0, 10.0, 1.0, 0.1)
LEAVES = (2, 4, 8)
ROUNDS, RATE = 150, 0.05
IN_A_LEAF = (16, 8, 4, 2)  # studies at least
LEAST_CHANCE = 1e-7

Candidates = Callable[[bool], Sequence[BaseEstimator]]


def linear(classes: bool) -> list[BaseEstimator]:
  """Logistic (of classes) or ridge regression at several penalties.

  Numbers are standardised; a missing one is the median and says so in a
  column of its own, since who is not measured may be healthier.
  """
  return [
    make_pipeline(
      SimpleImputer(
        strategy="median", add_indicator=True, keep_empty_features=True
      ),
      StandardScaler(),
      LogisticRegression(C=1 / penalty, max_iter=2000)
      if classes
      else Ridge(alpha=penalty),
    )
    for penalty in PENALTIES
  ]


def forest(classes: bool) -> list[BaseEstimator]:
  """Random forests of several depths; missing numbers stay missing."""
  make = RandomForestClassifier if classes else RandomForestRegressor
  return [
    make(min_samples_leaf=least, random_state=0) for least in IN_A_LEAF
  ]


def trees(classes: bool) -> list[BaseEstimator]:
  """Gradient-boosted trees of several sizes; missing numbers stay missing."""
  make = (
    HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
  )
  return [
    make(
      max_leaf_nodes=leaves, max_iter=ROUNDS, learning_rate=RATE,
      early_stopping=False, random_state=0,
    )
    for leaves in LEAVES
  ]  # fmt: skip


def constant(classes: bool) -> list[BaseEstimator]:
  """Mean of the training split, or its shares of the classes."""
  return [DummyClassifier(strategy="prior") if classes else DummyRegressor()]


def one_a_study(index: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
  """Rows of studies from rows of videos: `WHO` and the columns asked for.

  Site, device, view and quality are left empty where they differ.

  Raises:
    ValueError: another column differs between the videos of a study.
  """
  names = list(dict.fromkeys((*WHO, *columns)))
  # A value that one video of the study lacks is that of the others.
  known = as_text(index[names]).replace("", np.nan)
  groups = known.groupby("study_id", sort=False)
  studies, differ = groups.first(), groups.nunique() > 1
  for name in studies:
    if differ[name].any() and name not in ABOUT:
      study = differ.index[differ[name]][0]
      raise ValueError(f"{name} differs between the videos of study {study}")
    if not pd.api.types.is_numeric_dtype(index[name]):
      text = studies[name].mask(differ[name])
      studies[name] = text.astype(object).where(text.notna(), "")
  return studies.reset_index()


def record_features(
  studies: pd.DataFrame, table: Sequence[Column]
) -> pd.DataFrame:
  """Columns of clinical and genetic records as numbers, by study_id.

  "logarithm" columns are logarithms, categories codes (0 and 1 of two); NaN
  is missing.  Nothing is fitted here.

  Raises:
    ValueError: a value that `clinical.check_row` refuses, or a category of
      more than two, whose codes would be read as an order.
  """
  numbers, categories = number_columns(table), category_columns(table)
  if many := [c.name for c in categories if len(c.categories) > 2]:
    raise ValueError(f"{many} have more than two categories; leave them out")
  as_is = Statistics((0.0,) * len(numbers), (1.0,) * len(numbers))
  names = [column.name for column in table]
  values, codes = encode(studies[names].to_dict("records"), table, as_is)
  known = np.where(codes < 0, np.nan, codes)
  return pd.DataFrame(
    np.concatenate([values, known], axis=1),
    columns=[column.name for column in (*numbers, *categories)],
    index=pd.Index(studies["study_id"], name="study_id"),
  )


def fit_and_predict(
  features: pd.DataFrame,
  studies: pd.DataFrame,
  targets: Sequence[Target],
  candidates: Candidates,
) -> pd.DataFrame:
  """Study-level rows of the predictions table, of all splits but training.

  Args:
    features: numbers by study_id, NaN where missing; a study without a row
      has none and is predicted all the same.
    studies: a row a study with `WHO` and the targets' sources.
    targets: of any kind; an ordinal one is taken as several classes.
    candidates: `linear`, `forest`, `trees`, `constant` or the like: whether
      classes are predicted -> unfitted estimators, the most restrained one
      first.  The one with the lowest error on validation is taken, the first
      one where validation has no label.

  A label that is unknown is in no fit and no choice.

  Raises:
    ValueError: a study twice, a patient in training and elsewhere, or a
      target without a known label in training.
  """
  _check(features, studies)
  x = features.reindex(studies["study_id"]).to_numpy(np.float64)
  truth = np.array(
    [truths_of(targets, row) for row in studies.to_dict("records")]
  )
  split = studies["split"].to_numpy()
  prediction = np.concatenate(
    [
      fit_target(target, x, truth[:, place.label], split, candidates)[0]
      for target, place in zip(targets, layout(targets), strict=True)
    ],
    axis=1,
  )
  judged = split != "train"
  about = studies.loc[judged, list(WHO)].assign(
    level="study", item_id=studies["study_id"], start_ms=np.nan
  )
  return rows_of(about, truth[judged], prediction[judged], targets)


def _check(features: pd.DataFrame, studies: pd.DataFrame) -> None:
  for what, names in (
    ("features", features.index), ("studies", studies["study_id"])
  ):  # fmt: skip
    twice = pd.Series(names).duplicated()
    if twice.any():
      raise ValueError(f"{what} have study {names[twice.argmax()]} twice")
  train = studies["split"] == "train"
  people = studies["patient_id"]
  shared = set(people[train]) & set(people[~train])
  if shared:
    raise ValueError(
      f"{len(shared)} patients are in training and in another split; mend "
      "the splits"
    )


def fit_target(
  target: Target,
  x: Float[np.ndarray, "n f"],
  truth: Float[np.ndarray, "n u"],
  split: np.ndarray,
  candidates: Candidates,
) -> tuple[Float[np.ndarray, "n y"], list[BaseEstimator]]:
  """Values or probabilities of one target for every row, and what gave them.

  Fitted where `split` is "train", chosen where it is "validation"; other rows
  are predicted only.  There is one estimator a label of the target.
  """
  classes = target.kind != "regression"
  several = target.kind in ("multiclass", "ordinal")
  columns, chosen = [], []
  for label in range(target.labels):
    name = target.classes[label] if target.kind == "multilabel" else target.name
    true = truth[:, label]
    train = ~np.isnan(true) & (split == "train")
    # A feature that nobody in training has can teach nothing.
    told = np.where(np.isfinite(x[train]).any(axis=0), x, 0.0)
    # On so few rows threads cost more than they give, on a busy machine
    # a hundred times more: each waits for the others in every split of a tree.
    with threadpool_limits(limits=1):
      model = _fit_best(name, told, true, split, classes, candidates)
      chosen.append(model)
      if not classes:
        columns.append(model.predict(told)[:, None])
        continue
      count = len(target.classes) if several else 2
      chance = _chances(model, told, count)
    columns.append(chance if several else chance[:, 1:])
  return np.concatenate(columns, axis=1), chosen


def _fit_best(
  name: str,
  x: Float[np.ndarray, "n f"],
  truth: Float[np.ndarray, "n"],
  split: np.ndarray,
  classes: bool,
  candidates: Candidates,
) -> BaseEstimator:
  """The candidate with the lowest error on the known validation labels."""
  known = ~np.isnan(truth)
  train, validation = (
    known & (split == part) for part in ("train", "validation")
  )
  if not train.any():
    raise ValueError(
      f"{name}: no study of the training split has a known label; leave the "
      "target out"
    )
  alike = classes and np.ptp(truth[train]) == 0
  if alike:
    warnings.warn(
      f"{name}: the training split has one class only", PredictionsWarning,
      stacklevel=5,
    )  # fmt: skip
  models = (constant if alike else candidates)(classes)
  fitted = [clone(model).fit(x[train], truth[train]) for model in models]
  if len(fitted) == 1 or not validation.any():
    return fitted[0]
  errors = [
    _error(model, x[validation], truth[validation], classes)
    for model in fitted
  ]
  return fitted[int(np.argmin(errors))]


def _error(
  model: BaseEstimator, x: Float[np.ndarray, "n f"],
  truth: Float[np.ndarray, "n"], classes: bool,
) -> float:  # fmt: skip
  """Mean absolute error, or mean -log of the true class's probability."""
  if not classes:
    return float(np.abs(model.predict(x) - truth).mean())
  place = truth.astype(int)
  count = int(max(*place, *model.classes_)) + 1
  chance = _chances(model, x, count)[np.arange(len(x)), place]
  return float(-np.log(np.maximum(chance, LEAST_CHANCE)).mean())


def _chances(
  model: BaseEstimator, x: Float[np.ndarray, "n f"], count: int
) -> Float[np.ndarray, "n y"]:
  """Probability of each class; 0 of one that training did not have."""
  chance = np.zeros((len(x), count))
  chance[:, model.classes_.astype(int)] = model.predict_proba(x)
  return chance
