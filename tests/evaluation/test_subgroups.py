"""Groups of patients: values by hand, what is withheld, the worst of them."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from echo_jax.commands import score as command
from echo_jax.evaluation import figures
from echo_jax.evaluation.aggregate import mean_over_clips
from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.predictions import (
  check_predictions,
  write_predictions,
)
from echo_jax.evaluation.report import write_report
from echo_jax.evaluation.score import score
from echo_jax.evaluation.subgroups import (
  BEST_AT,
  ERRORS,
  GOOD,
  SELECTED,
  Subgroups,
  badness,
  group_names,
  measure_subgroups,
  subgroup_table,
)
from echo_jax.targets import KINDS


@pytest.fixture
def rows(make_clips):
  """90 patients, 60 of the test split: devices a, b, "" of 24, 24, 12."""
  rows = make_clips(90, 2, 1)
  number = rows.patient_id.str[5:].astype(int)
  device = np.array(["a", "a", "b", "b", ""])[number % 5]
  worse = np.where((device == "b") & (rows.target == "ef_pct"), 6.0, 0.0)
  return check_predictions(
    rows.assign(
      device=device, age_years=30.0 + number % 60, sex="F",
      prediction=rows.prediction + worse,
    )
  )  # fmt: skip


def by_device(rows, target="ef_pct", **how):
  """The one table of a target by device, of 100 resamples."""
  how = {"targets": [target], "resamples": 100} | how
  (found,) = measure_subgroups(rows, ["device"], **how)
  return found


def test_values_are_those_of_the_groups_rows(rows):
  found = by_device(rows, level="video")
  assert [one.group for one in found.groups] == [
    "device: a", "device: b", "device: unknown"
  ]  # fmt: skip
  test = mean_over_clips(rows)
  test = test[(test.split == "test") & (test.target == "ef_pct")]
  for one, device in zip(found.groups[:2], "ab", strict=True):
    part = test[test.device == device]
    assert one.value == pytest.approx(
      metrics.mean_absolute_error(part.truth, part.prediction)
    )
    assert (one.patients, one.rows) == (24, 48)
    assert one.low < one.value < one.high
  assert found.whole.patients == 60 and found.in_several == 0


def test_rows_without_a_truth_are_counted_in_their_own_group(rows):
  gone = (rows.item_id == "set:v1_0") & (rows.target == "ef_pct")  # device a
  found = by_device(rows.assign(truth=rows.truth.mask(gone)))
  first, second, _ = found.groups
  assert (first.rows, first.without_truth) == (47, 1)
  assert (second.rows, second.without_truth) == (48, 0)


def test_small_groups_are_withheld_and_counted(rows):
  found = by_device(rows)
  last = found.groups[-1]
  assert np.isnan(last.value) and np.isnan(last.low)
  assert (last.patients, last.rows) == (12, 24)
  text = subgroup_table([found])
  assert "withheld: fewer than 20 patients; 12 patients, 24 rows" in text
  told = by_device(rows, least=12)
  assert np.isfinite(told.groups[-1].value)
  with pytest.raises(ValueError, match="least is 1 patients; wants 2"):
    measure_subgroups(rows, least=1)


def test_the_worst_is_named_and_said_to_be_selected(rows):
  found = by_device(rows)
  assert found.worst.group == "device: b"
  plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
  assert plain["worst"]["group"] == "device: b" and plain["worst"]["of"] == 2
  assert "not corrected" in plain["worst"]["note"]
  assert f"worst of 2 with a value: b, {found.worst.value_text}" in (
    subgroup_table([found])
  )
  assert SELECTED in subgroup_table([found])
  alone = Subgroups("device", found.whole, found.groups[1:])
  assert alone.worst is None  # one value is not the worst of anything


@pytest.mark.parametrize(
  ("metric", "better", "worse"),
  [
    ("mae", 3.0, 4.0), ("auroc", 0.9, 0.8), ("ece_mass", 0.01, 0.02),
    ("bias", 1.0, -2.0), ("calibration_slope", 1.1, 0.7), ("r2", 0.5, -0.5),
    ("called_brier", 0.1, 0.2), ("mae_grades", 0.2, 0.4),
    ("calibration_intercept", 0.1, -0.2), ("macro_f1", 0.6, 0.5),
  ],
)  # fmt: skip
def test_what_worse_means(metric, better, worse):
  assert badness(Estimate(metric, worse)) > badness(Estimate(metric, better))


def test_of_every_metric_it_is_known_what_is_worse():
  known = {name for kind in KINDS.values() for name in kind.metrics}
  assert sorted(known) == sorted([*ERRORS, *BEST_AT, *GOOD])
  with pytest.raises(ValueError, match="more of surprise is worse is not kno"):
    badness(Estimate("surprise", 1.0))


def test_bands_of_age():
  ages = [0.0, 39.9, 40, 59.9, 60, 74.9, 75, 101, np.nan]
  found = group_names(pd.DataFrame({"age_years": ages}), "age")
  assert list(found) == [
    "under 40", "under 40", "40-59", "40-59", "60-74", "60-74", "75+", "75+",
    "unknown",
  ]  # fmt: skip
  with pytest.raises(ValueError, match="no groups by 'vendor'; there are dev"):
    group_names(pd.DataFrame(), "vendor")


def test_bands_stand_in_their_order_and_lone_groups_are_left_out(rows):
  found = measure_subgroups(rows, resamples=100, targets=["ef_pct"])
  assert [one.by for one in found] == ["device", "age"]  # one sex, one view
  names = [one.group for one in found[1].groups]
  assert names == ["age: under 40", "age: 40-59", "age: 60-74", "age: 75+"]


def test_the_threshold_is_that_of_all_patients(rows):
  """Not one fitted anew on the validation rows of each device."""
  whole = next(
    one for one in score(rows, targets=["ef_below_50"], resamples=100)
    if one.name == "f1"
  )  # fmt: skip
  found = by_device(rows, "ef_below_50", metrics=["f1"])
  test = rows[(rows.split == "test") & (rows.target == "ef_below_50")]
  for one, device in zip(found.groups[:2], "ab", strict=True):
    assert one.threshold == whole.threshold
    part = test[test.device == device]
    assert one.value == metrics.f1_score(
      part.truth, part.prediction >= whole.threshold
    )


def test_patients_in_several_groups_are_counted(rows):
  views = rows.assign(
    view=np.where(rows.item_id.str.endswith("_1"), "A2C", "A4C")
  )
  (found,) = measure_subgroups(
    views, ["view"], targets=["ef_pct"], resamples=100
  )
  assert found.in_several == 60
  assert "60 patients are in several groups" in subgroup_table([found])
  assert [one.patients for one in found.groups] == [60, 60]


def run(*arguments):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(one) for one in arguments]))


def test_command_prints_groups(rows, tmp_path, capsys):
  write_predictions(tmp_path / "p.csv", rows)
  words = (tmp_path / "p.csv", "--by", "device", "--by", "sex", "--target",
           "ef_pct", "--resamples", 100)  # fmt: skip
  assert run(*words) == 0
  told = capsys.readouterr()
  assert "ef_pct, MAE by device" in told.out
  assert "note: by sex: no two groups" in told.err
  assert run(*words, "--json", "--least-patients", 30) == 0
  plain = json.loads(capsys.readouterr().out)
  (found,) = plain["subgroups"]
  assert found["by"] == "device" and found["worst"] is None
  assert {one["value"] for one in found["groups"]} == {None}
  assert "by sex: no two groups" in plain["notes"]
  with pytest.raises(SystemExit):
    run(tmp_path / "p.csv", "--by", "vendor")


def test_a_report_holds_and_draws_them(rows, tmp_path):
  rows = rows[rows.target == "ef_below_50"]
  estimates = score(rows, level="video", resamples=100)
  write_report(tmp_path, rows, estimates, {}, "test")
  plain = json.loads((tmp_path / "metrics.json").read_text())
  assert {one["by"] for one in plain["subgroups"]} == {"device", "age"}
  assert plain["reliability"][0]["target"] == "ef_below_50"
  drawn = {path.name for path in (tmp_path / "figures").iterdir()}
  assert "ef_below_50_subgroups.png" in drawn


def test_forest_figure_holds_what_it_is_given():
  figure = figures.forest_figure(
    ["all (60 patients)", "a (24 patients)", "b (3 patients)"],
    [4.0, 5.0, np.nan], [3.0, 4.5, np.nan], [5.0, 6.0, np.nan], whole=4.0,
    label="EF by device", metric="MAE (%)",
  )  # fmt: skip
  axes = figure.axes[0]
  names = [text.get_text() for text in axes.get_yticklabels()]
  assert names[1] == "a (24 patients)"
  assert [text.get_text() for text in axes.texts] == ["not told"]
  spans = [list(line.get_xdata()) for line in axes.lines[1:]]
  assert spans == [[3.0, 5.0], [4.0], [4.5, 6.0], [5.0]]
  with pytest.raises(ValueError, match="1 names, 0 values"):
    figures.forest_figure(["a"], [], [], [], label="", metric="", whole=1.0)
