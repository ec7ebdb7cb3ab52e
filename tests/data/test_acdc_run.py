"""From a made ACDC folder to an EF Estimate, from scratch and from echo."""

import json

import jax
import numpy as np
import pytest
from made_volumes import write_acdc_patient

from data_builders import acdc
from echo_jax import experiment, trees
from echo_jax.data.build import build
from echo_jax.training.checkpoint import Checkpoints
from experiments import acdc as acdc_experiment

TRAINING, TESTING, SLICES = 12, 3, 2


@pytest.fixture(scope="module")
def mr_dir(tmp_path_factory):
  """A data directory with `acdc`; some series without frame times."""
  root = tmp_path_factory.mktemp("acdc")
  for number in [*range(1, 1 + TRAINING), *range(101, 101 + TESTING)]:
    part = "training" if number < 101 else "testing"
    step_s = 0.15 if number % 2 else 1.0
    write_acdc_patient(
      root / part / f"patient{number:03d}", ef=0.2 + 0.04 * (number % 13),
      seed=number, spacing=(1.4, 1.5, 8.0, step_s), size=32, slices=SLICES,
    )  # fmt: skip
  data_dir = tmp_path_factory.mktemp("data")
  made = acdc.dataset(root, validation=0.4, codec="raw")
  build(made, data_dir, progress=False)
  return data_dir


@pytest.fixture(scope="module")
def echo_run(settings, tmp_path_factory):
  """A tiny pre-training run on SynthEcho, whole videos as for MR."""
  workdir = tmp_path_factory.mktemp("runs") / "mae"
  words = (settings[0], "input.span_s=0", "run.steps=2")
  built = experiment.prepare("experiments.mae_pretrain", words, tiny=True)
  experiment.run(built, workdir, progress=False)
  return workdir


@pytest.fixture(scope="module", params=["echo", "scratch"])
def finished(request, mr_dir, echo_run, tmp_path_factory):
  """(first weights, experiment, work directory), trained and evaluated."""
  workdir = tmp_path_factory.mktemp("runs") / request.param
  first = echo_run if request.param == "echo" else ""
  words = (
    f"data.dir={mr_dir}", "head.name=moments", "run.steps=2",
    f"init_from={first}",
  )  # fmt: skip
  built = experiment.prepare("experiments.acdc", words, tiny=True)
  experiment.run(built, workdir, progress=False)
  experiment.evaluate(built, workdir, clips=1, progress=False)
  return first, built, workdir


def test_an_ef_estimate_of_studies_comes_out(finished):
  """Slices are averaged to the patient, and the Estimate says so."""
  _, _, workdir = finished
  metrics = json.loads((workdir / "metrics.json").read_text())
  found = {
    (one["target"], one["name"], one["row_level"]): one
    for one in metrics["estimates"]
  }
  study = found["ef_pct", "mae", "study"]
  assert study["rows"] == study["patients"] == TESTING
  assert study["unit"] == "%" and np.isfinite(study["value"])
  assert f"mean over {SLICES} videos" in study["protocol"]
  assert found["ef_pct", "mae", "video"]["rows"] == TESTING * SLICES


def test_first_weights_are_those_of_echo_or_new(finished):
  first, built, _ = finished
  state = experiment.initial_state(built)
  ours = trees.named_leaves(state.params["encoder"])
  new = trees.named_leaves(
    built.init(jax.random.key(built.seed))["params"]["encoder"]
  )
  theirs = new
  if first:
    with Checkpoints(first / "checkpoints") as checkpoints:
      kept = checkpoints.restore_tree(checkpoints.best())
    theirs = trees.named_leaves(kept["params"]["encoder"])
  differs = False
  for name, leaf in ours.items():
    np.testing.assert_array_equal(leaf, theirs[name])
    differs |= bool((np.asarray(leaf) != np.asarray(new[name])).any())
  assert differs == bool(first)


def test_an_echo_run_of_another_input_is_refused(mr_dir, trained):
  """The usual span of 1.4 s is another contract than a whole heartbeat."""
  _, workdir = trained
  words = (f"data.dir={mr_dir}", "head.name=moments", f"init_from={workdir}")
  built = experiment.prepare("experiments.acdc", words, tiny=True)
  with pytest.raises(ValueError, match="another input contract: span_s 1.4"):
    experiment.initial_state(built)


def test_every_item_of_the_sweep_fits_the_config():
  for item in acdc_experiment.sweep():
    config = acdc_experiment.get_config()
    experiment.override(config, [f"{k}={v!r}" for k, v in item.items()])
    flat = experiment.flat_settings(config.to_dict())
    assert all(flat[name] == value for name, value in item.items())
