"""Never seen against seen: the table of a leave-one-out sweep, from its files.

On the test patients of each device (or site) that was left out: the model
that never saw it, the one that saw all, and the difference over the same
patients and over seeds.  Who never saw a group has learnt from fewer patients
too, and that is part of the difference.

Example:
  python -m experiments.ablations.left_out_table runs/devices
  python -m experiments.ablations.left_out_table runs/devices --json
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echo_jax import experiment
from echo_jax.evaluation.aggregate import at_level
from echo_jax.evaluation.compare import holm
from echo_jax.evaluation.estimate import LABELS, NAN, WITHHELD, Estimate
from echo_jax.evaluation.items import count_items
from echo_jax.evaluation.paired import PROTOCOLS_DIFFER, paired_rows
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.score import PRIMARY
from echo_jax.evaluation.subgroups import LEAST_PATIENTS
from echo_jax.targets import target_named

NAMES = ("never seen", "seen")
FEWER = "never seen: trained without the group's patients, so on fewer"
VARIED = ("data.without", "run.seed")


def left_out_differences(
  runs: Path, *, split: str = "test", least: int = LEAST_PATIENTS,
  resamples: int = 2000,
) -> list[Estimate]:  # fmt: skip
  """Metric of the models that never saw a group minus that of those that did.

  Args:
    runs: folder of the sweep's items, each trained and evaluated.
    least: patients of a group below which its value is withheld.

  Returns:
    One Estimate a group and target, `group` as in "device: x", means over
    seeds, p adjusted over all of them (Holm).

  Raises:
    ValueError: no run, none on all groups or none without one; or runs that
      differ in more than what was left out and the seed.
  """
  folders = _find_runs(runs)
  seen = _tables(folders.pop("", []))
  if not seen or not folders:
    raise ValueError(
      f"{runs}: {len(seen)} runs on all groups, {len(folders)} groups left "
      "out; the table needs some of both"
    )
  config = experiment.read_record(next(iter(folders.values()))[0])["config"]
  found = []
  for left_out, of in folders.items():
    column, _, text = left_out.partition("=")
    pair = [
      [_of_group(table, column, text.split("|"), split) for table in tables]
      for tables in (_tables(of), seen)
    ]
    for target in config["targets"]:
      one = _difference(pair, target, split, least, resamples)
      found.append(dataclasses.replace(one, group=f"{column}: {text}"))
  return [
    dataclasses.replace(one, p_adjusted=float(p))
    for one, p in zip(found, holm([one.p for one in found]), strict=True)
  ]


def _find_runs(runs: Path) -> dict[str, list[Path]]:
  """Folders of evaluated runs by what they left out."""
  folders: dict[str, list[Path]] = {}
  shared, first = None, None
  for folder in sorted(path.parent for path in Path(runs).glob("*/run.json")):
    if not (folder / "predictions.csv").exists():
      raise ValueError(f"{folder} was not evaluated; run `echo-jax evaluate`")
    record = experiment.read_record(folder)
    settings = experiment.numbered_settings(record["config"])
    same = {
      name: value for name, value in settings.items() if name not in VARIED
    } | {name: record[name] for name in ("data", "contract_hash", "tiny")}
    if shared is None:
      shared, first = same, folder
    for name in {**shared, **same}:
      if same.get(name) != shared.get(name):
        raise ValueError(
          f"{folder} is no run of this sweep: its {name} is {same.get(name)}, "
          f"that of {first.name} {shared.get(name)}"
        )
    folders.setdefault(settings["data.without"], []).append(folder)
  return folders


def _tables(folders: Sequence[Path]) -> list[pd.DataFrame]:
  return [
    at_level(read_predictions(folder / "predictions.csv"), "video")
    for folder in folders
  ]


def _of_group(
  table: pd.DataFrame, column: str, values: Sequence[str], split: str
) -> pd.DataFrame:
  return table[table[column].isin(values) & (table.split == split)]


def _difference(
  pair: Sequence[Sequence[pd.DataFrame]], target: str, split: str, least: int,
  resamples: int,
) -> Estimate:  # fmt: skip
  """One target's difference in one group, or why it is not told."""
  metric = PRIMARY[target_named(target).kind]
  rows = pair[0][0]
  rows = rows[(rows.target == target) & rows.truth.notna()]
  patients = rows.patient_id.nunique()
  if patients < least:
    return Estimate(
      f"{metric}_difference", NAN, target=target, split=split,
      patients=patients, rows=count_items(rows),
      reason=f"{WITHHELD}fewer than {least} patients",
    )  # fmt: skip
  one = paired_rows(
    *pair, target, metric, split=split, names=NAMES, resamples=resamples
  )
  if PROTOCOLS_DIFFER in one.protocol:
    raise ValueError(f"{target}: {one.protocol}; evaluate all runs alike")
  return one


def format_left_out(found: Sequence[Estimate]) -> str:
  """The table in Markdown."""
  lines = [
    "| left out | target | metric | never seen | seen | difference | interval "
    "| p | Holm p | patients |",
    "|---" * 10 + "|",
  ]
  lines += [f"| {' | '.join(_cells(one))} |" for one in found]
  told = [one for one in found if one.defined]
  notes = [FEWER] + [
    f"{100 * one.level:g} % intervals: {one.method}, {one.resamples:,} "
    f"resamples, seed {one.seed}; p: {one.p_method}; Holm over "
    f"{sum(np.isfinite(of.p) for of in told)} tests"
    for one in told[:1]
  ]
  return "\n".join([*lines, "", *notes])


def _cells(one: Estimate) -> list[str]:
  metric = one.name.removesuffix("_difference")
  means = [_mean_of(one, name) for name in NAMES]
  p = [f"{p:.2g}" if np.isfinite(p) else "" for p in (one.p, one.p_adjusted)]
  return [
    one.group, one.target, LABELS.get(metric, metric), *means,
    one.value_text, one.interval_text, *p, f"{one.patients:,}",
  ]  # fmt: skip


def _mean_of(one: Estimate, name: str) -> str:
  """A model's mean over its seeds, and each of them."""
  values = [value for of, value in one.by_seed if of.startswith(f"{name} seed")
            or of == name]  # fmt: skip
  if not values:
    return ""
  mean, *each = (
    dataclasses.replace(one, value=value).value_text
    for value in (float(np.mean(values)), *values)
  )
  return f"{mean} ({', '.join(each)})" if len(values) > 1 else mean


def main(words: Sequence[str] | None = None) -> int:
  """Prints the table."""
  options = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  options.add_argument("runs", type=Path, help="--workdir of the sweep")
  options.add_argument("--split", default="test")
  options.add_argument(
    "--least-patients", type=int, default=LEAST_PATIENTS, metavar="N"
  )
  options.add_argument("--json", action="store_true")
  args = options.parse_args(words)
  found = left_out_differences(
    args.runs, split=args.split, least=args.least_patients
  )
  plain: list[Mapping[str, Any]] = [one.to_dict() for one in found]
  print(json.dumps(plain, indent=2) if args.json else format_left_out(found))
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
