"""Grades and labels: metrics are scikit-learn's, counts are of what is known.
"""

import argparse
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from echo_jax.commands import score as command
from echo_jax.evaluation import bootstrap, grades, labels
from echo_jax.evaluation.aggregate import mean_over_clips
from echo_jax.evaluation.predict import (
  ClipPredictions,
  clip_rows,
  truth_by_class,
  validation_losses,
)
from echo_jax.evaluation.predictions import (
  PredictionsWarning,
  check_predictions,
  write_predictions,
)
from echo_jax.evaluation.report import report_estimates, target_figures
from echo_jax.evaluation.score import score
from echo_jax.evaluation.single import Value
from echo_jax.objectives.outputs import Standardisation
from echo_jax.targets import KINDS, TARGETS, Target, target_named
from echo_jax.training.state import TrainState

GRADES = ("none", "mild", "severe")  # not in the order of the alphabet
LABELS = ("septum", "posterior", "lateral")
PATIENTS = 40


def table_of(truth, prediction, classes, target, kind):
  """Video rows, one a class; two videos a patient."""
  rows = [
    dict(
      level="video", item_id=f"v{i}", study_id=f"s{i}", split="test",
      patient_id=f"p{i // 2}", site="", device="", view="", target=target,
      unit="", truth=truth[i, k], prediction=prediction[i, k], kind=kind,
      **{"class": name},
    )
    for i in range(len(truth))
    for k, name in enumerate(classes)
  ]  # fmt: skip
  return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def graded():
  """(true grade, probabilities) of two videos of each patient."""
  rng = np.random.default_rng(2)
  true = rng.integers(0, 3, 2 * PATIENTS)
  weight = 1.5 * np.exp(-abs(true[:, None] - np.arange(3))) + 0.3
  return true, np.array([rng.dirichlet(w) for w in weight])


@pytest.fixture(scope="module")
def labelled():
  """(truth with unknowns, probabilities); nobody has a lateral label of 1."""
  rng = np.random.default_rng(3)
  truth = rng.integers(0, 2, (2 * PATIENTS, 3)).astype(float)
  truth[:, 2] = 0
  noise = rng.normal(0, 0.2, truth.shape)
  prediction = np.clip(0.3 + 0.3 * truth + noise, 0, 1)
  truth[:10, 0], truth[:4] = np.nan, np.nan
  return truth, prediction


def found_by_name(estimates, target=None):
  return {e.name: e for e in estimates if target in (None, e.target)}


def test_a_grade_is_called_by_its_median():
  table = np.array([[0.4, 0.15, 0.45], [0.5, 0.5, 0], [0.1, 0.2, 0.7]])
  assert grades.call_grades(table).tolist() == [1, 0, 2]
  far = (table[0] * abs(np.arange(3) - np.arange(3)[:, None])).sum(1)
  assert far.argmin() == 1  # of all calls the least expected error


def test_grades_equal_scikit_learn_also_resampled(graded):
  true, prediction = graded
  called = grades.call_grades(prediction)
  patient = np.arange(len(true)) // 2
  counts = bootstrap.draw_counts(np.random.default_rng(1), 20, PATIENTS)
  each = grades.resample_grades(true, called, patient, counts)
  count = prediction.shape[1]
  cases = [(grades.grade_metrics(true, called, count), np.arange(len(true)))]
  for r, count in enumerate(counts.astype(int)):
    drawn = np.repeat(np.arange(len(true)), count[patient])
    cases.append(({name: of[r] for name, of in each.items()}, drawn))
  for got, drawn in cases:
    t, c = true[drawn], called[drawn]
    assert got == pytest.approx({
      "quadratic_kappa": metrics.cohen_kappa_score(t, c, weights="quadratic"),
      "mae_grades": metrics.mean_absolute_error(t, c),
    }, abs=1e-10)  # fmt: skip


def test_a_grade_that_does_not_occur_still_lies_between():
  """Of four grades 0, 2 and 3 occur: 2 is two steps from 0, as resampled."""
  true = np.array([0, 0, 3, 3, 2, 2, 0, 3])
  called = np.array([0, 2, 3, 2, 2, 3, 0, 3])
  got = grades.grade_metrics(true, called, 4)["quadratic_kappa"]
  steps = np.square(true[:, None] - called)  # all pairs: what chance gives
  wanted = 1 - np.square(true - called).mean() / steps.mean()
  assert got == pytest.approx(wanted, abs=1e-12)
  each = grades.resample_grades(
    true, called, np.arange(8), np.ones((1, 8))
  )["quadratic_kappa"]
  assert got == pytest.approx(each[0], abs=1e-12)


def test_one_grade_alone_has_no_kappa():
  ones = np.ones(4, int)
  assert "same grade" in grades.why_grades_undefined(ones, ones)[
    "quadratic_kappa"
  ]
  got = grades.grade_metrics(ones, ones, 3)
  assert np.isnan(got["quadratic_kappa"]) and got["mae_grades"] == 0
  counts = np.array([[1.0, 0], [1, 1]])
  each = grades.resample_grades(
    np.array([1, 2]), np.array([1, 2]), np.arange(2), counts
  )
  np.testing.assert_array_equal(each["quadratic_kappa"], [np.nan, 1])


def test_ordinal_targets_are_scored_in_their_order(graded):
  true, prediction = graded
  table = table_of(np.eye(3)[true], prediction, GRADES, "made_grade", "ordinal")
  found = score(table, ordinal={"made_grade": GRADES}, resamples=200)
  assert tuple(e.name for e in found) == KINDS["ordinal"].metrics
  named, called = found_by_name(found), grades.call_grades(prediction)
  for name, wanted in {
    "quadratic_kappa": metrics.cohen_kappa_score(
      true, called, weights="quadratic"
    ),
    "mae_grades": metrics.mean_absolute_error(true, called),
    "macro_auroc": metrics.roc_auc_score(true, prediction, multi_class="ovr"),
    "balanced_accuracy": metrics.balanced_accuracy_score(true, called),
    "macro_f1": metrics.f1_score(true, called, average="macro"),
    "accuracy": metrics.accuracy_score(true, called),
  }.items():
    assert named[name].value == pytest.approx(wanted, abs=1e-12), name
    assert named[name].low < wanted < named[name].high
    assert (named[name].patients, named[name].rows) == (40, 80)
  shuffled = table.sample(frac=1, random_state=0)
  again = score(shuffled, ordinal={"made_grade": GRADES}, resamples=200)
  assert [e.value for e in again] == pytest.approx([e.value for e in found])


def test_an_ordinal_target_needs_its_order_and_a_distribution(graded):
  true, prediction = graded
  table = table_of(np.eye(3)[true], prediction, GRADES, "made_grade", "ordinal")
  with pytest.raises(ValueError, match="--ordinal made_grade=none,mild,severe"):
    score(table)
  with pytest.raises(ValueError, match="add up to 0.5; want the probability"):
    halves = table.assign(prediction=table.prediction / 2)
    score(halves, ordinal={"made_grade": GRADES})
  with pytest.raises(ValueError, match="has no class 'mild'; there are"):
    score(table, ordinal={"made_grade": ("none", "severe")})
  with pytest.raises(ValueError, match="said to be multiclass and ordinal"):
    other = table.assign(kind="multiclass")
    score(other, ordinal={"made_grade": GRADES})


def test_an_item_without_a_truth_counts_once(graded):
  true, prediction = graded
  truth = np.eye(3)[true]
  truth[:3] = np.nan
  table = table_of(truth, prediction, GRADES, "made_grade", "ordinal")
  with pytest.warns(PredictionsWarning, match="made_grade: 3 of 80 rows of"):
    found = score(table, ordinal={"made_grade": GRADES}, resamples=100)
  assert {(e.rows, e.patients, e.without_truth) for e in found} == {(77, 39, 3)}
  truth[3, 0] = np.nan  # part of an item
  table = table_of(truth, prediction, GRADES, "made_grade", "ordinal")
  with pytest.raises(ValueError, match="v3 must have truth 1 in exactly one"):
    with warnings.catch_warnings(action="ignore"):
      score(table, ordinal={"made_grade": GRADES}, resamples=100)


def test_labels_equal_scikit_learn_on_the_rows_that_know_them(labelled):
  truth, prediction = labelled
  table = table_of(truth, prediction, LABELS, "walls", "multilabel")
  with pytest.warns(PredictionsWarning, match="walls: 4 of 80 rows"):
    found = score(table, resamples=200)
  each = []
  for k, name in enumerate(LABELS[:2]):
    known = ~np.isnan(truth[:, k])
    pair = truth[known, k], prediction[known, k]
    own = found_by_name(found, f"walls: {name}")
    each.append(
      (metrics.roc_auc_score(*pair), metrics.average_precision_score(*pair))
    )
    got = own["auroc"].value, own["auprc"].value
    assert got == pytest.approx(each[-1], abs=1e-12)
    assert own["auroc"].rows == known.sum()
    assert own["auroc"].without_truth == 80 - known.sum()
    assert own["auroc"].positive == f"{name} = 1"
    share = f"{int(pair[0].sum())} of {known.sum()} rows and "
    assert share in own["auroc"].protocol
  lateral = found_by_name(found, "walls: lateral")["auroc"]
  assert lateral.reason == "one class only: every truth is 0"
  whole = found_by_name(found, "walls")
  got = whole["mean_auroc"], whole["mean_auprc"]
  assert tuple(whole) == KINDS["multilabel"].metrics
  assert [e.value for e in got] == pytest.approx(np.mean(each, axis=0))
  assert all(e.low < e.value < e.high and e.rows == 76 for e in got)
  assert "mean over 2 of 3 labels, with both classes" in got[0].protocol


def test_labels_resampled_equal_explicit_resampling(labelled):
  truth, prediction = labelled
  patient = np.arange(len(truth)) // 2
  counts = bootstrap.draw_counts(np.random.default_rng(1), 10, PATIENTS)
  each = labels.resample_labels(truth, prediction, patient, counts)
  for r, count in enumerate(counts.astype(int)):
    drawn = np.repeat(np.arange(len(truth)), count[patient])
    want = labels.label_metrics(truth[drawn], prediction[drawn])
    assert {n: v[r] for n, v in each.items()} == pytest.approx(want, abs=1e-10)
  nobody = np.zeros((2, 3))
  reasons = labels.why_labels_undefined(nobody, LABELS)
  assert "none of septum, posterior, lateral" in reasons["mean_auroc"]
  assert np.isnan(labels.label_metrics(nobody, nobody)["mean_auroc"])


WALLS = Target(
  "walls", "multilabel", "", ("ivsd_mm", "lvpwd_mm", "lvpws_mm"),
  at_least=11.0, classes=LABELS,
)  # fmt: skip
MANY = (target_named("ef_pct"), target_named("as_tmed3"),
        target_named("image_quality"), WALLS)  # fmt: skip


@pytest.fixture
def clips(graded, labelled):
  """Two clips a video, of a task of each kind of several columns."""
  true, chance = graded
  walls, wall_chance = labelled
  truth = np.column_stack([50.0 + true, true, true, walls])
  truth[1, 1] = np.nan
  value = np.column_stack([51.0 + true, chance, chance, wall_chance])
  twice = np.repeat(np.arange(len(true)), 2)
  return ClipPredictions(
    [f"v{i}" for i in twice], np.tile([0.0, 400.0], len(true)), truth[twice],
    value[twice], np.zeros((len(twice), 1)), np.ones((len(twice), 2)),
  )  # fmt: skip


def index(videos=2 * PATIENTS):
  known = {
    "video_id": [f"v{v}" for v in range(videos)],
    "study_id": [f"s{v}" for v in range(videos)],
    "patient_id": [f"p{v // 2}" for v in range(videos)],
    "split": "test", "age_years": 60.0, "patient_known": 1,
  }  # fmt: skip
  empty = {n: "" for n in ("site", "device", "view", "sex", "quality")}
  return pd.DataFrame(known | empty)


def test_rows_and_report_of_every_kind(clips, graded, monkeypatch):
  monkeypatch.setitem(TARGETS, "walls", WALLS)
  rows = clip_rows(clips, MANY, index())
  counts = rows.groupby("target", sort=False).size() // (4 * PATIENTS)
  assert counts.to_dict() == {
    "ef_pct": 1, "as_tmed3": 3, "image_quality": 3, "walls": 3
  }  # fmt: skip
  one = rows[(rows.target == "as_tmed3") & (rows.item_id == "v0")]
  assert one.groupby("class").truth.max().idxmax() == (
    MANY[1].classes[graded[0][0]]
  )
  assert rows[(rows.target == "as_tmed3") & (rows.item_id == "v1")][
    "truth"
  ].isna().all()
  with pytest.warns(PredictionsWarning):
    found = report_estimates(rows, "test")
  for target in MANY:
    own = {e.name for e in found if e.target == target.name}
    assert own == set(target.metrics)
    assert {e.row_level for e in found if e.target == target.name} == {
      "clip", "video"
    }  # fmt: skip
  assert found_by_name(found, "walls: septum")["auroc"].positive == (
    "septum = 1 (ivsd_mm >= 11)"
  )
  videos = mean_over_clips(rows)
  names = {
    target: list(target_figures(part, target))
    for target, part in videos.groupby("target")
  }
  assert names["as_tmed3"] == ["confusion", "reliability"]
  assert names["image_quality"] == ["confusion", "reliability"]
  assert names["walls"] == [] and "scatter" in names["ef_pct"]


def test_truth_of_a_class_is_unknown_where_the_item_is():
  got = truth_by_class(MANY[1], np.array([[1.0], [np.nan]]))
  np.testing.assert_array_equal(got, [[0, 1, 0], [np.nan] * 3])


class State:
  average = None


STATE = TrainState(step=0, params=None, opt_state=None, aux=State)


def test_validation_counts_what_is_known_and_weighs(clips):
  def batches():
    yield {
      "video_id": clips.video_id, "start_ms": clips.start_ms,
      "row_valid": np.ones(len(clips.start_ms), bool), "target": clips.truth,
      "spacing_mm": clips.spacing_mm,
    }  # fmt: skip

  def predict(params, aux, batch):
    return clips.prediction, clips.embedding

  scale = Standardisation((50.0, 0.0, 0.0, 0.0), (4.0, 1.0, 1.0, 1.0))
  numbers = validation_losses(predict, batches, MANY, scale)(STATE)
  known = ~np.isnan(clips.truth[:, 1])
  assert numbers["known_as_tmed3"] == known.sum() == 158
  assert numbers["known_walls"] == (~np.isnan(clips.truth[:, 3:])).sum()
  assert numbers["entropy_as_tmed3"] == pytest.approx(
    metrics.log_loss(clips.truth[known, 1], clips.prediction[known, 1:4])
  )
  above = 1 - clips.prediction[:, 4:7].cumsum(1)[:, :2]
  passed = clips.truth[:, 2:3] > np.arange(2)
  assert numbers["entropy_image_quality"] == pytest.approx(
    metrics.log_loss(passed.ravel(), above.ravel()), abs=1e-5
  )
  each = [numbers[f"entropy_{t.name}"] for t in MANY[1:]]
  assert numbers["loss"] == pytest.approx(np.mean([1 / 4, *each]))
  weights = (2.0, 0.0, 0.0, 1.0)
  weighed = validation_losses(predict, batches, MANY, scale, weights)
  assert weighed(STATE)["loss"] == pytest.approx((2 / 4 + each[-1]) / 3)


def test_a_single_finding_names_the_call_and_every_probability():
  nan = float("nan")
  value = Value(
    "as_tmed3", "", nan, nan, nan, kind="multiclass",
    classes=("none", "early"), chances=(0.25, 0.75), called="early",
  )  # fmt: skip
  assert str(value) == "as_tmed3: early (none 0.25, early 0.75)"


def run(*arguments):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(one) for one in arguments]))


def test_the_command_takes_an_order(graded, tmp_path, capsys):
  true, prediction = graded
  table = table_of(np.eye(3)[true], prediction, GRADES, "made_grade", "")
  write_predictions(tmp_path / "p.csv", check_predictions(table))
  order = ("--ordinal", "made_grade=none,mild,severe", "--resamples", 100)
  assert run(tmp_path / "p.csv", "--json", *order) == 0
  names = [e["name"] for e in json.loads(capsys.readouterr().out)["estimates"]]
  assert names == list(KINDS["ordinal"].metrics)
  assert run(tmp_path / "p.csv", "--power", *order) == 0
  assert "quadratic weighted kappa" in capsys.readouterr().out
  assert run(tmp_path / "p.csv", "--resamples", 100) == 0  # without: no order
  assert "kappa" not in capsys.readouterr().out
  with pytest.raises(SystemExit):
    run(tmp_path / "p.csv", "--ordinal", "made_grade")
