"""Parts that experiments are put together from: config sections to objects."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict, config_dict
from tqdm import tqdm

from echo_jax.data.clips import UnknownBeats, windows_of_beats
from echo_jax.data.contract import InputContract, normalise
from echo_jax.data.controls import CHANGES, Change, Changed
from echo_jax.data.mixing import Mixture, parse_mix
from echo_jax.data.pipeline import Subset
from echo_jax.data.schema import KINDS, VIEWS
from echo_jax.data.sources import VideoSource, find_dataset, fingerprint
from echo_jax.data.splits import in_fraction
from echo_jax.data.transforms import Augmentation
from echo_jax.experiment import load_encoder
from echo_jax.models.cnn import VideoCNN
from echo_jax.models.heads import AttentivePool, MaxPool, MeanPool, Moments
from echo_jax.models.layers import Execution
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.predictor import PARTS, Encoder
from echo_jax.models.recurrent import GRUHead
from echo_jax.models.stf_net import STFNet
from echo_jax.models.video_resnet import VideoResNet
from echo_jax.models.video_vit import SIZES, VideoViT
from echo_jax.models.vivit import ViViT
from echo_jax.objectives.masks import MaskRule
from echo_jax.objectives.weighting import Weighting
from echo_jax.targets import Target, layout, target_named, truths_of
from echo_jax.training import sharding
from echo_jax.training.collapse import Limits
from echo_jax.training.loop import Pace
from echo_jax.training.optimizers import AdamWRule

GROUPED = ("device", "site", "view", "sex", "quality")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
RESNETS = {"r3d_18": False, "r2plus1d_18": True}  # whether it is factored


def input_config() -> ConfigDict:
  """The clip of the paper's size, drawn in seconds."""
  return ConfigDict(
    {
      "frames": 16,
      "span_s": 1.4,
      "span_beats": 0,  # heartbeats a clip covers; 0: span_s decides
      "size": 224,
      "channels": 3,
      "mean": 0.0,
      "std": 1.0,
      "outside": "kept",  # or "black": nothing beside the sector is seen
      "aspect": "kept",  # or "stretched", as released
    }
  )


def start_config() -> ConfigDict:
  """Where the encoder's first weights are from; see `make_warm_start`."""
  return ConfigDict(
    {
      "init_from": "",  # a run, an export, or a file of other weights
      "init_anew": (),  # of other weights: "positions", "pooler"
    }
  )


def encoder_config(size: str = "B") -> ConfigDict:
  """A VideoViT of a standard size with 2 x 16 x 16 tubelets."""
  shape = SIZES[size]._asdict()
  return ConfigDict(
    shape
    | {
      "patch": 16,
      "tubelet": 2,
      "mlp_ratio": 4.0,
      "final_norm": True,  # Echo-Vision-FM's released encoder has none
    }
  )


def vivit_config() -> ConfigDict:
  """ViViT-B/16x2, read as the released baseline does: its pooler's output."""
  return ConfigDict(
    {"kind": "vivit"}
    | SIZES["B"]._asdict()
    | {"patch": 16, "tubelet": 2, "mlp_ratio": 4.0, "readout": "pooled"}
  )


def resnet_config(kind: str) -> ConfigDict:
  """torchvision's "r3d_18" or "r2plus1d_18".

  With 400 `classes` the last layer of its Kinetics weights stays, whose scores
  the released baseline takes as features (head "mean").
  """
  return ConfigDict(
    {
      "kind": kind,
      "widths": VideoResNet.widths,
      "blocks": VideoResNet.blocks,
      "classes": 0,
    }
  )


def cnn_config() -> ConfigDict:
  """A VideoCNN of three blocks, whose tokens are as wide as 2 x 8 x 8."""
  return ConfigDict(
    {"kind": "cnn", "width": 16, "depth": 3, "tubelet": 2, "groups": 4}
  )


def head_config() -> ConfigDict:
  """STF-Net as described; `hidden` is the width of its attention (or GRU).

  `heads` and `blocks` are of the attentive head, see `heads.AttentivePool`.
  """
  return ConfigDict(
    {
      "name": "stf",
      "axes": "described",
      "norm": "group",
      "time": "seconds",
      "slice_mixer": "whole",
      "hidden": 1024,
      "attention_init": "fan_in",  # or "released"
      "heads": 8,
      "blocks": (),  # (8, 7, 7): tokens that it reads; empty: all
      "paths": "both",  # or "joint" or "disjoint" alone
      "layers": (),  # (200, 100) as released without linear prediction
    }
  )


def mask_config(ratio: float = 0.85) -> ConfigDict:
  """Tubes as described; see `objectives.masks.MaskRule`."""
  return ConfigDict(dataclasses.asdict(MaskRule(ratio)))


def collapse_config() -> ConfigDict:
  """When training stops since clips look alike; see `training.collapse`."""
  return ConfigDict(dataclasses.asdict(Limits()))


def data_config() -> ConfigDict:
  """Where records come from and what happens to clips in training."""
  return ConfigDict(
    {
      "dir": "data",
      "name": "synthetic_echo",
      "mix": (),  # ("mimic_iv_echo:0.8", "echonet_dynamic:0.2") for `name`
      "train_split": "train",
      "validation_split": "validation",
      "test_split": "test",  # "validation" as in the released code of 2024
      "train_videos": 0,  # 0: all; else so many, for label studies
      "train_fraction": 1.0,  # of the training patients, see in_fraction
      "fraction_seed": 0,  # which ones: a smaller part is in a larger one
      "allow_leakage": False,  # True: train though a patient is judged on
      "change": "",  # a control of echo_jax/data/controls.py, "" for none
      "kinds": ("cine",),  # empty: any
      "views": ("A4C",),  # empty: any
      # Of training and validation only: "device=device-c", or "site=a|b".
      "without": "",  # videos that are left out
      "only": "",  # videos that are kept, others are left out
      "threads": 2,
      "workers": 0,  # processes instead of threads
    }
    | dataclasses.asdict(Augmentation())
  )


def optimizer_config(rate: float) -> ConfigDict:
  """AdamW; `freeze` is a regular expression of parameter names."""
  return ConfigDict(
    {
      "rate": rate,
      "warmup_steps": 0,
      "start_rate": 0.0,
      "end_rate": 0.0,
      "betas": (0.9, 0.95),
      "weight_decay": 0.05,
      "clip_norm": 1.0,
      "layer_decay": 1.0,
      "freeze": "",
      "decay": "matrices",  # or "all": biases and norms too, as released
    }
  )


def run_config(steps: int, batch_size: int) -> ConfigDict:
  """Length of a run and its intervals, in steps."""
  return ConfigDict(
    {
      "seed": 0,
      "steps": steps,
      "batch_size": batch_size,
      "log_every": 20,
      "validate_every": config_dict.placeholder(int),
      "save_every": config_dict.placeholder(int),
      "validation_clips": 1,
      "average_decay": 0.0,
      "dtype": "float32",
      "tensorboard": False,
    }
  )


def compute_config() -> ConfigDict:
  """How a run uses its devices; may change when it goes on.

  `remat` and `scan` are those of `models.layers.Execution`; `accumulate` parts
  of a batch are taken one after another; `data` (0: the rest), `fsdp` and
  `model` arrange the devices, see `training.sharding`.
  """
  return ConfigDict(
    {
      "remat": "none",
      "scan": False,
      "accumulate": 1,
      "data": 0,
      "fsdp": 1,
      "model": 1,
    }
  )


def make_execution(config: ConfigDict) -> Execution:
  """How blocks are computed, by `config.compute`."""
  return Execution(
    config.compute.remat, config.compute.scan, sharding.split_rows,
    sharding.gather_weights, sharding.on_each_device,
  )  # fmt: skip


def refuse_execution(config: ConfigDict, of: str) -> None:
  """Raises ValueError where settings of blocks are set and there are none."""
  compute = config.compute
  if compute.remat != "none" or compute.scan:
    raise ValueError(
      f"compute.remat is {compute.remat!r}, compute.scan {compute.scan}, but "
      f"{of} has no transformer blocks; leave them at 'none' and False"
    )


def run_settings(config: ConfigDict) -> dict[str, Any]:
  """What every `Experiment` has of `config.run` and `config.compute`."""
  run, compute = config.run, config.compute
  if compute.accumulate < 1:
    raise ValueError(f"compute.accumulate is {compute.accumulate}, wants >= 1")
  return {
    "seed": run.seed,
    "pace": make_pace(config),
    "average_decay": run.average_decay,
    "tensorboard": run.tensorboard,
    "fit_splits": (config.data.train_split, config.data.validation_split),
    "batch_size": run.batch_size,
    "accumulate": compute.accumulate,
    "mesh_shape": sharding.MeshShape(
      compute.data, compute.fsdp, compute.model
    ),
  }


def pick(table: Mapping[str, Any], name: str, what: str) -> Any:
  """The entry of that name; an unknown one is refused with those there are."""
  if name not in table:
    raise ValueError(f"no {what} {name!r}; there are {sorted(table)}")
  return table[name]


def make_contract(config: ConfigDict) -> InputContract:
  """The input contract of `config.input`."""
  return InputContract(**config.input)


def make_normalise(contract: InputContract):
  """The device side of a contract as a function of raw video."""
  return partial(normalise, contract=contract)


def make_encoder(config: ConfigDict) -> Encoder:
  """The encoder of `config.encoder`; a ViT's is for the contract's grid."""
  clip, settings = config.input, config.encoder.to_dict()
  shared = {
    "channels": clip.channels, "dtype": pick(DTYPES, config.run.dtype, "dtype")
  }  # fmt: skip
  kind = settings.pop("kind", "vit")
  if kind in ("cnn", *RESNETS):
    refuse_execution(config, f"a {kind}")
  if kind == "cnn":
    return VideoCNN(**settings, **shared)
  if kind in RESNETS:
    return VideoResNet(factored=RESNETS[kind], **settings, **shared)
  if kind not in ("vit", "vivit"):
    raise ValueError(
      f"no encoder {kind!r}: vit, vivit, cnn, {' or '.join(RESNETS)}"
    )
  grid = (
    clip.frames // settings.get("tubelet", VideoViT.tubelet),
    *(clip.size // settings.get("patch", VideoViT.patch),) * 2,
  )
  make = VideoViT if kind == "vit" else ViViT
  return make(
    **settings, grid=grid, execution=make_execution(config), **shared
  )


def make_warm_start(
  config: ConfigDict, contract: InputContract, encoder: Encoder
) -> Callable[[dict], dict]:
  """Variables -> the same with the encoder of `config.init_from`, if any.

  Raises:
    ValueError: `init_anew` without it; or see `load_encoder`, when called.
  """
  if config.init_anew and not config.init_from:
    raise ValueError(
      f"init_anew is {config.init_anew}, but init_from is empty: all is anew"
    )

  def warm_start(variables: dict) -> dict:
    if not config.init_from:
      return variables
    taken = load_encoder(
      config.init_from, contract, config.encoder.to_dict(), encoder,
      take_subtree(variables, "encoder"), config.init_anew,
    )  # fmt: skip
    for kind, of in taken.items():
      variables = replace_subtree(variables, "encoder", of, kind)
    return variables

  return warm_start


def make_decoder(settings: ConfigDict, encoder: Encoder) -> MAEDecoder:
  """A decoder, or a predictor, of such settings for an encoder's tokens."""
  return MAEDecoder(
    **settings, dtype=encoder.dtype, execution=encoder.execution
  )


def make_head(config: ConfigDict) -> nn.Module:
  """The pooling head that `config.head.name` asks for."""
  head = config.head
  match head.name:
    case "stf":
      return STFNet(
        axes=head.axes, norm=head.norm, time=head.time,
        slice_mixer=head.slice_mixer, attention_hidden=head.hidden,
        attention_init=head.attention_init, paths=head.paths,
        dtype=pick(DTYPES, config.run.dtype, "dtype"),
      )  # fmt: skip
    case "moments":
      return Moments()
    case "max":
      return MaxPool()
    case "mean":
      return MeanPool()
    case "gru":
      return GRUHead(width=head.hidden)
    case "attentive":
      return AttentivePool(
        head.heads, tuple(head.blocks),
        dtype=pick(DTYPES, config.run.dtype, "dtype"),
      )  # fmt: skip
  raise ValueError(
    f"no head {head.name!r}: stf, moments, max, mean, gru or attentive"
  )


def frozen_parts(freeze: str) -> tuple[str, ...]:
  """Parts of a predictor that the pattern of `optimizer.freeze` takes whole.

  A pattern of less ("^encoder/block_0/") leaves its part in training mode.
  """
  return tuple(p for p in PARTS if freeze and re.search(freeze, f"{p}/"))


def make_augmentation(config: ConfigDict) -> Augmentation:
  """What `config.data` says may happen to a training clip."""
  names = [field.name for field in dataclasses.fields(Augmentation)]
  return Augmentation(**{name: config.data[name] for name in names})


def readers(config: ConfigDict) -> dict[str, int]:
  """How many threads or processes read training clips."""
  return {"threads": config.data.threads, "workers": config.data.workers}


def make_adamw_rule(config: ConfigDict) -> AdamWRule:
  """The optimiser of `config.optimizer` for the run's length."""
  return AdamWRule(
    steps=config.run.steps, encoder_depth=make_encoder(config).depth,
    **config.optimizer,
  )  # fmt: skip


def make_pace(config: ConfigDict) -> Pace:
  """Intervals; unset ones are a tenth of the run."""
  run = config.run
  if not 0 <= run.average_decay < 1:
    raise ValueError(f"run.average_decay is {run.average_decay}, wants 0 to 1")
  tenth = max(run.steps // 10, 1)
  return Pace(
    run.steps, min(run.log_every, tenth), run.validate_every or tenth,
    run.save_every or run.validate_every or tenth,
  )  # fmt: skip


def open_split(
  config: ConfigDict,
  split: str,
  targets: Sequence[Target] = (),
  change: Change | None = None,
) -> Subset | Changed | Mixture:
  """Videos of a split that the experiment can use; says what it left out.

  A video is used if its kind and view are asked for, its frame times, beats
  and sector are known where they are needed, and one target at least is.
  `change` goes before the one that `config.data.change` names.

  `data.without` and `data.only` hold for the splits that a model is fitted
  and chosen on; others stay whole, so that it is judged on what it never saw.
  """
  names, weights = cohorts_of(config)
  if len(names) > 1 and config.data.train_videos:
    raise ValueError("data.train_videos needs one data set; data.mix has more")
  opened = [_open_one(config, name, split, targets, change) for name in names]
  return Mixture(names, weights, opened) if config.data.mix else opened[0]


def cohorts_of(
  config: ConfigDict,
) -> tuple[tuple[str, ...], tuple[float, ...]]:
  """Data sets of an experiment and their weights."""
  return parse_mix(config.data.mix) if config.data.mix else (
    (config.data.name,), (1.0,)
  )  # fmt: skip


def _open_one(
  config: ConfigDict,
  name: str,
  split: str,
  targets: Sequence[Target],
  change: Change | None,
) -> Subset | Changed:
  data = config.data
  source = VideoSource(find_dataset(Path(data.dir), name), split)
  count = len(source)
  usable, left_out = np.ones(count, bool), []
  fits_of = conditions(config, source, targets)
  if split in (data.train_split, data.validation_split):
    fits_of |= chosen_groups(config, split, source.index)
  for reason, fits in fits_of.items():
    kept = usable & fits()
    if lost := int(usable.sum() - kept.sum()):
      left_out.append(f"{lost} by {reason}")
    usable = kept
  positions = np.flatnonzero(usable)
  if split == data.train_split:
    positions, why = _fewer(config, source, positions)
    left_out += why
  found = (
    f"{name} {split}: {count} videos, {len(positions)} used, "
    f"{count - len(positions)} left out ({', '.join(left_out) or 'none'})"
  )
  if not len(positions):
    raise ValueError(
      f"no usable video in {found}; look at data.kinds, data.views and what "
      "is known of the videos, or choose another split"
    )
  print(found)
  videos = Subset(source, positions)
  ours = pick(CHANGES, data.change, "change") if data.change else None
  for each in (change, ours):
    videos = Changed(videos, each) if each else videos
  return videos


def _fewer(
  config: ConfigDict, source: VideoSource, positions: np.ndarray
) -> tuple[np.ndarray, list[str]]:
  """Training videos of a part of the patients, or so many of them, and why."""
  data, left_out = config.data, []
  if data.train_fraction != 1:
    people = source.index["patient_id"].iloc[positions].tolist()
    kept = in_fraction(people, data.train_fraction, data.fraction_seed)
    left_out.append(f"{int((~kept).sum())} by train_fraction")
    positions = positions[kept]
  if data.train_videos:
    if data.train_videos > len(positions):
      raise ValueError(
        f"train_videos is {data.train_videos}, {data.train_split} has "
        f"{len(positions)}"
      )
    # Spread over the split: its order may follow patients or dates.
    chosen = np.linspace(0, len(positions) - 1, data.train_videos).astype(int)
    left_out.append(f"{len(positions) - len(chosen)} by train_videos")
    positions = positions[chosen]
  return positions, left_out


def conditions(
  config: ConfigDict, source: VideoSource, targets: Sequence[Target]
) -> dict[str, Callable[[], np.ndarray]]:
  """What a video must fulfil, by the reason that leaves it out."""
  data, index = config.data, source.index
  conditions = {}
  for column, wanted, known in (
    ("kind", data.kinds, KINDS), ("view", data.views, VIEWS)
  ):  # fmt: skip
    if strange := set(wanted) - set(known):
      raise ValueError(
        f"data.{column}s has {sorted(strange)}; there are {known}"
      )
    if wanted:
      conditions[column] = partial(_among, index[column], wanted)
  if needs_times(config):
    conditions["unknown time"] = lambda: index["span_ms"].notna().to_numpy()
  if config.input.span_beats:
    beats = config.input.span_beats
    conditions["unknown beats"] = partial(know_beats, source, beats)
  if needs_sector(config):
    if "has_sector" not in index:
      raise ValueError(
        "the index of the data set does not say which videos have a sector, "
        "which outside='black', mask.in_sector and augmentations along rays "
        "need; build it again with this version of echo_jax"
      )
    conditions["unknown sector"] = lambda: index["has_sector"].to_numpy(bool)
  if targets:
    known = ~np.isnan(truths(index, targets)).all(axis=1)
    conditions["unknown label"] = lambda: known
  return conditions


def chosen_groups(
  config: ConfigDict, split: str, index: Any
) -> dict[str, Callable[[], np.ndarray]]:
  """What `data.without` and `data.only` ask of a video, by column.

  Raises:
    ValueError: not COLUMN=VALUE, or a value that no training video has, of
      which nothing could be left out.
  """
  data, found = config.data, {}
  for setting in ("without", "only"):
    if not data[setting]:
      continue
    column, _, text = data[setting].partition("=")
    if column not in GROUPED or not text:
      raise ValueError(
        f"data.{setting} is {data[setting]!r}; wants COLUMN=VALUE or "
        f"COLUMN=VALUE|VALUE, with a column of {', '.join(GROUPED)}"
      )
    values, there = text.split("|"), set(index[column])
    if strange := [value for value in values if value not in there]:
      said = (
        f"data.{setting}: no video of {split} has {column} "
        f"{', '.join(strange)}; there are {', '.join(sorted(there))}"
      )
      # Validation may be too small to have it, one of several sets too.
      if split == data.train_split and not data.mix:
        raise ValueError(said)
      print(said)
    reason = f"{column}: {setting} {text}"
    found[reason] = partial(_among, index[column], values, setting == "only")
  return found


def _among(
  column: Any, wanted: Sequence[str], kept: bool = True
) -> np.ndarray:
  return column.isin(wanted).to_numpy() == kept


def know_beats(source: VideoSource, beats: int) -> np.ndarray:
  """Videos of which clips of so many beats can be drawn.

  Those without a heart rate are opened, to look for R waves.
  """
  index = source.index
  known = (index["heart_rate_bpm"] > 0).to_numpy(bool)
  timed = index["span_ms"].notna().to_numpy()
  to_open = np.flatnonzero(timed & ~known)
  for i in tqdm(to_open, desc="R waves", disable=len(to_open) < 1000):
    record = source[int(i)]
    try:
      windows_of_beats(
        record["frame_time_ms"], record["r_wave_ms"], float("nan"), beats
      )
    except UnknownBeats:
      continue
    known[i] = True
  return known & timed


def needs_times(config: ConfigDict) -> bool:
  """Whether clips are drawn in seconds or beats, or a head reads times."""
  in_seconds = config.get("head", {}).get("time") == "seconds"
  drawn = config.input.span_s or config.input.span_beats
  return bool(drawn) or in_seconds


def needs_sector(config: ConfigDict) -> bool:
  """Whether a video is of no use without its sector."""
  masks = [config.get("mask", {}), *config.get("masks", {}).values()]
  in_sector = any(mask.get("in_sector", False) for mask in masks)
  black = config.input.outside == "black"
  return in_sector or black or make_augmentation(config).needs_sector


def truths(index: Any, targets: Sequence[Target]) -> np.ndarray:
  """Labels of every target for every row of an index, as `layout` has them."""
  columns = sorted({name for target in targets for name in target.sources})
  rows = index[columns].to_dict("records")
  return np.asarray(
    [truths_of(targets, row) for row in rows], np.float32
  ).reshape(len(rows), sum(target.labels for target in targets))


def refuse_unknown(
  targets: Sequence[Target], truth: np.ndarray, split: str
) -> None:
  """Raises ValueError where a target has no known value in a split."""
  for target, place in zip(targets, layout(targets), strict=True):
    if np.isnan(truth[:, place.label]).all():
      raise ValueError(
        f"{target.name}: none of {len(truth)} videos of split {split} has a "
        "known value; leave the target out or choose another split"
      )


def make_targets(config: ConfigDict) -> tuple[Target, ...]:
  """The targets that `config.targets` names.

  Those of `config.in_logarithm`, where there is that setting, are regressed
  as logarithms.
  """
  if not config.targets or len(set(config.targets)) < len(config.targets):
    raise ValueError(
      f"targets is {config.targets}; name one or more, each once, as in "
      "('ef_pct',)"
    )
  in_logarithm = config.get("in_logarithm", ())
  if strange := set(in_logarithm) - set(config.targets):
    raise ValueError(f"in_logarithm has {sorted(strange)}, targets has not")
  return tuple(
    dataclasses.replace(
      target_named(name), link="log" if name in in_logarithm else "identity"
    )
    for name in config.targets
  )


def make_weighting(
  config: ConfigDict, targets: Sequence[Target]
) -> Weighting:
  """How much each target counts, by `config.weighting` and `config.weights`."""
  weights = tuple(float(weight) for weight in config.weights)
  weighting = Weighting(config.weighting, weights)
  weighting.check(targets)
  return weighting


def data_record(config: ConfigDict) -> list[dict[str, str]]:
  """Fingerprint of each of the experiment's data sets."""
  folder = Path(config.data.dir)
  names, _ = cohorts_of(config)
  return [fingerprint(find_dataset(folder, name)) for name in names]


def example_clip(contract: InputContract, clips: int = 1) -> dict[str, Any]:
  """A black clip of the contract's shape, to initialise models with."""
  times = np.arange(contract.frames, dtype=np.float32)[None]
  return {
    "video": jnp.zeros((clips, *contract.shape), jnp.float32),
    "frame_time_s": jnp.asarray(times.repeat(clips, 0)),
    "frame_index": jnp.asarray(times.repeat(clips, 0).astype(np.int32)),
  }


def take_subtree(variables: dict, name: str) -> dict[str, Any]:
  """Every collection's part of one top-level module."""
  return {kind: of[name] for kind, of in variables.items() if name in of}


def replace_subtree(
  variables: dict, name: str, subtree: Any, collection: str = "params"
) -> dict:
  """Variables with one top-level module's weights taken from elsewhere.

  Raises:
    ValueError: the shapes differ; names the leaves.
  """
  ours = variables[collection][name]
  if jax.tree.structure(ours) != jax.tree.structure(subtree):
    raise ValueError(f"weights for {name} are of another architecture")
  unequal = [
    f"{jax.tree_util.keystr(path)} {new.shape}, wanted {old.shape}"
    for (path, old), new in zip(
      jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(subtree),
      strict=True,
    )
    if old.shape != new.shape
  ]  # fmt: skip
  if unequal:
    raise ValueError(f"weights for {name} do not fit: {'; '.join(unequal)}")
  taken = {name: jax.tree.map(jnp.asarray, subtree)}
  return variables | {collection: variables[collection] | taken}
