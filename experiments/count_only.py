"""What the number of pictures alone tells of a study: logistic regression.

In TMED-2 sicker studies have more stills, so a model that can see how many
there are (as when they are stacked to a false video) knows the grade without
looking.  Such a model must beat this one before its number means anything.

`echo-jax table` has a line for it where runs on the same data are judged.

Example:
  python -m experiments.count_only --data-dir data --name tmed2 \\
    --target as_tmed5 --workdir runs/count
  echo-jax score runs/count/predictions.csv
  echo-jax table tmed2_as --runs runs/paper runs/count
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echo_jax.data.sources import find_dataset, fingerprint, read_index
from echo_jax.evaluation.classic import fit_and_predict, linear, one_a_study
from echo_jax.evaluation.estimate import Estimate, format_table
from echo_jax.evaluation.report import judged_targets, write_report
from echo_jax.evaluation.score import score
from echo_jax.experiment import (
  RUN_RECORD,
  code_commit,
  read_record,
  write_record,
)
from echo_jax.targets import Target, target_named

SPLITS = ("train", "validation", "test")
TITLE = "number of pictures alone (baseline: sees no pixel)"


def count_rows(index: pd.DataFrame, targets: Sequence[Target]) -> pd.DataFrame:
  """Study rows of the predictions table from the logarithm of the count.

  A picture is a frame of any record of the study, still or cine.
  """
  index = index[index["split"].isin(SPLITS)]
  names = [name for target in targets for name in target.sources]
  studies = one_a_study(index, names)
  count = index.groupby("study_id")["frame_count"].sum()
  features = np.log(count).rename("pictures").to_frame()
  return fit_and_predict(features, studies, targets, linear)


def estimates_of(rows: pd.DataFrame, index: pd.DataFrame) -> list[Estimate]:
  """Estimates of test studies; as videos too, where each is a video."""
  several = index["study_id"].duplicated().any()
  targets = judged_targets(rows, "test")
  return [
    one for level in (("study",) if several else ("video", "study"))
    for one in score(rows.assign(level=level), level=level, targets=targets)
  ]  # fmt: skip


def record_of(folder: Path, targets: Sequence[Target]) -> dict[str, Any]:
  """What `run.json` of a result folder tells of it; nothing is drawn."""
  names = [target.name for target in targets]
  data = {"name": folder.parent.name}
  return {
    "experiment": "experiments/count_only.py", "baseline": TITLE,
    "config": {"targets": names, "data": data, "run": {"seed": 0}},
    "data": [fingerprint(folder)], "contract_hash": "", "seed": 0,
    "targets": [target.meaning for target in targets], "tiny": False,
    "commit": code_commit(),
  }  # fmt: skip


def refuse_other(workdir: Path, record: Mapping[str, Any]) -> None:
  """Raises ValueError where another result is in the way of this one."""
  if (workdir / RUN_RECORD).exists():
    before = read_record(workdir, baselines=True)
    parts = "experiment", "config", "data"
    other = any(before.get(part) != record[part] for part in parts)
  else:
    other = (workdir / "predictions.csv").exists()
  if other:
    raise ValueError(f"{workdir} holds another result; use another --workdir")


def main(words: Sequence[str] | None = None) -> None:
  """Writes a result folder of validation and test; prints scores of test.

  Raises:
    ValueError: the folder holds another result.
  """
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data-dir", type=Path, required=True)
  parser.add_argument("--name", default="tmed2_as_released")
  parser.add_argument("--target", action="append")
  parser.add_argument("--workdir", type=Path, default=Path("runs/count_only"))
  args = parser.parse_args(words)
  targets = [target_named(name) for name in args.target or ("as_tmed5",)]
  folder, workdir = find_dataset(args.data_dir, args.name), args.workdir
  record = record_of(folder, targets)
  refuse_other(workdir, record)
  index = read_index(folder)
  rows = count_rows(index, targets)
  estimates = estimates_of(rows, index)
  about = {
    "split": "test", "clips_per_video": 0, "contract": "",
    "data": record["data"],
  }  # fmt: skip
  workdir.mkdir(parents=True, exist_ok=True)
  write_record(record, workdir)
  write_report(workdir, rows, estimates, about, "test", draw=False)
  print(format_table(estimates))


if __name__ == "__main__":
  main()
