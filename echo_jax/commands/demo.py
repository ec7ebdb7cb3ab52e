"""Simulates a cohort, pre-trains, fine-tunes, evaluates and draws a page.

Needs no data and no accelerator.  Stopped and started again it goes on.

Example:
  echo-jax demo
  echo-jax demo --tiny --workdir runs/demo_tiny
"""

import argparse
import importlib
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Where, and how much."""
  parser.add_argument("--workdir", type=Path, default=None)
  how_much = parser.add_mutually_exclusive_group()
  how_much.add_argument(
    "--tiny", action="store_true", help="a minute or two; numbers mean nothing"
  )
  how_much.add_argument(
    "--full", action="store_true",
    help="an hour or two: every head, both cohorts, three seeds",
  )
  parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
  """Runs the demo and prints its table."""
  kind = "tiny" if args.tiny else "full" if args.full else "standard"
  workdir = args.workdir or Path("runs") / f"demo_{kind}"
  if args.full:
    seeds = range(args.seed, args.seed + 3)
    full = importlib.import_module("experiments.demo.full")
    print(full.format_results(full.run_full(workdir, seeds=seeds)))
    page = workdir / "independent" / f"seed_{args.seed}" / "demo.html"
    print(f"table and results: {workdir}\npage of the first seed: {page}")
    return 0
  demo = importlib.import_module("experiments.demo.run")
  result = demo.run_demo(workdir, tiny=args.tiny, seed=args.seed)
  print(demo.format_result(result))
  print(f"page: {workdir / 'demo.html'}")
  return 0
