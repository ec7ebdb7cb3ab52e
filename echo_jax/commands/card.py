"""A model card from a run, or a data card from a data set, made of its files.

Example:
  echo-jax card runs/ef                          # runs/ef/MODEL_CARD.md
  echo-jax card runs/older --data-dir data       # with its training's cohort
  echo-jax card echonet_dynamic --data-dir data --out DATA_CARD.md

A run must have been evaluated, unless it predicts no target, as a pre-training:
then its card says by what loss it was chosen, and for what it was not judged.
How many videos, of which sites, devices and views, a run was trained on is in
its record; one that is older tells it only with `--data-dir`.
"""

import argparse
from pathlib import Path

from echo_jax.data.card import data_card
from echo_jax.data.leakage import people_behind, people_of
from echo_jax.data.sources import find_dataset
from echo_jax.evaluation.card import encoder_card, model_card, read_metrics
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.report import judged_items, judged_targets
from echo_jax.evaluation.subgroups import measure_subgroups, subgroup_table
from echo_jax.evaluation.tables import validation_loss
from echo_jax.experiment import (
  RUN_RECORD,
  read_record,
  rebuild,
  sizes_learnt_from,
)
from echo_jax.training.writers import LOG_NAME, read_log, write_whole

MODEL_CARD, DATA_CARD = "MODEL_CARD.md", "DATA_CARD.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """A run or a data set, and where the card goes."""
  add = parser.add_argument
  add("of", metavar="WORKDIR|DATASET", help="a run, or NAME[:VERSION]")
  add(
    "--data-dir", type=Path,
    help="where data sets are: for a data card, or an older run's cohort",
  )  # fmt: skip
  add("--out", type=Path, help="file (default: beside what it is of)")


def run(args: argparse.Namespace) -> int:
  """Writes the card and says where."""
  workdir = Path(args.of)
  if args.data_dir and not (workdir / RUN_RECORD).exists():
    folder = find_dataset(args.data_dir, args.of)
    out, text = args.out or folder / DATA_CARD, data_card(folder)
  else:
    out = args.out or workdir / MODEL_CARD
    text = card_of_run(workdir, args.data_dir)
  write_whole(out, text)
  print(out)
  return 0


def card_of_run(workdir: Path, data_dir: Path | None = None) -> str:
  """The model card of a run that was evaluated, or that predicts no target.

  What it learnt from is in its record, or else in its data set in `data_dir`.

  Raises:
    FileNotFoundError: it is no run, or was not evaluated.
    ValueError: `data_dir` has another data set than the run was trained on.
  """
  record, name = read_record(workdir), workdir.resolve().name
  if data_dir and "learnt_from" not in record:
    built = rebuild(workdir, data_dir=data_dir)
    record["learnt_from"] = sizes_learnt_from(built)
  people = people_of(workdir)
  if not record["targets"]:
    loss = validation_loss(read_log(workdir / LOG_NAME), record["metric"])
    seen = set().union(*(one.sources for one in people_behind(workdir)))
    simulated = "synthetic_echo" in seen
    return encoder_card(record, people, loss, simulated, name)
  metrics = read_metrics(workdir)
  rows = read_predictions(workdir / "predictions.csv")
  split = metrics["about"]["split"]
  groups = measure_subgroups(
    judged_items(rows), split=split, targets=judged_targets(rows, split)
  )
  table = subgroup_table(groups)
  return model_card(record, people, metrics, rows, table, name)
