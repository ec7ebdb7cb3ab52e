"""Metrics with 95 % intervals from anybody's predictions file.

Example:
  echo-jax score predictions.csv
  echo-jax score predictions.csv --level clip --target ef_pct --json
  echo-jax score predictions.csv --by device --by sex
  echo-jax score ours.csv --against baseline.csv other.csv

The file needs the columns item_id (or clip_id), patient_id, split, target,
truth and prediction; see echo_jax/evaluation/predictions.py.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from echo_jax.evaluation.compare import TESTS, compare, comparison_table
from echo_jax.evaluation.estimate import estimates_to_json, format_table
from echo_jax.evaluation.power import power_lines, smallest_differences
from echo_jax.evaluation.predictions import (
  LEVELS,
  PredictionsWarning,
  collected_notes,
  read_predictions,
)
from echo_jax.evaluation.reliability import (
  reliability_tables,
  reliability_text,
)
from echo_jax.evaluation.score import METHODS, score
from echo_jax.evaluation.subgroups import (
  BY,
  LEAST_PATIENTS,
  measure_subgroups,
  subgroup_table,
)
from echo_jax.targets import check_metrics


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
  add(
    "--interval", choices=[name for name in METHODS if name != "released"],
    default="percentile", help="delong: of AUROC, if a patient has one row",
  )  # fmt: skip
  add(
    "--protocol", choices=("whole", "released"), default="whole",
    help="released: mean of 50 x 16 batches of 8 with a t interval over them, "
    "which is no interval of the test set",
  )  # fmt: skip
  add(
    "--against", type=Path, nargs="+", default=[], metavar="OTHER.csv",
    help="other models' predictions of the same patients: differences to "
    "them, with p values adjusted by Holm",
  )  # fmt: skip
  add(
    "--metric", action="append", default=[], metavar="NAME",
    help="of --against and --by, as in metrics.json (default: mae, auroc, "
    "macro_auroc, mae_grades or mean_auroc, by the kind of target)",
  )  # fmt: skip
  add(
    "--test", choices=TESTS, default="bootstrap",
    help="of --against: where p comes from, all by patient",
  )  # fmt: skip
  add(
    "--by", action="append", default=[], choices=BY,
    help="also in each group of patients (may be repeated); age: under 40, "
    "40-59, 60-74, 75+",
  )  # fmt: skip
  add(
    "--least-patients", type=int, default=LEAST_PATIENTS, metavar="N",
    help="smaller groups are counted, their values withheld (default 20)",
  )  # fmt: skip
  add(
    "--reliability", action="store_true",
    help="also what came true of what was predicted, in bins",
  )  # fmt: skip
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
  """Prints what was found; notes go to stderr (with --json, into the JSON)."""
  with collected_notes() as notes:
    found = find(args)
  notes = list(dict.fromkeys(notes))  # each part may have found the same
  if args.json:
    plain = {name: one.plain for name, one in found.items()}
    plain = {**plain.pop("estimates"), "notes": notes, **plain}
    print(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False))
    return 0
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  print("\n\n".join(one.text for one in found.values() if one.text))
  return 0


class Part(NamedTuple):
  """One part of the output, for JSON and for the terminal."""

  plain: Any
  text: str


def find(args: argparse.Namespace) -> dict[str, Part]:
  """What was asked for, by its name in the JSON.

  Raises:
    ValueError: as what is called; or options that exclude each other.
  """
  check_metrics(args.metric)
  frame = read_predictions(args.predictions)
  of = {
    "level": args.level, "split": args.split, "targets": args.target,
    "binary": args.binary, "ordinal": dict(args.ordinal),
  }  # fmt: skip
  drawn = {
    "seed": args.seed, "resamples": args.resamples,
    "threshold": args.threshold,
  }  # fmt: skip
  method = _method(args)
  estimates = score(frame, method=method, **of, **drawn)
  found = {
    "estimates": Part(estimates_to_json(estimates), format_table(estimates))
  }
  if args.by:
    groups = measure_subgroups(
      frame, args.by, metrics=args.metric, least=args.least_patients,
      method=method, **of, **drawn,
    )  # fmt: skip
    for by in sorted(set(args.by) - {one.by for one in groups}):
      warnings.warn(f"by {by}: no two groups", PredictionsWarning, stacklevel=2)
    found["subgroups"] = Part(
      [one.to_dict() for one in groups], subgroup_table(groups)
    )
  if args.reliability:
    tables = reliability_tables(frame, **of)
    found["reliability"] = Part(tables, reliability_text(tables))
  if args.against:
    differences = compare(
      _tables(frame, args), metrics=args.metric, test=args.test, **of, **drawn
    )
    found["differences"] = Part(
      [one.to_dict() for one in differences], comparison_table(differences)
    )
  if args.power:
    found["smallest_differences"] = Part(
      smallest_differences(estimates), "\n".join(power_lines(estimates))
    )
  return found


def _method(args: argparse.Namespace) -> str:
  """Of the intervals."""
  if args.protocol == "whole":
    return args.interval
  if args.interval != "percentile" or args.against or args.by or args.power:
    raise ValueError(
      "--protocol released has an interval of its own, from which nothing "
      "follows: give it without --interval, --against, --by and --power"
    )
  return "released"


def _tables(
  frame: pd.DataFrame, args: argparse.Namespace
) -> dict[str, pd.DataFrame]:
  """Every model's predictions, by their files' names."""
  names = [str(path) for path in (args.predictions, *args.against)]
  if len(set(names)) < len(names):
    raise ValueError(f"a file is given twice: {', '.join(names)}")
  _note_budgets(names)
  others = [read_predictions(path) for path in args.against]
  return dict(zip(names, [frame, *others], strict=True))


def _note_budgets(names: Sequence[str]) -> None:
  """Says so where probes read unequal numbers of tokens."""
  read = {name: told for name in names if (told := _tokens_of(Path(name)))}
  if len({told.split()[0] for told in read.values()}) > 1:
    each = "; ".join(f"{name}: {told}" for name, told in read.items())
    warnings.warn(
      f"PROBES OF UNEQUAL TOKENS ({each})", PredictionsWarning, stacklevel=2
    )


def _tokens_of(path: Path) -> str:
  """What `experiments.probe` wrote beside its predictions; "" of others."""
  beside = path.with_suffix(".json")
  if not beside.is_file():
    return ""
  try:
    told = json.loads(beside.read_text(encoding="utf-8"))
  except ValueError:  # somebody's own file of that name
    return ""
  ours = isinstance(told, dict) and {"probe", "tokens"} <= told.keys()
  return told["tokens"] if ours else ""
