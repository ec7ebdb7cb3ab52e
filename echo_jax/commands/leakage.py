"""Finds one patient in two splits, or in pre-training and a judged split.

Example:
  echo-jax leakage echonet_dynamic mimic_iv_echo --data-dir data
  echo-jax leakage echonet_lvh --data-dir data --pretrain runs/mae
  echo-jax leakage echonet_lvh --data-dir data --pretrain mimic_iv_echo:train

Exit code 1 if there is one.  Patients whom the owner does not name, and data
sets that name them differently, cannot be checked: they are counted apart.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from echo_jax.data import schema
from echo_jax.data.leakage import (
  PATIENTS,
  Group,
  compare,
  comparison_lines,
  group_of,
  people_behind,
)  # fmt: skip
from echo_jax.data.sources import find_dataset, read_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Data sets, and what a model was pre-trained on."""
  add = parser.add_argument
  add("dataset", nargs="+", help="name, or name:version")
  add("--data-dir", type=Path, required=True)
  add(
    "--pretrain", action="append", default=[], metavar="RUN|DATASET:SPLIT",
    help="a run's folder, or a split, that weights come from (repeatable)",
  )  # fmt: skip
  add("--json", action="store_true", help="print JSON with all ids")


def run(args: argparse.Namespace) -> int:
  """Prints what was found; 1 if a patient is where they must not be."""
  groups = _groups(args.dataset, args.pretrain, args.data_dir)
  found = compare(groups)
  if args.json:
    sizes = {one.name: len(one.people) for one in groups}
    print(json.dumps(found.to_json() | {"patients": sizes}, indent=2))
  else:
    print("\n".join(comparison_lines(found, groups)))
  return int(bool(found.leaks))


def _groups(
  datasets: Sequence[str], pretrain: Sequence[str], data_dir: Path
) -> list[Group]:
  """Every split of the data sets; what was pre-trained on has that role."""
  # A list: a split may be here twice, to be judged on and pre-trained on.
  groups = [
    group
    for name in dict.fromkeys(datasets)
    for group in _splits(name, data_dir)
  ]
  for origin in dict.fromkeys(pretrain):
    if Path(origin).is_dir():
      if not (Path(origin) / PATIENTS).exists():
        raise FileNotFoundError(
          f"{origin} has no {PATIENTS}: it is not a run, or one made before "
          "runs kept it; name its data set and split instead"
        )
      groups += people_behind(Path(origin))
    else:
      groups.append(_one_split(origin, data_dir))
  return groups


def _splits(dataset: str, data_dir: Path) -> list[Group]:
  index = read_index(find_dataset(data_dir, dataset))
  return [
    group_of(f"{dataset}:{split}", split, rows)
    for split, rows in index.groupby("split", observed=True)
  ]


def _one_split(origin: str, data_dir: Path) -> Group:
  """The group of `DATASET:SPLIT`, as pre-training.

  Raises:
    ValueError: it is of another form, or there is no such split.
  """
  dataset, _, split = origin.rpartition(":")
  if not dataset or split not in schema.SPLITS:
    raise ValueError(
      f"--pretrain {origin}: neither the folder of a run nor DATASET:SPLIT "
      f"with one of {schema.SPLITS}"
    )
  for group in _splits(dataset, data_dir):
    if group.name == origin:
      name = f"{origin} (pretraining)"
      return dataclasses.replace(group, name=name, role="pretrain")
  raise ValueError(f"--pretrain {origin}: {dataset} has no split {split}")
