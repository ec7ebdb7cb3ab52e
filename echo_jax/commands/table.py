"""A table of the paper beside ours, or of any sweep, from result folders.

With the name of a table: a line for each of its rows and metrics, every seed
with its interval and how many patients and clips it is of, and beside it what
was published, with source and protocol. What was not run says so. Without a
name: a line for every item of a sweep. Runs that were judged in different ways
are refused, or marked with --mixed. Nothing but result folders is read.

Example:
  echo-jax table --list
  echo-jax table echonet_lvef --runs runs/paper
  echo-jax table camus_lvef --runs runs/paper --format latex --out camus.tex
  echo-jax table --runs runs/mask_ratio --figure mask_ratio.png
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from echo_jax.commands.result_folders import (
  Run,
  find_runs,
  numbered_settings,
  told_apart,
)
from echo_jax.evaluation import figures
from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.predictions import LEVELS
from echo_jax.evaluation.published import Published, read_published
from echo_jax.evaluation.score import PRIMARY
from echo_jax.evaluation.tables import (
  FORMATS,
  Line,
  Result,
  beside_published,
  check_protocols,
  format_lines,
  make_lines,
)
from echo_jax.targets import check_metrics, target_named
from echo_jax.training.writers import write_whole

PAPER = "experiments.paper"
SEED = "run.seed"
LOSS = "loss"  # of a run that predicts nothing
# What a table of a sweep shows of a kind of target, if nothing is asked for.
MORE = {"regression": ("r2",), "ordinal": ("quadratic_kappa",)}
SHOWN = {kind: (name, *MORE.get(kind, ())) for kind, name in PRIMARY.items()}
LABEL = "label"  # a setting that names an item by itself


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Which table, of which runs, in which form."""
  parser.add_argument("name", nargs="?", help="of a table of the paper")
  parser.add_argument("--list", action="store_true", help="tables and rows")
  parser.add_argument(
    "--runs", type=Path, nargs="+", default=[], metavar="DIR",
    help="folders in which runs lie, at any depth",
  )  # fmt: skip
  parser.add_argument("--format", choices=FORMATS, default="md")
  parser.add_argument("--out", type=Path, help="a file instead of the screen")
  parser.add_argument(
    "--level", choices=LEVELS, help="what is judged (default: the table's)"
  )
  parser.add_argument(
    "--metric", action="append", default=[], metavar="NAME",
    help="a metric to show (default: the table's)",
  )  # fmt: skip
  parser.add_argument(
    "--mixed", action="store_true",
    help="allow runs of several protocols, each line marked with its own",
  )  # fmt: skip
  parser.add_argument(
    "--figure", type=Path, metavar="PNG",
    help="of a sweep: its first metric against --x",
  )  # fmt: skip
  parser.add_argument(
    "--x", metavar="SETTING",
    help="of --figure (default: the first number that varies)",
  )  # fmt: skip


def run(args: argparse.Namespace) -> int:
  """Prints or writes the table.

  Raises:
    ValueError: no such table, no run, or runs that do not go together.
  """
  if args.list:
    print("\n".join(_listed()))
    return 0
  if args.figure and args.name:
    raise ValueError("--figure is of a sweep; leave the table's name out")
  check_metrics(name for name in args.metric if name != LOSS)
  found = list(find_runs(args.runs))
  if args.name:
    lines = paper_lines(args, found)
  else:
    if not found:
      raise ValueError("no run to tabulate; name folders with --runs")
    lines = sweep_lines(args, found)
  text = format_lines(lines, args.format, args.name or "")
  if args.out:
    write_whole(args.out, text)
  else:
    print(text, end="")
  return 0


def paper_lines(args: argparse.Namespace, found: Sequence[Run]) -> list[Line]:
  """Lines of a table of the paper, published values beside them.

  Raises:
    ValueError: no such table, or see `check_protocols`.
  """
  tasks, models = (_module(name) for name in ("tasks", "models"))
  if args.name not in tasks.TASKS:
    raise ValueError(f"no table {args.name!r}; there are {list(tasks.TASKS)}")
  task = tasks.TASKS[args.name]
  titles = {name: model.title for name, model in models.MODELS.items()}
  rows = {f"{task.name}_{name}": name for name in titles}
  level, metrics = args.level or task.level, args.metric or task.metrics
  results = []
  for one in found:
    if one.baseline and task.target in one.record["config"]["targets"]:
      name = label = titles[one.baseline] = one.baseline
    elif name := rows.get(one.experiment):
      label = " ".join([titles[name], *_departures(one)])
    else:
      continue
    kept = _chosen(one, level, {task.target: metrics}, metrics)
    results.append(_result(one, name, label, kept))
  if less := len(found) - len(results):
    print(f"{less} runs are not of {task.name}", file=sys.stderr)
  check_protocols(results, args.mixed)
  return beside_published(
    make_lines(results),
    [one for one in published_values() if one.table == task.name],
    titles, metrics,
  )  # fmt: skip


def published_values() -> tuple[Published, ...]:
  """The values of `experiments/paper/published.csv`."""
  tasks = _module("tasks").TASKS
  path = Path(importlib.import_module(PAPER).__file__)
  return read_published(
    path.with_name("published.csv"),
    {name: target_named(task.target) for name, task in tasks.items()},
  )


def sweep_lines(args: argparse.Namespace, found: Sequence[Run]) -> list[Line]:
  """A line for what varies between runs, seeds apart; draws the figure.

  Raises:
    ValueError: see `check_protocols`, or nothing to draw.
  """
  trained = [one for one in found if not one.baseline]
  baselines = [one for one in found if one.baseline]
  told = told_apart(trained)
  varied = _varied(told)
  if varied == [LABEL]:
    _check_labels(told)
  targets = dict.fromkeys(
    name for one in found for name in one.record["config"].get("targets", ())
  )
  metrics = {
    name: args.metric or SHOWN[target_named(name).kind] for name in targets
  } | {"": (LOSS,)}  # which a pre-training run has alone
  level, results = args.level or _finest_mean(found), []
  labels = [_words(settings, varied) for settings in told]
  labels += [one.baseline for one in baselines]
  for one, label in zip(trained + baselines, labels, strict=True):
    kept = _chosen(one, level, metrics, args.metric)
    results.append(_result(one, "", label or one.experiment, kept))
  check_protocols(results, args.mixed)
  if args.figure:
    _draw(args, results[: len(told)], told, varied)
  return make_lines(results)


def _draw(
  args: argparse.Namespace, results: Sequence[Result],
  told: Sequence[Mapping[str, Any]], varied: Sequence[str],
) -> None:  # fmt: skip
  """The first metric against a setting that is a number in every run."""
  numbers = [
    name for name in varied
    if all(isinstance(one.get(name), int | float) for one in told)
  ]  # fmt: skip
  x = args.x or next(iter(numbers), "")
  if x not in numbers:
    raise ValueError(
      f"--figure wants a number that varies between the runs; {x or 'none'} "
      f"is not one of {numbers}"
    )
  curves: dict[str, list[tuple[float, ...]]] = {}
  rest = [name for name in varied if name != x]
  for one, settings in zip(results, told, strict=True):
    first = one.estimates[0]
    curves.setdefault(_words(settings, rest), []).append(
      (settings[x], first.value, first.low, first.high)
    )
  line = make_lines(results)[0]
  unit = line.seeds[0][1].unit
  protocols = {one.protocol for one in results}
  note = f"{line.seeds[0][1].protocol}; a point a run"
  note += "; TINY MODELS" * any(one.tiny for one in protocols)
  note += "; SEVERAL PROTOCOLS" * (len(protocols) > 1)
  figure = figures.sweep_figure(
    curves, title=f"{line.words} by {x}", x_label=x,
    y_label=f"{line.words} ({unit})" if unit else line.words, note=note,
  )  # fmt: skip
  args.figure.write_bytes(figures.encode_png(figure))


def _result(
  one: Run, model: str, label: str, kept: tuple[Estimate, ...]
) -> Result:
  return Result(
    str(one.folder), model, label, one.record["seed"], one.protocol, kept
  )


def _varied(told: Sequence[Mapping[str, Any]]) -> list[str]:
  """Settings that differ between runs, but the seed; a label stands for all.

  Another seed (`data.fraction_seed`, that of the run it began from) that is the
  same number in every run is drawn with it, and tells no run from another.
  """
  names = [LABEL] if all(LABEL in one for one in told) else dict.fromkeys(
    name for one in told for name in one
  )  # fmt: skip
  return [
    name for name in names
    if len({_as_text(one.get(name)) for one in told}) > 1 and not (
      name.endswith("seed")
      and all(one.get(name) == one.get(SEED) for one in told)
    )
  ]  # fmt: skip


def _check_labels(told: Sequence[Mapping[str, Any]]) -> None:
  """Raises ValueError where runs of one label differ in more than the seed."""
  first: dict[str, dict[str, Any]] = {}
  for one in told:
    ours = {k: _as_text(v) for k, v in one.items() if k != SEED}
    theirs = first.setdefault(one[LABEL], ours)
    if odd := [k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)]:
      raise ValueError(
        f"runs of the label {one[LABEL]} differ in {', '.join(odd)}; give "
        "those of one sweep"
      )


def _chosen(
  one: Run, level: str, metrics: Mapping[str, Sequence[str]],
  asked: Sequence[str],
) -> tuple[Estimate, ...]:  # fmt: skip
  """Estimates of one level, in the order of the metrics.

  Raises:
    ValueError: the run has none, or not all that were asked for.
  """
  found, kept = one.estimates(), []
  for target, wanted in metrics.items():
    of = [e for e in found if e.target == target and e.row_level in ("", level)]
    by_name = {e.name: e for e in of}
    kept += [by_name[name] for name in wanted if name in by_name]
  there = [e.name for e in kept]
  names = asked or [n for names in metrics.values() for n in names]
  missing = [name for name in dict.fromkeys(names) if name not in there]
  if not kept or (asked and missing):
    known = dict.fromkeys(f"{e.name} ({e.row_level})" for e in found)
    raise ValueError(
      f"{one.folder} has no {', '.join(missing)} at {level} level; it has "
      f"{', '.join(known)}"
    )
  return tuple(kept)


def _finest_mean(found: Sequence[Run]) -> str:
  """The level of a sweep's table: videos, else whole studies.

  Raises:
    ValueError: runs that were judged at either level.
  """
  ways: dict[str, Path] = {}
  for one in found:
    levels = {estimate.row_level for estimate in one.estimates()}
    if levels != {""}:  # a loss is of no level
      ways.setdefault("video" if "video" in levels else "study", one.folder)
  if len(ways) > 1:
    raise ValueError(
      f"{ways['video']} has rows of videos and {ways['study']} of studies "
      "alone; give runs of one, or --level study"
    )
  return next(iter(ways), "video")


def _departures(one: Run) -> list[str]:
  """What a run set that its row does not, in brackets; [] if nothing."""
  module = _module(one.experiment)
  config = module.get_config()
  if one.record["tiny"]:
    module.tiny(config)
  row = numbered_settings(config.to_dict())
  changed = {
    name: value for name, value in one.settings.items()
    if name != SEED and _as_text(value) != _as_text(row.get(name))
  }  # fmt: skip
  return [f"[{_words(changed, list(changed))}]"] if changed else []


def _words(settings: Mapping[str, Any], names: Sequence[str]) -> str:
  return ", ".join(f"{name}={settings.get(name)}" for name in names)


def _as_text(value: Any) -> str:
  """As JSON; NaN is then equal to itself and a tuple to a list."""
  return json.dumps(value)


def _module(name: str) -> ModuleType:
  return importlib.import_module(f"{PAPER}.{name}")


def _listed() -> Iterator[str]:
  """Every table, and every row with its file."""
  for task in _module("tasks").TASKS.values():
    yield f"{task.name}: {task.title}"
    for model in _module("models").MODELS.values():
      file = f"experiments/paper/{task.name}_{model.name}.py"
      yield f"  {file}  {model.title}"
