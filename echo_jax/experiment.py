"""An experiment: everything `build(config)` made, and how it is run.

From a setting to the line that takes the gradient a reader opens
`get_config` and `build` (a file in `experiments/`), `fit` and `train_step`.
"""

import ast
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import ml_collections
import numpy as np
import optax
import pandas as pd
from flax import linen as nn

import echo_jax
from echo_jax import trees
from echo_jax.data import leakage
from echo_jax.data.card import group_sizes
from echo_jax.data.clips import UnknownTimes
from echo_jax.data.contract import InputContract
from echo_jax.data.pipeline import Batch, ClipMaker, arrays_of
from echo_jax.data.schema import Record
from echo_jax.data.study_batches import StudyMaker, without
from echo_jax.data.study_contract import StudyContract
from echo_jax.data.study_inputs import (
  NOTHING_STATED,
  Stated,
  StudyInput,
  StudyReader,
)
from echo_jax.evaluation.domain import fit_domain
from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.predict import (
  ClipPredictions,
  clip_rows,
  predict_clips,
)
from echo_jax.evaluation.predictions import collected_notes
from echo_jax.evaluation.report import (
  Reference,
  check_interval,
  fit_intervals,
  mean_embeddings,
  report_estimates,
  seen_mixtures,
  seen_views,
  spacing_range,
  write_report,
)
from echo_jax.evaluation.single import Finding, predict_record
from echo_jax.evaluation.single_study import StudyFinding, predict_study
from echo_jax.interop.encoders import import_encoder
from echo_jax.interop.exported import read_about, read_exported
from echo_jax.interop.weight_files import digest_of, find_weights
from echo_jax.objectives.objective import Objective
from echo_jax.objectives.outputs import Standardisation
from echo_jax.targets import Target
from echo_jax.training import processes, sharding
from echo_jax.training.checkpoint import Checkpoints, saved_steps
from echo_jax.training.flops import peak_flops_s, step_flops
from echo_jax.training.loop import Pace, fit
from echo_jax.training.speed import Watching
from echo_jax.training.state import TrainState, start_state
from echo_jax.training.step import CompiledStep, make_train_step
from echo_jax.training.writers import write_whole

RUN_RECORD = "run.json"
# May change when a run goes on: no number depends on them (where the data lie
# is not what they are, which their fingerprint says),
FREE_SETTINGS = (
  "data.dir", "data.threads", "data.workers", "data.cache", "run.log_every",
  "run.tensorboard",
)  # fmt: skip
COMPUTE = "compute."  # nor any of these, but for rounding
# Settings that older runs do not have, and what those did.
LATER = {"interval": "percentile"}
PACKAGES = (
  "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain",
  "tensorflow-datasets", "numpy", "opencv-python-headless",
)  # fmt: skip


@dataclass(frozen=True)
class Experiment:
  """What `build(config)` of an experiment file returns.

  Attributes:
    config: plain settings, kept in the run record.
    contract: how clips, or whole studies, reach the model.
    model: the linen module.
    init: key -> variables.
    warm_start: variables -> variables with weights taken over from elsewhere.
    objective: the loss.
    optimizer: optax transformation.
    batches: (step number, process) -> the training batches from there on, or
      the rows of them that one of several processes reads: (number, count).
    validate: state -> numbers of the validation split.
    pace: length and intervals.
    data: fingerprints of the data sets.
    targets, scale: what a supervised model predicts; empty for pre-training.
    needs_times: whether frame times must be known.
    predict_step: of a supervised model, see `make_predict_step`.
    open_clips: (split, clips a video, change=None) -> the split's index and
      its batches, with a control of `data.controls` applied to each record.
    level: what a row of a batch, and so of the predictions, is: "clip" or
      "study".
    frozen: weights that come from other runs and are not among the model's
      parameters, by name; read when called.
    encode_signals: signals of studies -> the same with what such weights make
      of them, as the model takes them.
    threshold: cut of binary targets; None takes the best on validation.
    interval: how intervals are made, a `method` of `score`.
    missing_at_test: modalities, or several joined by "+", without which a
      model of studies is judged too.
    source: the experiment file it came from.
    tiny: whether it is the tiny form of it, whose numbers mean nothing.
    fit_splits: what the model is fitted on, and what it is chosen on.
    batch_size: rows of a batch, over all devices and processes.
    mesh_shape: over which the devices of a run are arranged.
    seed, average_decay, accumulate, metric, tensorboard: see `fit` and
      `make_train_step`.
  """

  config: Mapping[str, Any]
  contract: InputContract | StudyContract
  model: nn.Module
  init: Callable[[jax.Array], dict[str, Any]]
  objective: Objective
  optimizer: optax.GradientTransformation
  batches: Callable[..., Iterator[Mapping[str, Any]]]
  validate: Callable[[TrainState], dict[str, float]]
  pace: Pace
  data: Sequence[Mapping[str, str]]
  targets: tuple[Target, ...] = ()
  scale: Standardisation | None = None
  needs_times: bool = True
  predict_step: Callable | None = None
  open_clips: Callable[..., tuple[pd.DataFrame, Iterator]] | None = None
  level: str = "clip"
  frozen: Callable[[], Mapping[str, Any]] = dict
  encode_signals: Callable[[Batch], Batch] = lambda signals: signals
  threshold: float | None = None
  interval: str = "percentile"
  missing_at_test: tuple[str, ...] = ()
  warm_start: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: given
  source: str = ""
  tiny: bool = False
  fit_splits: tuple[str, str] = ("train", "validation")
  seed: int = 0
  average_decay: float = 0.0
  metric: str = "loss"
  tensorboard: bool = False
  batch_size: int = 1
  accumulate: int = 1
  mesh_shape: sharding.MeshShape = sharding.MeshShape()

  def __post_init__(self) -> None:
    check_interval(self.interval)  # now, not after hours of training


def initial_state(experiment: Experiment) -> TrainState:
  """The state before the first step."""
  variables = experiment.init(jax.random.key(experiment.seed))
  state = _state_of(experiment, experiment.warm_start(variables))
  # On a named device, as a restored state is: a program that was compiled for
  # the one serves the other.
  return jax.device_put(state, jax.local_devices()[0])


def train_step_of(experiment: Experiment) -> CompiledStep:
  """The step that takes the gradient."""
  return make_train_step(
    experiment.objective, experiment.optimizer, seed=experiment.seed,
    average_decay=experiment.average_decay, accumulate=experiment.accumulate,
  )  # fmt: skip


def _state_of(experiment: Experiment, variables: dict[str, Any]) -> TrainState:
  return start_state(
    variables, experiment.optimizer, average=experiment.average_decay > 0
  )


def state_shapes(experiment: Experiment) -> TrainState:
  """Shapes of the state; reads no weights from elsewhere."""
  key = jax.random.key(experiment.seed)
  return jax.eval_shape(lambda: _state_of(experiment, experiment.init(key)))


def run(
  experiment: Experiment, workdir: Path, *, progress: bool = True,
  profile: tuple[int, int] | None = None,
) -> TrainState:  # fmt: skip
  """Trains an experiment in `workdir`, going on where it stopped.

  With `profile`, a trace of these steps (first, last) is written.

  Raises:
    ValueError: a patient is learned from and judged on, see `data.leakage`,
      or the work directory holds another run.
  """
  workdir = Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  mesh = sharding.make_mesh(experiment.mesh_shape)
  rows = sharding.rows_here(
    mesh, experiment.batch_size, experiment.accumulate
  )
  begun = newest_step(workdir) is not None
  refuse_other_hosts(experiment, workdir)
  people, sizes = _who_is_who(experiment, workdir if begun else None)
  record = next_record(experiment, workdir) | {"learnt_from": sizes}

  def keep() -> None:
    write_record(record, workdir)
    leakage.write_people(workdir / leakage.PATIENTS, people)

  processes.first_writes(keep)
  state = state_shapes(experiment) if begun else initial_state(experiment)
  state = sharding.lay_out(state, mesh)
  if mesh is not None:
    print(sharding.describe(state, mesh))
    print(f"{len(rows)} of {experiment.batch_size} rows are read here")
  return fit(
    state, train_step_of(experiment),
    lambda first: experiment.batches(first, rows), workdir, experiment.pace,
    validate=experiment.validate, metric=experiment.metric,
    tensorboard=experiment.tensorboard, progress=progress,
    place=lambda batch: sharding.own_rows(
      arrays_of(batch), mesh, rows, experiment.batch_size
    ),
    watching=Watching(
      profile, partial(step_flops, experiment.objective),
      peak_flops_s(jax.devices()),
    ),
  )  # fmt: skip


def _who_is_who(
  experiment: Experiment, begun: Path | None
) -> tuple[tuple[leakage.Group, ...], dict[str, list[int]]]:
  """The people of a run, checked, and `sizes_learnt_from`."""
  # A split is opened once for both, and let go before the training.
  open_clips = experiment.open_clips and cache(experiment.open_clips)
  once = dataclasses.replace(experiment, open_clips=open_clips)
  people = leakage.check_run(once.config, open_clips, begun)
  return people, sizes_learnt_from(once)


def sizes_learnt_from(experiment: Experiment) -> dict[str, list[int]]:
  """How many a model is trained on, see `data.card.group_sizes`."""
  index, _ = experiment.open_clips(experiment.fit_splits[0], 1)
  return group_sizes(index, of_studies=experiment.level == "study")


def refuse_other_hosts(experiment: Experiment, workdir: Path) -> None:
  """Raises ValueError where processes of one run differ in what they run."""
  record = run_record(experiment)
  settings = {
    name: value
    for name, value in flat_settings(record["config"]).items()
    if name not in FREE_SETTINGS
  }
  for name, value in {
    "code": f"{record['echo_jax']} {record['commit']} "
    + code_digest(experiment.source),
    "packages": record["packages"],
    "settings": settings,
    "data": record["data"],
    "newest checkpoint": newest_step(workdir),
  }.items():
    processes.refuse_unequal(name, json.dumps(value, default=str))


@cache  # as it was when it was loaded, or soon after
def code_digest(source: str) -> str:
  """Digest of the code of a run, whatever git knows of it.

  Of this package, of the packaged experiments, and of the experiment's own
  package, or of its file where that is in none.
  """
  found = hashlib.sha256()
  names = [name for name in ("echo_jax", "experiments", source) if name]
  for root in dict.fromkeys(map(_code_around, names)):
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
      name = path.relative_to(root.parent).as_posix()
      found.update(name.encode() + path.read_bytes())
  return found.hexdigest()[:16]


def _code_around(name: str) -> Path:
  """The outermost package that holds a module, or its file if none does."""
  code = Path(load_module(name).__file__).resolve()
  while (code.parent / "__init__.py").exists():
    code = code.parent
  return code


def newest_step(workdir: Path) -> int | None:
  """Step of the newest checkpoint of a run; None if it has none yet."""
  return max(saved_steps(Path(workdir) / "checkpoints"), default=None)


def run_record(experiment: Experiment) -> dict[str, Any]:
  """What is needed to say later where a number came from."""
  return {
    "experiment": experiment.source,
    "tiny": experiment.tiny,
    "config": experiment.config,
    "contract": dataclasses.asdict(experiment.contract),
    "contract_hash": contract_hash(experiment),
    "data": list(experiment.data),
    "targets": [target.meaning for target in experiment.targets],
    "scale": experiment.scale and dataclasses.asdict(experiment.scale),
    "metric": experiment.metric,
    "seed": experiment.seed,
    **_machine(),
  }


def _machine() -> dict[str, Any]:
  """What the code runs on; may change when a run goes on."""
  return {
    "echo_jax": echo_jax.__version__,
    "commit": code_commit(),
    "python": sys.version.split()[0],
    "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    "devices": [str(device) for device in jax.devices()],
  }


def contract_hash(experiment: Experiment) -> str:
  """Digest of how clips reach a model and of what its outputs mean."""
  return experiment.contract.hash([one.meaning for one in experiment.targets])


@cache  # as it was when it was loaded, or soon after
def code_commit() -> str:
  """The git commit of this code, `+` if it was changed; "" if installed."""
  folder = Path(echo_jax.__file__).resolve().parents[1]
  if not (folder / ".git").exists():
    return ""
  try:
    head, changed = (
      subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True,
        check=True,
      ).stdout.strip()
      for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
    )  # fmt: skip
  except (OSError, subprocess.CalledProcessError):
    return ""  # no git here, or a checkout of somebody else
  return head + "+" * bool(changed)


def next_record(experiment: Experiment, workdir: Path) -> dict[str, Any]:
  """The record of a run that begins or goes on in `workdir`.

  A run that goes on adds the step and the machine to `resumed`.  One that
  has saved nothing yet starts anew.

  Raises:
    ValueError: names what differs from the run that is already there.
  """
  step = newest_step(workdir)
  if step is None:
    origin = origin_of_weights(experiment.config.get("init_from"))
    return run_record(experiment) | {"init_from": origin, "resumed": []}
  _refuse_other(experiment, workdir)
  record = read_record(workdir)
  record["resumed"].append({"step": step, **_machine()})
  return record


def keep_record(experiment: Experiment, workdir: Path) -> None:
  """Writes the run record; raises as `next_record`."""
  write_record(next_record(experiment, workdir), workdir)


def write_record(record: Mapping[str, Any], workdir: Path) -> None:
  """Replaces the run record of a work directory."""
  write_whole(workdir / RUN_RECORD, json.dumps(record, indent=2) + "\n")


def _refuse_other(experiment: Experiment, workdir: Path) -> None:
  """Raises ValueError where an experiment and a run record differ."""
  record = json.loads(json.dumps(run_record(experiment)))
  before = read_record(workdir)
  for one in (record, before):
    one["config"] = numbered_settings(one["config"])
  for part in ("config", "contract", "data", "targets", "scale"):
    # As text, for NaN (a column that nobody has) is not equal to itself.
    if json.dumps(before[part]) != json.dumps(record[part]):
      raise ValueError(
        f"{workdir} holds another run: its {part} "
        f"{_difference(before[part], record[part])}; use another --workdir, "
        "or bring back what it was trained with"
      )


def _difference(before: Any, now: Any) -> str:
  """What changed in a part of the run record, by the settings' names."""
  if not (isinstance(before, dict) and isinstance(now, dict)):
    return f"is {before}, now it is {now}"
  old, new = flat_settings(before), flat_settings(now)
  return ", ".join(
    f"{name} is {old.get(name)}, now it is {new.get(name)}"
    for name in {**old, **new}
    if old.get(name) != new.get(name)
  )


def read_record(workdir: Path, *, baselines: bool = False) -> dict[str, Any]:
  """The run record of a work directory.

  Args:
    baselines: whether it may be of a baseline, which has no model.

  Raises:
    FileNotFoundError: it is not a run.
    ValueError: the record is older than the note whether a run is a tiny one,
      whose numbers mean nothing; or it is of a baseline.
  """
  path = Path(workdir) / RUN_RECORD
  if not path.exists():
    raise FileNotFoundError(f"{workdir} is not a run: it has no {RUN_RECORD}")
  record = json.loads(path.read_text(encoding="utf-8"))
  if "tiny" not in record:
    raise ValueError(
      f"{path} does not tell whether the run is a --tiny one: an older "
      "echo_jax made it; train it again"
    )
  if "baseline" in record and not baselines:
    raise ValueError(
      f"{workdir} holds no trained model, but a baseline: {record['baseline']}"
    )
  return record


def origin_of_weights(source: str | None) -> dict[str, Any] | None:
  """Which checkpoint of a run, or which file, gave the first weights."""
  if not source:
    return None
  names = ("experiment", "config", "contract_hash", "data", "seed", "commit")
  if path := weights_file(source):
    about = read_about(path) or {}
    origin = {"file": path.name, "sha256": digest_of(path)}
    names = [n for n in ("step", *names) if n in about]
    return {"workdir": source} | origin | {n: about[n] for n in names}
  record = read_record(Path(source))
  folder = Path(source) / "checkpoints"
  with Checkpoints(folder, record["metric"]) as checkpoints:
    step = checkpoints.best()
  return {"workdir": source, "step": step} | {n: record[n] for n in names}


def weights_file(source: str) -> Path | None:
  """The file of weights that a path names; None if it names a run."""
  path = Path(source)
  return None if (path / RUN_RECORD).exists() else find_weights(path)


def load_encoder(
  source: str, contract: InputContract, settings: Mapping[str, Any],
  encoder: nn.Module, initial: Mapping[str, Any], anew: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
  """Variables of an encoder from a run, an export or another library's file.

  Args:
    source: a run, or a file of weights or its folder (`interop.encoders`).
    contract, settings: see `load_variables`.
    encoder, initial, anew: see `interop.encoders.import_encoder`.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: what is there does not fit.
  """
  path = weights_file(source)
  if path is None or read_about(path):
    if anew:
      raise ValueError(
        f"init_anew is {tuple(anew)}, but {source} is a model of ours, of "
        "which nothing starts anew; leave it empty"
      )
    return load_variables(source, "encoder", contract, settings)
  found = import_encoder(path, encoder, initial, anew)
  print(
    f"encoder from {path} ({found.layout}): "
    f"{trees.count_parameters(found.variables['params']):,} parameters; left "
    f"out: {', '.join(found.left_out) or 'nothing'}; started anew: "
    f"{', '.join(found.anew) or 'nothing'}; it gets pixels of 0 to 1 less "
    f"{contract.mean:g}, over {contract.std:g}"
  )
  return found.variables


def load_subtree(
  source: str, name: str, contract: InputContract,
  settings: Mapping[str, Any],
) -> Any:  # fmt: skip
  """The parameters of `load_variables`."""
  return load_variables(source, name, contract, settings)["params"]


def load_variables(
  source: str, name: str, contract: InputContract,
  settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
  """Collections of one top-level module from a run's best, or its export.

  `settings` are the module's own (`config.encoder`): shapes alone do not tell
  the number of heads, nor how a tubelet is cut.

  Raises:
    FileNotFoundError: no run, no checkpoint and no file there.
    ValueError: trained under another input contract or architecture.
  """
  if path := weights_file(source):
    variables, record = read_exported(path)
  else:
    record, (_, variables) = read_record(Path(source)), best_variables(source)
  # That of a model of studies holds the one of its clips.
  of_clips = record["contract"].get("clip", record["contract"])
  contract.refuse_other(InputContract(**of_clips), source)
  theirs = record["config"].get(name)
  settings = json.loads(json.dumps(settings))  # JSON has no tuples
  if theirs != settings:
    raise ValueError(
      f"{source} has another {name}: its {name} "
      f"{_difference(theirs, settings)}"
    )
  left_out = ", ".join(
    f"{part} ({trees.count_parameters(of):,})"
    for part, of in variables["params"].items()
    if part != name
  )
  taken = {kind: of[name] for kind, of in variables.items() if name in of}
  print(
    f"{name} of {source}: {trees.count_parameters(taken['params']):,} "
    f"parameters taken; left out: {left_out or 'nothing'}"
  )
  return taken


def best_params(workdir: str) -> dict[str, Any]:
  """The parameters of `best_variables`."""
  return best_variables(workdir)[1]["params"]


def best_variables(workdir: str) -> tuple[int, dict[str, Any]]:
  """The step of a run's best checkpoint and its flax variables.

  Raises:
    FileNotFoundError: no run or no checkpoint there.
  """
  record = read_record(Path(workdir))
  folder = Path(workdir) / "checkpoints"
  with Checkpoints(folder, record["metric"]) as checkpoints:
    best = checkpoints.best()
    if best is None:
      raise FileNotFoundError(f"{workdir} has no checkpoint yet")
    state = checkpoints.restore_tree(best)
  params = state["aux"]["average"] or state["params"]
  return best, {"params": params, **(state["aux"]["collections"] or {})}


def load_best(
  experiment: Experiment, workdir: Path, step: int | None = None
) -> TrainState:
  """The best state of a finished or running experiment, or that of a step.

  Raises:
    FileNotFoundError: there is no checkpoint, or none of that step any more.
  """
  folder = Path(workdir) / "checkpoints"
  with Checkpoints(folder, experiment.metric) as checkpoints:
    best = checkpoints.best()
    if best is None:
      raise FileNotFoundError(f"{workdir} has no validated checkpoint yet")
    if step is not None and step not in checkpoints.steps():
      raise FileNotFoundError(
        f"{workdir} was evaluated at step {step}, which is no longer kept "
        f"(the best is {best} now); run `echo-jax evaluate {workdir}` again"
      )
    chosen = best if step is None else step
    return checkpoints.restore(chosen, state_shapes(experiment))


def prepare(
  source: str, settings: Sequence[str] = (), *, tiny: bool = False
) -> Experiment:
  """Builds the experiment of a file or module, with `key=value` settings.

  `tiny` is applied first, so that a setting may still change it.
  """
  module = load_module(source)
  config = module.get_config()
  if tiny:
    module.tiny(config)
  override(config, settings)
  return dataclasses.replace(
    module.build(config), source=source, tiny=tiny
  )


def rebuild(
  workdir: Path, *, with_data: bool = True, data_dir: Path | None = None
) -> Experiment:
  """The experiment of a run, from its record.

  Without data (for single files) the data set need not be there; with it, it
  must be the one that the run was trained on, in `data_dir` if it was moved.

  Raises:
    ValueError: the data set or the settings are not those of the record.
  """
  record = read_record(workdir)
  module, config = recorded_config(record)
  if data_dir is not None:
    config.data.dir = str(data_dir)
  if with_data:
    built = module.build(config)
    _refuse_other(built, workdir)
  else:
    built = module.build(config, record)
  return dataclasses.replace(
    built, source=record["experiment"], tiny=record["tiny"]
  )


def recorded_config(
  record: Mapping[str, Any],
) -> tuple[ModuleType, ml_collections.ConfigDict]:
  """The experiment's module of a run record, and the settings it was given."""
  module = load_module(record["experiment"])
  config = module.get_config()
  for key, value in flat_settings(record["config"]).items():
    # JSON has no tuples, configs have no lists.
    value = tuple(value) if isinstance(value, list) else value
    if value is not None:
      config.update_from_flattened_dict({key: value})
  return module, config


def evaluate(
  experiment: Experiment, workdir: Path, *, split: str | None = None,
  clips: int = 4, seed: int = 0, progress: bool = True, draw: bool = True,
  into: Path | None = None,
) -> list[Estimate]:  # fmt: skip
  """Judges the best checkpoint on a split and writes the report.

  Into the work directory, if no other folder is named with `into`; the split
  is the experiment's `data.test_split` if no other is named.

  A model of studies is judged again as if `missing_at_test` were not there,
  in folders of their own.  Figures are made if `draw` is set.

  Validation is predicted too: thresholds, intervals and the limit of the
  training domain come from it and never from the split that is judged.

  Raises:
    ValueError: a pre-training run, which predicts no target, or a split or a
      patient that the model was fitted or chosen on.
  """
  if clips < 1:
    raise ValueError(f"clips is {clips}; a video needs at least 1")
  if experiment.predict_step is None:
    raise ValueError(f"{workdir} is a pre-training run and predicts no target")
  train, validation = experiment.fit_splits
  named = leakage.test_split(experiment.config)
  split = named if split is None else split
  if split == train or split == validation != named:
    raise ValueError(
      f"the model was fitted or chosen on {split}; judge it on another split"
    )
  workdir, state = Path(workdir), load_best(experiment, workdir)
  out = workdir if into is None else Path(into)
  found = {}
  # A wrong name fails at once.
  for name in dict.fromkeys((split, train, validation)):
    index, batches = experiment.open_clips(name, clips)
    if name == split:
      leakage.check_judged(experiment.config, workdir, split, index)
    found[name] = index, predict_clips(
      experiment.predict_step, state, batches, name=name, progress=progress
    )
  judged = {name: found[name] for name in (split, validation)}
  rows = _rows_of(experiment, judged)
  with collected_notes() as notes:
    estimates = report_estimates(
      rows, split, seed, experiment.threshold, experiment.interval
    )
  if split == validation:
    notes.append(
      f"judged on {split}, which chose the checkpoint (data.test_split): "
      "flattering"
    )
  about = {
    "split": split, "clips_per_video": clips, "step": int(state.step),
    "contract": contract_hash(experiment), "data": list(experiment.data),
  }  # fmt: skip
  write_report(out, rows, estimates, about, split, notes, draw)
  for removed in experiment.missing_at_test:
    _evaluate_without(
      removed, experiment, state, out, tuple(judged), about, seed
    )
  seen, unseen = (
    mean_embeddings(found[name][1]) for name in (train, validation)
  )
  domain = fit_domain(seen, unseen) if len(unseen) >= 20 else None
  intervals = fit_intervals(rows, experiment.targets, validation)
  Reference(
    intervals, domain, clips, int(state.step), about["contract"],
    spacing_range(found[train][1]), seen_views(found[train][1]),
    seen_mixtures(found[validation][1], modalities_of(experiment)),
    trees.digest(experiment.frozen()),
  ).save(out / "reference.npz")
  return estimates


def _rows_of(
  experiment: Experiment,
  found: Mapping[str, tuple[pd.DataFrame, ClipPredictions]],
) -> pd.DataFrame:
  """Rows of the predictions table, of all splits that were predicted."""
  tables = [
    clip_rows(predicted, experiment.targets, index, experiment.level)
    for index, predicted in found.values()
  ]
  return pd.concat(tables, ignore_index=True)


def _evaluate_without(
  removed: str, experiment: Experiment, state: TrainState, out: Path,
  splits: Sequence[str], about: Mapping[str, Any], seed: int,
) -> None:  # fmt: skip
  """Judges a model of studies as if modalities had not been recorded.

  Into `without_<removed>`: rows and metrics as in the report.
  """
  found = {}
  for name in splits:
    index, batches = experiment.open_clips(name, about["clips_per_video"])
    lacking = (without(batch, removed.split("+")) for batch in batches)
    found[name] = index, predict_clips(
      experiment.predict_step, state, lacking, name=f"{name} less {removed}"
    )
  rows, split = _rows_of(experiment, found), about["split"]
  with collected_notes() as notes:
    estimates = report_estimates(
      rows, split, seed, experiment.threshold, experiment.interval
    )
  write_report(
    out / f"without_{removed}", rows, estimates,
    {**about, "removed": removed}, split, notes, draw=False,
  )  # fmt: skip


def modalities_of(experiment: Experiment) -> tuple[str, ...]:
  """What a model of studies reads; none of one of clips."""
  contract = experiment.contract
  return contract.modalities if experiment.level == "study" else ()


@dataclass(frozen=True)
class Evaluated:
  """An evaluated run, ready for single files or studies."""

  experiment: Experiment
  state: TrainState
  reference: Reference


def load_evaluated(workdir: Path) -> Evaluated:
  """The weights that were judged, and what a single prediction is judged by.

  Neither the data set nor the run that weights began from need be there; runs
  of frozen encoders that are not among the model's parameters must.

  Raises:
    FileNotFoundError: the run has no checkpoint or was not evaluated.
    ValueError: it was evaluated under another input contract.
  """
  path = Path(workdir) / "reference.npz"
  if not path.exists():
    raise FileNotFoundError(
      f"{workdir} has no reference.npz; run `echo-jax evaluate {workdir}` "
      "first, which measures intervals and the training domain"
    )
  experiment = rebuild(workdir, with_data=False)
  reference = Reference.load(path)
  if reference.contract != contract_hash(experiment):
    raise ValueError(
      f"{path} is of another input contract; run `echo-jax evaluate {workdir}` "
      "again"
    )
  if reference.frozen != trees.digest(experiment.frozen()):
    raise ValueError(
      f"{workdir} was evaluated with other frozen encoders than their runs "
      f"have now; run `echo-jax evaluate {workdir}` again"
    )
  state = load_best(experiment, workdir, reference.step)
  return Evaluated(experiment, state, reference)


def single_predictor(
  run: Path | Evaluated,
) -> Callable[[Record], Finding]:
  """A function of one video record, from an evaluated run or its folder.

  Raises:
    ValueError: a run whose model reads whole studies; and as `load_evaluated`.
  """
  run = run if isinstance(run, Evaluated) else load_evaluated(run)
  experiment = run.experiment
  if experiment.level != "clip":
    raise ValueError("this run predicts whole studies, not single videos")
  maker = ClipMaker(experiment.contract, experiment.targets)

  def predict(record: Record) -> Finding:
    if experiment.needs_times and np.isnan(record["frame_time_ms"]).any():
      raise UnknownTimes("frame times are unknown and the model needs them")
    return predict_record(
      record, maker, experiment.predict_step, run.state, experiment.targets,
      run.reference,
    )  # fmt: skip

  return predict


def study_predictor(
  run: Evaluated, stated: Stated = NOTHING_STATED, *, cut: bool = False
) -> tuple[StudyReader, Callable[[StudyInput, Mapping], StudyFinding]]:
  """How a run of whole studies reads a folder, and a function of what it read.

  Args:
    run: see `load_evaluated`.
    stated, cut: as of `StudyReader`.

  Raises:
    ValueError: a run whose model reads single clips.
  """
  made = run.experiment
  if made.level != "study":
    raise ValueError("this run predicts single videos, not whole studies")
  reader = StudyReader(
    StudyMaker(made.contract, made.targets, made.scale), run.reference.clips,
    made.needs_times, stated, cut, made.encode_signals,
  )  # fmt: skip

  def predict(study: StudyInput, record: Mapping[str, Any]) -> StudyFinding:
    return predict_study(
      study, record, made.predict_step, run.state, made.targets,
      made.contract.modalities, run.reference,
    )  # fmt: skip

  return reader, predict


def load_module(name: str) -> ModuleType:
  """An experiment by file path or dotted name."""
  path = Path(name)
  if not (name.endswith(".py") and path.exists()):
    # The packaged experiments are found from any folder.
    dotted = name.removesuffix(".py").replace("/", ".")
    if not _is_module(dotted):
      raise FileNotFoundError(f"no experiment {name}: neither file nor module")
    return importlib.import_module(dotted)
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _is_module(dotted: str) -> bool:
  try:
    return importlib.util.find_spec(dotted) is not None
  except ImportError:
    return False


def override(
  config: ml_collections.ConfigDict, settings: Sequence[str]
) -> None:
  """Applies `key.sub=value` settings; unknown keys and wrong types fail.

  Raises:
    ValueError: names the key, and the keys there are.
  """
  for setting in settings:
    key, separator, text = setting.partition("=")
    if not separator:
      raise ValueError(f"{setting!r} is not KEY=VALUE")
    value = _value_of(text)
    try:
      config.update_from_flattened_dict({key: value})
    except (KeyError, AttributeError, TypeError) as error:
      known = sorted(flat_settings(config.to_dict()))
      raise ValueError(
        f"cannot set {key} to {value!r}: {error}; settings are {known}"
      ) from error


def _value_of(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def with_data_dir(settings: Sequence[str], folder: Path | None) -> list[str]:
  """Settings for `override`, and `data.dir` where `--data-dir` gives it.

  Raises:
    ValueError: they have another `data.dir`.
  """
  if folder is None:
    return list(settings)
  for setting in settings:
    key, _, text = setting.partition("=")
    if key == "data.dir" and Path(str(_value_of(text))) != folder:
      raise ValueError(
        f"--data-dir is {folder} and --config.data.dir {text}; give one of them"
      )
  return [*settings, f"data.dir={str(folder)!r}"]


def numbered_settings(config: Mapping[str, Any]) -> dict[str, Any]:
  """By dotted name those that a number may depend on.

  Without what is as it was before there was a setting for it.
  """
  return {
    name: value
    for name, value in flat_settings(config).items()
    if name not in FREE_SETTINGS and not name.startswith(COMPUTE)
    and not (name in LATER and value == LATER[name])
  }  # fmt: skip


def flat_settings(
  config: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
  """All settings by dotted name."""
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if hasattr(value, "items"):
      flat |= flat_settings(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat
