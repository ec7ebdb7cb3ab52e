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
  parser.add_argument(
    "--split", help="default: data.test_split of the run, mostly test"
  )
  parser.add_argument(
    "--data-dir", type=Path, help="of the same data set, if it was moved"
  )
  parser.add_argument(
    "--clips", type=int, default=4, help="clips a video, spread evenly"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def run(args: argparse.Namespace) -> int:
  """Evaluates the best checkpoint and prints the table."""
  built = experiment.rebuild(args.workdir, data_dir=args.data_dir)
  estimates = experiment.evaluate(
    built, args.workdir, split=args.split, clips=args.clips, seed=args.seed
  )
  print(format_table(estimates))
  judged = {estimate.target for estimate in estimates}
  for target in built.targets:
    if target.name not in judged:
      print(f"{target.name}: not judged, no truth in the split")
  return 0
