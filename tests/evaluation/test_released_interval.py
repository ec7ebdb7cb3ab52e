"""The interval of the public code: by hand, and far too narrow."""

import argparse

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from echo_jax.commands import score as command
from echo_jax.evaluation import released
from echo_jax.evaluation.predictions import check_predictions
from echo_jax.evaluation.score import score


@pytest.mark.parametrize(
  ("rows", "batches", "held"), [(1280, 160, 128), (50, 7, 40), (17, 3, 8)]
)
def test_batches_are_drawn_whole(rows, batches, held):
  counts = released.draw_batches(rows, seed=0)
  assert counts.shape == (50, rows)
  batch = np.arange(rows) // 8
  for one in counts:
    chosen = set(batch[one == 1])
    assert len(chosen) == min(16, batches - 2)
    assert (one == np.isin(batch, list(chosen))).all()
  assert counts.sum(1).max() == held
  np.testing.assert_array_equal(counts, released.draw_batches(rows, seed=0))
  assert (counts != released.draw_batches(rows, seed=1)).any()


def test_too_few_rows_are_refused():
  with pytest.raises(ValueError, match="16 rows are 2 batches of 8"):
    released.draw_batches(16, 0)


def test_interval_is_students_over_repetitions():
  samples = np.array([4.0, 5, 6, np.nan, 9])
  mean, low, high = released.mean_and_interval(samples)
  assert mean == 6
  assert (low, high) == pytest.approx(
    stats.t.interval(0.95, 3, 6, stats.sem([4, 5, 6, 9]))
  )
  assert np.isnan(released.mean_and_interval(samples[:1])).all()


@pytest.fixture(scope="module")
def table():
  rng = np.random.default_rng(0)
  truth = rng.uniform(20, 70, 1277)
  return check_predictions(
    pd.DataFrame(
      {
        "level": "video", "item_id": [f"v{i:04}" for i in range(1277)],
        "study_id": "s", "patient_id": [f"p{i}" for i in range(1277)],
        "site": "", "device": "", "view": "", "split": "test",
        "target": "ef_pct", "unit": "%", "truth": truth,
        "prediction": truth + rng.normal(0, 5.3, 1277),
      }
    )
  )  # fmt: skip


def test_it_is_far_narrower_than_the_bootstrap(table):
  """At the size of EchoNet-Dynamic's test set; what PITFALLS.md quotes."""
  ours, theirs = (
    score(table, method=method, resamples=500)[0]
    for method in ("percentile", "released")
  )
  assert theirs.name == ours.name == "mae"
  assert theirs.high - theirs.low < 0.6 * (ours.high - ours.low)
  assert abs(theirs.value - ours.value) < ours.high - ours.low
  assert "not an interval of the test set" in theirs.method
  assert theirs.resamples == 50 and theirs.patients == 1277
  error = (table.prediction - table.truth).abs().to_numpy()
  means = [error[of == 1].mean() for of in released.draw_batches(1277, 0)]
  assert theirs.value == pytest.approx(np.mean(means))


def run(*arguments):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(one) for one in arguments]))


def test_command_names_it(table, tmp_path, capsys):
  table.to_csv(tmp_path / "p.csv", index=False)
  assert run(tmp_path / "p.csv", "--protocol", "released") == 0
  assert (
    "as released: 50 x 16 batches of 8, t over repetitions: not an interval "
    "of the test set" in capsys.readouterr().out
  )
  with pytest.raises(ValueError, match="from which nothing follows"):
    run(tmp_path / "p.csv", "--protocol", "released", "--power")
