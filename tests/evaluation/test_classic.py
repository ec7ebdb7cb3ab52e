"""Baselines against scikit-learn itself; what is fitted on what."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from echo_jax.data.clinical import CLINICAL, GENETIC, Column
from echo_jax.evaluation.classic import (
  constant,
  fit_and_predict,
  forest,
  linear,
  one_a_study,
  record_features,
  trees,
)
from echo_jax.evaluation.predictions import PredictionsWarning
from echo_jax.evaluation.score import score
from echo_jax.targets import TARGETS

EF, LOW, GRADE, DISEASE, SEGMENTS = (
  TARGETS[name]
  for name in (
    "ef_pct", "ef_below_50", "as_grade", "disease", "segments_abnormal"
  )
)  # fmt: skip
SPLITS = np.repeat(["train", "validation", "test"], [60, 20, 20])


@pytest.fixture(scope="module")
def studies():
  """100 studies; features below tell their EF, grade and disease."""
  rng = np.random.default_rng(0)
  ef = rng.uniform(20, 70, 100)
  grade = rng.integers(0, 4, 100)
  kind = rng.integers(0, 3, 100)
  table = pd.DataFrame(
    {
      "study_id": [f"s{i}" for i in range(100)],
      "patient_id": [f"p{i}" for i in range(100)],
      "split": SPLITS,
      **{name: "" for name in ("site", "device", "view", "quality", "sex")},
      "age_years": 60.0,
      "patient_known": 1,
      "ef_pct": ef,
      "as_grade": np.array(GRADE.classes)[grade],
      "disease": np.array(DISEASE.classes)[kind],
      **{
        name: np.where(rng.random(100) < ef / 100, "normal", "akinetic")
        for name in SEGMENTS.sources
      },
    }
  )
  features = pd.DataFrame(
    {
      "a": ef + rng.normal(0, 6, 100),
      "b": grade + rng.normal(0, 0.4, 100),
      "c": kind + rng.normal(0, 0.3, 100),
    },
    index=table["study_id"],
  )
  return table, features


def of_split(rows, split):
  return rows[rows["split"] == split].reset_index(drop=True)


def one_candidate(classes):
  return [LogisticRegression() if classes else Ridge()]


def test_it_is_scikit_learn(studies):
  table, features = studies
  x, train = features.to_numpy(), SPLITS == "train"
  rows = fit_and_predict(features, table, (EF, LOW), one_candidate)
  ridge = Ridge().fit(x[train], table["ef_pct"][train])
  low = LogisticRegression().fit(x[train], table["ef_pct"][train] < 50)
  got = rows.pivot(index="item_id", columns="target", values="prediction")
  got = got.loc[table["study_id"][~train]]
  np.testing.assert_allclose(got["ef_pct"], ridge.predict(x[~train]))
  np.testing.assert_allclose(
    got["ef_below_50"], low.predict_proba(x[~train])[:, 1]
  )
  assert set(rows["level"]) == {"study"}
  assert set(rows["split"]) == {"validation", "test"}


def one_tree(classes):
  return trees(classes)[:1]


def one_forest(classes):
  return [forest(classes)[-1].set_params(n_estimators=20)]


@pytest.mark.parametrize("candidates", [linear, one_forest, one_tree])
def test_every_kind_is_predicted_and_scored(studies, candidates):
  table, features = studies
  targets = (EF, LOW, GRADE, DISEASE, SEGMENTS)
  with pytest.warns(PredictionsWarning, match="one class only"):
    some = table.assign(segment_01="normal")
    rows = fit_and_predict(features, some, targets, candidates)
  sums = rows[rows["kind"].isin(["ordinal", "multiclass"])].groupby(
    ["item_id", "target"]
  )["prediction"].sum()  # fmt: skip
  np.testing.assert_allclose(sums, 1)
  absent = rows[(rows["target"] == "disease") & (rows["class"] == "valvular")]
  assert (absent["prediction"] == 0).all()  # never in training
  first = rows[rows["class"] == "segment_01"]
  assert (first["prediction"] == 0).all()
  found = {
    (one.target, one.name): one.value
    for one in score(rows, level="study", resamples=100)
  }
  assert found["ef_pct", "mae"] < 8
  assert found["ef_below_50", "auroc"] > 0.9
  assert found["as_grade", "quadratic_kappa"] > 0.7
  assert found["disease", "accuracy"] > 0.8
  assert found["segments_abnormal", "mean_auroc"] > 0.5


def test_what_is_judged_is_not_learnt_from(studies):
  """Other features and labels in the test split change no prediction but
  its own."""
  table, features = studies
  test = SPLITS == "test"
  other_table, other = table.copy(), features.copy()
  other.loc[test] = 1e6
  other_table.loc[test, "ef_pct"] = 1.0
  before, after = (
    of_split(fit_and_predict(*given, (EF, LOW), linear), "validation")
    for given in ((features, table), (other, other_table))
  )
  pd.testing.assert_frame_equal(before, after)


def test_only_training_rows_are_fitted(studies):
  table, features = studies
  seen = []

  class Spy(Ridge):
    def fit(self, x, y):
      seen.append(x[:, 0])
      return super().fit(x, y)

  fit_and_predict(features, table, (EF,), lambda _: [Spy(), Spy(alpha=9)])
  assert len(seen) == 2
  for column in seen:
    np.testing.assert_array_equal(column, features["a"][SPLITS == "train"])


def test_unknown_labels_are_in_no_fit_and_no_choice(studies):
  """Studies without a label might as well not be there; they are predicted."""
  table, features = studies
  gone = np.arange(100) % 3 == 0
  partly = table.copy()
  partly.loc[gone, "ef_pct"] = np.nan
  rows = fit_and_predict(features, partly, (EF,), linear)
  without = fit_and_predict(
    features, table[~gone].reset_index(drop=True), (EF,), linear
  )
  known = rows[rows["truth"].notna()].reset_index(drop=True)
  pd.testing.assert_frame_equal(known, without)
  assert len(rows) == (SPLITS != "train").sum()


def test_validation_chooses(studies):
  """Of two candidates the one that validation likes, not training."""
  table, features = studies
  turned = features.copy()
  turned.loc[SPLITS == "validation", "a"] *= -1

  def candidates(classes):
    return [Ridge(alpha=1e9), Ridge(alpha=1e-3)]

  flat, steep = (
    of_split(fit_and_predict(f, table, (EF,), candidates), "test")
    for f in (turned, features)
  )
  assert np.ptp(flat["prediction"]) < 0.1 < 20 < np.ptp(steep["prediction"])


def test_the_constant_is_the_training_mean(studies):
  table, features = studies
  rows = fit_and_predict(features, table, (EF, GRADE), constant)
  train = table[SPLITS == "train"]
  ef = rows[rows["target"] == "ef_pct"]
  np.testing.assert_allclose(ef["prediction"], train["ef_pct"].mean())
  mild = rows[rows["class"] == "mild"]
  share = (train["as_grade"] == "mild").mean()
  np.testing.assert_allclose(mild["prediction"], share)


@pytest.mark.parametrize("candidates", [linear, forest, trees])
def test_a_study_without_features_is_predicted_too(studies, candidates):
  table, features = studies
  fewer = features.drop(index=["s5", "s99"]).assign(never=np.nan)
  rows = fit_and_predict(fewer, table, (EF,), candidates)
  assert "s99" in set(rows["item_id"])


def test_bad_tables_are_refused(studies):
  table, features = studies
  with pytest.raises(ValueError, match="study s3 twice"):
    fit_and_predict(
      pd.concat([features, features.loc[["s3"]]]), table, (EF,), linear
    )
  shared = table.assign(patient_id=["p0"] * 2 + list(table["patient_id"][2:]))
  shared.loc[99, "patient_id"] = "p0"
  with pytest.raises(ValueError, match="1 patients are in training and"):
    fit_and_predict(features, shared, (EF,), linear)
  with pytest.raises(ValueError, match="as_grade: no study of the training"):
    fit_and_predict(features, table.assign(as_grade=""), (GRADE,), linear)


def test_records_become_numbers(studies):
  row = {c.name: np.nan if c.kind != "category" else "" for c in CLINICAL}
  row |= {c.name: "" for c in GENETIC if c.kind == "category"}
  row |= {"polygenic_score_sd": np.nan}
  one = row | {"study_id": "x", "sex": "M", "diabetes": "no", "age_years": 70.0}
  one |= {"creatinine_mg_dl": np.e, "carrier_ttn": "yes"}
  two = row | {"study_id": "y"}
  found = record_features(pd.DataFrame([one, two]), CLINICAL + GENETIC)
  wanted = {
    "sex": 1, "diabetes": 0, "age_years": 70, "creatinine_mg_dl": 1,
    "carrier_ttn": 1,
  }  # fmt: skip
  assert found.loc["x", list(wanted)].to_dict() == pytest.approx(wanted)
  assert found.loc["x"].notna().sum() == 5 and found.loc["y"].isna().all()
  three = Column("hue", "category", categories=("a", "b", "c"))
  with pytest.raises(ValueError, match="'hue'.* more than two"):
    record_features(pd.DataFrame([one]), (three,))


def test_a_study_is_one_row():
  videos = pd.DataFrame(
    {
      "study_id": ["s", "s", "t"],
      "patient_id": ["p", "p", "q"],
      "split": ["train", "train", "test"],
      "site": ["A", "A", "B"],
      "device": "d",
      "view": ["A4C", "A2C", "A4C"],
      "quality": ["good", "poor", "good"],
      "sex": ["", "F", ""],
      "age_years": [np.nan, 50.0, np.nan],
      "patient_known": 1,
      "ef_pct": [55.0, np.nan, np.nan],
    }
  )
  found = one_a_study(videos, ["ef_pct"]).set_index("study_id")
  assert found.loc["s", ["site", "view", "quality", "sex"]].to_list() == [
    "A", "", "", "F",
  ]  # fmt: skip
  assert found.loc["s", ["age_years", "ef_pct"]].to_list() == [50, 55]
  assert found.loc["t", ["view", "sex"]].to_list() == ["A4C", ""]
  assert np.isnan(found.loc["t", "ef_pct"])
  with pytest.raises(ValueError, match="ef_pct differs .* of study s"):
    one_a_study(videos.assign(ef_pct=[55.0, 40.0, 60.0]), ["ef_pct"])
