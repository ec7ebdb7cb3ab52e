"""Tables and figures of the study, from the folders of its runs alone.

Errors are of videos of unseen patients, in EF points, mean of the video's
clips. A difference resamples patients and seeds; a negative one is in favour
of what is named first. Every question is asked again of the volumes that the
same runs were taught. What fewer than 20 patients would tell is withheld.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from echo_jax.data.leakage import PATIENTS
from echo_jax.evaluation.compare import holm
from echo_jax.evaluation.estimate import WITHHELD, Estimate
from echo_jax.evaluation.figures import BLUE, GREY, ORANGE, encode_png
from echo_jax.evaluation.paired import paired_rows
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.score import score
from echo_jax.evaluation.subgroups import LEAST_PATIENTS
from echo_jax.experiment import read_record
from echo_jax.training.writers import write_whole
from experiments.demo import stages
from experiments.items import Item

COMMAND = "python -m experiments.study"
METRICS = ("mae", "r2")
VOLUMES = {"edv_ml": "end-diastolic volume", "esv_ml": "end-systolic volume"}
# What is kept of an estimate and of a difference.
TOLD = ("value", "low", "high", "unit", "patients", "rows", "method",
        "resamples", "reason")  # fmt: skip
COMPARED = (*TOLD, "p", "by_seed")
PREDICTIONS = "predictions.csv"
Tables = Mapping[str, Sequence[pd.DataFrame]]


@dataclass(frozen=True)
class Question:
  """Two ways of training, compared on the same patients.

  Attributes:
    section: of the table.
    first, second: names of the arms.
    device: videos of that device only; "": all.
  """

  section: str
  first: str
  second: str
  device: str = ""

  @property
  def names(self) -> tuple[str, str]:
    return self.first, self.second

  @property
  def name(self) -> str:
    on = f", on {self.device}" if self.device else ""
    return f"{self.first} minus {self.second}{on}"


def write_results(
  workdir: Path, items: Sequence[Item], asked: Sequence[Question],
  shares: Mapping[str, Mapping[str, float]], resamples: int,
) -> None:  # fmt: skip
  """`results.json`, `table.md` and figures of the items that are done.

  Args:
    asked: questions; left out where an arm is not there, or a seed of it.
    shares: by start, the arms of the figure of labels and the share of
      patients (0 to 1) whose labels each has.
  """
  done = [item for item in items if item.seconds(workdir) is not None]
  folders: dict[str, list[Path]] = {}
  for item in done:
    folders.setdefault(item.name, []).append(item.folder(workdir))
  seeds = {item.seed for item in items}
  whole = {name for name, of in folders.items() if len(of) == len(seeds)}
  tables = {
    name: [
      stages.unseen_videos(read_predictions(folder / PREDICTIONS))
      for folder in of
    ]
    for name, of in folders.items()
    if (of[0] / PREDICTIONS).exists()
  }
  asked = [q for q in asked if {q.first, q.second} <= whole]
  apart = dict.fromkeys(
    (name, q.device) for q in asked if q.device for name in q.names
  )
  plain = {
    "origin": origin_of([f for of in folders.values() for f in of], COMMAND),
    "seconds of the last start": {
      item.name: [o.seconds(workdir) for o in done if o.name == item.name]
      for item in done
    },
    "pre-trainings": {
      name: passes_of(of[0])
      for name, of in folders.items() if name not in tables
    },
    "estimates": {
      name: [estimates_of(rows, resamples) for rows in of]
      for name, of in tables.items()
    },
    "mae of volumes, ml": {
      name: [errors_of_volumes(rows) for rows in of]
      for name, of in tables.items()
    },
    "by device": {
      f"{name}, on {device}": [
        estimates_on(rows, device, resamples) for rows in tables[name]
      ]
      for name, device in apart
    },
    "differences": answers(asked, tables, resamples),
    "of volumes": {
      target: answers(asked, tables, resamples, target) for target in VOLUMES
    },
    "shares": shares,
    "labelled patients": {
      name: [labelled_patients(folder) for folder in folders[name]]
      for of in shares.values() for name in of if name in folders
    },
    "not done": sorted({item.name for item in items} - whole),
    "failed": failures(items, workdir),
  }  # fmt: skip
  write_whole(workdir / "results.json", json.dumps(plain) + "\n")
  write_whole(workdir / "table.md", format_results(plain))
  for name, draw in FIGURES.items():
    (workdir / name).write_bytes(encode_png(draw(plain), colours=32))


def failures(items: Sequence[Item], workdir: Path) -> dict[str, str]:
  """Why items could not be trained, by item and seed."""
  return {
    f"{item.name}, seed {item.seed}": why
    for item in items if (why := item.failure(workdir)) is not None
  }  # fmt: skip


def origin_of(folders: Sequence[Path], command: str) -> dict[str, Any]:
  """Where the numbers come from, with the commits of every run."""
  found = stages.origin(folders[0], command)
  records = [read_record(folder) for folder in folders]
  commits = sorted({one["commit"] for one in records})
  return {n: v for n, v in found.items() if n != "commit"} | {
    "commits": commits
  }


def labelled_patients(folder: Path) -> int:
  """How many training patients' labels a run was given."""
  found = pd.read_csv(folder / PATIENTS)
  return int(found.patient_id[found.split == "train"].nunique())


def passes_of(folder: Path) -> dict[str, Any]:
  """How much a pre-training has seen."""
  run = read_record(folder)["config"]["run"]
  return {
    "steps": run["steps"], "clips": run["steps"] * run["batch_size"]
  }  # fmt: skip


def estimates_of(rows: pd.DataFrame, resamples: int) -> dict[str, Any]:
  """MAE and R2 of one run's EF."""
  found = score(
    rows[rows.target == stages.TARGET], level="video", resamples=resamples
  )
  return {
    one.name: part_of(one, TOLD) for one in found if one.name in METRICS
  }  # fmt: skip


def errors_of_volumes(rows: pd.DataFrame) -> dict[str, float]:
  """Mean absolute error of each volume, in ml; 0 and more."""
  error = (rows.prediction - rows.truth).abs().groupby(rows.target).mean()
  return {target: float(error[target]) for target in VOLUMES}


def part_of(one: Estimate, names: Sequence[str]) -> dict[str, Any]:
  """An estimate as JSON has it, without what all of a study have in common."""
  plain = one.to_dict()
  return {name: plain[name] for name in names}


def estimates_on(
  rows: pd.DataFrame, device: str, resamples: int
) -> dict[str, Any]:
  """The same on one device's videos."""
  found = estimates_of(rows[rows.device == device], resamples)
  return {name: told(one) for name, one in found.items()}


def told(one: Mapping[str, Any]) -> dict[str, Any]:
  """An estimate of a part of the patients, without its value if they are few.
  """
  if one["patients"] >= LEAST_PATIENTS:
    return dict(one)
  few = f"{WITHHELD}fewer than {LEAST_PATIENTS} patients"
  hidden = {"value": None, "low": None, "high": None, "p": None, "by_seed": []}
  return {**one, **{k: v for k, v in hidden.items() if k in one}} | {
    "reason": few
  }


def answers(
  asked: Sequence[Question], tables: Tables, resamples: int,
  target: str = stages.TARGET,
) -> dict[str, dict[str, Any]]:  # fmt: skip
  """Differences in MAE by section and name, p adjusted in each section."""
  found: dict[str, dict[str, Any]] = {}
  for question in asked:
    pair = [
      [
        rows[rows.device == question.device] if question.device else rows
        for rows in tables[name]
      ]
      for name in question.names
    ]
    one = part_of(
      paired_rows(
        *pair, target, "mae", names=question.names,
        resamples=resamples, paired_seeds=True,
      ),
      COMPARED,
    )  # fmt: skip
    # Those of the first arm, then of the second.
    one["by_seed"] = [value for _, value in one["by_seed"]]
    found.setdefault(question.section, {})[question.name] = (
      told(one) if question.device else one
    )
  for section in found.values():
    known = [one for one in section.values() if one["p"] is not None]
    adjusted = holm([one["p"] for one in known])
    for one, p in zip(known, adjusted, strict=True):
      one["p_adjusted"] = float(p)
  return found


def format_results(plain: Mapping[str, Any]) -> str:
  """The tables in Markdown: every arm, then every question."""
  one = next(iter(plain["estimates"].values()))[0]["mae"]
  parts = [
    f"{one['rows']} test videos of {one['patients']} patients; 95 % intervals "
    f"by {one['method']}, {one['resamples']:,} resamples. Every run chooses "
    "its checkpoint by the labels of all validation patients, however few "
    "training patients have some.", "",
    *missing_lines(plain),
    "## Every way of training, every seed", "",
    *_arm_lines(plain["estimates"]),
    "Volumes, which the same runs were taught, of every seed and in the mean:",
    "", *_volume_lines(plain["mae of volumes, ml"]),
    "Labelled training patients, seed by seed: "
    + "; ".join(
      f"{name}: {', '.join(map(str, of))}"
      for name, of in plain["labelled patients"].items()
    ) + ".", "",
    "## Pre-trainings", "",
    "They differ in what a step costs: clips are those drawn; with two losses "
    "each passes the encoder twice.", "",
    "| encoder | steps | clips | seconds of the last start |",
    "|---|---|---|---|",
    *(_passes_line(name, plain) for name in plain["pre-trainings"]), "",
  ]  # fmt: skip
  if plain["by device"]:
    parts += [
      "## On the device that some were trained without", "",
      "Those were trained on fewer patients, too.", "",
      *_arm_lines(plain["by device"]),
    ]  # fmt: skip
  parts += [
    "## Differences in MAE", "",
    "Resampled over patients and over seeds; both arms of a seed have the "
    "same labelled patients, each seed others. Negative: the first is better. "
    "p by the same resamples, and adjusted within each section (Holm 1979). So "
    "few seeds tell little of others: where those shown lie far apart, "
    "intervals and p are too small.", "",
    *_section_lines(plain["differences"], "EF points"),
  ]  # fmt: skip
  for target, found in plain["of volumes"].items():
    parts += [
      f"## Differences in MAE of {VOLUMES[target]}", "",
      "The same runs and questions; looked at after those of EF, for which the "
      "study was planned.", "",
      *_section_lines(found, "ml"),
    ]  # fmt: skip
  return "\n".join(parts)


def _section_lines(
  differences: Mapping[str, Mapping[str, Any]], unit: str
) -> list[str]:
  """A table a section."""
  lines = []
  for section, found in differences.items():
    lines += [
      f"### {section}", "",
      f"| difference | patients | {unit} | each seed | p | p, Holm |",
      "|---|---|---|---|---|---|",
      *(_difference_line(name, one) for name, one in found.items()), "",
    ]  # fmt: skip
  return lines


def missing_lines(plain: Mapping[str, Any]) -> list[str]:
  """What the tables do not hold, or not of every seed."""
  lines = []
  if plain["not done"]:
    lines += [f"Not done for every seed: {'; '.join(plain['not done'])}.", ""]
  for name, why in plain["failed"].items():
    lines += [f"Failed: {name}: {why}", ""]
  return lines


def _arm_lines(found: Mapping[str, Any]) -> list[str]:
  return [
    "| trained | patients | MAE, EF points | mean | R² |",
    "|---|---|---|---|---|",
    *(_arm_line(name, of) for name, of in found.items()), "",
  ]  # fmt: skip


def _volume_lines(found: Mapping[str, Any]) -> list[str]:
  lines = ["| trained | MAE of EDV, ml | mean | MAE of ESV, ml | mean |",
           "|---|---|---|---|---|"]  # fmt: skip
  for name, seeds in found.items():
    cells = [name]
    for target in VOLUMES:
      each = [one[target] for one in seeds]
      cells += [", ".join(f"{x:.1f}" for x in each), f"{np.mean(each):.1f}"]
    lines.append(f"| {' | '.join(cells)} |")
  return [*lines, ""]


def _passes_line(name: str, plain: Mapping[str, Any]) -> str:
  passes = plain["pre-trainings"][name]
  took = np.median(plain["seconds of the last start"][name])
  return f"| {name} | {passes['steps']:,} | {passes['clips']:,} | {took:.0f} |"


def _arm_line(name: str, seeds: Sequence[Mapping[str, Any]]) -> str:
  mae, r2 = ([one[metric] for one in seeds] for metric in METRICS)
  start = f"| {name} | {mae[0]['patients']}"
  if mae[0]["value"] is None:
    return f"{start} | {mae[0]['reason']} | | |"
  each = ", ".join(
    f"{one['value']:.1f} ({one['low']:.1f}–{one['high']:.1f})" for one in mae
  )
  mean = np.mean([one["value"] for one in mae])
  explained = ", ".join(f"{one['value']:.2f}" for one in r2)
  return f"{start} | {each} | {mean:.1f} | {explained} |"


def _difference_line(name: str, one: Mapping[str, Any]) -> str:
  start = f"| {name} | {one['patients']}"
  if one["value"] is None:
    return f"{start} | {one['reason']} | | | |"
  interval = f"{one['value']:.1f} ({one['low']:.1f} to {one['high']:.1f})"
  first, second = np.split(np.asarray(one["by_seed"]), 2)
  each = ", ".join(f"{value:.1f}" for value in first - second)
  return (
    f"{start} | {interval} | {each} | {one['p']:.3f} | "
    f"{one['p_adjusted']:.3f} |"
  )


def label_figure(plain: Mapping[str, Any]) -> Figure:
  """Error against the share of labelled patients, a point a seed."""
  figure = Figure(figsize=(6, 4), layout="constrained")
  axes = figure.subplots()
  styles = zip((BLUE, ORANGE), (0.95, 1.05), strict=True)
  for (start, arms), (colour, shift) in zip(
    plain["shares"].items(), styles, strict=True
  ):
    shares, means = [], []
    for name in arms.keys() & plain["estimates"].keys():
      share = 100 * arms[name]
      mae = [one["mae"] for one in plain["estimates"][name]]
      value = np.asarray([one["value"] for one in mae])
      low, high = (np.asarray([o[k] for o in mae]) for k in ("low", "high"))
      axes.errorbar(
        share * shift * 1.02 ** np.arange(len(mae)), value,
        (value - low, high - value),
        fmt="o", color=colour, alpha=0.6, markersize=4, linewidth=1,
      )  # fmt: skip
      shares.append(share)
      means.append(value.mean())
    order = np.argsort(shares)
    axes.plot(
      np.asarray(shares)[order] * shift, np.asarray(means)[order],
      color=colour, label=start,
    )  # fmt: skip
  axes.set_xscale("log")
  axes.set_xlim(0.8, 130)
  axes.set_xticks([1, 5, 10, 50, 100], ["1", "5", "10", "50", "100"])
  axes.set_xlabel("Labelled training patients (%)")
  axes.set_ylabel("Mean absolute error (EF points)")
  axes.legend(frameon=False)
  return figure


def difference_figure(plain: Mapping[str, Any]) -> Figure:
  """Every difference with its interval: EF, EDV and ESV side by side."""
  panels = {"EF points": plain["differences"]} | {
    f"{target.removesuffix('_ml').upper()}, ml": found
    for target, found in plain["of volumes"].items()
  }
  rows = [
    (section, name)
    for section, found in plain["differences"].items()
    for name in (None, *found)
  ]
  figure = Figure(figsize=(12, 1.2 + 0.22 * len(rows)), layout="constrained")
  axes = figure.subplots(1, len(panels), sharey=True)
  for axis, (unit, differences) in zip(axes, panels.items(), strict=True):
    axis.axvline(0, color=GREY, linewidth=0.8)
    for i, (section, name) in enumerate(rows):
      one = differences.get(section, {}).get(name)
      if one is not None and one["value"] is not None:
        axis.plot([one["low"], one["high"]], [i, i], color=BLUE, linewidth=1.5)
        axis.plot(one["value"], i, "o", color=BLUE, markersize=4)
    axis.set_xlabel(unit)
  labels = axes[0].set_yticks(
    range(len(rows)), [name or section for section, name in rows], fontsize=7
  )
  for tick, (_, name) in zip(labels, rows, strict=True):
    if name is None:
      tick.label1.set_fontweight("bold")
  axes[0].invert_yaxis()
  figure.supxlabel("Difference in mean absolute error (95 % interval)")
  return figure


FIGURES = {"labels.png": label_figure, "differences.png": difference_figure}
