"""One model of video, Doppler, ECG, records and genes; any may be missing.

Trained on whole studies, with any of the modalities and any fusion.  A frozen
video encoder comes from another run, and its features of a few fixed windows
of each cine are kept in `data.cache`; with `video.features=end_to_end` it is
trained with the rest, on a random window of each cine a step.  Encoders of
Doppler and ECG are trained with the rest, or taken frozen from runs of this
experiment that read them (`doppler.init_from`, `ecg.init_from`).

Example:
  echo-jax train experiments/multimodal.py --workdir runs/joint --tiny \\
    --config.data.dir=data --config.data.name=referral
  echo-jax train experiments/multimodal.py --workdir runs/joint \\
    --config.init_from=runs/mae --config.data.cache=runs/cache
  echo-jax evaluate runs/joint --clips 2
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict
from pandas import DataFrame

import echo_jax
from echo_jax import trees
from echo_jax.data.clinical import category_columns, number_columns
from echo_jax.data.contract import settings_hash
from echo_jax.data.controls import Change, Changed
from echo_jax.data.pipeline import Batch, training_batches
from echo_jax.data.schema import VIEWS
from echo_jax.data.sources import VideoSource, find_dataset, fingerprint
from echo_jax.data.studies import StudySource
from echo_jax.data.study_batches import (
  PreparedStudies,
  StudyMaker,
  count_notes,
  encode_signals,
  encode_studies,
  example_study,
  kept,
  prepare_signals,
  study_batches,
)
from echo_jax.data.study_contract import (
  LOCATIONS,
  TABLES,
  StudyContract,
  StudyScale,
)
from echo_jax.evaluation.predict import make_predict_step, validation_losses
from echo_jax.experiment import (
  Experiment,
  best_params,
  load_subtree,
  read_record,
)
from echo_jax.modalities import MODALITIES
from echo_jax.models.clinical import ClinicalEncoder
from echo_jax.models.doppler import DopplerEncoder
from echo_jax.models.ecg import ECGEncoder
from echo_jax.models.fusion import (
  BottleneckFusion,
  CrossAttentionFusion,
  GatedFusion,
  LateFusion,
)
from echo_jax.models.heads import Moments
from echo_jax.models.multimodal import StudyModel
from echo_jax.models.study import StudyEncoder
from echo_jax.models.trunk import Trunk
from echo_jax.objectives.objective import hold_fixed
from echo_jax.objectives.supervised import (
  make_supervised,
  standardise_from,
  study_arguments,
)
from echo_jax.objectives.weighting import Weighting
from echo_jax.targets import Target, count_outputs, target_named
from echo_jax.training.optimizers import make_adamw
from experiments import parts

FUSIONS = ("late", "gated", "bottleneck", "cross")
CACHED, END_TO_END = "cached", "end_to_end"
SIGNALS = ("doppler", "ecg")  # their encoders may come frozen
ENCODER = "^encoder/"


def get_config() -> ConfigDict:
  """Sizes for two cores: a minute a run on cached features."""
  config = ConfigDict()
  config.init_from = ""  # run of the video encoder
  config.targets = (
    "as_grade", "as_vmax_cm_s", "rhythm", "ef_pct", "disease", "mr_present",
    "la_ml", "segments_abnormal", "arrhythmic_event_2y",
  )  # fmt: skip
  config.loss = "huber"
  config.weighting = "fixed"  # or "uncertainty"
  # The model is chosen by the mean validation loss: what the signals tell
  # counts for more, or a task that is soon learnt too well ends the others.
  config.weights = ("as_grade:2", "as_vmax_cm_s:2", "rhythm:3")  # others: 1
  config.modalities = MODALITIES
  config.fusion = ConfigDict({"kind": "bottleneck", "depth": 2})
  config.modality_dropout = 0.3
  config.missing_at_test = MODALITIES
  # Largest loss of score, of a metric that 1 is the best of, with which a
  # joint model without a modality counts as no worse than one trained without
  # it.  Chosen, before any run.
  config.margin = 0.05
  config.input = parts.input_config()
  config.input.update({"size": 64, "channels": 1, "mean": 0.2, "std": 0.25})
  config.data = _data_config()
  config.encoder = parts.encoder_config("Ti")
  config.encoder.update({"width": 128, "depth": 2, "heads": 4})
  config.video = ConfigDict({"features": CACHED, "windows": 2, "cines": 6})
  config.doppler = ConfigDict({"coarsening": 2, "patch": 16, "init_from": ""})
  config.ecg = ConfigDict(
    {
      "hz": 100.0,
      "span_s": 10.0,
      "leads": ("i", "ii", "v1", "v5"),
      "patch": 50,
      "init_from": "",
    }
  )
  config.trunk = ConfigDict({"width": 64, "depth": 2, "heads": 4})
  config.optimizer = parts.optimizer_config(rate=1e-3)
  config.optimizer.warmup_steps = 40
  config.run = parts.run_config(steps=400, batch_size=32)
  config.compute = parts.compute_config()
  del config.run["validation_clips"]  # video.windows are
  return config.lock()


def _data_config() -> ConfigDict:
  """As of single videos, of one data set, with all views."""
  config = parts.data_config()
  for name in (
    "mix", "train_videos", "train_fraction", "fraction_seed", "change",
    "without", "only",
  ):  # fmt: skip
    del config[name]
  config.name = "referral"
  config.views = ()
  config.cache = ""  # folder of what is made once of a data set; "" for none
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Modalities, fusions, dropout and confounding, three seeds each."""
  for settings in arms("referral_confounded").values():
    for seed in range(3):
      yield {**settings, "run.seed": seed}


def arms(confounded: str = "") -> dict[str, dict[str, object]]:
  """What is compared, by name.

  Runs of one signal come first: others take their frozen encoders from there.
  `confounded` names a data set in which device and disease are tied.
  """
  found: dict[str, dict[str, object]] = {
    # their encoders begin with nothing, so they learn for longer
    f"{name} alone": {"modalities": (name,), "run.steps": 800}
    for name in SIGNALS
  }
  found["joint"] = {}
  for name in MODALITIES:
    found.setdefault(f"{name} alone", {"modalities": (name,)})
  for name in MODALITIES:
    others = tuple(one for one in MODALITIES if one != name)
    found[f"trained without {name}"] = {"modalities": others}
  found["no modality dropout"] = {"modality_dropout": 0.0}
  for kind in FUSIONS:
    if kind != get_config().fusion.kind:
      found[f"{kind} fusion"] = {"fusion.kind": kind}
  if confounded:
    found["confounded"] = {"data.name": confounded}
    found["video alone, confounded"] = {
      "data.name": confounded, "modalities": ("video",),
    }  # fmt: skip
  return found


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths but for the features."""
  config.update_from_flattened_dict(
    {
      "input.size": 32,
      "encoder.width": 32,
      "encoder.depth": 1,
      "encoder.heads": 2,
      "video.features": END_TO_END,
      "video.cines": 2,
      "doppler.coarsening": 8,
      "doppler.patch": 4,
      "ecg.leads": ("i", "ii"),
      "fusion.kind": "gated",
      "trunk.width": 16,
      "trunk.depth": 1,
      "trunk.heads": 2,
      "optimizer.warmup_steps": 2,
      "run.steps": 8,
      "run.batch_size": 4,
    }
  )


def build(
  config: ConfigDict, record: Mapping[str, Any] | None = None
) -> Experiment:
  """Unpacks the settings; nothing below sees a config.

  With the record of a trained run, the scale comes from there and no data set
  is opened before its studies are asked for.
  """
  contract = make_contract(config)
  normalise = parts.make_normalise(contract.clip)
  if config.compute.accumulate > 1 and config.modality_dropout:
    raise ValueError(
      f"compute.accumulate is {config.compute.accumulate}, but modalities are "
      "dropped for whole batches; use 1, or modality_dropout 0"
    )
  targets = parts.make_targets(config)
  weighting = make_weighting(config, targets)
  freeze = frozen_names(config)
  rule = dataclasses.replace(parts.make_adamw_rule(config), freeze=freeze)
  split, run = config.data, config.run
  source = cache(partial(open_studies, config, targets))
  if record is None:
    scale = measure_scale(source(split.train_split), targets)
    data = [fingerprint(find_dataset(Path(split.dir), split.name))]
    parts.refuse_unknown(
      targets, parts.truths(source(split.validation_split).index, targets),
      split.validation_split,
    )  # fmt: skip
  else:
    scale, data = StudyScale.from_dict(record["scale"]), record["data"]
  model = make_model(config, contract, count_outputs(targets))
  maker = StudyMaker(contract, targets, scale)
  drawn = StudyMaker(contract, targets, scale, parts.make_augmentation(config))
  # Read and compiled once, not for each split.
  encoder = cache(partial(load_encoder, config, contract))
  frozen = cache(partial(load_frozen, config))
  with_tokens = with_frozen(config, model, frozen)
  signals = cache(partial(read_signals, config, with_tokens, maker, source))
  studies = cache(
    partial(
      prepare, config, make_encode(model, contract), maker, source, signals,
      encoder,
    )
  )  # fmt: skip

  def init(key: jax.Array) -> dict:
    example = example_study(contract)
    for name in frozen_signals(config):
      count = {"doppler": len(LOCATIONS), "ecg": 1}[name]
      shape = (1, count, config.trunk.width)
      example[f"{name}_tokens"] = np.zeros(shape, np.float32)
    variables = jax.jit(model.init)(key, example)
    params = variables["params"] | weighting.parameters(targets)
    return variables | {"params": params}

  def warm_start(variables: dict) -> dict:
    if not config.init_from or "encoder" not in variables["params"]:
      return variables
    return parts.replace_subtree(variables, "encoder", encoder())

  def batches_of(ready: PreparedStudies, windows: int) -> Iterator[Batch]:
    return study_batches(
      ready, maker, batch_size=run.batch_size, windows=windows,
      threads=split.threads,
    )  # fmt: skip

  def open_clips(
    name: str, clips: int, change: Change | None = None
  ) -> tuple[DataFrame, Iterator[Batch]]:
    def lazily() -> Iterator[Batch]:  # who is in a split costs no features
      opened = studies(name, clips, change)
      yield from batches_of(opened, clips)

    return source(name).index, lazily()

  predict_step = make_predict_step(
    model, normalise, targets, scale, study_arguments
  )
  windows = config.video.windows
  return Experiment(
    config=config.to_dict(),
    contract=contract,
    model=model,
    init=init,
    warm_start=warm_start,
    objective=hold_fixed(
      make_supervised(
        model, normalise, targets, scale, config.loss, weighting,
        study_arguments,
      ),
      freeze,
    ),
    optimizer=make_adamw(rule),
    batches=lambda first, rows=None: training_batches(
      studies(split.train_split, windows), drawn, seed=run.seed,
      batch_size=run.batch_size, first_step=first, rows=rows,
      **parts.readers(config),
    ),
    validate=validation_losses(
      predict_step,
      lambda: batches_of(studies(split.validation_split, windows), windows),
      targets, scale, weighting.weights,
    ),
    predict_step=predict_step,
    open_clips=open_clips,
    level="study",
    frozen=frozen,
    encode_signals=with_tokens,
    missing_at_test=missing_of(config),
    data=data,
    targets=targets,
    scale=scale,
    needs_times=parts.needs_times(config),
    **parts.run_settings(config),
  )  # fmt: skip


def make_contract(config: ConfigDict) -> StudyContract:
  """The study contract of the config."""
  return StudyContract(
    parts.make_contract(config), config.modalities, config.video.cines,
    config.doppler.coarsening, config.ecg.hz, config.ecg.span_s,
    config.ecg.leads,
  )  # fmt: skip


def make_weighting(
  config: ConfigDict, targets: Sequence[Target]
) -> Weighting:
  """How much each target counts; those that are not named in weights, 1.

  Names of targets that this run has not are left out, and all where the
  weights are learned (`weighting="uncertainty"`).

  Raises:
    ValueError: an entry that is not "target:number".
  """
  named = {}
  for entry in config.weights:
    name, _, number = entry.partition(":")
    if target_named(name) and not number.replace(".", "", 1).isdigit():
      raise ValueError(f"weights has {entry!r}; want target:number, rhythm:3")
    named[name] = float(number)
  weights = tuple(named.get(target.name, 1.0) for target in targets)
  if config.weighting != "fixed":
    weights = ()
  weighting = Weighting(config.weighting, weights)
  weighting.check(targets)
  return weighting


def missing_of(config: ConfigDict) -> tuple[str, ...]:
  """What of `missing_at_test` a model has and can do without.

  Raises:
    ValueError: a name that is no modality.
  """
  if strange := set("+".join(config.missing_at_test).split("+")) - {
    *MODALITIES, ""
  }:
    raise ValueError(
      f"missing_at_test has {sorted(strange)}; there are {MODALITIES}"
    )
  ours = set(config.modalities)
  return tuple(
    names for names in config.missing_at_test if set(names.split("+")) < ours
  )


def make_model(
  config: ConfigDict, contract: StudyContract, outputs: int
) -> StudyModel:
  """The encoders that the modalities need, and the fusion."""
  # One each: a module that is handed to two would be one set of weights.
  trunk = partial(Trunk, **config.trunk)
  columns = {
    name: ClinicalEncoder(
      trunk(), len(number_columns(table)),
      tuple(len(column.categories) for column in category_columns(table)),
    )
    for name, table in TABLES.items()
  }  # fmt: skip
  width, heads = config.trunk.width, config.trunk.heads
  encoders = {
    "video": StudyEncoder(len(VIEWS), width, 1, heads),
    "doppler": DopplerEncoder(trunk(), config.doppler.patch),
    "ecg": ECGEncoder(trunk(), config.ecg.hz, config.ecg.patch),
    **columns,
  }
  ours = {name: encoders[name] for name in contract.modalities}
  if "video" in ours:
    ours |= {"encoder": parts.make_encoder(config), "pool": Moments()}
  return StudyModel(
    make_fusion(config, contract.modalities, outputs), **ours,
    leads=contract.lead_places, modality_dropout=config.modality_dropout,
  )  # fmt: skip


def make_fusion(
  config: ConfigDict, modalities: tuple[str, ...], outputs: int
) -> nn.Module:
  """The fusion that `config.fusion.kind` asks for."""
  fusion, width, heads = config.fusion, config.trunk.width, config.trunk.heads
  match fusion.kind:
    case "late":
      return LateFusion(modalities, outputs, width)
    case "gated":
      return GatedFusion(modalities, outputs, width)
    case "bottleneck":
      return BottleneckFusion(modalities, outputs, width, fusion.depth, heads)
    case "cross":
      return CrossAttentionFusion(
        modalities, outputs, width, fusion.depth, heads
      )
  raise ValueError(f"no fusion {fusion.kind!r}; there are {FUSIONS}")


def frozen_names(config: ConfigDict) -> str:
  """Pattern of what is not trained: with cached features, the encoder too.

  Raises:
    ValueError: no such way to features, or cached ones of no encoder.
  """
  features = config.video.features
  if features not in (CACHED, END_TO_END):
    raise ValueError(
      f"video.features is {features!r}; wants {CACHED!r} or {END_TO_END!r}"
    )
  if features == END_TO_END or "video" not in config.modalities:
    return config.optimizer.freeze
  if not config.init_from:
    raise ValueError(
      "video.features=cached takes the features of a trained encoder: set "
      "init_from to its run, or video.features=end_to_end"
    )
  return "|".join(filter(None, (config.optimizer.freeze, ENCODER)))


def load_encoder(config: ConfigDict, contract: StudyContract) -> Any:
  """Weights of the clip encoder from the run that `init_from` names."""
  return load_subtree(
    config.init_from, "encoder", contract.clip, config.encoder.to_dict()
  )


def open_studies(
  config: ConfigDict, targets: Sequence[Target], split: str,
  change: Change | None = None,
) -> StudySource:  # fmt: skip
  """The studies of a split; says what of them is not used."""
  data = config.data
  videos = VideoSource(find_dataset(Path(data.dir), data.name), split)
  usable = np.ones(len(videos), bool)
  for fits in parts.conditions(config, videos, ()).values():
    usable &= fits()
  records = Changed(videos, change) if change else videos
  studies = StudySource(records, usable, config.video.cines)
  if not len(studies):
    raise ValueError(f"{data.name} has no study in split {split}")
  cines = int((videos.index["kind"] == "cine").sum())
  print(
    f"{data.name} {split}: {len(studies)} studies of {len(videos)} records; "
    f"{cines} cines, {int(usable.sum())} usable, {studies.left_out} of these "
    f"left out beyond {config.video.cines} a study"
  )
  read = {name for target in targets for name in target.sources}
  read |= {column.name for table in TABLES.values() for column in table}
  for name in sorted(read & set(studies.contradictions)):
    print(
      f"  {name}: unknown in {studies.contradictions[name]} studies whose "
      "records contradict each other"
    )
  return studies


def measure_scale(
  source: StudySource, targets: Sequence[Target]
) -> StudyScale:
  """Statistics of the training split."""
  truth = parts.truths(source.index, targets)
  return StudyScale.measured(standardise_from(targets, truth), source)


def read_signals(
  config: ConfigDict, with_tokens: Callable[[Batch], Batch],
  maker: StudyMaker, source: Callable[..., StudySource], split: str,
  change: Change | None = None,
) -> Batch:  # fmt: skip
  """Spectra and ECGs of a split, or what frozen encoders make of them.

  Says what of them is not used.
  """
  contract = maker.contract
  path = _place(
    config, change, split, "signals", coarsening=contract.coarsening,
    ecg=[contract.ecg_hz, contract.ecg_span_s, *contract.ecg_leads],
  )  # fmt: skip
  studies = source(split, change) if change else source(split)
  signals = kept(path, lambda: prepare_signals(studies, maker, split))
  notes = [tuple(note) for note in signals.pop("notes")]
  rows = studies.index.to_dict("records")
  notes += [note for row in rows for note in maker.tables(row)[1]]
  for line in count_notes(notes):
    print(f"  {split}: {line}")
  return with_tokens(signals)


def load_frozen(config: ConfigDict) -> dict[str, Any]:
  """Weights of the signals' frozen encoders, by modality."""
  return {
    name: load_signal_encoder(config, name) for name in frozen_signals(config)
  }


def with_frozen(
  config: ConfigDict, model: StudyModel,
  frozen: Callable[[], Mapping[str, Any]],
) -> Callable[[Batch], Batch]:  # fmt: skip
  """A function of signals: the same with what frozen encoders make of them."""
  encoders = {
    name: make_encode_signal(model, name) for name in frozen_signals(config)
  }

  def encode(signals: Batch) -> Batch:
    for name, encode_one in encoders.items():
      signals = encode_signals(
        signals, name, partial(encode_one, frozen()[name])
      )
    return signals

  return encode


def prepare(
  config: ConfigDict, encode: Callable, maker: StudyMaker,
  source: Callable[..., StudySource], signals: Callable[..., Batch],
  encoder: Callable[[], Any], split: str, windows: int,
  change: Change | None = None,
) -> PreparedStudies:  # fmt: skip
  """A split whose signals, and features of a frozen encoder, are ready."""
  contract = maker.contract
  studies = source(split, change) if change else source(split)
  place = partial(_place, config, change, split)
  clips, features = "video" in contract.modalities, None
  if clips and config.video.features == CACHED:
    weights = encoder()
    features = kept(
      place(
        "features", contract=dataclasses.asdict(contract.clip),
        cines=contract.cines, windows=windows, views=config.data.views,
        kinds=config.data.kinds, weights=trees.digest(weights),
        encoder=config.encoder.to_dict(),
      ),
      lambda: encode_studies(
        studies, maker, partial(encode, weights), windows, split
      ),
    )  # fmt: skip
  ready = PreparedStudies(
    studies, maker, signals(split, change), features, clips
  )
  there = ", ".join(f"{n} {name}" for name, n in ready.counts().items())
  print(f"{config.data.name} {split}: of {len(ready)} studies have {there}")
  return ready


def frozen_signals(config: ConfigDict) -> tuple[str, ...]:
  """Modalities whose encoder comes frozen from a run of its own."""
  return tuple(
    name
    for name in SIGNALS
    if name in config.modalities and config[name].init_from
  )


def load_signal_encoder(config: ConfigDict, name: str) -> Any:
  """Weights of a signal's encoder from the run that it comes from.

  Raises:
    ValueError: the run has another encoder, or took its own from elsewhere.
  """
  run = config[name].init_from
  theirs = read_record(Path(run))["config"]
  for section in (name, "trunk"):
    ours = {k: v for k, v in config[section].items() if k != "init_from"}
    other = {k: v for k, v in theirs[section].items() if k != "init_from"}
    if json.loads(json.dumps(ours)) != other:
      raise ValueError(f"{run} has another {section}: {other}, here {ours}")
  if theirs[name]["init_from"]:
    raise ValueError(
      f"{run} took its {name} encoder from {theirs[name]['init_from']}; name "
      "that run"
    )
  return best_params(run)[name]


def make_encode_signal(model: StudyModel, name: str) -> Callable:
  """The encoder of a signal, compiled: (weights, arrays) -> tokens [b n d]."""

  @jax.jit
  def encode(params, arrays):
    variables = {"params": {name: params}}
    return model.apply(variables, arrays, method=f"encode_{name}")

  return encode


def make_encode(model: StudyModel, contract: StudyContract) -> Callable:
  """The encoder of clips, compiled.

  (weights, video uint8, frame_valid) -> features [b e].
  """
  normalise = parts.make_normalise(contract.clip)

  @jax.jit
  def encode(weights, video, frame_valid):
    return model.apply(
      {"params": {"encoder": weights}}, normalise(video), frame_valid,
      method="encode_clips",
    )  # fmt: skip

  return encode


def _place(
  config: ConfigDict, change: Change | None, split: str, what: str, **on: Any
) -> Path | None:
  """The file of something made once, named by all that it depends on."""
  if not config.data.cache or change:
    return None
  data = fingerprint(find_dataset(Path(config.data.dir), config.data.name))
  on |= {"data": data, "split": split, "version": echo_jax.__version__}
  name = f"{config.data.name}-{split}-{what}-{settings_hash(on)}.npz"
  return Path(config.data.cache) / name
