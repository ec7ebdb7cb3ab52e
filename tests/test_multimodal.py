"""A model of whole studies: trained, killed, judged, and what it may not see.
"""

import dataclasses
import json

import jax
import made_studies
import numpy as np
import pytest

from echo_jax import experiment, trees
from echo_jax.data.build import build
from echo_jax.data.pipeline import arrays_of
from echo_jax.data.study_batches import ARRAYS, without
from echo_jax.evaluation.predict import predict_clips
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.modalities import MODALITIES
from echo_jax.training.checkpoint import Checkpoints
from echo_jax.training.sharding import spec_of
from echo_jax.training.writers import read_log
from experiments import multimodal_study
from experiments.items import Item
from experiments.multimodal_study import run_study

MODULE = "experiments.multimodal"
CLIPS = ("video", "frame_valid", "view", "video_valid")
OF = ARRAYS | {"video": ("video",)}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  """Settings of a tiny run on made studies."""
  folder = tmp_path_factory.mktemp("data")
  build(made_studies.dataset(), folder, progress=False)
  return (
    f"data.dir={folder}", "data.name=made_studies", "trunk.depth=0",
    "targets=('as_grade','ef_pct')", "run.steps=4", "run.log_every=1",
    "run.validate_every=4", "run.save_every=2", "data.threads=0",
    "missing_at_test=('doppler','video+ecg')",
  )  # fmt: skip


@pytest.fixture(scope="module")
def finished(words, tmp_path_factory):
  """(experiment, work directory, state) of a tiny run on all modalities."""
  workdir = tmp_path_factory.mktemp("runs") / "joint"
  built = experiment.prepare(MODULE, words, tiny=True)
  state = experiment.run(built, workdir, progress=False)
  experiment.evaluate(built, workdir, clips=2, progress=False)
  return built, workdir, state


@pytest.fixture(scope="module")
def batch(finished):
  """The first four test studies, two windows a cine."""
  _, batches = finished[0].open_clips("test", 2)
  return next(batches)


def predicted(finished, batch):
  """What the model says of a batch."""
  built, _, state = finished
  found = built.predict_step(state.params, state.aux, arrays_of(batch))
  return np.asarray(found[0])


def test_rows_are_of_studies_and_say_what_was_removed(finished):
  built, workdir, _ = finished
  rows = read_predictions(workdir / "predictions.csv")
  assert set(rows["level"]) == {"study"} and rows["start_ms"].isna().all()
  assert (rows["item_id"] == rows["study_id"]).all()
  tested = rows[rows["split"] == "test"]
  assert tested["item_id"].nunique() == made_studies.COUNTS["test"]
  assert len(tested) == 5 * made_studies.COUNTS["test"]  # 4 grades and EF
  assert (workdir / "figures" / "ef_pct_scatter.png").exists()
  for removed in ("doppler", "video+ecg"):
    folder = workdir / f"without_{removed}"
    other = read_predictions(folder / "predictions.csv")
    assert list(other["item_id"]) == list(rows["item_id"])
    assert (other["prediction"] != rows["prediction"]).any()
    about = json.loads((folder / "metrics.json").read_text())["about"]
    assert about["removed"] == removed
  with pytest.raises(ValueError, match="whole studies"):
    experiment.single_predictor(workdir)


def test_losses_skip_labels_that_are_missing(finished):
  lines = read_log(finished[1] / "log.jsonl")
  known = [line["known_as_grade"] for line in lines if line["part"] == "train"]
  assert len(known) == 4 and min(known) < 4 and max(known) > 0
  assert all(np.isfinite(x["loss"]) for x in lines)


def test_every_leaf_of_a_model_of_studies_has_a_place_on_a_mesh(finished):
  state = experiment.state_shapes(finished[0])
  for name, leaf in trees.named_leaves(state).items():
    spec_of(name, leaf.shape, {"data": 1, "fsdp": 2, "model": 2})


def test_parts_of_a_batch_are_refused_where_modalities_are_dropped(words):
  more = (*words, "compute.accumulate=2", "modality_dropout=0.3")
  with pytest.raises(ValueError, match="accumulate is 2.*dropped for whole"):
    experiment.prepare(MODULE, more, tiny=True)


def test_a_killed_run_ends_with_the_same_weights(finished, tmp_path):
  built, _, unbroken = finished

  def dying(first, process=(0, 1)):
    for number, batch in enumerate(built.batches(first), first):
      if number == 3:
        raise RuntimeError("killed")
      yield batch

  with pytest.raises(RuntimeError, match="killed"):
    killed = dataclasses.replace(built, batches=dying)
    experiment.run(killed, tmp_path, progress=False)
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.newest() == 2
  resumed = experiment.run(built, tmp_path, progress=False)
  for name, leaf in trees.named_leaves(resumed.params).items():
    other = trees.named_leaves(unbroken.params)[name]
    np.testing.assert_array_equal(leaf, other, err_msg=name)


def test_a_batch_depends_on_seed_and_step_alone(finished):
  built = finished[0]
  batches = built.batches(0)
  for _ in range(3):
    next(batches)
  fourth, again = next(batches), next(built.batches(3))
  assert fourth["study_id"] == again["study_id"]
  for name, value in arrays_of(fourth).items():
    np.testing.assert_array_equal(value, again[name], err_msg=name)
  first = next(built.batches(0))
  assert (first["video"] != fourth["video"]).any()


@pytest.mark.parametrize("name", MODALITIES)
def test_what_an_absent_modality_holds_has_no_influence(finished, batch, name):
  """Bit for bit, whatever stands there."""
  lacking = without(batch, [name])
  wrong = dict(lacking)
  for array in OF[name]:
    noise = np.random.default_rng(0).permutation(batch[array].ravel())
    wrong[array] = noise.reshape(batch[array].shape)
    if wrong[array].dtype == np.float32:
      wrong[array] = np.where(noise > 0, np.nan, 7).reshape(noise.shape)
      wrong[array] = wrong[array].reshape(batch[array].shape).astype(np.float32)
  told = predicted(finished, lacking)
  np.testing.assert_array_equal(predicted(finished, wrong), told)
  had = batch["present"][:, MODALITIES.index(name)]
  differ = (told != predicted(finished, batch)).any(axis=1)
  np.testing.assert_array_equal(differ, had)


def test_removing_at_test_is_a_data_set_without_it(finished, batch):
  """To the last bit; the other part of its records is still there."""

  def no_spectrum(record):
    if not record["doppler_location"]:
      return record
    return record | {"doppler_location": "", "kind": "still"}

  _, batches = finished[0].open_clips("test", 2, no_spectrum)
  other = next(batches)
  assert other["study_id"] == batch["study_id"]
  assert batch["doppler_valid"].any() and not other["doppler_valid"].any()
  np.testing.assert_array_equal(
    predicted(finished, other), predicted(finished, without(batch, ["doppler"]))
  )


def test_the_order_of_clips_does_not_matter(finished, batch):
  turned = batch | {name: batch[name][:, ::-1] for name in CLIPS}
  assert (turned["video"] != batch["video"]).any()
  np.testing.assert_allclose(
    predicted(finished, turned), predicted(finished, batch), atol=1e-4
  )


def test_cached_features_say_what_the_clips_say(finished, words, tmp_path):
  built, workdir, state = finished
  settings = (
    *words, "video.features=cached", f"init_from={workdir}",
    f"data.cache={tmp_path / 'cache'}",
  )  # fmt: skip
  cached = experiment.prepare(MODULE, settings, tiny=True)
  assert trees.digest(experiment.initial_state(cached).params["encoder"])
  wanted = predict_clips(
    built.predict_step, state, built.open_clips("test", 2)[1]
  )
  for _ in range(2):  # made, then read from its file
    index, batches = cached.open_clips("test", 2)
    found = predict_clips(cached.predict_step, state, batches)
    assert found.video_id == wanted.video_id == list(index["study_id"])
    np.testing.assert_allclose(found.prediction, wanted.prediction, rtol=1e-4)
  names = sorted(path.name for path in (tmp_path / "cache").iterdir())
  assert len(names) == 2 and "features" in names[0]


def test_every_encoder_has_weights_of_its_own(finished):
  """A trunk that is handed to two encoders would be one set of weights."""
  params = finished[2].params
  for name in ("doppler", "ecg", "clinical", "genetic"):
    assert "trunk" in params[name], name


def test_frozen_signals_say_what_the_signals_say(finished, words):
  """Tokens of frozen encoders, in place of spectra and ECG, with the same
  weights elsewhere: the same predictions."""
  built, workdir, state = finished
  settings = (
    *words, f"doppler.init_from={workdir}", f"ecg.init_from={workdir}"
  )
  frozen = experiment.prepare(MODULE, settings, tiny=True)
  inner = experiment.initial_state(frozen).params
  assert not {"doppler", "ecg"} & set(inner)  # nothing of them is trained
  batch = next(frozen.open_clips("test", 2)[1])
  assert "doppler_tokens" in batch and "spectrum" not in batch
  params = {name: state.params[name] for name in inner}
  found = frozen.predict_step(params, state.aux, arrays_of(batch))[0]
  wanted = built.predict_step(
    state.params, state.aux, arrays_of(next(built.open_clips("test", 2)[1]))
  )[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  other = (*settings, "ecg.patch=25")
  with pytest.raises(ValueError, match="another ecg"):
    next(experiment.prepare(MODULE, other, tiny=True).batches(0))


def test_weights_go_by_the_name_of_a_target(words):
  given = (*words, "weights=('ef_pct:4',)")
  config = experiment.prepare(MODULE, given, tiny=True).config
  assert config["weights"] == ("ef_pct:4",)
  for wrong, why in (("ef_pct", "target:number"), ("eff:2", "no target")):
    with pytest.raises(ValueError, match=why):
      experiment.prepare(MODULE, (*words, f"weights=('{wrong}',)"), tiny=True)


def test_cached_features_want_an_encoder(words):
  with pytest.raises(ValueError, match="init_from"):
    experiment.prepare(MODULE, (*words, "video.features=cached"), tiny=True)


def test_a_run_is_built_again_from_its_record(finished):
  built, workdir, _ = finished
  for with_data in (True, False):
    again = experiment.rebuild(workdir, with_data=with_data)
    assert json.dumps(dataclasses.asdict(again.scale)) == json.dumps(
      dataclasses.asdict(built.scale)
    )
    assert experiment.contract_hash(again) == experiment.contract_hash(built)


@pytest.fixture
def own_programs():
  """A study keeps compiled programs in a folder of its own."""
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)


def test_a_study_of_items_goes_on_where_it_was_killed(
  words, own_programs, tmp_path, monkeypatch, capsys
):
  tables = ("clinical", "genetic")
  items = [
    Item(name, (("modalities", modalities),), seed)
    for name, modalities in (
      ("joint", tables), ("trained without genetic", tables[:1])
    )
    for seed in (0, 1)
  ]  # fmt: skip
  shared = dict(word.split("=", 1) for word in words)
  shared = {
    k: v if k.startswith("data.d") or k == "data.name" else eval(v)
    for k, v in shared.items()
  } | {"missing_at_test": MODALITIES}
  real = multimodal_study.run_item

  def dying(item, *rest, **named):
    if item == items[2]:
      raise RuntimeError("killed")
    real(item, *rest, **named)

  monkeypatch.setattr(multimodal_study, "run_item", dying)
  with pytest.raises(RuntimeError, match="killed"):
    run_study(tmp_path, shared, items, tiny=True, progress=False)
  done = items[0].folder(tmp_path) / "done.json"
  before = done.stat().st_mtime_ns
  assert not run_study(tmp_path, shared, items, minutes=0)
  monkeypatch.setattr(multimodal_study, "run_item", real)
  assert run_study(tmp_path, shared, items, tiny=True, progress=False)
  assert done.stat().st_mtime_ns == before
  assert "4 items, 2 to do" in capsys.readouterr().out
  results = json.loads((tmp_path / "results.json").read_text())
  assert len(results["scores"]["joint"]["ef_pct"]) == 2
  removal = results["without"][
    "joint, genetic removed at test minus trained without genetic"
  ]["ef_pct"]
  assert removal["level"] == 0.9 and removal["largest_loss"] == -removal["low"]
  assert removal["no_worse"] == (-removal["low"] < results["margin"])
  assert "| trained without genetic |" in (tmp_path / "table.md").read_text()
