"""Builds a data set from its owner's files, with a ledger.

Example:
  echo-jax build echonet_dynamic --source EchoNet-Dynamic --data-dir data
  echo-jax build synthetic_echo --data-dir data --patients 200
"""

import argparse
import importlib
import pkgutil
from pathlib import Path

import data_builders
from echo_jax.data.build import build


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """One sub-parser a data set; each adds its own options."""
  sets = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
  for found in pkgutil.iter_modules(data_builders.__path__):
    module = importlib.import_module(f"data_builders.{found.name}")
    sub = sets.add_parser(
      found.name, help=module.__doc__.splitlines()[0],
      description=module.__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sub.add_argument("--data-dir", type=Path, required=True)
    sub.add_argument("--workers", type=int, default=1)
    sub.add_argument("--overwrite", action="store_true")
    module.add_options(sub)
    sub.set_defaults(make_dataset=module.from_options)


def run(args: argparse.Namespace) -> int:
  """Builds, prints the counts."""
  report = build(
    args.make_dataset(args), args.data_dir, workers=args.workers,
    overwrite=args.overwrite,
  )  # fmt: skip
  print(report)
  return 0
