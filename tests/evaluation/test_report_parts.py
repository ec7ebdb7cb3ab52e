"""Rows, validation numbers and the reference, on made predictions."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from echo_jax.evaluation import single
from echo_jax.evaluation.aggregate import mean_over_clips
from echo_jax.evaluation.domain import fit_domain
from echo_jax.evaluation.interval import PredictionInterval
from echo_jax.evaluation.predict import (
  ClipPredictions,
  clip_rows,
  predict_clips,
  validation_losses,
)
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.report import (
  Reference,
  fit_intervals,
  judged_targets,
  mean_embeddings,
  report_estimates,
  spacing_range,
  study_rows,
  write_report,
)
from echo_jax.objectives.outputs import Standardisation
from echo_jax.targets import target_named
from echo_jax.training.state import TrainState

TARGETS = tuple(target_named(n) for n in ("ef_pct", "edv_ml", "ef_below_50"))
SCALE = Standardisation((55.0, 100.0, 0.0), (10.0, 20.0, 1.0))


class State:
  """What `predict_clips` reads of a train state."""

  params = None

  class aux:
    average = None


STATE = TrainState(step=0, params=None, opt_state=None, aux=State.aux)


def batches(size=4, videos=30, clips=2):
  """Clips whose embedding is the truth; the last batch is padded."""
  rows = [(v, 100.0 * c) for v in range(videos) for c in range(clips)]
  for i in range(0, len(rows), size):
    part = rows[i : i + size]
    real = np.arange(size) < len(part)
    part = part + part[-1:] * (size - len(part))
    ef = np.array([30.0 + v for v, _ in part])
    yield {
      "video_id": [f"t:{v}" for v, _ in part], "row_valid": real,
      "start_ms": np.array([s for _, s in part], np.float32),
      "spacing_mm": np.full((len(ef), 2), 0.3),
      "target": np.stack([ef, 80 + ef, ef < 50], 1).astype(np.float32),
    }  # fmt: skip


def predict_step(params, aux, batch):
  """2 points, 10 ml above the truth in the first clip and true after it."""
  off = (batch["start_ms"] == 0)[:, None] * np.array([[2.0, 10.0, 0.0]])
  value = batch["target"] + off
  value[:, 2] = np.where(batch["target"][:, 2] == 1, 0.8, 0.4)
  return value, np.repeat(batch["target"][:, :1], 3, axis=1)


def index(videos=30, **columns):
  known = {
    "video_id": [f"t:{v}" for v in range(videos)],
    "study_id": [f"t:s{v}" for v in range(videos)],
    "patient_id": [f"t:p{v}" for v in range(videos)],
    "split": ["validation" if v % 4 else "test" for v in range(videos)],
    "age_years": np.full(videos, 60.0),
    "patient_known": np.ones(videos, int),
  }
  empty = {n: "" for n in ("site", "device", "view", "sex", "quality")}
  return pd.DataFrame(known | empty | columns)


@pytest.fixture(scope="module")
def clips():
  return predict_clips(predict_step, STATE, batches())


@pytest.fixture(scope="module")
def rows(clips):
  return clip_rows(clips, TARGETS, index())


@pytest.mark.parametrize("size", [1, 7, 60, 64])
def test_padding_is_left_out_whatever_the_batch(size, clips):
  again = predict_clips(predict_step, STATE, batches(size))
  assert again.video_id == clips.video_id and len(clips.video_id) == 60
  for one, other in zip(again[1:], clips[1:], strict=True):
    np.testing.assert_array_equal(one, other)


def test_rows_follow_their_video_not_their_place(clips):
  mixed = index().sample(frac=1, random_state=0)
  rows = clip_rows(clips, TARGETS, mixed)
  ef = rows[rows["target"] == "ef_pct"]
  number = ef["item_id"].str[2:].astype(int)
  assert (ef["truth"] == 30 + number).all()
  assert (ef["patient_id"] == "t:p" + number.astype(str)).all()
  assert set(ef["unit"]) == {"%"}
  assert set(rows[rows["target"] == "edv_ml"]["unit"]) == {"ml"}


def test_validation_numbers_by_hand():
  validate = validation_losses(predict_step, batches, TARGETS, SCALE)
  numbers = validate(STATE)
  assert numbers["mae_ef_pct"] == pytest.approx(1.0)  # 2 and 0, by turns
  assert numbers["mae_edv_ml"] == pytest.approx(5.0)
  entropy = -(20 * np.log(0.8) + 10 * np.log(0.6)) / 30
  assert numbers["entropy_ef_below_50"] == pytest.approx(entropy)
  mean = (1.0 / 10 + 5.0 / 20 + entropy) / 3
  assert numbers["loss"] == pytest.approx(mean)


def test_a_volume_of_the_logarithm_chooses_by_the_logarithm():
  log = dataclasses.replace(TARGETS[1], link="log")
  scale = Standardisation((55.0, 4.0, 0.0), (10.0, 0.5, 1.0))
  targets = (TARGETS[0], log, TARGETS[2])
  weights = (0.0, 1.0, 0.0)
  validate = validation_losses(predict_step, batches, targets, scale, weights)
  numbers = validate(STATE)
  assert numbers["mae_edv_ml"] == pytest.approx(5.0)  # still in ml
  truth = 110.0 + np.arange(30)
  error = np.log((truth + 10) / truth).mean() / 2  # true in every other clip
  assert numbers["loss"] == pytest.approx(error / 0.5, rel=1e-5)


def test_a_threshold_may_be_given(rows):
  """0.5 instead of the best on validation: no truth of 1 is called less."""
  for given, rule in ((0.5, "(given)"), (None, "validation rows")):
    found = report_estimates(rows, "test", threshold=given)
    cut = {e.threshold_rule for e in found if e.name == "sensitivity"}
    assert len(cut) == 1 and rule in cut.pop()


def test_single_clips_and_their_mean_are_both_reported(rows):
  found = report_estimates(rows, "test", seed=0)
  single, mean = (
    e for e in found if e.name == "mae" and e.target == "ef_pct"
  )
  assert single.value == pytest.approx(2.0) and mean.value == pytest.approx(1.0)
  assert "single clip" in single.protocol and "mean over" in mean.protocol
  for one in found:
    if one.name == "mae":
      assert one.low <= one.value <= one.high and one.unit in ("%", "ml")


def test_studies_of_several_videos_are_reported_too(clips):
  """Two videos a study with one truth: errors of 2 and 0 make one of 1."""
  pair = np.arange(30) // 2
  pairs = index(
    study_id=[f"t:s{n}" for n in pair], patient_id=[f"t:p{n}" for n in pair],
    split=["validation" if n % 4 else "test" for n in pair],
  )  # fmt: skip
  rows = clip_rows(clips, TARGETS, pairs)
  videos = mean_over_clips(rows)
  some, why = study_rows(videos)
  assert why == "videos of one study differ in edv_ml, ef_pct"
  assert set(some["target"]) == {"ef_below_50"}  # pairs of 50 and 51 share it
  none, _ = study_rows(videos[videos["target"] != "ef_below_50"])
  assert none is None
  same = videos.groupby(["study_id", "target"])["truth"].transform("first")
  studies, why = study_rows(videos.assign(truth=same))
  assert why == "" and set(studies["level"]) == {"study"}
  assert (studies["videos"] == 2).all() and len(studies) == len(videos) / 2
  shared = rows.groupby(["study_id", "target"])["truth"].transform("first")
  found = report_estimates(rows.assign(truth=shared), "test")
  levels = [e.row_level for e in found if (e.name, e.target) ==
            ("mae", "ef_pct")]  # fmt: skip
  assert levels == ["clip", "video", "study"]
  unknown = videos.assign(study_id="")
  assert study_rows(unknown) == (None, "the study of some videos is unknown")
  assert study_rows(mean_over_clips(clip_rows(clips, TARGETS, index()))) == (
    None, ""
  )  # fmt: skip


def test_a_target_without_truth_in_the_split_is_left_out_and_named(
  clips, tmp_path
):
  unknown = clips.truth.copy()
  unknown[:, 1] = np.nan
  rows = clip_rows(clips._replace(truth=unknown), TARGETS, index())
  estimates = report_estimates(rows, "test")
  assert {one.target for one in estimates} == {"ef_pct", "ef_below_50"}
  write_report(tmp_path, rows, estimates, {}, "test")
  about = json.loads((tmp_path / "metrics.json").read_text())["about"]
  assert about["targets_without_truth"] == ["edv_ml"]
  assert not list((tmp_path / "figures").glob("edv_ml*"))
  none = clip_rows(clips._replace(truth=unknown * np.nan), TARGETS, index())
  with pytest.raises(ValueError, match="no target has a truth in split 'test'"):
    judged_targets(none, "test")


def test_report_is_written_whole(rows, tmp_path):
  estimates = report_estimates(rows, "test")
  write_report(tmp_path, rows, estimates, {"split": "test"}, "test")
  found = json.loads((tmp_path / "metrics.json").read_text())
  assert found["about"] == {"split": "test", "targets_without_truth": []}
  assert len(found["estimates"]) == len(estimates)
  again = read_predictions(tmp_path / "predictions.csv")
  pd.testing.assert_frame_equal(again, rows, check_dtype=False)
  names = {path.name for path in (tmp_path / "figures").iterdir()}
  assert {"ef_pct_scatter.png", "ef_below_50_roc.png"} <= names


def test_reference_comes_back_as_it_was(rows, clips, tmp_path):
  embedding = np.random.default_rng(0).normal(size=(60, 3))
  domain = fit_domain(embedding, embedding)
  intervals = fit_intervals(rows, TARGETS)
  assert set(intervals) == {"ef_pct", "edv_ml"}
  assert isinstance(intervals["ef_pct"], PredictionInterval)
  kept = Reference(intervals, domain, 2, 40, "abc", (0.5, 1.25))
  kept.save(tmp_path / "reference.npz")
  back = Reference.load(tmp_path / "reference.npz")
  assert back.intervals == intervals and back.clips == 2
  assert back.step == 40 and back.contract == "abc"
  assert back.spacing_mm == (0.5, 1.25)
  probe = np.ones((2, 3))
  np.testing.assert_array_equal(
    back.domain.distance(probe), domain.distance(probe)
  )
  none = Reference({}, None, 1, 2, "")
  none.save(tmp_path / "none.npz")
  back = Reference.load(tmp_path / "none.npz")
  assert back.domain is None and not np.isfinite(back.spacing_mm).any()


def test_a_reference_without_spacing_asks_for_another_evaluation(tmp_path):
  Reference({}, None, 1, 2, "").save(tmp_path / "old.npz")
  with np.load(tmp_path / "old.npz") as arrays:
    old = {name: arrays[name] for name in arrays if name != "spacing_mm"}
  np.savez(tmp_path / "old.npz", **old)
  with pytest.raises(ValueError, match="evaluate the run again"):
    Reference.load(tmp_path / "old.npz")


@pytest.mark.parametrize(
  ("name", "sized"),
  [("edv_ml", True), ("lvidd_mm", True), ("ef_pct", False),
   ("ef_below_50", False)],
)  # fmt: skip
def test_what_has_a_size_needs_the_spacing(name, sized):
  target = target_named(name)
  value = single._value(target, np.array([0.4]), {}, "spacing unknown")
  assert value.kind == target.kind
  assert (value.withheld == "spacing unknown") == sized
  assert np.isnan(value.value) == sized
  assert not single._value(target, np.array([0.4]), {}, "").withheld


def test_intervals_need_validation_patients(clips):
  few = index(split=["validation" if v < 18 else "test" for v in range(30)])
  assert fit_intervals(clip_rows(clips, TARGETS, few), TARGETS) == {}
  enough = index(split=["validation" if v < 19 else "test" for v in range(30)])
  assert fit_intervals(clip_rows(clips, TARGETS, enough), TARGETS)


def test_spacing_range_is_of_what_is_known():
  nothing = np.zeros((3, 1))
  for spacing, wanted in (
    ([[0.5, 0.6], [np.nan, np.nan], [0.4, 0.4]], [0.4, 0.6]),
    ([[np.nan, np.nan]] * 3, [np.nan, np.nan]),
  ):
    clips = ClipPredictions(
      ["t:a", "t:b", "t:c"], np.zeros(3), nothing, nothing, nothing,
      np.array(spacing),
    )  # fmt: skip
    np.testing.assert_array_equal(spacing_range(clips), wanted)


def test_embeddings_are_averaged_by_video_in_order():
  clips = ClipPredictions(
    ["t:b", "t:b", "t:a"], np.zeros(3), np.zeros((3, 1)), np.zeros((3, 1)),
    np.array([[1.0, 0.0], [3.0, 4.0], [7.0, 8.0]]), np.ones((3, 2)),
  )  # fmt: skip
  assert mean_embeddings(clips).tolist() == [[2, 2], [7, 8]]
