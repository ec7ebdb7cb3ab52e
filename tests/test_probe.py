"""A pre-trained encoder is probed: cached, scored, refused where it must be."""

import json

import jax
import numpy as np
import pytest

from echo_jax import experiment
from echo_jax.cli import main
from echo_jax.data.pipeline import arrays_of
from echo_jax.data.sources import find_dataset, read_index
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.models.heads import AttentivePool
from echo_jax.targets import target_named
from experiments import probe

EF = [target_named("ef_pct")]


@pytest.fixture(scope="module")
def probed(pretrained, tmp_path_factory):
  """The linear probe's predictions."""
  out = tmp_path_factory.mktemp("probe")
  return probe.run_probe(pretrained, EF, clips=2, blocks=(2, 1, 1), out=out)


def test_every_clip_of_validation_and_test_is_predicted(
  probed, data_dir, capsys
):
  rows = read_predictions(probed)
  index = read_index(find_dataset(data_dir, "synthetic_echo"))
  judged = index[index["split"].isin(("validation", "test"))]
  judged = judged[judged["kind"] == "cine"].set_index("video_id")
  assert set(rows["item_id"]) == set(judged.index)
  assert rows.groupby("item_id").size().max() == 2
  np.testing.assert_allclose(
    rows["truth"], judged.loc[rows["item_id"], "ef_pct"], rtol=1e-6
  )
  told = json.loads(probed.with_suffix(".json").read_text())
  assert told["tokens"] == "2 tokens (2 x 1 x 1) as means of 32 (8 x 2 x 2)"
  assert told["clips_per_video"] == 2 and told["step"] in (1, 2, 3)
  assert "Ridge, alpha " in told["chosen on validation"]["ef_pct"][0]
  assert main(["score", str(probed), "--level", "video"]) == 0
  assert "mean over 2 clips" in capsys.readouterr().out


def test_features_are_made_once(probed, pretrained, monkeypatch):
  with np.load(probed.with_name("features_train.npz")) as kept:
    assert kept["features"].shape[1] == 2 * 32
  monkeypatch.setattr(probe, "encode_clips", None)
  targets = [*EF, target_named("ef_below_50")]
  how = {"blocks": (2, 1, 1), "out": probed.parent}
  again = probe.run_probe(
    pretrained, targets, kind="neighbours", clips=2, **how
  )
  assert set(read_predictions(again)["target"]) == {"ef_pct", "ef_below_50"}
  with pytest.raises(ValueError, match="were made otherwise; use another"):
    probe.run_probe(pretrained, EF, clips=1, **how)


@pytest.mark.parametrize(
  ("setting", "says"),
  [
    ("input.span_s=0.0", "only data.* may be others"),
    ("data.test_split='validation'", "three different splits"),
    ("data.test_split='train'", "three different splits"),
    ("data.train_split='test'", "three different splits"),
  ],
)
def test_what_makes_no_probe_is_refused(pretrained, tmp_path, setting, says):
  with pytest.raises(ValueError, match=says.replace("*", r"\*")):
    probe.run_probe(pretrained, EF, out=tmp_path, settings=(setting,))


def test_whom_the_encoder_learned_from_is_not_judged(pretrained, tmp_path):
  """Its own training split would be the probe's test."""
  swapped = ("data.train_split='test'", "data.test_split='train'")
  with pytest.raises(ValueError, match="leakage: "):
    probe.run_probe(pretrained, EF, out=tmp_path, settings=swapped)
  with pytest.raises(ValueError, match="no probe 'deep'"):
    probe.run_probe(pretrained, EF, kind="deep", out=tmp_path)


def test_the_attentive_probe_is_a_head_on_a_frozen_encoder(settings):
  words = (
    settings[0], "head.name=attentive", "head.blocks=(4, 1, 1)",
    "optimizer.freeze=^encoder/",
  )  # fmt: skip
  built = experiment.prepare("experiments.ef_finetune", words, tiny=True)
  assert built.model.head == AttentivePool(8, (4, 1, 1))
  assert built.model.frozen == ("encoder",)
  state = experiment.state_shapes(built)
  arrays = arrays_of(next(built.batches(0)))
  _, metrics = jax.eval_shape(experiment.train_step_of(built), state, arrays)
  assert metrics["loss"].shape == ()
