"""A model card from a run, or a data card from a data set, made of its files.

Example:
  echo-jax card runs/ef                          # runs/ef/MODEL_CARD.md
  echo-jax card echonet_dynamic --data-dir data --out DATA_CARD.md

A run must have been evaluated.
"""

import argparse
from pathlib import Path

from echo_jax.data.card import data_card
from echo_jax.data.sources import find_dataset
from echo_jax.evaluation.card import model_card, read_metrics
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.report import judged_items, judged_targets
from echo_jax.evaluation.subgroups import measure_subgroups, subgroup_table
from echo_jax.experiment import read_record
from echo_jax.training.writers import write_whole

MODEL_CARD, DATA_CARD = "MODEL_CARD.md", "DATA_CARD.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """A run or a data set, and where the card goes."""
  add = parser.add_argument
  add("of", metavar="WORKDIR|DATASET", help="a run, or NAME[:VERSION]")
  add("--data-dir", type=Path, help="where data sets are; makes it a data card")
  add("--out", type=Path, help="file (default: beside what it is of)")


def run(args: argparse.Namespace) -> int:
  """Writes the card and says where."""
  if args.data_dir:
    folder = find_dataset(args.data_dir, args.of)
    out, text = args.out or folder / DATA_CARD, data_card(folder)
  else:
    workdir = Path(args.of)
    out, text = args.out or workdir / MODEL_CARD, card_of_run(workdir)
  write_whole(out, text)
  print(out)
  return 0


def card_of_run(workdir: Path) -> str:
  """The model card of an evaluated run.

  Raises:
    FileNotFoundError: it is no run, or was not evaluated.
  """
  record = read_record(workdir)
  metrics = read_metrics(workdir)
  rows = read_predictions(workdir / "predictions.csv")
  split = metrics["about"]["split"]
  groups = measure_subgroups(
    judged_items(rows), split=split, targets=judged_targets(rows, split)
  )
  table = subgroup_table(groups)
  return model_card(record, metrics, rows, table, workdir.resolve().name)
