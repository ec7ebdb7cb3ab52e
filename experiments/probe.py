"""Probes of a run's frozen encoder: linear, or the nearest neighbours.

The encoder of the best checkpoint, of pre-training or fine-tuning, sees a few
clips of every video; scikit-learn does the rest on train, chooses on validation
and predicts test.  Encoders are comparable at equal `--clips` and `--tokens`
(means over blocks of the token grid, as slices, rows and columns; 1 1 1 is the
mean of all).  Features stay in the work directory and serve the next probe.

The attentive probe is trained like any head (`--config.head.blocks` are its
tokens):
  echo-jax train experiments/ef_finetune.py --workdir runs/attentive \\
    --config.init_from=runs/mae --config.optimizer.freeze=^encoder/ \\
    --config.head.name=attentive --config.head.blocks="(8, 7, 7)"

Example:
  python -m experiments.probe runs/mae --target ef_pct --clips 4 \\
    --config data.name=echonet_dynamic --config data.views="('A4C',)"
  echo-jax score runs/mae/probe/linear.csv --level video
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from echo_jax import experiment, trees
from echo_jax.data import leakage
from echo_jax.data.pipeline import ClipMaker, evaluation_batches
from echo_jax.evaluation.predictions import write_predictions
from echo_jax.evaluation.probes import (
  FrozenClips,
  encode_clips,
  linear,
  make_encode,
  neighbours,
  probe,
  tokens_read,
)
from echo_jax.targets import Target, target_named
from echo_jax.training.writers import write_whole
from experiments import parts

PROBES = ("linear", "neighbours")
ROLES = ("train", "validation", "test")


def config_of(workdir: Path, settings: Sequence[str]) -> ConfigDict:
  """Settings of a run with other data, as in `data.name=camus`.

  Raises:
    ValueError: the run has no encoder, or a setting is not of the data: those
      of the encoder and of its input are the run's.
  """
  _, config = experiment.recorded_config(experiment.read_record(workdir))
  if "encoder" not in config or "input" not in config:
    raise ValueError(f"{workdir} has no encoder of clips to probe")
  if strange := [s for s in settings if not s.startswith("data.")]:
    raise ValueError(f"{strange} are the run's; only data.* may be others")
  experiment.override(config, settings)
  return config


def frozen_features(
  workdir: Path, config: ConfigDict, clips: int, blocks: tuple[int, int, int],
  out: Path,
) -> tuple[dict[str, FrozenClips], dict[str, pd.DataFrame], dict[str, Any]]:
  # fmt: skip
  """Features and index of each split, and what they were made of.

  Read from `out` if they are there.

  Raises:
    ValueError: `out` holds features that were made otherwise, one split has
      two roles, or a patient is judged whom the encoder or the probe learned
      from.
  """
  data, contract = config.data, parts.make_contract(config)
  names = {role: data[f"{role}_split"] for role in ROLES}
  if len(set(names.values())) < len(ROLES):
    raise ValueError(f"{names}: a probe needs three different splits")
  videos = {role: parts.open_split(config, names[role]) for role in ROLES}
  by_split = {names[role]: of.index for role, of in videos.items()}
  leakage.check_run(
    config.to_dict() | {"init_from": str(workdir)},
    lambda split, clips: (by_split[split], None), None,
  )  # fmt: skip
  encoder = parts.make_encoder(config)
  step, variables = experiment.best_variables(str(workdir))
  grid = encoder.token_grid(contract.shape)
  of_encoder = {
    name: tree["encoder"] for name, tree in variables.items()
    if "encoder" in tree
  }  # fmt: skip
  made_of = {
    "encoder": trees.digest(of_encoder), "step": step,
    "contract": contract.hash(), "data": parts.data_record(config),
    "clips_per_video": clips, "tokens": tokens_read(blocks, grid),
    "settings": {
      name: value for name, value in data.to_dict().items()
      if f"data.{name}" not in experiment.FREE_SETTINGS
    },
  }  # fmt: skip
  keep_recipe(out, made_of)
  encode = make_encode(encoder, parts.make_normalise(contract), blocks)
  found = {}
  for role, source in videos.items():
    path = out / f"features_{role}.npz"
    if not path.exists():
      batches = evaluation_batches(
        source, ClipMaker(contract), batch_size=config.run.batch_size,
        clips_per_video=clips, threads=data.threads,
      )  # fmt: skip
      frozen = encode_clips(
        encode, of_encoder, batches, name=role, progress=True
      )
      np.savez(partial := path.with_suffix(".partial.npz"), **frozen._asdict())
      partial.replace(path)
    with np.load(path) as arrays:
      found[role] = FrozenClips(**arrays)
  return found, {role: of.index for role, of in videos.items()}, made_of


def keep_recipe(out: Path, made_of: Mapping[str, Any]) -> None:
  """Writes what features are made of; refuses a folder of other ones."""
  path, text = out / "features.json", json.dumps(made_of, indent=2)
  if path.exists() and path.read_text(encoding="utf-8") != text:
    raise ValueError(
      f"{path} says that features there were made otherwise; use another --out"
    )
  out.mkdir(parents=True, exist_ok=True)
  write_whole(path, text)


def truth_of_clips(
  clips: FrozenClips, index: pd.DataFrame, targets: Sequence[Target]
) -> np.ndarray:
  """Labels of each clip, by its video."""
  table = parts.truths(index, targets)
  rows = pd.Index(index["video_id"]).get_indexer(clips.video_id)
  return table[rows]


def run_probe(
  workdir: Path, targets: Sequence[Target], *, kind: str = "linear",
  clips: int = 4, blocks: tuple[int, int, int] = (1, 1, 1),
  out: Path | None = None, settings: Sequence[str] = (),
) -> Path:  # fmt: skip
  """Writes `<kind>.csv` and `<kind>.json` to `out`; returns the first."""
  parts.pick(dict.fromkeys(PROBES), kind, "probe")
  out = Path(workdir) / "probe" if out is None else Path(out)
  config = config_of(workdir, settings)
  found, index, made_of = frozen_features(workdir, config, clips, blocks, out)
  truth = {
    role: truth_of_clips(of, index[role], targets) for role, of in found.items()
  }
  for role in ("train", "validation"):  # what is fitted and what chooses
    parts.refuse_unknown(targets, truth[role], role)
  fewest = int((~np.isnan(truth["train"])).sum(axis=0).min())
  rows, taken = probe(
    found, truth, pd.concat(index.values(), ignore_index=True), targets,
    linear if kind == "linear" else neighbours(fewest),
  )  # fmt: skip
  write_predictions(path := out / f"{kind}.csv", rows)
  told = {**made_of, "probe": kind, "chosen on validation": taken}
  write_whole(out / f"{kind}.json", json.dumps(told, indent=2) + "\n")
  print(f"{kind} probe on {made_of['tokens']}, {clips} clips a video at most")
  for name, chosen in taken.items():
    print(f"  {name}: {', '.join(dict.fromkeys(chosen))}")
  return path


def main(words: Sequence[str] | None = None) -> None:
  """Probes one run."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("workdir", type=Path, help="a run with an encoder")
  parser.add_argument("--target", action="append", required=True)
  parser.add_argument("--probe", choices=PROBES, default="linear")
  parser.add_argument("--clips", type=int, default=4, help="a video")
  parser.add_argument(
    "--tokens", type=int, nargs=3, default=(1, 1, 1),
    metavar=("SLICES", "ROWS", "COLUMNS"),
  )  # fmt: skip
  parser.add_argument("--out", type=Path, help="default: WORKDIR/probe")
  parser.add_argument(
    "--config", metavar="data.KEY=VALUE", action="append", default=[],
    help="data that the run did not have",
  )  # fmt: skip
  args = parser.parse_args(words)
  path = run_probe(
    args.workdir, [target_named(name) for name in args.target],
    kind=args.probe, clips=args.clips, blocks=tuple(args.tokens), out=args.out,
    settings=args.config,
  )  # fmt: skip
  print(f"score it with `echo-jax score {path} --level video`")


if __name__ == "__main__":
  main()
