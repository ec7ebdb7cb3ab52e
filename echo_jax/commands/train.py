"""Trains an experiment; started again it goes on where it stopped.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae --tiny \\
    --data-dir data
  echo-jax train experiments/ef_finetune.py --workdir runs/ef \\
    --config.init_from=runs/mae --config.optimizer.rate=3e-4
"""

import argparse
from pathlib import Path

from echo_jax import experiment
from echo_jax.training import processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Experiment, folder and settings."""
  parser.add_argument("experiment", help="file, or dotted module")
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument(
    "--data-dir", type=Path, help="where data sets are: --config.data.dir"
  )
  parser.add_argument(
    "--tiny", action="store_true", help="seconds on two cores"
  )
  parser.add_argument(
    "--config", metavar="KEY=VALUE", action="append", default=[],
    help="a setting; also written --config.KEY=VALUE",
  )  # fmt: skip
  parser.add_argument(
    "--profile", type=read_steps, metavar="FIRST-LAST",
    help="write a trace of these steps, for TensorBoard or Perfetto",
  )  # fmt: skip


def read_steps(text: str) -> tuple[int, int]:
  """First and last step of `10-12`."""
  first, _, last = text.partition("-")
  try:
    return int(first), int(last or first)
  except ValueError as error:
    raise argparse.ArgumentTypeError(
      f"{text!r} is not FIRST-LAST, as in 10-12"
    ) from error


def run(args: argparse.Namespace) -> int:
  """Builds and trains, together with the other processes of a job."""
  processes.join_others()
  with processes.end_at_once():
    settings = experiment.with_data_dir(args.config, args.data_dir)
    prepared = experiment.prepare(args.experiment, settings, tiny=args.tiny)
    experiment.run(prepared, args.workdir, profile=args.profile)
    print(f"done: {prepared.pace.steps} steps in {args.workdir}")
  return 0
