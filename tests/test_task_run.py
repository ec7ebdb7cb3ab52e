"""A run on targets of every kind: trained, judged, scored again from its file.
"""

import json

import numpy as np
import pandas as pd
import pytest

from echo_jax import experiment, trees
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item, build
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.evaluation.estimate import estimates_from_json
from echo_jax.evaluation.predictions import (
  check_predictions,
  collected_notes,
  read_predictions,
)
from echo_jax.evaluation.score import score
from echo_jax.targets import KINDS, TARGETS, Target
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.writers import read_log

WALLS = Target(
  "thick_walls", "multilabel", "", ("ivsd_mm", "lvpwd_mm"), at_least=11.0,
  classes=("septum", "posterior"),
)  # fmt: skip
NAMES = ("ef_pct", "as_tmed3", "image_quality", "thick_walls")
UNKNOWN = float("nan")
IMAGES = [n for n, field in schema.FIELDS.items() if field.type == "images"]


def relabelled(record, place):
  """A record with made labels, of which every task lacks some."""
  made = {
    "as_tmed3": ("none", "early", "significant")[place % 3],
    "quality": ("poor", "medium", "good")[(place // 2) % 3],
    "ivsd_mm": (9.0, 13.0)[place % 2], "lvpwd_mm": (9.0, 12.0)[place // 2 % 2],
  }  # fmt: skip
  lost = {"as_tmed3": "", "quality": "", "ivsd_mm": UNKNOWN, "ef_pct": UNKNOWN}
  for name, unknown in (lost.items() if place < 27 else ()):
    if place % 4 == list(lost).index(name):
      made[name] = unknown
  return record | made


@pytest.fixture(scope="module")
def many_dir(data_dir, tmp_path_factory):
  """The shared cohort once more, with labels of every kind."""
  folder = find_dataset(data_dir, "synthetic_echo")
  items = tuple(
    Item(f"{split}-{place}", split, {"place": place})
    for split in ("train", "validation", "test")
    for place in range(len(VideoSource(folder, split)))
  )

  def read(item):
    place = item.facts["place"]
    record = VideoSource(folder, item.split)[place]
    masks = {name: list(record[name]) for name in IMAGES}
    return relabelled(record | masks, place), ()

  made = Dataset(
    name="many_tasks", version="1.0.0", description="made labels",
    settings={}, items=items, read=read,
  )  # fmt: skip
  into = tmp_path_factory.mktemp("many")
  build(made, into, progress=False)
  return into


@pytest.fixture(scope="module")
def finished(many_dir, tmp_path_factory):
  """(experiment, work directory, test set) of a run on one task a kind."""
  workdir = tmp_path_factory.mktemp("runs") / "many"
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(TARGETS, WALLS.name, WALLS)  # adding a task is one row
    built = experiment.prepare(
      "experiments.ef_finetune",
      (
        f"data.dir={many_dir}", "data.name=many_tasks", "head.name=moments",
        f"targets={NAMES}", "weighting=uncertainty", "run.steps=6",
        "run.batch_size=3", "run.log_every=1",
      ),
      tiny=True,
    )  # fmt: skip
    experiment.run(built, workdir, progress=False)
    experiment.evaluate(built, workdir, clips=2, progress=False)
    yield built, workdir, VideoSource(
      find_dataset(many_dir, "many_tasks"), "test"
    )


def test_every_task_learns_and_says_from_how_many_labels(finished):
  _, workdir, _ = finished
  lines = [x for x in read_log(workdir / "log.jsonl") if x["part"] == "train"]
  assert len(lines) == 6
  for line in lines:
    for name in NAMES:
      most = 6 if name == "thick_walls" else 3
      assert 0 <= line[f"known_{name}"] <= most
      assert (f"loss_{name}" in line) == (line[f"known_{name}"] > 0)
  assert min(line["known_ef_pct"] for line in lines) < 3  # some are unknown
  first, last = (
    [line[f"log_variance_{name}"] for name in NAMES]
    for line in (lines[0], lines[-1])
  )
  assert first == [0] * 4 and all(value != 0 for value in last)
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    params = checkpoints.restore_tree(6)["params"]
  kernel = trees.named_leaves(params)["output/kernel"]
  assert kernel.shape[1] == 1 + 3 + 2 + 2
  assert (np.abs(kernel).max(axis=0) > 0).all()


def test_what_the_outputs_mean_is_kept_with_the_run(finished):
  built, workdir, _ = finished
  record = experiment.read_record(workdir)
  classes = "multiclass: none, early, significant"
  assert record["targets"][1] == f"as_tmed3 ({classes})"
  assert experiment.rebuild(workdir).targets == built.targets


def test_the_predictions_file_scores_to_the_same_estimates(finished):
  _, workdir, _ = finished
  rows = read_predictions(workdir / "predictions.csv")
  assert set(rows["kind"]) == set(KINDS) - {"binary"}
  stored = json.loads((workdir / "metrics.json").read_text())
  wanted = [
    e for e in estimates_from_json(stored) if e.row_level == "video"
  ]
  with collected_notes():
    again = score(rows, level="video")
  assert repr(again) == repr(wanted)
  for name in NAMES:
    own = [one for one in again if one.target == name]
    assert tuple(one.name for one in own) == TARGETS[name].metrics
    assert all(one.without_truth > 0 for one in own) == (name != "thick_walls")
  labels = {e.target: e for e in again if e.name == "auroc"}
  assert labels["thick_walls: septum"].without_truth > 0
  assert labels["thick_walls: posterior"].without_truth == 0
  assert (workdir / "figures" / "as_tmed3_confusion.png").exists()


def test_one_video_alone_is_predicted_as_in_the_report(finished):
  _, workdir, videos = finished
  finding = experiment.single_predictor(workdir)(videos[1])
  rows = read_predictions(workdir / "predictions.csv")
  rows = rows[rows["item_id"] == videos[1]["video_id"]]
  wanted = rows.groupby(["target", "class"])["prediction"].mean()
  got = check_predictions(pd.DataFrame(finding.rows()))
  assert len(got) == 1 + 3 + 3 + 2
  for row in got.itertuples():
    key = row.target, got.loc[row.Index, "class"]
    assert row.prediction == pytest.approx(wanted[key], rel=1e-4)
  said = str(finding)
  assert "image_quality: " in said and "(poor 0." in said
  plain = json.dumps(finding.to_dict(), allow_nan=False)
  assert '"called": ""' in plain  # of labels, any number may be true
