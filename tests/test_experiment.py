"""From settings to a run and back: frozen parts, records, refusals."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest

from echo_jax import experiment, trees
from echo_jax.data.pipeline import arrays_of
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.evaluation.predict import predict_clips
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.objectives.objective import Aux
from echo_jax.training.checkpoint import Checkpoints
from experiments import (
  contrastive_pretrain,
  ef_finetune,
  joint_pretrain,
  latent_pretrain,
  mae_pretrain,
  synthetic_encoder,
)
from experiments.paper import (
  echocardmae_pretrain,
  echofm_pretrain,
  echojepa_pretrain,
)

TRAIN = "experiments.ef_finetune"


@pytest.fixture(scope="module")
def frozen(settings, pretrained, tmp_path_factory):
  """(experiment, work directory) with a taken-over, frozen encoder."""
  workdir = tmp_path_factory.mktemp("runs") / "frozen"
  words = (
    settings[0], "head.name=mean", "run.steps=3", f"init_from={pretrained}",
    "optimizer.freeze=^encoder/", "optimizer.weight_decay=0.5",
  )  # fmt: skip
  built = experiment.prepare(TRAIN, words, tiny=True)
  experiment.run(built, workdir, progress=False)
  return built, workdir


@pytest.mark.parametrize(
  ("word", "says"),
  [
    ("in_logarithm=('edv',)", r"in_logarithm has \['edv'\], targets has not"),
    ("data.train_videos=9999", r"train_videos is 9999, train has \d+"),
  ],
)
def test_settings_that_fit_nothing_are_refused(settings, word, says):
  with pytest.raises(ValueError, match=says):
    experiment.prepare(TRAIN, (*settings, word), tiny=True)


def leaves_of(workdir, part="params"):
  """Named leaves of the newest checkpoint."""
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    state = checkpoints.restore_tree(checkpoints.newest())
  return trees.named_leaves(state[part])


def test_a_frozen_encoder_is_the_pretrained_average_to_the_last_bit(
  frozen, pretrained
):
  _, workdir = frozen
  average = {
    name.removeprefix("average/"): leaf
    for name, leaf in leaves_of(pretrained, "aux").items()
  }
  plain, after = leaves_of(pretrained), leaves_of(workdir)
  encoder = [name for name in after if name.startswith("encoder/")]
  assert len(encoder) > 10
  for name in encoder:
    np.testing.assert_array_equal(after[name], average[name], err_msg=name)
  assert any((plain[name] != average[name]).any() for name in encoder)
  assert (after["output/kernel"] != 0).any()  # it starts at zero


def test_a_frozen_part_has_no_moments(frozen):
  built, _ = frozen
  state = experiment.initial_state(built)
  sizes = trees.count_parameters(state.params["output"])
  moments = trees.count_parameters(state.opt_state)
  assert moments < 2 * sizes + 10


def test_a_run_can_be_judged_without_the_run_it_started_from(
  frozen, pretrained, tmp_path
):
  _, workdir = frozen
  away = tmp_path / "away"
  shutil.move(pretrained, away)
  try:
    state = experiment.load_best(experiment.rebuild(workdir), workdir)
  finally:
    shutil.move(away, pretrained)
  assert int(state.step) in (1, 2, 3)


def test_it_goes_on_without_the_run_it_started_from(
  frozen, pretrained, tmp_path
):
  built, workdir = frozen
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  shutil.move(pretrained, tmp_path / "away")
  try:
    state = experiment.run(built, copy, progress=False)
  finally:
    shutil.move(tmp_path / "away", pretrained)
  assert int(state.step) == 3
  resumed = experiment.read_record(copy)["resumed"]
  assert [one["step"] for one in resumed] == [3] and resumed[0]["packages"]


def test_settings_that_no_number_depends_on_may_change(frozen):
  built, workdir = frozen
  other = json.loads(json.dumps(built.config))
  other["data"] |= {"threads": 1, "dir": "elsewhere"}
  other["run"] |= {"log_every": 7, "tensorboard": True}
  experiment.keep_record(dataclasses.replace(built, config=other), workdir)


def test_a_run_that_saved_nothing_starts_anew(frozen, tmp_path):
  built, _ = frozen
  experiment.keep_record(built, tmp_path)
  experiment.keep_record(dataclasses.replace(built, seed=5), tmp_path)
  assert experiment.read_record(tmp_path)["seed"] == 5


@pytest.mark.parametrize("change", ["encoder.heads=4", "encoder.tubelet=4"])
def test_an_encoder_of_another_architecture_is_refused(
  settings, pretrained, change
):
  """Also where its shapes are the same, as with more heads."""
  words = (*settings, f"init_from={pretrained}", change)
  built = experiment.prepare(TRAIN, words, tiny=True)
  name = change.split("=")[0].split(".")[1]
  with pytest.raises(ValueError, match=f"another encoder: .*{name} is 2"):
    experiment.initial_state(built)


def test_the_best_averaged_weights_are_judged(settings, tmp_path):
  """Not the newest ones, and not the parameters that are trained."""
  words = (
    *settings, "run.average_decay=0.5", "run.steps=3", "run.validate_every=1",
    "targets=('ef_below_50', 'ef_pct')", "run.tensorboard=True",
  )  # fmt: skip
  built = experiment.prepare(TRAIN, words, tiny=True)
  scores = iter([3.0, 1.0, 2.0])  # the second is the best
  ranked = dataclasses.replace(
    built, validate=lambda state: {"loss": next(scores)}
  )
  experiment.run(ranked, tmp_path, progress=False)
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    second = checkpoints.restore_tree(2)
  estimates = experiment.evaluate(built, tmp_path, clips=1, progress=False)
  rows = read_predictions(tmp_path / "predictions.csv")
  index, batches = built.open_clips("test", 1)
  batch = next(batches)
  average = second["aux"]["average"]
  prediction, _ = built.predict_step(average, Aux(), arrays_of(batch))
  other, _ = built.predict_step(second["params"], Aux(), arrays_of(batch))
  assert np.abs(prediction - other)[:, 1].max() > 1e-3
  judged = rows[rows["split"] == "test"].pivot(
    index="item_id", columns="target", values="prediction"
  )
  for column, target in enumerate(("ef_below_50", "ef_pct")):
    np.testing.assert_allclose(
      judged.loc[batch["video_id"], target], prediction[:, column], rtol=1e-4
    )
  auroc = next(one for one in estimates if one.name == "auroc")
  assert auroc.target == "ef_below_50" and auroc.positive
  assert list((tmp_path / "tensorboard").iterdir())


def test_what_a_model_was_fitted_on_is_not_judged(settings, tmp_path):
  words = (*settings, "data.train_split=test", "run.steps=1")
  built = experiment.prepare(TRAIN, words, tiny=True)
  assert built.fit_splits == ("test", "validation")
  experiment.run(built, tmp_path, progress=False)
  with pytest.raises(ValueError, match="fitted or chosen on test"):
    experiment.evaluate(built, tmp_path, split="test")


def test_whom_the_first_weights_have_seen_is_not_judged(frozen, tmp_path):
  """A run pre-trained on a split that the fine-tuning itself did not open."""
  built, workdir = frozen
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  index, _ = built.open_clips("test", 1)
  people = sorted(set(index["patient_id"]))
  with (copy / "patients.csv").open("a") as file:
    file.writelines(f"pretrain,{person},1\n" for person in people)
  with pytest.raises(ValueError, match=f"leakage: {len(people)} patients of"):
    experiment.evaluate(built, copy, split="test", progress=False)


def test_a_single_prediction_uses_the_weights_that_were_evaluated(
  trained, data_dir, tmp_path
):
  built, workdir = trained
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  record = VideoSource(find_dataset(data_dir, "synthetic_echo"), "test")[0]
  wanted = experiment.single_predictor(workdir)(record).values
  state = experiment.load_best(built, copy)
  later = state.replace(
    step=state.step + 100, params=jax.tree.map(lambda x: x + 1, state.params)
  )
  with Checkpoints(copy / "checkpoints", keep=99) as checkpoints:
    checkpoints.save(later, {"loss": -1.0})
  assert int(experiment.load_best(built, copy).step) == int(later.step)
  assert experiment.single_predictor(copy)(record).values == wanted
  shutil.rmtree(copy / "checkpoints" / str(int(state.step)))
  with pytest.raises(FileNotFoundError, match="evaluate .* again"):
    experiment.single_predictor(copy)


def test_rebuilt_from_its_record_it_is_the_same_experiment(frozen):
  built, workdir = frozen
  again = experiment.rebuild(workdir)
  first, second = (
    json.loads(json.dumps(experiment.run_record(one))) for one in (built, again)
  )
  second["experiment"] = first["experiment"]
  assert first == second
  assert again.scale == built.scale and again.contract == built.contract
  experiment.keep_record(again, workdir)  # nothing to refuse


@pytest.mark.parametrize(
  ("change", "named", "not_named"),
  [
    ("optimizer.rate=0.5", "optimizer.rate", "weight_decay"),
    ("input.span_s=1.0", "input.span_s", "optimizer"),
    ("run.seed=7", "run.seed", "batch_size"),
  ],
)
def test_going_on_otherwise_is_refused_by_the_settings_name(
  frozen, change, named, not_named
):
  built, workdir = frozen
  before = (workdir / "run.json").read_bytes()
  config = ef_finetune.get_config()
  config.unlock()
  config.update(built.config)
  experiment.override(config, [change])
  other = dataclasses.replace(built, config=config.to_dict())
  with pytest.raises(ValueError, match="holds another run") as refused:
    experiment.keep_record(other, workdir)
  assert named in str(refused.value) and not_named not in str(refused.value)
  assert (workdir / "run.json").read_bytes() == before


def test_other_data_is_refused(frozen):
  built, workdir = frozen
  data = [dict(built.data[0], labels="0" * 16)]
  with pytest.raises(ValueError, match="its data"):
    experiment.keep_record(dataclasses.replace(built, data=data), workdir)


@pytest.mark.parametrize(
  "module",
  [
    ef_finetune, mae_pretrain, latent_pretrain, contrastive_pretrain,
    joint_pretrain, echocardmae_pretrain, echofm_pretrain, echojepa_pretrain,
    synthetic_encoder,
  ],
)  # fmt: skip
def test_every_item_of_a_sweep_fits_the_config(module):
  count = 0
  for item in module.sweep():
    config = module.get_config()
    experiment.override(config, [f"{k}={v!r}" for k, v in item.items()])
    flat = experiment.flat_settings(config.to_dict())
    assert all(flat[name] == value for name, value in item.items())
    count += 1
  assert count > 1


def test_settings_come_after_tiny_and_keep_their_type(settings):
  built = experiment.prepare(
    TRAIN, (*settings, "run.steps=5", "optimizer.rate=1", "init_from="),
    tiny=True,
  )  # fmt: skip
  assert built.pace.steps == 5
  assert built.config["optimizer"]["rate"] == 1.0
  assert built.config["init_from"] == ""


def test_standardisation_knows_the_training_split_only(settings, data_dir):
  built = experiment.prepare(TRAIN, settings, tiny=True)
  index, _ = built.open_clips("train", 1)
  for column, target in enumerate(built.targets):
    known = index[target.name].to_numpy(np.float32)
    assert built.scale.mean[column] == pytest.approx(known.mean(), rel=1e-5)
    assert built.scale.std[column] == pytest.approx(known.std(), rel=1e-5)


def test_a_part_of_the_training_patients_is_whole_people(settings, capsys):
  opened, judged = {}, {}
  for fraction in (0.3, 0.6, 1.0):
    words = (*settings, f"data.train_fraction={fraction}")
    built = experiment.prepare(TRAIN, words, tiny=True)
    capsys.readouterr()
    opened[fraction], _ = built.open_clips("train", 1)
    told = capsys.readouterr().out
    judged[fraction], _ = built.open_clips("test", 1)
    lost = re.search(r"\((\d+) by train_fraction\)", told)
    assert bool(lost) == (fraction < 1)
    found = int(re.search(r"train: (\d+) videos", told).group(1))
    assert found == len(opened[fraction]) + int(lost.group(1) if lost else 0)
  people = {k: set(index["patient_id"]) for k, index in opened.items()}
  assert people[0.3] < people[0.6] < people[1.0]
  assert len(people[0.3]) == round(0.3 * len(people[1.0]))
  whole = opened[1.0]
  kept = whole["patient_id"].isin(people[0.3]).sum()
  assert len(opened[0.3]) == kept
  assert len(judged[0.3]) == len(judged[1.0]) > 0  # others stay whole
  with pytest.raises(ValueError, match="fraction of 0 is not"):
    experiment.prepare(TRAIN, (*settings, "data.train_fraction=0"), tiny=True)


def test_half_precision_keeps_whole_parameters(settings):
  built = experiment.prepare(
    TRAIN, (*settings, "run.dtype=bfloat16"), tiny=True
  )
  state = jax.eval_shape(lambda: experiment.initial_state(built))
  kinds = {leaf.dtype.name for leaf in jax.tree.leaves(state.params)}
  assert kinds == {"float32"}


def test_predictions_do_not_depend_on_batch_size_or_threads(trained):
  built, workdir = trained
  state = experiment.load_best(built, workdir)
  found = []
  for words in (("run.batch_size=3", "data.threads=1"), ("data.threads=3",)):
    config = ef_finetune.get_config()
    flat = experiment.flat_settings(built.config)
    experiment.override(
      config, [f"{k}={v!r}" for k, v in flat.items() if v is not None]
    )
    experiment.override(config, words)
    other = ef_finetune.build(config)
    _, batches = other.open_clips("test", 2)
    found.append(predict_clips(built.predict_step, state, batches))
  assert found[0].video_id == found[1].video_id
  np.testing.assert_array_equal(found[0].truth, found[1].truth)
  np.testing.assert_allclose(
    found[0].prediction, found[1].prediction, rtol=1e-5
  )
  assert np.ptp(found[0].prediction[:, 0]) > 0


def test_validation_is_judged_where_the_settings_name_it(trained, tmp_path):
  """And the report says that it chose the checkpoint."""
  built, workdir = trained
  with pytest.raises(ValueError, match="fitted or chosen on validation"):
    experiment.evaluate(built, workdir, split="validation", into=tmp_path)
  config = {**built.config}
  config["data"] = {**config["data"], "test_split": "validation"}
  named = dataclasses.replace(built, config=config)
  with pytest.raises(ValueError, match="fitted or chosen on train"):
    experiment.evaluate(named, workdir, split="train", into=tmp_path)
  estimates = experiment.evaluate(
    named, workdir, clips=2, into=tmp_path, draw=False, progress=False
  )
  assert {one.split for one in estimates} == {"validation"}
  kept = json.loads((tmp_path / "metrics.json").read_text())
  assert "chose the checkpoint (data.test_split): flat" in str(kept["notes"])
