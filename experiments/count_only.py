"""What the number of pictures alone tells of a study: logistic regression.

In TMED-2 sicker studies have more stills, so a model that can see how many
there are (as when they are stacked to a false video) knows the grade without
looking.  Such a model must beat this one before its number means anything.

Example:
  python -m experiments.count_only --data-dir data --name tmed2_as_released \\
    --target as_tmed5 --out runs/count.csv
  echo-jax score runs/count.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from echo_jax.data.sources import find_dataset, read_index
from echo_jax.evaluation.classic import fit_and_predict, linear, one_a_study
from echo_jax.evaluation.estimate import format_table
from echo_jax.evaluation.predictions import write_predictions
from echo_jax.evaluation.score import score
from echo_jax.targets import Target, target_named

SPLITS = ("train", "validation", "test")


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


def main(words: Sequence[str] | None = None) -> None:
  """Writes predictions of validation and test; prints the scores of test."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data-dir", type=Path, required=True)
  parser.add_argument("--name", default="tmed2_as_released")
  parser.add_argument("--target", action="append")
  parser.add_argument("--out", type=Path, default=Path("count_only.csv"))
  args = parser.parse_args(words)
  targets = [target_named(name) for name in args.target or ("as_tmed5",)]
  index = read_index(find_dataset(args.data_dir, args.name))
  rows = count_rows(index, targets)
  args.out.parent.mkdir(parents=True, exist_ok=True)
  write_predictions(args.out, rows)
  print(format_table(score(rows, level="study")))


if __name__ == "__main__":
  main()
