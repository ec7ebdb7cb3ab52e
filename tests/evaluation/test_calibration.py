"""Calibration by hand, against scikit-learn, and in the tables."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from echo_jax.commands import score as command
from echo_jax.evaluation import calibration
from echo_jax.evaluation.predictions import check_predictions
from echo_jax.evaluation.reliability import reliability_tables
from echo_jax.evaluation.score import score


@pytest.fixture(scope="module")
def rows():
  """40 patients of 1 to 5 rows; probabilities too extreme, with ties."""
  rng = np.random.default_rng(3)
  patient = np.repeat(np.arange(40), rng.integers(1, 6, 40))
  logit = rng.normal(0, 1, 40)[patient] + rng.normal(0, 1, len(patient))
  truth = (rng.random(len(patient)) < 1 / (1 + np.exp(-logit))) * 1.0
  chance = np.round(1 / (1 + np.exp(-2 * logit - 0.5)), 2)
  return truth, chance, patient


def drawn(rows, counts):
  """Rows as they are in one resample."""
  truth, chance, patient = rows
  again = np.repeat(np.arange(len(truth)), counts[patient].astype(int))
  return truth[again], chance[again]


def test_expected_calibration_error_by_hand():
  chance = np.array([0.05, 0.05, 0.15, 0.95])
  truth = np.array([0.0, 1, 0, 1])
  found = calibration.calibration_errors(truth, chance)
  # Sums of prediction - truth in the bins: 0.1 - 1, 0.15 and 0.95 - 1.
  assert found["ece_width"] == pytest.approx((0.9 + 0.15 + 0.05) / 4)
  # By tenths of the rows the two equal ones share a bin as well.
  assert found["ece_mass"] == pytest.approx((0.9 + 0.15 + 0.05) / 4)
  even = np.repeat([0.2, 0.7], 10), np.r_[[1, 1], [0] * 8, [1] * 7, [0] * 3]
  assert calibration.calibration_errors(even[1] * 1.0, even[0]) == (
    pytest.approx({"ece_width": 0, "ece_mass": 0})
  )


@pytest.mark.parametrize(
  ("cut", "strategy"), [("width", "uniform"), ("mass", "quantile")]
)
def test_reliability_table_is_that_of_scikit_learn(rows, cut, strategy):
  truth, chance, patient = rows
  table = calibration.reliability_table(truth, chance, patient, cut, 5)
  observed, predicted = calibration_curve(
    truth, chance, n_bins=5, strategy=strategy
  )
  np.testing.assert_allclose(table["observed"], observed)
  np.testing.assert_allclose(table["predicted"], predicted)
  assert table["rows"].sum() == len(truth)
  last = (chance > table["low"].iloc[-1]) & (chance <= table["high"].iloc[-1])
  assert table["patients"].iloc[-1] == len(set(patient[last]))
  errors = table["rows"] * (table["observed"] - table["predicted"]).abs()
  ten = calibration.reliability_table(truth, chance, patient, cut)
  errors = ten["rows"] * (ten["observed"] - ten["predicted"]).abs()
  assert calibration.calibration_errors(truth, chance)[f"ece_{cut}"] == (
    pytest.approx(errors.sum() / len(truth))
  )
  with pytest.raises(ValueError, match="cut is 'depth'; allowed: width, mass"):
    calibration.bins_of(chance, "depth")


def test_errors_in_a_resample_are_those_of_its_rows(rows):
  truth, chance, patient = rows
  counts = np.random.default_rng(0).integers(0, 3, (4, 40)).astype(float)
  found = calibration.resample_errors(truth, chance, patient, counts)
  for cut in calibration.CUTS:
    bins = calibration.bins_of(chance, cut)  # of all rows, as is said
    for r, count in enumerate(counts):
      weight = count[patient]
      gaps = [
        abs((weight * (chance - truth))[bins == k].sum()) for k in range(10)
      ]
      wanted = sum(gaps) / weight.sum()
      assert found[f"ece_{cut}"][r] == pytest.approx(wanted)


def test_slope_and_intercept_by_hand():
  """Two predictions: the line goes through both observed shares."""
  chance = np.repeat([0.2, 0.8], 4)
  truth = np.array([1.0, 0, 0, 0, 1, 1, 1, 0])
  found = calibration.recalibration(truth, chance)
  assert found["calibration_slope"] == pytest.approx(np.log(3) / np.log(4))
  assert found["calibration_intercept"] == pytest.approx(0, abs=1e-7)
  shifted = 1 / (1 + np.exp(-(np.log(chance / (1 - chance)) * 2 + 1)))
  moved = calibration.recalibration(truth, shifted)
  half = np.log(3) / np.log(4) / 2
  assert moved["calibration_slope"] == pytest.approx(half, abs=1e-6)
  assert moved["calibration_intercept"] == pytest.approx(-half, abs=1e-6)


def test_slope_in_every_resample_is_scikit_learns(rows):
  truth, chance, patient = rows
  counts = np.random.default_rng(1).integers(0, 3, (12, 40)).astype(float)
  counts[0] = 1
  counts[1] = patient_of_one_class(truth, patient)
  found = calibration.resample_recalibration(truth, chance, patient, counts)
  assert np.isnan(found["calibration_slope"][1])
  for r in set(range(12)) - {1}:
    wanted = calibration.recalibration(*drawn(rows, counts[r]))
    for name, value in wanted.items():
      assert found[name][r] == pytest.approx(value, abs=1e-6), (name, r)
  assert np.isfinite(found["calibration_slope"]).sum() == 11


def test_a_resample_far_from_all_rows_is_solved_too():
  """A full step of Newton's from the slope of all rows would run away."""
  logit = np.r_[-np.linspace(1, 8, 20), np.linspace(1, 8, 20), -1.2, 1.2]
  truth = np.r_[np.zeros(20), np.ones(20), 1, 0]
  chance, patient = 1 / (1 + np.exp(-logit)), np.r_[np.arange(40), 40, 40]
  counts = np.ones((1, 41))
  counts[0, 40] = 20  # the one patient who is called wrong
  rows = truth, chance, patient
  found = calibration.resample_recalibration(*rows, counts)
  wanted = calibration.recalibration(*drawn(rows, counts[0]))
  assert found["calibration_slope"][0] == pytest.approx(
    wanted["calibration_slope"], abs=1e-6
  )


def patient_of_one_class(truth, patient):
  """Counts of those patients all of whose rows are 0."""
  return np.array([truth[patient == g].max() == 0 for g in range(40)]) * 1.0


@pytest.mark.parametrize(
  ("truth", "chance", "reason"),
  [
    ([0.0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "separate the classes"),
    ([0.0, 1, 0, 1], [0.1, 0.1, 0.1, 0.9], "separate the classes"),  # a tie
    ([1.0, 1, 0, 0], [0.5, 0.5, 0.5, 0.5], "separate the classes"),
    ([1.0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], "one class only: every truth is 1"),
  ],
)  # fmt: skip
def test_no_finite_slope_is_said(truth, chance, reason):
  truth, chance = np.array(truth), np.array(chance)
  why = calibration.why_no_slope(truth, chance)
  assert reason in why["calibration_slope"]
  assert np.isnan(calibration.recalibration(truth, chance)[
    "calibration_intercept"
  ])  # fmt: skip
  found = calibration.resample_recalibration(
    truth, chance, np.arange(4), np.ones((2, 4))
  )
  assert np.isnan(found["calibration_slope"]).all()


def test_probabilities_of_0_and_1_have_a_slope():
  truth = np.array([1.0, 0, 1, 0, 1, 0])
  chance = np.array([0.0, 0.0, 1, 1, 0.5, 0.5])
  found = calibration.recalibration(truth, chance)
  assert found["calibration_slope"] == pytest.approx(0, abs=1e-6)


@pytest.fixture
def table(make_clips):
  rows = make_clips(60, 2, 1)
  return check_predictions(rows[rows.target == "ef_below_50"])


def run(*arguments):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(one) for one in arguments]))


def test_scores_and_tables_hold_them(table, tmp_path, capsys):
  table.to_csv(tmp_path / "p.csv", index=False)
  words = tmp_path / "p.csv", "--resamples", 200, "--reliability"
  assert run(*words) == 0
  out = capsys.readouterr().out
  assert "ECE, 10 bins of equal width" in out and "calibration slope" in out
  assert "ECE is biased upwards" in out
  assert "bins of equal mass; event: ef_below_50 = 1 (ef_pct < 50)" in out
  assert run(*words, "--json") == 0
  plain = json.loads(capsys.readouterr().out)
  of = {one["name"]: one for one in plain["estimates"]}
  slope = of["calibration_slope"]
  assert slope["low"] < slope["value"] < slope["high"]
  widths = next(
    one for one in plain["reliability"] if one["bins_of_equal"] == "width"
  )
  assert sum(one["rows"] for one in widths["bins"]) == of["auroc"]["rows"] == 80
  assert all(one["patients"] <= one["rows"] for one in widths["bins"])


def test_the_called_class_of_several():
  """Its probability against whether the call was right."""
  rng = np.random.default_rng(0)
  chance = rng.dirichlet([1, 1, 1], 60)
  true = np.array([rng.choice(3, p=one) for one in chance])
  rows = check_predictions(
    pd.DataFrame(
      [
        dict(
          level="video", item_id=f"v{i:02}", study_id=f"s{i}",
          patient_id=f"p{i // 2}", site="", device="", view="", split="test",
          target="made_grade", unit="", truth=float(true[i] == k),
          prediction=chance[i, k], **{"class": name},
        )
        for i in range(60)
        for k, name in enumerate("abc")
      ]
    )
  )  # fmt: skip
  found = {one.name: one for one in score(rows, resamples=200)}
  right, top = true == chance.argmax(1), chance.max(1)
  brier = found["called_brier"]
  assert brier.value == pytest.approx(np.mean((top - right) ** 2))
  assert brier.low < brier.value < brier.high
  assert found["called_ece_width"].value == pytest.approx(
    calibration.calibration_errors(right * 1.0, top)["ece_width"]
  )
  tables = reliability_tables(rows)
  assert tables[0]["event"] == "the called class is the true one"
  assert sum(one["rows"] for one in tables[0]["bins"]) == 60
