"""Several models on the same patients: p values, Holm, and what is refused."""

import argparse
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from echo_jax.commands import score as command
from echo_jax.evaluation import permutation
from echo_jax.evaluation.aggregate import mean_over_clips
from echo_jax.evaluation.compare import compare, comparison_table, holm
from echo_jax.evaluation.paired import paired_rows
from echo_jax.evaluation.predictions import (
  PredictionsWarning,
  check_predictions,
  write_predictions,
)


@pytest.fixture(scope="module")
def tables(make_clips):
  """One model, a worse one and one that differs by nothing that shows."""
  rng = np.random.default_rng(0)
  rows = check_predictions(make_clips(60))
  ef = rows.target == "ef_pct"

  def changed(points, chance):
    noise = np.where(ef, rng.normal(0, points, len(rows)), 0)
    shift = np.where(ef, 0, rng.uniform(-chance, chance, len(rows)))
    moved = rows.prediction + noise + shift
    return rows.assign(prediction=np.where(ef, moved, np.clip(moved, 0, 1)))

  return {"ours": rows, "worse": changed(8, 0.5), "alike": changed(0.3, 0.01)}


def test_holm_by_hand():
  found = holm([0.01, np.nan, 0.04, 0.03])
  # 3 x 0.01, 2 x 0.03, then 1 x 0.04, which may not be less than 0.06.
  np.testing.assert_allclose(found, [0.03, np.nan, 0.06, 0.06])
  assert holm([0.5, 0.6]).tolist() == [1, 1]
  assert holm([]).tolist() == []


def test_each_other_model_is_compared_with_the_first(tables):
  found = compare(tables, level="video", resamples=400)
  assert [(one.target, one.name) for one in found] == [
    ("ef_pct", "mae_difference"), ("ef_pct", "mae_difference"),
    ("ef_below_50", "auroc_difference"), ("ef_below_50", "auroc_difference"),
  ]  # fmt: skip
  assert found[0].protocol == "ours minus worse, same rows"
  p = [one.p for one in found]
  np.testing.assert_allclose([one.p_adjusted for one in found], holm(p))
  assert p[0] < 0.05 < p[1] and p[2] < 0.05 < p[3]
  videos = [mean_over_clips(table) for table in tables.values()]
  areas = [
    roc_auc_score(part.truth, part.prediction)
    for part in (
      rows[(rows.target == "ef_below_50") & (rows.split == "test")]
      for rows in videos
    )
  ]
  assert found[2].value == pytest.approx(areas[0] - areas[1])
  assert dict(found[3].by_seed) == pytest.approx(
    {"ours": areas[0], "alike": areas[2]}
  )
  assert found[0].p_method == (
    "two-sided, bootstrap by patient; adjusted by Holm over 4 tests"
  )
  text = comparison_table(found)
  assert "differences on the same 40 patients, 80 rows" in text
  assert "Holm over 4 tests" in text and "MAE, ours minus worse: -" in text


def test_metrics_and_targets_are_those_asked_for(tables):
  found = compare(
    tables, level="video", targets=["ef_below_50"], metrics=["f1", "brier"],
    resamples=100,
  )  # fmt: skip
  assert [one.name for one in found] == [
    "f1_difference", "f1_difference", "brier_difference", "brier_difference"
  ]  # fmt: skip
  assert "threshold 0." in found[0].protocol  # each model's own
  with pytest.raises(ValueError, match="no target has a metric of r3"):
    compare(tables, level="video", metrics=["r3"])
  with pytest.raises(ValueError, match="test is 't'; allowed: bootstrap"):
    compare(tables, test="t")
  with pytest.raises(ValueError, match="1 tables; two or more"):
    compare({"a": tables["ours"]})
  with pytest.warns(PredictionsWarning, match="not every table has them: ef_b"):
    ef = tables["worse"][tables["worse"].target == "ef_pct"]
    compare({"a": tables["ours"], "b": ef}, level="video", resamples=100)


def few(errors, rows=1, target="ef_pct", truth=50.0):
  """Video rows of patients in turn; `errors` are of predictions."""
  n = len(errors)
  frame = pd.DataFrame(
    {
      "level": "video", "study_id": "", "site": "", "device": "", "view": "",
      "item_id": [f"v{i}" for i in range(n)],
      "patient_id": [f"p{i // rows}" for i in range(n)], "split": "test",
      "target": target, "unit": "", "truth": truth,
    }
  )  # fmt: skip
  return check_predictions(frame.assign(prediction=truth + np.asarray(errors)))


def test_permutation_by_hand():
  """Of 16 ways to change sides, two are as far apart as what was seen."""
  a, b = few([2.0, 4, 6, 8]), few([1.0, 2, 3, 4])
  p = permutation.exchange_p(a, b, "ef_pct", "mae", permutations=8000)
  assert p == pytest.approx(2 / 16, abs=0.015)
  # Rows of a patient change sides together: to say it twice tells no more.
  a, b = (few(np.repeat(of, 2), 2) for of in ([2.0, 4, 6, 8], [1.0, 2, 3, 4]))
  twice = permutation.exchange_p(a, b, "ef_pct", "mae", permutations=8000)
  assert twice == p
  assert permutation.exchange_p(a, a, "ef_pct", "mae", permutations=100) == 1


def test_permutation_of_areas_is_that_of_all_exchanges():
  truth = np.array([0.0, 1, 0, 1, 1, 0, 1])
  rng = np.random.default_rng(4)
  a, b = np.clip(truth * 0.5 + rng.uniform(0, 0.5, 7), 0, 1), rng.random(7)
  gaps = []
  for mine in itertools.product((True, False), repeat=7):
    one, other = np.where(mine, a, b), np.where(mine, b, a)
    gaps.append(roc_auc_score(truth, one) - roc_auc_score(truth, other))
  wanted = np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-9)
  pair = [
    few(x - truth, 1, "ef_below_50", truth) for x in (a, b)
  ]
  p = permutation.exchange_p(*pair, "ef_below_50", "auroc", permutations=4000)
  assert p == pytest.approx(wanted, abs=0.025)
  one, = compare(
    {"a": pair[0], "b": pair[1]}, test="permutation", resamples=1000
  )
  assert one.p == pytest.approx(wanted, abs=0.05)
  assert one.p_method.startswith("two-sided, permutation by patient, 1,000 dr")
  with pytest.raises(ValueError, match="needs one threshold for both"):
    compare({"a": pair[0], "b": pair[1]}, test="permutation", metrics=["f1"])


def test_other_patients_items_and_truths_are_refused_with_counts(tables):
  rows = mean_over_clips(tables["ours"])
  test = rows.split == "test"

  def refused(other, says):
    with pytest.raises(ValueError, match=says):
      compare({"a.csv": rows, "b.csv": other}, targets=["ef_pct"])

  gone = rows.patient_id.isin(["set:p1", "set:p2"])
  refused(
    rows[~gone],
    "4 of 80 items and 2 of 40 patients are in a.csv only; 0 of 76 items and "
    "0 of 38 patients are in b.csv only",
  )
  half = rows.item_id == "set:v1_0"  # one video of a patient
  refused(rows[~half], "1 of 80 items and 0 of 40 patients are in a.csv only")
  renamed = rows.assign(
    patient_id=rows.patient_id.where(~gone, "set:p" + rows.item_id)
  )
  refused(renamed, "4 of 80 items are of another patient")
  refused(
    rows.assign(truth=np.where(half & test, 33.0, rows.truth)),
    "1 of 80 truths differ",
  )
  binary = rows[rows.target == "ef_below_50"]
  refused(binary, "b.csv has no target 'ef_pct'; it has ef_below_50")
  with pytest.raises(ValueError, match="have no target in common"):
    compare({"a": rows[rows.target == "ef_pct"], "b": binary})


def test_levels_must_be_one(tables):
  videos = mean_over_clips(tables["ours"])
  with pytest.raises(ValueError, match=r"a: clip, b: video\); choose one leve"):
    compare({"a": tables["ours"], "b": videos})


def test_other_protocols_are_marked_and_never_averaged(tables):
  rows = tables["ours"]
  every, single = rows, rows[rows.start_ms == 0]
  with pytest.warns(PredictionsWarning, match="PROTOCOLS DIFFER"):
    one, = compare(
      {"a": every, "b": single}, level="video", targets=["ef_pct"],
      resamples=100,
    )  # fmt: skip
  assert "a: test split, video level, mean over 3 clips" in one.protocol
  assert "b: test split, video level, mean over 1 clip)" in one.protocol
  seeds = [mean_over_clips(every), mean_over_clips(single)]
  with pytest.raises(ValueError, match="b: seeds were judged by different pro"):
    paired_rows(seeds[:1], seeds, "ef_pct", "mae")


def test_resamples_without_a_class_are_counted():
  truth = np.array([1.0] + [0.0] * 29)
  rng = np.random.default_rng(0)
  pair = [few(rng.random(30) - truth, 1, "ef_below_50", truth) for _ in "ab"]
  one, = compare(dict(zip("ab", pair, strict=True)))
  assert 500 < one.dropped < 950  # (1 - 1/30)^30 = 36 % of 2,000
  assert np.isfinite(one.p)
  said = f"{one.dropped:,} of 2,000 resamples dropped"
  assert said in comparison_table([one]) and said in str(one)


def run(*arguments):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(one) for one in arguments]))


@pytest.fixture
def files(tables, tmp_path):
  for name, table in tables.items():
    write_predictions(tmp_path / f"{name}.csv", table)
  return [tmp_path / f"{name}.csv" for name in tables]


def test_command_compares_files(files, capsys):
  ours, *others = files
  words = (ours, "--against", *others, "--level", "video", "--resamples", 100)
  assert run(*words) == 0
  out = capsys.readouterr().out
  assert f"MAE, {ours} minus {others[0]}: -" in out
  assert "Holm over 4 tests" in out
  assert run(*words, "--json", "--metric", "rmse") == 0
  plain = json.loads(capsys.readouterr().out)
  first, second = plain["differences"]
  assert first["name"] == second["name"] == "rmse_difference"
  assert first["p_adjusted"] >= first["p"]
  with pytest.raises(ValueError, match="a file is given twice"):
    run(ours, "--against", ours)
  with pytest.raises(ValueError, match="no metric 'mse'; there are mae"):
    run(ours, "--against", others[0], "--metric", "mse")


def test_probes_of_unequal_tokens_are_told(files, capsys):
  ours, other, third = files
  words = (ours, "--against", other, third, "--level", "video")
  words += ("--resamples", 100, "--target", "ef_pct")

  def note(path, tokens):
    path.with_suffix(".json").write_text(json.dumps({"probe": "a", **tokens}))

  note(ours, {"tokens": "2 tokens (2 x 1 x 1) as means of 32 (8 x 2 x 2)"})
  third.with_suffix(".json").write_text("not of a probe")
  assert run(*words) == 0
  note(other, {"tokens": "2 tokens (1 x 1 x 2) as means of 64 (8 x 2 x 4)"})
  assert run(*words) == 0
  assert "TOKENS" not in capsys.readouterr().err  # another grid, as many read
  note(other, {"tokens": "1 token: a one-token encoder"})
  assert run(*words) == 0
  said = capsys.readouterr().err
  assert f"PROBES OF UNEQUAL TOKENS ({ours}: 2 tokens (2 x 1 x 1)" in said
  assert f"; {other}: 1 token: a one-token encoder)" in said


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"patient_id": ""}, "patient_id is empty in 1 of 720 rows, first row "),
    ({"prediction": "nan"}, "prediction is not a finite number in 1 of 720 "),
    ({"start_ms": "0.0"}, "1 rows repeat a key; the first is level=clip, "),
  ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_name(files, change, says):
  ours, other, _ = files
  table = pd.read_csv(other, dtype=str, keep_default_na=False)
  for name, value in change.items():
    table.loc[3, name] = value
  table.to_csv(other, index=False)
  with pytest.raises(ValueError, match=f"worse.csv: {says}"):
    run(ours, "--against", other, "--resamples", 100, "--target", "ef_pct")
