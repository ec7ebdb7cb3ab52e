"""The stages of the demo, each of which can be run again or resumed.

data -> pre-training -> fine-tuning (pre-trained, scratch) -> evaluation ->
controls -> input that is not from the training domain.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from data_builders import synthetic_echo
from echo_jax import experiment
from echo_jax.data.build import build
from echo_jax.data.controls import Change
from echo_jax.data.sources import find_dataset, read_index
from echo_jax.evaluation.aggregate import mean_over_clips
from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.paired import paired_difference
from echo_jax.evaluation.predict import clip_rows, predict_clips
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.score import score
from experiments.demo.recipe import (
  Recipe,
  as_words,
  finetune_settings,
  pretrain_settings,
  shared_settings,
)

TARGET = "ef_pct"


@dataclass(frozen=True)
class Arm:
  """One row of the demo's table: video rows of EF on the test split."""

  name: str
  rows: pd.DataFrame


def build_data(
  recipe: Recipe, data_dir: Path, cohort: str, workers: int = 2
) -> str:
  """Builds the cohort unless it is there; returns the data set's name."""
  name = f"synthetic_echo_{cohort}"
  dataset = synthetic_echo.dataset(
    name=name, cohort=cohort, patients=recipe.patients, size=recipe.size,
    duration_s=recipe.duration_s, codec="raw",
    shares=dict(
      zip(("train", "validation", "test"), recipe.shares, strict=True)
    ),
  )  # fmt: skip
  folder = data_dir / name / dataset.version
  if not folder.exists():
    print(build(dataset, data_dir, workers=workers))
  wanted = json.loads(json.dumps(dict(dataset.settings)))
  if json.loads((folder / "settings.json").read_text()) != wanted:
    raise ValueError(
      f"{folder} was made with other settings; use another --workdir"
    )
  return name


def pretrain(
  recipe: Recipe, data_dir: Path, dataset: str, workdir: Path, seed: int
) -> None:
  """Masked reconstruction on the training split."""
  settings = shared_settings(recipe, data_dir, dataset, seed)
  settings |= pretrain_settings(recipe)
  prepared = experiment.prepare(
    "experiments.mae_pretrain", as_words(settings)
  )
  experiment.run(prepared, workdir)


def finetune(
  recipe: Recipe, data_dir: Path, dataset: str, workdir: Path, seed: int,
  *, head: str, init_from: str = "", change: str = "",
  labels: int = 0,
) -> None:  # fmt: skip
  """EF and volumes with one head, from a pre-training run or from scratch.

  `labels` is how many training videos are used; 0 means all.
  """
  settings = shared_settings(recipe, data_dir, dataset, seed)
  settings |= finetune_settings(recipe, head, init_from)
  settings |= {"data.change": change, "data.train_videos": labels}
  prepared = experiment.prepare("experiments.ef_finetune", as_words(settings))
  experiment.run(prepared, workdir)


def origin(run: Path, command: str) -> dict[str, Any]:
  """What a result file says of where its numbers come from."""
  record = experiment.read_record(run)
  names = ("commit", "echo_jax", "python", "packages", "devices", "data")
  return {
    "command": command,
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    **{name: record[name] for name in names},
  }


def evaluate(recipe: Recipe, workdir: Path, name: str) -> Arm:
  """Full report of a run on unseen patients; its EF rows as an arm."""
  built = experiment.rebuild(workdir)
  experiment.evaluate(built, workdir, clips=recipe.clips)
  rows = read_predictions(workdir / "predictions.csv")
  return Arm(name, ef_videos(rows))


def evaluate_changed(
  recipe: Recipe, workdir: Path, change: Change, name: str
) -> Arm:
  """The same weights on test records that a control has changed."""
  built = experiment.rebuild(workdir)
  state = experiment.load_best(built, workdir)
  index, batches = built.open_clips("test", recipe.clips, change)
  clips = predict_clips(
    built.predict_step, state, batches, name=name, progress=True
  )
  return Arm(name, ef_videos(clip_rows(clips, built.targets, index)))


def ef_videos(rows: pd.DataFrame) -> pd.DataFrame:
  """Test rows of EF, the mean over each video's clips, in a fixed order."""
  rows = unseen_videos(rows)
  return rows[rows["target"] == TARGET].reset_index(drop=True)


def unseen_videos(rows: pd.DataFrame) -> pd.DataFrame:
  """Test rows of every target, the mean over each video's clips."""
  rows = mean_over_clips(rows)
  return rows[rows["split"] == "test"].sort_values("item_id")


def shortcut_arms(data_dir: Path, dataset: str, like: Arm) -> list[Arm]:
  """What EF can be guessed from without looking at motion.

  Quadratic regression on the training videos' true values, as a reader who
  knew them exactly could do.
  """
  index = read_index(find_dataset(data_dir, dataset))
  train = index[index["split"] == "train"]
  test = index.set_index("video_id").loc[like.rows["item_id"]]
  constant = np.full(len(test), train[TARGET].mean())
  arms = [_arm_of(like, "training mean", constant)]
  for name, columns in (
    ("EDV and heart rate", ["edv_ml", "heart_rate_bpm"]),
    ("ESV alone", ["esv_ml"]),
  ):
    model = make_pipeline(
      StandardScaler(), PolynomialFeatures(2), LinearRegression()
    )
    model.fit(train[columns], train[TARGET])
    arms.append(_arm_of(like, f"true {name}", model.predict(test[columns])))
  return arms


def _arm_of(like: Arm, name: str, prediction: np.ndarray) -> Arm:
  return Arm(name, like.rows.assign(prediction=prediction))


def arm_estimates(arm: Arm, resamples: int) -> dict[str, Estimate]:
  """Estimates of one arm by metric name."""
  found = score(arm.rows, level="video", resamples=resamples)
  return {estimate.name: estimate for estimate in found}


def compare(
  first: Sequence[Arm], second: Sequence[Arm], resamples: int
) -> Estimate:
  """MAE of the first minus MAE of the second, paired by patient.

  Each is one arm a training seed; with several, seeds are resampled too.
  """
  rows = first[0].rows
  for arm in (*first, *second):
    if list(rows["item_id"]) != list(arm.rows["item_id"]):
      raise ValueError(f"{first[0].name} and {arm.name} judge other videos")
  predictions = [
    np.stack([arm.rows["prediction"].to_numpy() for arm in arms])
    for arms in (first, second)
  ]
  return paired_difference(
    rows["truth"], *predictions, rows["patient_id"], "mae",
    names=(first[0].name, second[0].name), unit="%", target=TARGET,
    resamples=resamples,
  )  # fmt: skip
