"""The paper as described and as released: every difference is a setting."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from echo_jax import experiment
from echo_jax.cli import main
from echo_jax.data.pipeline import arrays_of
from echo_jax.evaluation.score import score
from echo_jax.targets import target_named
from experiments import count_only
from experiments.ablations import as_released, as_released_pretrain
from experiments.paper import released as all_released
from experiments.paper import released_pretrain
from experiments.paper.differences import (
  FINETUNING,
  PRETRAINING,
  Difference,
  described,
  released,
)

BOTH = pytest.mark.parametrize(
  ("points", "ablation", "paper"),
  [
    (PRETRAINING, as_released_pretrain, released_pretrain),
    (FINETUNING, as_released, all_released),
  ],
)


def settings_of(module):
  return experiment.flat_settings(module.get_config().to_dict())


@BOTH
def test_every_point_is_a_setting_with_two_values(points, ablation, paper):
  """The sweep begins as described; the paper's file has all as released."""
  start, end = settings_of(ablation), settings_of(paper)
  assert {start[name] for name in start if name == "label"} == {"described"}
  for name, value in described(points).items():
    assert start[name] == value, name
  by_task = ("targets", "in_logarithm")  # one target a run
  for name, value in released(points).items():
    assert end[name] == value or name in by_task, name
  for point in points:
    for name, value in point.described.items():
      assert type(value) is not list and value != point.released[name]


@BOTH
def test_a_sweep_switches_one_point_at_a_time(points, ablation, paper):
  items = list(ablation.sweep())
  assert [one.pop("run.seed") for one in items] == [0, 1, 2] * (len(items) // 3)
  assert items[::3] == items[1::3] == items[2::3]
  first, *each, last = items[::3]
  assert first == {"label": "described"}
  assert [one["label"] for one in each] == [point.name for point in points]
  for one, point in zip(each, points, strict=True):
    assert {k: v for k, v in one.items() if k != "label"} == point.released
  of_2025 = [point for point in points if point.code == "2025"]
  wanted = set().union(*(point.released for point in of_2025))
  assert last.keys() - {"label"} == wanted
  for one in (*each, last):
    config = ablation.get_config()
    experiment.override(config, [f"{k}={v!r}" for k, v in one.items()])
    flat = experiment.flat_settings(config.to_dict())
    assert all(flat[name] == value for name, value in one.items())


def test_a_point_must_name_the_same_settings_twice():
  with pytest.raises(ValueError, match="the two sides name other settings"):
    Difference("x", {"loss": "l1"}, {"scale": "hundredths"})


def test_recipes_by_hand():
  """50 epochs of floor(7,465 / 16) and of floor(525,328 / 128) steps."""
  fine, pre = settings_of(all_released), settings_of(released_pretrain)
  assert fine["run.steps"] == 50 * 466
  assert fine["optimizer.warmup_steps"] == 4_660
  assert fine["run.validate_every"] == 466  # after every epoch, as the script
  assert fine["encoder.final_norm"] is pre["encoder.final_norm"] is False
  assert pre["run.steps"] == 50 * 4_104
  assert pre["data.kinds"] == pre["data.views"] == ()
  tasks, before = np.split(np.asarray(list(all_released.sweep())), 2)
  assert len(tasks) == 9
  camus = [one for one in tasks if one["data.name"] == "camus"]
  assert all(one["data.views"] == ("A2C",) for one in camus)
  logs = [one["targets"] for one in tasks if one["in_logarithm"]]
  assert logs == [("edv_ml",), ("esv_ml",)]  # of CAMUS hundredths
  assert {one["data.test_split"] for one in before} == {"validation"}
  logs = [one["targets"] for one in before if "ln" in one["targets"][0]]
  assert logs == [("edv_ln_ml",), ("esv_ln_ml",)]


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
  """(experiment, work directory) of all points at once, trained and judged."""
  last = list(as_released.sweep())[-1]
  assert last["label"] == "released"
  words = [f"{name}={value!r}" for name, value in last.items()]
  words += [f"data.dir={data_dir}", "run.steps=2"]
  built = experiment.prepare(as_released.__name__, words, tiny=True)
  workdir = tmp_path_factory.mktemp("runs") / "released"
  experiment.run(built, workdir, progress=False)
  experiment.evaluate(built, workdir, clips=1, progress=False, draw=False)
  return built, workdir


def test_all_points_together_train_and_are_judged(run):
  built, workdir = run
  assert built.scale.mean == (0.0,) * 4
  assert built.scale.std == (100.0, 1.0, 1.0, 1.0)
  found = json.loads((workdir / "metrics.json").read_text())["estimates"]
  by_name = {(one["target"], one["name"]): one for one in found}
  assert by_name["edv_ml", "mae"]["unit"] == "ml"
  assert by_name["edv_ml", "mae"]["method"].startswith("as released: 50 x 16")
  assert "13 rows are 2 batches of 8" in by_name["edv_ml", "mae"]["reason"]
  cut = by_name["ef_at_least_50", "f1"]
  assert cut["threshold"] == 0.5 and cut["threshold_rule"] == "(given)"
  assert cut["positive"] == "ef_at_least_50 = 1 (ef_pct >= 50)"


def test_its_run_is_found_again_from_its_record(run):
  built, workdir = run
  again = experiment.rebuild(workdir)
  assert again.config["label"] == "released" and again.targets == built.targets
  assert again.targets[1].link == "log" and again.threshold == 0.5


def test_released_pretraining_takes_a_step(data_dir):
  """Shapes only: one mask for all clips, a tenth of the tokens hidden."""
  words = (
    f"data.dir={data_dir}", "data.name=synthetic_echo", "mask.ratio=0.9",
  )  # fmt: skip
  built = experiment.prepare(released_pretrain.__name__, words, tiny=True)
  state = experiment.state_shapes(built)
  arrays = arrays_of(next(built.batches(0)))
  settled, _ = built.objective.settle(arrays, jax.random.key(0), True)
  hidden = np.asarray(settled["mask"].hidden)
  assert hidden.shape == (4, int(0.1 * 8 * 2 * 2 + 1e-9))
  assert (hidden == hidden[:1]).all()
  _, metrics = jax.eval_shape(experiment.train_step_of(built), state, arrays)
  assert metrics["loss"].shape == ()


def study_index(tell, studies=120):
  """An index whose grade goes with the number of pictures, or does not."""
  rng = np.random.default_rng(0)
  grades = target_named("as_tmed5").classes
  rows = []
  for study in range(studies):
    grade = study % 5
    mean = 4 + 10 * grade if tell else 20
    rows.append({
      "study_id": f"t:s{study}", "patient_id": f"t:p{study}",
      "split": ("train", "validation", "test")[study // 5 % 3],
      "as_tmed5": grades[grade], "frame_count": 1 + rng.poisson(mean),
      "site": "Tufts", "device": "", "view": "", "quality": "", "sex": "",
      "age_years": np.nan, "patient_known": 1,
    })  # fmt: skip
  return pd.DataFrame(rows)


@pytest.mark.parametrize(("tell", "low", "high"), [(1, 0.8, 1), (0, 0.3, 0.65)])
def test_the_number_of_pictures_tells_the_grade_where_it_does(tell, low, high):
  index = study_index(tell)
  rows = count_only.count_rows(index, [target_named("as_tmed5")])
  found = {one.name: one.value for one in score(rows, resamples=100)}
  assert low <= found["macro_auroc"] <= high
  # Pictures in records of their own count alike.
  parts = pd.concat([
    index.assign(frame_count=1), index.assign(frame_count=index.frame_count - 1)
  ])  # fmt: skip
  again = count_only.count_rows(parts, [target_named("as_tmed5")])
  np.testing.assert_allclose(again["prediction"], rows["prediction"])
  severe = rows[(rows["class"] == "severe_AS") & (rows["split"] == "test")]
  area = roc_auc_score(severe["truth"], severe["prediction"])
  assert (area > 0.9) == bool(tell)


def test_count_only_is_a_command(data_dir, tmp_path, capsys):
  run = tmp_path / "runs" / "count"
  words = ["--data-dir", str(data_dir), "--name", "synthetic_echo", "--target",
           "ef_pct", "--workdir", str(run)]  # fmt: skip
  count_only.main(words)
  assert "MAE" in capsys.readouterr().out
  predictions = str(run / "predictions.csv")
  assert main(["score", predictions, "--level", "study"]) == 0
  count_only.main(words)  # again
  for command in ("card", "evaluate"):
    assert main([command, str(run)]) == 1
    assert "holds no trained model, but a baseline" in capsys.readouterr().err
  with pytest.raises(ValueError, match="count holds another result"):
    count_only.main([*words, "--target", "edv_ml"])
  (run / "run.json").unlink()  # whose predictions these are is not known
  with pytest.raises(ValueError, match="count holds another result"):
    count_only.main(words)


def test_a_study_that_is_one_video_is_judged_as_both():
  """As false videos of stills, beside what was trained on them."""
  index = study_index(True)
  rows = count_only.count_rows(index, [target_named("as_tmed5")])
  found = count_only.estimates_of(rows, index)
  levels = {one.row_level: one.value for one in found if one.name == "accuracy"}
  assert set(levels) == {"video", "study"} and len({*levels.values()}) == 1
  twice = pd.concat([index, index])
  found = count_only.estimates_of(rows, twice)
  assert {one.row_level for one in found} == {"study"}
