"""Pre-training by every objective: short runs, full sizes, what is taken over.
"""

import importlib

import jax
import numpy as np
import pytest

from echo_jax import experiment, trees
from echo_jax.data.contract import InputContract
from echo_jax.planning.lowering import batch_shapes
from echo_jax.training import sharding
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.flops import step_flops
from echo_jax.training.writers import read_log
from experiments import (
  contrastive_pretrain,
  joint_pretrain,
  latent_pretrain,
  mae_pretrain,
)
from experiments.paper.write import README

SHORT = ("run.steps=2", "run.save_every=1", "input.span_s=1.0")


def run(module, data_dir, workdir, *words):
  """(experiment, validation's numbers) of a tiny run of two steps."""
  words = (f"data.dir={data_dir}", *SHORT, *words)
  built = experiment.prepare(module, words, tiny=True)
  experiment.run(built, workdir, progress=False)
  log = read_log(workdir / "log.jsonl")
  return built, [line for line in log if line["part"] == "validation"][-1]


def check_encoder(built, workdir, part):
  """The encoder that `init_from` takes is that of the newest state."""
  contract = InputContract(**experiment.read_record(workdir)["contract"])
  taken = experiment.load_subtree(
    str(workdir), "encoder", contract, built.config["encoder"]
  )
  with Checkpoints(workdir / "checkpoints", built.metric) as checkpoints:
    newest = checkpoints.restore_tree(2)
  jax.tree.map(np.testing.assert_array_equal, taken, part(newest)["encoder"])


def test_latent_prediction_follows_its_average(data_dir, tmp_path):
  built, numbers = run(
    latent_pretrain.__name__, data_dir, tmp_path, "run.average_decay=0.9"
  )
  assert built.metric == "steps_left" and numbers["steps_left"] == 0
  assert numbers["feature_rank"] > 2 and numbers["feature_variance"] > 1e-4
  with Checkpoints(tmp_path / "checkpoints", "steps_left") as checkpoints:
    first, second = (checkpoints.restore_tree(step) for step in (1, 2))
    assert checkpoints.best() == 2
  jax.tree.map(
    lambda old, new, now: np.testing.assert_allclose(
      now, 0.9 * old + 0.1 * new, rtol=1e-5, atol=1e-7
    ),
    first["aux"]["average"], second["params"], second["aux"]["average"],
  )  # fmt: skip
  check_encoder(built, tmp_path, lambda state: state["aux"]["average"])


def test_latent_prediction_without_an_average_is_refused(data_dir):
  words = (f"data.dir={data_dir}", "run.average_decay=0.0")
  with pytest.raises(ValueError, match="run.average_decay is 0"):
    experiment.prepare(latent_pretrain.__name__, words, tiny=True)


def test_contrast_of_clips_and_by_phase_learn_together(data_dir, tmp_path):
  words = ("weights.reconstruction=0.0", "weights.phase=0.3",
           "run.batch_size=12")  # fmt: skip
  built, numbers = run(joint_pretrain.__name__, data_dir, tmp_path, *words)
  assert numbers["loss"] == pytest.approx(
    0.2 * numbers["contrast_loss"] + 0.3 * numbers["phase_loss"]
  )
  # No video is left out of the pairs.
  videos = len(built.open_clips("validation", 1)[0])
  assert numbers["contrast_pairs"] == videos
  assert 0 < numbers["contrast_negatives"] <= 5
  clips = sum(numbers[f"phase_clips_with{out}_phase"] for out in ("", "out"))
  assert clips == 2 * videos and numbers["phase_slices"] > 20
  check_encoder(built, tmp_path, lambda state: state["params"])
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    params = checkpoints.restore_tree(2)["params"]
  assert set(params) == {"encoder", "slice_projector"}


def test_pretraining_goes_on_from_another_encoder(data_dir, pretrained):
  """That of the other run's average; all else begins anew."""
  words = (f"data.dir={data_dir}", f"init_from={pretrained}")
  first = experiment.prepare(mae_pretrain.__name__, words[:1], tiny=True)
  scratch = experiment.initial_state(first).params
  built = experiment.prepare(mae_pretrain.__name__, words, tiny=True)
  params = experiment.initial_state(built).params
  taken = experiment.load_subtree(
    str(pretrained), "encoder", built.contract, built.config["encoder"]
  )
  same = jax.tree.map(np.array_equal, params, scratch)
  assert not all(jax.tree.leaves(same.pop("encoder")))
  assert all(jax.tree.leaves(same))
  jax.tree.map(np.testing.assert_array_equal, params["encoder"], taken)


def test_contrast_alone_takes_pairs_of_a_study(data_dir):
  words = (f"data.dir={data_dir}", "contrast.of=study", *SHORT)
  built = experiment.prepare(contrastive_pretrain.__name__, words, tiny=True)
  batch = next(iter(built.batches(0)))
  names = batch["video_id"]
  index, _ = built.open_clips("train", 1)
  study = dict(zip(index["video_id"], index["study_id"], strict=True))
  assert [study[n] for n in names[::2]] == [study[n] for n in names[1::2]]
  assert set(batch) >= {"person"} and "beat" not in batch
  params = experiment.state_shapes(built).params
  assert set(params) == {"encoder", "clip_projector"}


@pytest.mark.parametrize(
  ("words", "says"),
  [
    (("contrast.of=patient",), "pairs of 'patient'"),
    (("contrast.of=",), "pairs of ''"),
    (("contrast.of=study", "data.mix=('a:0.5','b:0.5')"), "need one data set"),
    (("run.batch_size=5",), "5 clips, 2 of each video"),
    (("run.validation_clips=4",), "validation_clips is 4, .* leave it at 1 or"),
  ],
)
def test_pairs_that_cannot_be_are_refused(data_dir, words, says):
  words = (f"data.dir={data_dir}", *words)
  with pytest.raises(ValueError, match=says):
    built = experiment.prepare("experiments.joint_pretrain", words, tiny=True)
    next(iter(built.batches(0)))


@pytest.mark.parametrize(
  ("name", "millions"),
  [
    # Encoder (patch map, norms, blocks) + decoder + projector, by hand.
    ("pretrain", 86.2 + 8.0),
    ("echocardmae_pretrain", 21.4 + 1.9),
    ("echojepa_pretrain", 303.9 + 22.0),
    ("echofm_pretrain", 305.4 + 27.3 + 0.6),
  ],
)
def test_recipes_of_the_paper_have_their_size_and_cost(
  data_dir, name, millions
):
  """FLOPs and hours are those that the README tells."""
  words = (
    f"data.dir={data_dir}", "data.name=synthetic_echo", "run.batch_size=4",
    "compute.scan=True",
  )  # fmt: skip
  module = importlib.import_module(f"experiments.paper.{name}")
  built = experiment.prepare(module.__name__, words)
  state = experiment.state_shapes(built)
  found = trees.count_parameters(state.params)
  assert found / 1e6 == pytest.approx(millions, abs=0.2)
  run = module.get_config().run
  rows = batch_shapes(built, run.batch_size)
  flops = step_flops(built.objective, state, rows)
  hours = flops * run.steps / (312e12 * 0.3) / 3600
  assert (
    f"| {run.batch_size:,} | {run.steps:,} | {flops / 1e12:,.1f} "
    f"| {hours:,.0f} |"
  ) in README.read_text()
  for leaf_name, leaf in trees.named_leaves(state).items():
    sizes = {"data": 1, "fsdp": 2, "model": 2}
    sharding.spec_of(leaf_name, leaf.shape, sizes)
