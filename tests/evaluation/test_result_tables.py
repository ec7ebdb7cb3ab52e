"""A table shows every seed, says what was not run, and mixes nothing."""

import csv
import io
from dataclasses import replace

import pytest

from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.published import Published
from echo_jax.evaluation.tables import (
  Protocol,
  Result,
  beside_published,
  check_protocols,
  format_lines,
  make_lines,
  validation_loss,
)

HOW = Protocol("test", 4, "hearts:1.0.0 (labels ab, pixels cd)")
MAE = Estimate(
  "mae", 4.0, 3.5, 4.5, unit="%", target="ef_pct", patients=30, rows=40,
  split="test", row_level="clip", resamples=2000,
  protocol="test split, clip level, single clip",
)  # fmt: skip
R2 = replace(MAE, name="r2", value=0.8, low=0.7, high=0.9, unit="")
THEIRS = Published(
  "ef", "stf", "mae", 3.87, "%", float("nan"), float("nan"), 1277, "", "test",
  "paper", "doi:10.1/x", "one clip", "3.87",
)  # fmt: skip
OTHER = replace(THEIRS, model="Net_2", value=4.1, digits="4.1", note="")
MODELS = {"vit": "ViT", "stf": "ViT + STF"}


def result(seed, *estimates, **changes):
  one = Result(f"runs/{seed}", "stf", "ViT + STF", seed, HOW, estimates)
  return replace(one, **changes)


@pytest.fixture
def lines():
  results = [
    result(1, replace(MAE, value=4.4, low=3.9, high=4.9), R2),
    result(0, MAE, R2),
  ]
  check_protocols(results)
  return beside_published(
    make_lines(results), [THEIRS, OTHER], MODELS, ("mae", "r2")
  )


def test_markdown(lines):
  assert format_lines(lines, "md") == MARKDOWN


MARKDOWN = """\
| model | metric | each seed (95 % interval) | mean of seeds | by | published |
| --- | --- | --- | --- | --- | --- |
| ViT | MAE | not run |  |  |  |
| ViT | R² | not run |  |  |  |
| ViT + STF | MAE | 4.0 % (3.5 to 4.5), 4.4 % (3.9 to 4.9) | 4.2 %, 2 seeds \
| P1 | 3.87 % [1]* |
| ViT + STF | R² | 0.80 (0.70 to 0.90), 0.80 (0.70 to 0.90) | 0.80, 2 seeds \
| P1 |  |
| Net_2 | MAE | – |  |  | 4.1 % [2] |

- P1 test split, clip level, single clip; 30 patients, 40 rows; 95 % intervals \
of each seed: percentile bootstrap by patient, 2,000 resamples, seed 0; test \
split, 4 clips a video predicted, hearts:1.0.0 (labels ab, pixels cd)
- [1] doi:10.1/x (paper); test; n = 1,277; * one clip
- [2] doi:10.1/x (paper); test; n = 1,277
- * cannot be compared as it stands
"""


def test_latex_has_the_same_cells_escaped(lines):
  text = format_lines(lines, "latex")
  assert r"4.0 \% (3.5 to 4.5), 4.4 \% (3.9 to 4.9) & 4.2 \%, 2 seeds" in text
  assert r"Net\_2 & MAE & -- &  &  & 4.1 \% [2] \\" in text
  assert r"ViT & R$^2$ & not run &" in text
  assert text.startswith("\\begin{tabular}{llllll}\n\\hline\nmodel & ")
  assert text.count(r"\\") == 1 + len(lines)


def test_csv_has_a_row_a_seed_and_no_mean(lines):
  rows = list(csv.DictReader(io.StringIO(format_lines(lines, "csv", "ef"))))
  mae = [row for row in rows if row["metric"] == "MAE"]
  assert [(row["kind"], row["seed"], row["value"]) for row in mae] == [
    ("not run", "", ""), ("ours", "0", "4.0"), ("ours", "1", "4.4"),
    ("published", "", "3.87"), ("published", "", "4.1"),
  ]  # fmt: skip
  assert "4.2" not in {row["value"] for row in rows}
  assert mae[1]["low"] == "3.5" and mae[1]["patients"] == "30"
  assert mae[1]["rows"] == "40" and "single clip" in mae[1]["protocol"]
  assert mae[3]["source"] == "doi:10.1/x" and mae[3]["note"] == "one clip"
  assert {row["table"] for row in rows} == {"ef"}


def test_resamples_that_were_dropped_are_told_with_the_reason():
  few = "under 20 patients in a_class & 5 %: interval likely too narrow"
  odd = replace(R2, name="auroc", dropped=640, reason=few)
  lines = make_lines(
    [result(0, odd), result(1, replace(odd, dropped=0)), result(2, odd)]
  )
  text = format_lines(lines, "md")
  value = "0.80 (0.70 to 0.90)"
  assert f"| {value} N1, {value} N2, {value} N1 |" in text
  assert f"\n- N1 640 of 2,000 resamples dropped; {few}\n- N2 {few}\n" in text
  text = format_lines(lines, "latex")
  assert f"& {value} N1, {value} N2, {value} N1 &" in text
  few = r"under 20 patients in a\_class \& 5 \%: interval likely too narrow"
  assert rf"N1 640 of 2,000 resamples dropped; {few}\par" in text
  rows = list(csv.DictReader(io.StringIO(format_lines(lines, "csv"))))
  assert [row["dropped"] for row in rows] == ["640", "0", "640"]
  assert rows[0]["resamples"] == "2000" and rows[0]["note"] == odd.reason
  # Of what has no value the cell itself says why.
  none = replace(odd, value=float("nan"), reason="one truth")
  assert "N1" not in format_lines(make_lines([result(0, none)]), "md")


@pytest.mark.parametrize(
  "change",
  [{"split": "validation"}, {"clips": 1}, {"data": "hearts:2.0.0"},
   {"tiny": True}],
)  # fmt: skip
def test_runs_of_two_protocols_are_refused_or_marked(change):
  other = result(1, MAE, protocol=replace(HOW, **change))
  both = [result(0, MAE), other]
  with pytest.raises(ValueError, match="2 protocols .*runs/0.*runs/1"):
    check_protocols(both)
  check_protocols(both, mixed=True)
  lines = make_lines(both)
  assert [len(line.seeds) for line in lines] == [1, 1]  # never one mean
  text = format_lines(lines, "md")
  assert f"; {HOW}\n" in text and f"; {other.protocol}\n" in text
  assert ("NUMBERS MEAN NOTHING" in text) == ("tiny" in change)


def test_two_runs_of_one_seed_are_refused():
  again = result(0, MAE, folder="runs/again")
  with pytest.raises(ValueError, match="two runs of seed 0: runs/0 and runs/a"):
    check_protocols([result(0, MAE), again])


def test_patients_of_every_seed_are_said_where_they_differ():
  lines = make_lines([result(0, MAE), result(1, replace(MAE, patients=29))])
  text = format_lines(lines, "md")
  assert "30 patients, 40 rows" in text and "29 patients, 40 rows" in text


def test_a_mean_with_an_undefined_seed_is_undefined():
  none = replace(R2, value=float("nan"), low=float("nan"), reason="one truth")
  text = format_lines(make_lines([result(0, R2), result(1, none)]), "md")
  assert "undefined (one truth) (–) | undefined in some of 2 |" in text


def test_several_targets_are_told_apart():
  volume = replace(MAE, target="edv_ml", unit="ml")
  lines = make_lines([result(0, MAE, volume)])
  assert [line.words for line in lines] == ["ef_pct MAE", "edv_ml MAE"]
  assert [line.words for line in make_lines([result(0, MAE)])] == ["MAE"]


def test_a_pre_training_run_shows_the_loss_it_was_kept_for():
  log = [
    {"part": "train", "step": 1, "loss": 0.1},
    {"part": "validation", "step": 10, "loss": 0.41236},
    {"part": "validation", "step": 20, "loss": None},
    {"part": "validation", "step": 30, "loss": 0.5},
  ]
  found = validation_loss(log)
  assert found.value == 0.41236 and "at step 10" in found.protocol
  text = format_lines(make_lines([result(0, found)]), "md")
  assert "| 0.4124 (no interval) N1 |" in text and "patients" not in text
  assert "\n- N1 of one validation pass\n" in text
  assert not validation_loss(log[:1]).defined
  # Kept by something else: the loss of that checkpoint, not the lowest.
  aged = [one | {"steps_left": 30 - one["step"]} for one in log]
  kept = validation_loss(aged, "steps_left")
  assert (kept.name, kept.value) == ("loss", 0.5)
  assert "step 30, of the lowest steps_left" in kept.protocol
