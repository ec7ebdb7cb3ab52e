"""Metrics with 95 % intervals from anybody's predictions file.

Example:
  echo-jax score predictions.csv
  echo-jax score predictions.csv --level clip --target ef_pct --json

The file needs the columns item_id (or clip_id), patient_id, split, target,
truth and prediction; see echo_jax/evaluation/predictions.py.
"""

import argparse
import json
import sys
from pathlib import Path

from echo_jax.evaluation.estimate import (
  Estimate,
  estimates_to_json,
  format_table,
)
from echo_jax.evaluation.power import power_lines, smallest_differences
from echo_jax.evaluation.predictions import (
  LEVELS,
  collected_notes,
  read_predictions,
)
from echo_jax.evaluation.score import METHODS, score


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The file and what to score in it."""
  add = parser.add_argument
  add("predictions", type=Path, metavar="predictions.csv")
  add("--json", action="store_true", help="print JSON instead of a table")
  add(
    "--level", choices=LEVELS,
    help="what one row is; finer rows are averaged (default: video if there)",
  )  # fmt: skip
  add("--split", default="test", help='default "test"; "all" takes every row')
  add(
    "--target", action="append", metavar="NAME",
    help="score this target only (may be repeated)",
  )  # fmt: skip
  add(
    "--binary", action="append", default=[], metavar="NAME",
    help="this target is binary: truth 0/1, prediction = P(1)",
  )  # fmt: skip
  add(
    "--ordinal", action="append", default=[], type=_order,
    metavar="NAME=LOWEST,…,HIGHEST",
    help="this target has classes in that order, with P(class) a row each",
  )  # fmt: skip
  add(
    "--threshold", type=float, metavar="T",
    help="cut of binary targets (default: best on the validation rows)",
  )  # fmt: skip
  add("--resamples", type=int, default=2000)
  add("--seed", type=int, default=0, help="of the bootstrap")
  add("--interval", choices=tuple(METHODS), default="percentile")
  add(
    "--power", action="store_true",
    help="also the smallest difference between two models that these "
    "patients could show",
  )  # fmt: skip


def _order(text: str) -> tuple[str, tuple[str, ...]]:
  """`grade=none,mild,severe` taken apart."""
  name, _, classes = text.partition("=")
  if len(names := tuple(classes.split(","))) < 2 or not all((name, *names)):
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LOWEST,…,HIGHEST")
  return name, names


def run(args: argparse.Namespace) -> int:
  """Prints the estimates; notes go to stderr (with --json, into the JSON)."""
  with collected_notes() as notes:
    estimates = score(
      read_predictions(args.predictions), level=args.level, split=args.split,
      seed=args.seed, resamples=args.resamples, threshold=args.threshold,
      targets=args.target, binary=args.binary, ordinal=dict(args.ordinal),
      method=args.interval,
    )  # fmt: skip
  if args.json:
    print(_as_json(estimates, notes, args.power))
    return 0
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  print(format_table(estimates))
  if args.power:
    print("\n" + "\n".join(power_lines(estimates)))
  return 0


def _as_json(estimates: list[Estimate], notes: list[str], power: bool) -> str:
  plain = estimates_to_json(estimates, notes)
  if power:
    plain["smallest_differences"] = smallest_differences(estimates)
  return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
