"""Judges a trained model on a split: predictions, metrics with intervals.

Example:
  echo-jax evaluate runs/ef --split test --clips 4
"""

import argparse
from pathlib import Path

from echo_jax import experiment
from echo_jax.evaluation.estimate import format_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Run, split and how many clips a video."""
  parser.add_argument("workdir", type=Path)
  parser.add_argument("--split", default="test")
  parser.add_argument(
    "--clips", type=int, default=4, help="clips a video, spread evenly"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def run(args: argparse.Namespace) -> int:
  """Evaluates the best checkpoint and prints the table."""
  built = experiment.rebuild(args.workdir)
  estimates = experiment.evaluate(
    built, args.workdir, split=args.split, clips=args.clips, seed=args.seed
  )
  print(format_table(estimates))
  return 0
