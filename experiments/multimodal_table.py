"""The table of a multimodal study, from the files of its runs and no other.

Scores are such that 1 is the best; a difference is between ways of training,
over the same patients and over seeds.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echo_jax import experiment
from echo_jax.evaluation.aggregate import at_level
from echo_jax.evaluation.estimate import Estimate, estimates_from_json
from echo_jax.evaluation.paired import paired_rows
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.evaluation.score import score
from echo_jax.modalities import MODALITIES
from echo_jax.targets import target_named
from echo_jax.training.writers import write_whole

# The one metric a kind of target is compared by.
SCORES = {
  "regression": "r2", "binary": "auroc", "multiclass": "macro_auroc",
  "ordinal": "quadratic_kappa", "multilabel": "mean_auroc",
}  # fmt: skip
JOINT = "joint"
REMOVED_FROM = (JOINT, "no modality dropout")  # judged without modalities
AS_DRAWN = "devices_as_drawn"  # folder: the confounded, judged on such
ONE_SIDED = 0.9  # a two-sided interval whose lower end is the 95 % bound


def write_results(
  workdir: Path, done: Sequence[Any], baselines: Path | None = None
) -> None:
  """`results.json` and `table.md` of the items that are done.

  `baselines` holds the tables of `experiments.baselines` on the same data.
  """
  folders: dict[str, list[Path]] = {}
  for item in done:
    folders.setdefault(item.name, []).append(item.folder(workdir))
  record = experiment.read_record(folders[JOINT][0])
  config = record["config"]
  margin, targets = config["margin"], config["targets"]
  plain = {
    "origin": origin_of(record),
    "margin": margin,
    "seconds": {
      name: [json.loads((one / "done.json").read_text())["seconds"]
             for one in of]
      for name, of in folders.items()
    },
    "scores": {
      name: {target: scores_of(of, target) for target in targets}
      for name, of in folders.items()
    },
    "differences": differences(folders, targets),
    "without": removals(folders, targets, margin),
    "confounding": confounding(folders) if "disease" in targets else {},
  }  # fmt: skip
  if baselines:
    plain |= baseline_results(tables_of(folders[JOINT]), baselines, targets)
  text = json.dumps(_small(plain), allow_nan=False)
  write_whole(workdir / "results.json", text + "\n")
  write_whole(workdir / "table.md", format_results(plain))


KEPT = ("value", "low", "high", "level", "p", "patients", "rows", "reason",
        "largest_loss", "no_worse")  # fmt: skip


def _small(plain: Any) -> Any:
  """The same with what many Estimates share left out, in four decimals.

  That is the method (percentile bootstrap by patient, of a difference by seed
  too; 2,000 resamples, seed 0), the split (test) and the level (study).
  """
  if isinstance(plain, dict):
    if "resamples" in plain:
      plain = {k: plain[k] for k in KEPT if plain.get(k) not in (None, "")}
      plain.setdefault("value", None)
    return {k: _small(v) for k, v in plain.items()}
  if isinstance(plain, list):
    return [_small(one) for one in plain]
  return round(plain, 4) if isinstance(plain, float) else plain


def origin_of(record: Mapping[str, Any]) -> dict[str, Any]:
  """What a run record says of where its numbers come from.

  The video encoder's run by its folder's name: a path is of one machine only.
  """
  names = ("commit", "echo_jax", "python", "packages", "devices", "data")
  origin = {name: record[name] for name in names}
  if encoder := record["init_from"]:
    encoder = {k: v for k, v in encoder.items() if k != "config"}
    encoder["workdir"] = Path(encoder["workdir"]).name
  return origin | {"init_from": encoder}


def baseline_results(
  joint: Sequence[pd.DataFrame], folder: Path, targets: Sequence[str]
) -> dict[str, Any]:
  """Scores of each baseline, and the joint model minus it.

  Predictions of single videos or clips are averaged over each study.
  """
  tables = {
    path.stem.replace("_", " "): at_level(read_predictions(path), "study")
    for path in sorted(folder.glob("*.csv"))
  }
  agreement = json.loads((folder / "dice.json").read_text())
  return {
    "dice": agreement,
    "baselines": {
      name: {target: [_score_of(rows, target)] for target in targets}
      for name, rows in tables.items()
    },
    "joint_minus_baseline": {
      name: {
        target: paired_rows(
          joint, [rows], target, score_name(target), names=(JOINT, name)
        ).to_dict()
        for target in targets
      }
      for name, rows in tables.items()
    },
  }


def _score_of(rows: pd.DataFrame, target: str) -> dict[str, Any]:
  found = score(rows, split="test", level="study", targets=[target])
  wanted = score_name(target)
  return next(one for one in found if one.name == wanted).to_dict()


def score_name(target: str) -> str:
  """The metric that a target is compared by."""
  return SCORES[target_named(target).kind]


def scores_of(folders: Sequence[Path], target: str) -> list[dict[str, Any]]:
  """The score of a target in every seed, as plain Estimates."""
  found = []
  for folder in folders:
    stored = json.loads((folder / "metrics.json").read_text())
    found += [
      one.to_dict()
      for one in estimates_from_json(stored)
      if one.target == target and one.name == score_name(target)
    ]
  return found


def tables_of(
  folders: Sequence[Path], removed: str = ""
) -> list[pd.DataFrame]:
  """Predictions of every seed, with all modalities or without some."""
  inside = f"without_{removed}/" if removed else ""
  return [
    read_predictions(folder / f"{inside}predictions.csv") for folder in folders
  ]


def differences(
  folders: Mapping[str, Sequence[Path]], targets: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Joint minus each other way of training on the same data, by target."""
  joint = tables_of(folders[JOINT])
  data = experiment.read_record(folders[JOINT][0])["data"]
  found: dict[str, dict[str, Any]] = {}
  for name, of in folders.items():
    if name == JOINT or experiment.read_record(of[0])["data"] != data:
      continue
    other = tables_of(of)
    found[name] = {
      target: paired_rows(
        joint, other, target, score_name(target), names=(JOINT, name)
      ).to_dict()
      for target in targets
    }
  return found


def removals(
  folders: Mapping[str, Sequence[Path]], targets: Sequence[str], margin: float
) -> dict[str, dict[str, Any]]:
  """Joint models without a modality minus models trained without it.

  `no_worse` says whether the one-sided 95 % bound of the loss in score stays
  below the margin.
  """
  found: dict[str, dict[str, Any]] = {}
  for way in REMOVED_FROM:
    for name in MODALITIES:
      trained = f"trained without {name}"
      if way not in folders or trained not in folders:
        continue
      pair = tables_of(folders[way], name), tables_of(folders[trained])
      names = f"{way}, {name} removed at test", trained
      found[f"{names[0]} minus {names[1]}"] = {
        target: _judged(
          paired_rows(
            *pair, target, score_name(target), names=names, level=ONE_SIDED
          ),
          margin,
        )
        for target in targets
      }
  return found


def confounding(
  folders: Mapping[str, Sequence[Path]]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
  """How well "any disease" is told, AUROC, where devices give it away or not.

  Of each way of training: on its own test set, within each device of it, and
  for runs of the confounded set on the same patients with devices as drawn.
  """
  found: dict[str, dict[str, list[dict[str, Any]]]] = {}
  for name in (JOINT, "video alone", "confounded", "video alone, confounded"):
    for folder in folders.get(name, ()):
      of = found.setdefault(name, {})
      rows = any_disease(read_predictions(folder / "predictions.csv"))
      parts = {"own test set": rows} | {
        f"within {device}": rows[rows.device == device]
        for device in sorted(set(rows.device))
      }
      drawn = folder / AS_DRAWN / "predictions.csv"
      if drawn.exists():
        parts["devices as drawn"] = any_disease(read_predictions(drawn))
      for part, table in parts.items():
        of.setdefault(part, []).append(_auroc(table).to_dict())
  return found


def any_disease(rows: pd.DataFrame) -> pd.DataFrame:
  """Rows of a binary target made of those of `disease`: 1 is any disease."""
  rows = rows[(rows.target == "disease") & (rows["class"] == "none")]
  return rows.assign(
    target="any_disease", kind="binary", prediction=1 - rows.prediction,
    truth=1 - rows.truth, **{"class": ""},
  )  # fmt: skip


def _auroc(rows: pd.DataFrame) -> Estimate:
  found = score(rows, split="test", level="study")
  return next(one for one in found if one.name == "auroc")


def _judged(difference: Estimate, margin: float) -> dict[str, Any]:
  bound = -difference.low
  return difference.to_dict() | {
    "largest_loss": float(bound) if np.isfinite(bound) else None,
    "no_worse": bool(bound < margin),
  }


def format_results(plain: Mapping[str, Any]) -> str:
  """The tables in Markdown."""
  targets = list(next(iter(plain["scores"].values())))
  head = [f"{target} ({score_name(target)})" for target in targets]
  parts = [
    "## Scores: mean over seeds (each seed)", "",
    *_table(
      "trained as", head, plain["scores"] | plain.get("baselines", {}),
      targets, _seeds_text,
    ), "",
    "95 % intervals of every seed are in results.json.", "",
    "## Joint minus other ways of training, same test patients", "",
    *_table(
      "other", head,
      plain["differences"] | plain.get("joint_minus_baseline", {}), targets,
      _interval_text,
    ), "",
    "## What removal costs the joint model", "",
    "Difference (one-sided 95 % bound of the loss); no worse is **not shown** "
    f"where the bound is not below the margin of {plain['margin']:g}.", "",
    *_table("removed", head, plain["without"], targets, _loss_text), "",
    *_confounding_lines(plain["confounding"]),
  ]  # fmt: skip
  return "\n".join(parts)


def _confounding_lines(
  rows: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> list[str]:
  """Section on devices and disease; none without a confounded run."""
  if "confounded" not in rows:
    return []
  parts = sorted({part for of in rows.values() for part in of})
  blank = [{"value": None}]
  full = {
    name: {part: of.get(part, blank) for part in parts}
    for name, of in rows.items()
  }
  return [
    "## Any disease, AUROC: is it the heart or the device?", "",
    *_table("trained as", parts, full, parts, _seeds_text), "",
  ]  # fmt: skip


def _table(first, head, rows, targets, text) -> list[str]:
  lines = [f"| {first} | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
  for name, of in rows.items():
    cells = " | ".join(text(of[target]) for target in targets)
    lines.append(f"| {name} | {cells} |")
  return lines


def _number(value: float | None) -> str:
  return "undefined" if value is None else f"{value:.2f}"


def _seeds_text(found: Sequence[Mapping[str, Any]]) -> str:
  values = [one["value"] for one in found]
  mean = None if None in values or not values else float(np.mean(values))
  return f"{_number(mean)} ({', '.join(map(_number, values))})"


def _interval_text(one: Mapping[str, Any]) -> str:
  low, high = _number(one["low"]), _number(one["high"])
  return f"{_number(one['value'])} ({low} to {high})"


def _loss_text(one: Mapping[str, Any]) -> str:
  said = f"{_number(one['value'])} ({_number(one['largest_loss'])})"
  return said if one["no_worse"] else f"**not shown** {said}"
