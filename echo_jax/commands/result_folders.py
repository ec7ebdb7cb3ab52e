"""Result folders: every run below a folder, and how it was judged."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_jax.evaluation.estimate import Estimate, estimates_from_json
from echo_jax.evaluation.tables import Protocol, validation_loss
from echo_jax.experiment import (
  RUN_RECORD,
  numbered_settings,
  read_record,
)
from echo_jax.training.writers import LOG_NAME, read_log

NOT_READ = ("checkpoints", "figures")  # folders within a run


@dataclass(frozen=True)
class Run:
  """A result folder.

  Attributes:
    folder: where it is.
    record: its `run.json`.
    metrics: its `metrics.json`; None for one that predicts nothing.
  """

  folder: Path
  record: Mapping[str, Any]
  metrics: Mapping[str, Any] | None

  @property
  def settings(self) -> dict[str, Any]:
    """By dotted name, as JSON has them, without what no number depends on."""
    return numbered_settings(self.record["config"])

  @property
  def experiment(self) -> str:
    """`x` of a/b/x.py and of a.b.x."""
    name = self.record["experiment"].removesuffix(".py")
    return name.replace("/", ".").rpartition(".")[2]

  @property
  def baseline(self) -> str:
    """Title of what is no trained model but what one must beat; else ""."""
    return self.record.get("baseline", "")

  @property
  def origin(self) -> Mapping[str, Any]:
    """What is known of the run that the first weights are from; {} if none."""
    return self.record.get("init_from") or {}

  @property
  def protocol(self) -> Protocol:
    """How it was judged."""
    data = ", ".join(
      f"{one['dataset']} (labels {one['labels']}, pixels {one['pixels']})"
      for one in self.record["data"]
    )
    tiny = self.record["tiny"]
    if self.metrics is None:
      split = self.record["config"]["data"]["validation_split"]
      return Protocol(split, 0, data, tiny)
    about = self.metrics["about"]
    clips = None if self.baseline else about["clips_per_video"]
    return Protocol(about["split"], clips, data, tiny)

  def estimates(self) -> list[Estimate]:
    """All that came out; of a pre-training run its validation loss."""
    if self.metrics is not None:
      return estimates_from_json(self.metrics)
    log = read_log(self.folder / LOG_NAME)
    return [validation_loss(log, self.record["metric"])]


def told_apart(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """Settings of each run that may differ from those of another.

  Where all have their weights from runs of one experiment, in place of the
  folder's name what that run was made with, below `init_from`.
  """
  of = {one.origin.get("experiment") for one in runs}
  # Of weights whose settings are not known, their folder's name is all.
  known = all("config" in one.origin for one in runs)
  if not known or len(of) > 1:
    return [one.settings for one in runs]
  told = []
  for one in runs:
    settings = {k: v for k, v in one.settings.items() if k != "init_from"}
    theirs = numbered_settings(one.origin["config"])
    told.append(settings | {f"init_from.{k}": v for k, v in theirs.items()})
  return told


def find_runs(folders: Sequence[Path]) -> Iterator[Run]:
  """Every run in the folders; says which have not been evaluated.

  Raises:
    ValueError: results that are not of the run beside which they lie.
    FileNotFoundError: a folder that is not there.
  """
  seen = set()
  for top in folders:
    if not top.is_dir():
      raise FileNotFoundError(f"--runs {top}: no such folder")
    for place, inside, files in os.walk(top):
      inside[:] = sorted(set(inside) - set(NOT_READ))
      folder = Path(place)
      if RUN_RECORD not in files or folder.resolve() in seen:
        continue
      seen.add(folder.resolve())
      record = read_record(folder, baselines=True)
      if "metrics.json" in files:
        yield Run(folder, record, _metrics(folder, record))
      elif record["targets"]:
        told = f"left out, not evaluated: {folder}"
        print(f"{told}; echo-jax evaluate {folder}", file=sys.stderr)
      else:
        yield Run(folder, record, None)


def _metrics(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
  found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
  about = found["about"]
  for what, ours in (
    ("contract", record["contract_hash"]), ("data", record["data"])
  ):  # fmt: skip
    if about[what] != ours:
      raise ValueError(
        f"{folder}: metrics.json is of another {what} than run.json; run "
        f"`echo-jax evaluate {folder}` again"
      )
  return found
