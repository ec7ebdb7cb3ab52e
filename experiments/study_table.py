"""Tables and figures of the study, from the folders of its runs alone.

Errors are of videos of unseen patients, in EF points, mean of the video's
clips. A difference resamples patients and seeds; a negative one is in favour
of what is named first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from echo_jax.evaluation.compare import holm
from echo_jax.evaluation.figures import BLUE, GREY, ORANGE, encode_png
from echo_jax.evaluation.paired import paired_rows
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.score import score
from echo_jax.training.writers import write_whole
from experiments.demo import stages
from experiments.items import Item

METRICS = ("mae", "r2")
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
  def name(self) -> str:
    on = f", on {self.device}" if self.device else ""
    return f"{self.first} minus {self.second}{on}"


def questions(
  names: Sequence[str], unseen_device: str
) -> tuple[Question, ...]:
  """What is asked of the arms that there are; see `experiments.study.arms`."""
  every, few = "100 % of labels", "10 % of labels"
  main, scratch = f"pre-trained, {every}", f"from scratch, {every}"
  asked = [
    Question("Labels", name, name.replace("pre-trained", "from scratch"))
    for name in names
    if name.startswith("pre-trained, ")
  ]
  asked += [
    Question("Pre-training", name, f"pre-trained, {few}")
    for name in names
    if name.startswith(("masked ", "latent")) and few in name
  ]
  asked += [
    Question("Frozen", name, "masked, frozen")
    for name in names
    if name.endswith(", frozen") and name != "masked, frozen"
  ]
  asked.append(Question("Frozen", "masked, frozen", main))
  for start, moments in (("pre-trained", main), ("from scratch", scratch)):
    asked += [
      Question("Heads", name, moments)
      for name in names
      if name.startswith(("max", "gru", "STF")) and name.endswith(start)
    ]
    asked.append(
      Question("Heads", f"STF-Net as described, {start}", f"max, {start}")
    )
    apart = f"without a device, {start}"
    asked.append(Question("Unseen device", apart, moments, unseen_device))
  asked.append(
    Question(
      "Unseen device", "without a device, pre-trained",
      "without a device, from scratch", unseen_device,
    )
  )  # fmt: skip
  for share in (every, few):
    for start in ("pre-trained", "from scratch"):
      asked.append(Question("CNN", f"CNN, {share}", f"{start}, {share}"))
  return tuple(q for q in asked if {q.first, q.second} <= set(names))


def write_results(
  workdir: Path, done: Sequence[Item], unseen_device: str, resamples: int
) -> None:
  """`results.json`, `table.md` and figures of the items that are done."""
  folders: dict[str, list[Path]] = {}
  for item in done:
    folder = item.folder(workdir)
    if (folder / "predictions.csv").exists():
      folders.setdefault(item.name, []).append(folder)
  tables = {
    name: [
      stages.ef_videos(read_predictions(folder / "predictions.csv"))
      for folder in of
    ]
    for name, of in folders.items()
  }
  first = next(iter(folders.values()))[0]
  asked = questions(tuple(tables), unseen_device)
  plain = {
    "origin": stages.origin(first, "python -m experiments.study"),
    "seconds": {
      item.name: [o.seconds(workdir) for o in done if o.name == item.name]
      for item in done
    },
    "estimates": {
      name: [estimates_of(rows, resamples) for rows in of]
      for name, of in tables.items()
    },
    "on unseen device": {
      name: [
        estimates_of(rows[rows.device == unseen_device], resamples)
        for rows in tables[name]
      ]
      for name in dict.fromkeys(
        name for q in asked if q.device for name in (q.first, q.second)
      )
    },
    "differences": answers(asked, tables, resamples),
  }
  write_whole(workdir / "results.json", json.dumps(plain, indent=1) + "\n")
  write_whole(workdir / "table.md", format_results(plain))
  for name, draw in FIGURES.items():
    (workdir / name).write_bytes(encode_png(draw(plain)))


def estimates_of(rows: pd.DataFrame, resamples: int) -> dict[str, Any]:
  """MAE and R2 of one run."""
  found = score(rows, level="video", resamples=resamples)
  return {one.name: one.to_dict() for one in found if one.name in METRICS}


def answers(
  asked: Sequence[Question], tables: Tables, resamples: int
) -> dict[str, dict[str, Any]]:
  """Differences in MAE by section and name, p adjusted in each section."""
  found: dict[str, dict[str, Any]] = {}
  for question in asked:
    pair = [
      [
        rows[rows.device == question.device] if question.device else rows
        for rows in tables[name]
      ]
      for name in (question.first, question.second)
    ]
    names = question.first, question.second
    one = paired_rows(
      *pair, stages.TARGET, "mae", names=names, resamples=resamples
    )
    found.setdefault(question.section, {})[question.name] = one.to_dict()
  for section in found.values():
    adjusted = holm([one["p"] for one in section.values()])
    for one, p in zip(section.values(), adjusted, strict=True):
      one["p_adjusted"] = float(p)
  return found


def format_results(plain: Mapping[str, Any]) -> str:
  """The tables in Markdown: every arm, then every question."""
  one = next(iter(plain["estimates"].values()))[0]["mae"]
  parts = [
    f"{one['rows']} test videos of {one['patients']} patients; 95 % intervals "
    f"by {one['method']}, {one['resamples']:,} resamples.", "",
    "## Every way of training, every seed", "",
    "| trained | MAE, EF points | mean | R² |", "|---|---|---|---|",
    *(_arm_line(name, of) for name, of in plain["estimates"].items()), "",
    *_unseen_lines(plain["on unseen device"]),
    "## Differences in MAE", "",
    "Over patients and seeds; negative: the first is better. p by the same "
    "resamples, and adjusted within each section (Holm 1979).", "",
  ]  # fmt: skip
  for section, found in plain["differences"].items():
    parts += [
      f"### {section}", "", "| difference | EF points | p | p, Holm |",
      "|---|---|---|---|",
      *(_difference_line(name, one) for name, one in found.items()), "",
    ]  # fmt: skip
  return "\n".join(parts)


def _unseen_lines(found: Mapping[str, Any]) -> list[str]:
  if not found:
    return []
  return [
    "## The same on the device that some were trained without", "",
    "| trained | MAE, EF points | mean | R² |", "|---|---|---|---|",
    *(_arm_line(name, of) for name, of in found.items()), "",
  ]  # fmt: skip


def _arm_line(name: str, seeds: Sequence[Mapping[str, Any]]) -> str:
  mae, r2 = ([one[metric] for one in seeds] for metric in METRICS)
  each = ", ".join(
    f"{one['value']:.1f} ({one['low']:.1f}–{one['high']:.1f})" for one in mae
  )
  mean = np.mean([one["value"] for one in mae])
  explained = ", ".join(f"{one['value']:.2f}" for one in r2)
  return f"| {name} | {each} | {mean:.1f} | {explained} |"


def _difference_line(name: str, one: Mapping[str, Any]) -> str:
  interval = f"{one['value']:.1f} ({one['low']:.1f} to {one['high']:.1f})"
  return f"| {name} | {interval} | {one['p']:.3f} | {one['p_adjusted']:.3f} |"


def label_figure(plain: Mapping[str, Any]) -> Figure:
  """Error against the share of labelled patients, a point a seed."""
  figure = Figure(figsize=(6, 4), layout="constrained")
  axes = figure.subplots()
  for start, colour, shift in (
    ("pre-trained", BLUE, 0.95), ("from scratch", ORANGE, 1.05)
  ):  # fmt: skip
    shares, means = [], []
    for name, seeds in plain["estimates"].items():
      if not name.startswith(f"{start}, "):
        continue
      share = float(name.removeprefix(f"{start}, ").split(" ")[0])
      mae = [one["mae"] for one in seeds]
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
  """Every difference with its interval, section by section."""
  rows = [
    (section, name, one)
    for section, found in plain["differences"].items()
    for name, one in found.items()
  ]
  figure = Figure(figsize=(9, 1.2 + 0.27 * len(rows)), layout="constrained")
  axes = figure.subplots()
  axes.axvline(0, color=GREY, linewidth=0.8)
  for i, (_, _, one) in enumerate(rows):
    axes.plot([one["low"], one["high"]], [i, i], color=BLUE, linewidth=1.5)
    axes.plot(one["value"], i, "o", color=BLUE, markersize=4)
  labels = [f"{section}: {name}" for section, name, _ in rows]
  axes.set_yticks(range(len(rows)), labels, fontsize=8)
  axes.invert_yaxis()
  axes.set_xlabel("Difference in mean absolute error (EF points)")
  return figure


FIGURES = {"labels.png": label_figure, "differences.png": difference_figure}
