"""Shared fixtures: a tiny virtual cohort, a pre-training and a trained run."""

import os
import tempfile

import jax
import pytest

from data_builders import synthetic_echo
from echo_jax import experiment
from echo_jax.data.build import build

# Twenty validation patients: fewer give no 95 % interval and no domain.
SHARES = {"train": 0.22, "validation": 0.56, "test": 0.22}


def pytest_configure(config):
  """Programs are compiled once and quickly, in this process and those we start.

  Models of tests are tiny: compiling them well costs more than it gives.
  """
  folder = tempfile.TemporaryDirectory(
    prefix="echo_jax_compiled_", ignore_cleanup_errors=True
  )
  config.add_cleanup(folder.cleanup)
  settings = {
    "jax_compilation_cache_dir": folder.name,
    "jax_persistent_cache_min_compile_time_secs": 0.3,
    "jax_disable_most_optimizations": True,
  }
  for name, value in settings.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)


# Modules that take minutes as one piece; where they come last, one process
# works on them while the others wait.
LONGEST = (
  "test_multimodal", "test_multimodal_notebook", "test_quickstart",
  "test_run", "test_sharding", "test_predict_study", "test_experiment",
)  # fmt: skip


def pytest_collection_modifyitems(items):
  """The longest modules first."""
  items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
  """A data directory that holds `synthetic_echo`, 36 patients at 32 px."""
  folder = tmp_path_factory.mktemp("data")
  dataset = synthetic_echo.dataset(
    patients=36, size=32, duration_s=1.6, codec="raw", shares=SHARES
  )
  build(dataset, folder, progress=False)
  return folder


@pytest.fixture(scope="session")
def settings(data_dir):
  """Settings that a tiny run on that cohort needs."""
  return (f"data.dir={data_dir}", "head.name=moments")


@pytest.fixture(scope="session")
def trained(settings, tmp_path_factory):
  """(experiment, work directory) of a tiny fine-tuning run, evaluated."""
  workdir = tmp_path_factory.mktemp("runs") / "ef"
  built = experiment.prepare("experiments.ef_finetune", settings, tiny=True)
  experiment.run(built, workdir, progress=False)
  experiment.evaluate(built, workdir, clips=2, progress=False)
  return built, workdir


@pytest.fixture(scope="session")
def pretrained(settings, tmp_path_factory):
  """Work directory of a tiny pre-training run with a moving average."""
  workdir = tmp_path_factory.mktemp("runs") / "mae"
  words = (settings[0], "run.steps=3", "run.average_decay=0.5")
  built = experiment.prepare("experiments.mae_pretrain", words, tiny=True)
  experiment.run(built, workdir, progress=False)
  return workdir
