"""Builds a data set from its owner's files, with a ledger.

A build that was broken off goes on with the same command.

Example:
  echo-jax build echonet_dynamic --source EchoNet-Dynamic --data-dir data
  echo-jax build synthetic_echo --data-dir data --patients 200
"""

import argparse
import importlib
import os
import pkgutil
from pathlib import Path

import data_builders
from echo_jax.data.build import Dataset, build


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
    add_shared(sub)
    module.add_options(sub)
    sub.set_defaults(make_dataset=module.from_options)


def add_shared(parser: argparse.ArgumentParser) -> None:
  """How to build, whatever the data set."""
  parser.add_argument(
    "--workers", type=_count, default=_cores(), metavar="N",
    help="processes that read (default: one for each core, %(default)s); the "
    "result does not depend on them",
  )  # fmt: skip
  parser.add_argument(
    "--overwrite", action="store_true", help="replace a finished data set"
  )
  parser.add_argument(
    "--beam", action="store_true",
    help="read on an Apache Beam pipeline (pip install 'echo-jax[beam]'), "
    "whose workers all see --data-dir",
  )  # fmt: skip
  parser.add_argument(
    "--beam-option", action="append", default=[], metavar="NAME=VALUE",
    help="of the pipeline, as in runner=FlinkRunner; may be given repeatedly",
  )  # fmt: skip


def _count(text: str) -> int:
  """A number of processes."""
  if int(text) < 1:
    raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
  return int(text)


def _cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def run(args: argparse.Namespace) -> int:
  """Builds, prints the counts."""
  return run_build(args.make_dataset(args), args.data_dir, args)


def run_build(
  dataset: Dataset, data_dir: Path, args: argparse.Namespace
) -> int:
  """Builds a data set as the options of `add_shared` say."""
  if args.beam_option and not args.beam:
    raise ValueError("--beam-option has no effect without --beam")
  beam = [f"--{option}" for option in args.beam_option] if args.beam else None
  report = build(
    dataset, data_dir, workers=args.workers, overwrite=args.overwrite, beam=beam
  )
  print(report)
  return 0
