"""From a predictions table to estimates, in Python and on the command line."""

import argparse
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from echo_jax.commands import score as command
from echo_jax.evaluation import aggregate
from echo_jax.evaluation.estimate import (
  Estimate,
  estimates_from_json,
  estimates_to_json,
  format_table,
)
from echo_jax.evaluation.power import smallest_difference
from echo_jax.evaluation.predictions import (
  PredictionsWarning,
  check_predictions,
  write_predictions,
)
from echo_jax.evaluation.score import score
from echo_jax.targets import KINDS


@pytest.fixture
def clips(make_clips):
  return check_predictions(make_clips())


def named(estimates, name, target=None):
  return next(
    e for e in estimates if e.name == name and target in (None, e.target)
  )


def test_every_number_says_where_it_comes_from(clips):
  mae = named(score(clips, level="video"), "mae")
  assert (mae.patients, mae.rows, mae.unit) == (40, 80, "%")
  assert (mae.resamples, mae.dropped, mae.seed, mae.level) == (2000, 0, 0, 0.95)
  assert mae.low < mae.value < mae.high
  assert mae.protocol == "test split, video level, mean over 3 clips"
  assert (mae.row_level, mae.split) == ("video", "test")
  rows = aggregate.mean_over_clips(clips)
  rows = rows[(rows.split == "test") & (rows.target == "ef_pct")]
  assert mae.value == metrics.mean_absolute_error(rows.truth, rows.prediction)


def test_single_clip_and_all_clips(clips):
  single = named(score(aggregate.first_clips(clips)), "mae")
  every = named(score(clips, level="clip"), "mae")
  assert single.protocol == "test split, clip level, single clip"
  assert every.protocol == "test split, clip level, 3 clips a video, a row each"
  assert single.rows == 80 and every.rows == 240
  assert single.patients == every.patients == 40


def test_row_order_does_not_matter(clips):
  shuffled = clips.sample(frac=1, random_state=1)
  for one, other in zip(
    score(clips, level="video", resamples=200),
    score(shuffled, level="video", resamples=200, targets=["ef_pct",
          "ef_below_50"]),
    strict=True,
  ):  # fmt: skip
    got = one.value, one.low, one.high, one.threshold
    want = other.value, other.low, other.high, other.threshold
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_threshold_comes_from_validation(clips):
  f1 = named(score(clips, level="video"), "f1")
  assert f1.threshold_rule == (
    "(best Youden index on 40 validation rows of 20 patients)"
  )
  assert f1.positive == "ef_below_50 = 1 (ef_pct < 50)"
  rows = aggregate.mean_over_clips(clips)
  rows = rows[rows.target == "ef_below_50"]
  fit, test = rows[rows.split == "validation"], rows[rows.split == "test"]
  false, true, cuts = metrics.roc_curve(fit.truth, fit.prediction)
  assert (true - false).max() == pytest.approx(
    (true - false)[cuts == f1.threshold].item()
  )
  assert f1.value == metrics.f1_score(
    test.truth, test.prediction >= f1.threshold
  )
  assert np.isnan(named(score(clips, level="video"), "auroc").threshold)
  given = named(score(clips, level="video", threshold=0.3), "f1")
  assert (given.threshold, given.threshold_rule) == (0.3, "(given)")


@pytest.mark.parametrize("split", ["validation", "all"])
def test_no_threshold_is_fitted_on_the_rows_that_are_scored(clips, split):
  f1 = named(score(clips, level="video", split=split), "f1")
  assert f1.threshold == 0.5
  assert "validation rows are among those scored" in f1.threshold_rule
  with pytest.raises(ValueError, match="threshold is nan"):
    score(clips, level="video", threshold=float("nan"))


def test_patients_that_a_rule_made_are_said_to_be_so(clips):
  owner = score(clips.assign(patient_known=1), level="video")[0]
  rule = score(clips.assign(patient_known=0), level="video")[0]
  assert rule.protocol == owner.protocol + ", patients by rule"
  known = clips.patient_id.str[-1].isin(["0", "1", "2"]).astype(int)
  mixed = score(clips.assign(patient_known=known), level="clip")[0].protocol
  assert mixed.endswith(", some patients by rule")
  assert score(clips, level="video")[0].protocol == owner.protocol


def test_threshold_default_is_marked(clips):
  test = clips[clips.split == "test"]
  f1 = named(score(test, level="video"), "f1")
  assert f1.threshold == 0.5
  assert "default 0.5, not fitted: no validation rows" in f1.threshold_rule
  one_class = clips.copy()
  where = (clips.split == "validation") & (clips.target == "ef_below_50")
  one_class.loc[where, "truth"] = 1.0
  f1 = named(score(one_class, level="video"), "f1")
  assert "not fitted: validation, one class only" in f1.threshold_rule


def test_missing_truth_is_counted_out_loud(clips):
  gone = clips.item_id.isin(["set:v1_0", "set:v1_1"])
  clips.loc[gone & (clips.target == "ef_pct"), "truth"] = np.nan
  with pytest.warns(PredictionsWarning, match="ef_pct: 2 of 80 rows of split"):
    mae = named(score(clips, level="video"), "mae")
  assert (mae.rows, mae.patients, mae.without_truth) == (78, 39, 2)
  assert "2 more without truth" in format_table([mae])


def test_shared_patients_are_noticed(clips):
  clips.loc[clips.patient_id == "set:p0", "patient_id"] = "set:p1"
  with pytest.warns(PredictionsWarning, match="in more than one split: 1;"):
    score(clips, level="video", resamples=100)


def test_undefined_is_reported_not_hidden(clips):
  test = (clips.target == "ef_below_50") & (clips.split == "test")
  clips.loc[test, "truth"] = 0.0
  clips.loc[clips.target == "ef_pct", "prediction"] = 50.0
  estimates = score(clips, level="video")
  auroc, r = named(estimates, "auroc"), named(estimates, "pearson_r")
  assert auroc.reason == "one class only: every truth is 0"
  assert r.reason == "every prediction is the same"
  assert str(r).startswith("undefined (every prediction is the same)")
  assert named(estimates, "r2").defined
  plain = json.dumps(estimates_to_json(estimates), allow_nan=False)
  assert '"value": null' in plain
  assert "undefined (one class only" in format_table(estimates)


def test_one_patient_has_no_interval(clips):
  one = clips[clips.patient_id == "set:p1"]
  mae = named(score(one, level="video"), "mae")
  assert mae.defined and np.isnan(mae.low) and mae.resamples == 0
  assert "no interval: one patient gives no interval" in str(mae)


def test_rare_class_counts_dropped_resamples(make_clips):
  rows = make_clips(30, 1, 1)
  rows = rows[rows.target == "ef_below_50"].assign(split="test")
  rows["truth"] = [1.0] + [0.0] * (len(rows) - 1)
  auroc = named(score(rows), "auroc")
  assert 500 < auroc.dropped < 950  # (1 - 1/30)^30 = 36 % of 2,000
  assert "dropped" in format_table([auroc])


def test_few_patients_are_marked(clips):
  few = clips[clips.patient_id.isin([f"set:p{k}" for k in (1, 2, 4, 5)])]
  table = format_table(score(few, level="video"))
  assert "under 20 patients: interval" in table
  assert "under 20 patients in a class" in table


def test_an_interval_without_width_is_marked(make_clips):
  rows = make_clips(60, 1, 1)
  rows = rows[rows.target == "ef_below_50"].assign(split="test")
  rows["prediction"] = 0.2 + 0.6 * rows.truth  # the classes do not overlap
  auroc = named(score(rows), "auroc")
  assert (auroc.value, auroc.low, auroc.high) == (1, 1, 1)
  assert auroc.reason.startswith("every resample gives the same value")


def several_classes(n=90):
  rng = np.random.default_rng(0)
  rows = []
  for k in range(n):
    chance = rng.dirichlet([1, 1, 1])
    true = rng.choice(3, p=0.7 * chance + 0.1)
    for c, name in enumerate(("none", "mild", "severe")):
      rows.append(
        dict(
          level="video", item_id=f"v{k}", study_id=f"s{k}",
          patient_id=f"p{k // 2}", site="", device="", view="", split="test",
          target="made_grade", unit="", truth=float(c == true),
          prediction=chance[c], **{"class": name},
        )  # fmt: skip
      )
  return pd.DataFrame(rows)


def test_several_classes():
  table = several_classes()
  estimates = score(table)
  assert tuple(e.name for e in estimates) == KINDS["multiclass"].metrics
  wide = table.pivot(index="item_id", columns="class", values="prediction")
  true = table[table.truth == 1].set_index("item_id")["class"][wide.index]
  want = metrics.roc_auc_score(true, wide.to_numpy(), multi_class="ovr")
  auroc = named(estimates, "macro_auroc")
  assert auroc.value == pytest.approx(want, abs=1e-12)
  assert (auroc.rows, auroc.patients) == (90, 45)
  assert auroc.low < auroc.value < auroc.high


def test_several_classes_must_be_whole():
  table = several_classes()
  with pytest.raises(ValueError, match="v0 does not have a row for every"):
    score(table[1:])
  with pytest.raises(ValueError, match="v0 must have truth 1 in exactly one"):
    score(table.assign(truth=0.0))
  missing = table[~((table["class"] == "mild") & (table.truth == 1))]
  items = missing.groupby("item_id").truth.sum()
  rest = table[table.item_id.isin(items[items == 1].index)]
  auroc = named(score(rest), "macro_auroc")
  assert auroc.reason == "no row is of class ['mild']"
  accuracy = named(score(rest), "accuracy")
  assert accuracy.low < accuracy.value < accuracy.high


@pytest.mark.parametrize(
  ("target", "change", "message"),
  [
    ("ef_pct", {"truth": 140.0}, "truth is 140 for set:v0_0; allowed: 0 to"),
    ("ef_pct", {"unit": "fraction"}, "given in '% and fraction'"),
    ("ef_below_50", {"prediction": 3.0}, "prediction is 3 for set:v0_0; allow"),
    ("ef_below_50", {"truth": 0.5}, "must be 0 or 1, is 0.5 for set:v0_0"),
    ("ef_pct", {"kind": "binary"}, "said to be binary and regression"),
    ("ef_pct", {"split": "train"}, "no rows of split 'test' for ef_pct; there"),
  ],
)  # fmt: skip
def test_values_that_do_not_fit(clips, target, change, message):
  rows = clips[clips.target == target].assign(**change)
  with pytest.raises(ValueError, match=message):
    score(rows)


def test_arguments_that_do_not_fit(clips):
  with pytest.raises(ValueError, match="no target 'ef'"):
    score(clips, targets=["ef"])
  with pytest.raises(ValueError, match="no target 'as'"):
    score(clips, binary=["as"])
  with pytest.raises(ValueError, match="method is 'normal'"):
    score(clips, method="normal")
  with pytest.raises(ValueError, match="has a truth"):
    score(clips.assign(truth=np.nan))


def test_bca_is_near_percentile(clips):
  one = named(score(clips, level="video"), "mae")
  other = named(score(clips, level="video", method="bca"), "mae")
  assert other.method == "BCa bootstrap by patient"
  assert other.value == one.value
  assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.2)


def test_text_of_an_estimate():
  one = Estimate(
    "mae", 4.06, 3.8, 4.4, unit="%", patients=1277, rows=1277, resamples=2000
  )
  assert str(one) == "4.1 % (95 % CI 3.8 to 4.4; 1,277 patients, 1,277 rows)"
  fine = Estimate("auroc", 0.91234, 0.9061, 0.9182)
  assert (fine.value_text, fine.interval_text) == ("0.912", "0.906 to 0.918")
  assert Estimate("bias", -0.01, -0.6, 0.6, unit="%").value_text == "0.0 %"


def test_json_round_trip(clips):
  estimates = score(clips, level="video", resamples=100)
  with pytest.raises(ValueError, match="resamples is 50, wants 100"):
    score(clips, level="video", resamples=50)
  plain = json.loads(json.dumps(estimates_to_json(estimates, ["a note"])))
  assert plain["notes"] == ["a note"]
  assert repr(estimates_from_json(plain)) == repr(estimates)


def test_markdown_table(clips):
  lines = format_table(score(clips, level="video"), "md").splitlines()
  assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
  assert any("positive class: ef_below_50 = 1" in line for line in lines)
  with pytest.raises(ValueError, match="format is 'html'"):
    format_table([], "html")


def test_smallest_difference_by_hand():
  half = 1.959964  # a standard error of 1
  one = Estimate("mae", 5.0, 5 - half, 5 + half)
  assert smallest_difference(one, 0.5) == pytest.approx(2.8016, abs=1e-4)
  assert smallest_difference(one, 0.0) == pytest.approx(2.8016 * 2**0.5, 1e-4)
  with pytest.raises(ValueError, match="correlation is 1"):
    smallest_difference(one, 1.0)


def run(*arguments):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(one) for one in arguments]))


def test_command_prints_a_table(clips, tmp_path, capsys):
  write_predictions(tmp_path / "p.csv", clips)
  assert run(tmp_path / "p.csv", "--level", "video", "--power") == 0
  out = capsys.readouterr().out
  assert "ef_pct: test split, video level, mean over 3 clips" in out
  assert "80 % power" in out and "ef_below_50 AUROC" in out


def test_command_prints_json(clips, tmp_path, capsys):
  write_predictions(tmp_path / "p.csv", clips)
  assert run(
    tmp_path / "p.csv", "--json", "--level", "clip", "--target", "ef_pct",
    "--split", "validation", "--resamples", 100, "--seed", 7, "--power",
  ) == 0  # fmt: skip
  plain = json.loads(capsys.readouterr().out)
  first = plain["estimates"][0]
  assert (first["name"], first["seed"], first["resamples"]) == ("mae", 7, 100)
  assert {one["split"] for one in plain["estimates"]} == {"validation"}
  assert plain["smallest_differences"][0]["metric"] == "mae"


def test_command_scores_a_foreign_file(make_foreign, tmp_path, capsys):
  foreign = make_foreign()
  foreign.to_csv(tmp_path / "f.csv", index=False)
  assert run(tmp_path / "f.csv", "--json") == 0
  plain = json.loads(capsys.readouterr().out)
  test = foreign[foreign.split == "test"]
  assert plain["estimates"][0]["value"] == pytest.approx(
    metrics.mean_absolute_error(test.truth, test.prediction), abs=1e-12
  )
  assert "each row is taken as one clip" in plain["notes"][0]
  assert run(tmp_path / "f.csv") == 0
  assert "note: no column level" in capsys.readouterr().err


def test_command_scores_a_foreign_binary_target(make_foreign, tmp_path, capsys):
  foreign = make_foreign().assign(target="low_output", prediction=0.4)
  foreign["truth"] = (foreign.truth < 50).astype(int)
  foreign.to_csv(tmp_path / "f.csv", index=False)
  run(tmp_path / "f.csv", "--binary", "low_output", "--threshold", 0.5)
  out = capsys.readouterr().out
  assert "positive class: low_output = 1" in out
  assert "threshold 0.5 (given)" in out
  run(tmp_path / "f.csv")
  assert "MAE" in capsys.readouterr().out


def test_command_refuses(make_foreign, tmp_path):
  with pytest.raises(FileNotFoundError):
    run(tmp_path / "none.csv")
  make_foreign().drop(columns="truth").to_csv(tmp_path / "f.csv")
  with pytest.raises(ValueError, match="missing column truth; found"):
    run(tmp_path / "f.csv")
  with pytest.raises(SystemExit):
    run(tmp_path / "f.csv", "--level", "frame")


def test_other_warnings_pass_through(make_foreign, tmp_path, monkeypatch):
  make_foreign().to_csv(tmp_path / "f.csv", index=False)

  def warning_score(*_, **__):
    warnings.warn("from elsewhere", DeprecationWarning, stacklevel=1)
    return []

  monkeypatch.setattr(command, "score", warning_score)
  with pytest.warns(DeprecationWarning, match="elsewhere"):
    run(tmp_path / "f.csv")


def test_percent_written_as_fractions_are_refused(clips):
  ef = clips[clips.target == "ef_pct"]
  ef = ef.assign(truth=ef.truth / 100, prediction=ef.prediction / 100)
  with pytest.raises(ValueError, match="looks like a fraction; give percent"):
    score(ef, level="video")
