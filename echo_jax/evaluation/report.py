"""All that is said of a trained model: predictions, metrics, figures.

Written to the work directory: `predictions.csv` (clip rows of validation and
test), `metrics.json` (Estimates of single clips, of the mean over a video's
clips and of the mean over a study's videos; reliability, and values in groups
of patients), `figures/`, and `reference.npz` with what a later single
prediction is judged by (its interval and the training domain).
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from echo_jax.data.schema import VIEWS
from echo_jax.evaluation import figures
from echo_jax.evaluation.aggregate import (
  first_clips,
  mean_over_clips,
  mean_over_videos,
)
from echo_jax.evaluation.domain import Domain
from echo_jax.evaluation.estimate import LABELS as METRIC_LABELS
from echo_jax.evaluation.estimate import Estimate, estimates_to_json
from echo_jax.evaluation.interval import PredictionInterval, fit_interval
from echo_jax.evaluation.items import classes_of, widen
from echo_jax.evaluation.measured import call_classes, called_event
from echo_jax.evaluation.predict import ClipPredictions
from echo_jax.evaluation.predictions import write_predictions
from echo_jax.evaluation.reliability import reliability_tables
from echo_jax.evaluation.score import METHODS, kind_of, score
from echo_jax.evaluation.subgroups import Subgroups, measure_subgroups
from echo_jax.modalities import MODALITIES
from echo_jax.targets import Target
from echo_jax.training.writers import write_whole
from echo_jax.trees import digest

NOTHING_FROZEN = digest({})
LABELS = {
  "ef_pct": "Ejection fraction",
  "edv_ml": "End-diastolic volume",
  "esv_ml": "End-systolic volume",
  "edv_ln_ml": "Logarithm of end-diastolic volume",
  "esv_ln_ml": "Logarithm of end-systolic volume",
  "ef_below_50": "EF below 50 %",
  "ef_at_least_50": "EF of at least 50 %",
  "ef_at_least_45": "EF of at least 45 %",
  "as_tmed5": "Aortic stenosis (five grades)",
  "as_tmed3": "Aortic stenosis (three grades)",
  "view": "View",
  "image_quality": "Image quality",
}


def check_interval(name: str) -> None:
  """Raises ValueError if a report cannot have its intervals made so.

  DeLong's are not for reports: they want one row a patient.
  """
  allowed = [one for one in METHODS if one != "delong"]
  if name not in allowed:
    raise ValueError(f"interval is {name!r}; allowed: {', '.join(allowed)}")


def report_estimates(
  rows: pd.DataFrame, split: str, seed: int = 0,
  threshold: float | None = None, method: str = "percentile",
) -> list[Estimate]:  # fmt: skip
  """Estimates of single clips, of each video's mean, of each study's mean.

  The last only where `study_rows` gives rows; rows of whole studies have no
  other.  A target without any truth in the split is left out; see
  `judged_targets`.  `threshold` and `method` are those of `score`.
  """
  how = {
    "split": split, "seed": seed, "targets": judged_targets(rows, split),
    "threshold": threshold, "method": method,
  }  # fmt: skip
  if of_studies(rows):
    return score(rows, level="study", **how)
  single = score(first_clips(rows), level="clip", **how)
  videos = mean_over_clips(rows)
  found = single + score(videos, level="video", **how)
  studies, _ = study_rows(videos)
  return found + (
    [] if studies is None else score(studies, level="study", **how)
  )


def of_studies(rows: pd.DataFrame) -> bool:
  """Whether the rows are of whole studies, which the model read as one."""
  return set(rows["level"]) == {"study"}


def judged_items(rows: pd.DataFrame) -> pd.DataFrame:
  """What figures and intervals are of: studies, else each video's mean."""
  return rows if of_studies(rows) else mean_over_clips(rows)


def study_rows(videos: pd.DataFrame) -> tuple[pd.DataFrame | None, str]:
  """The mean over each study's videos; else None; and why some have none.

  Studies of one video each need none and no reason.  Slices of one heart, or
  two views of it, share their truth.  A target of which videos of a study have
  truths of their own (the view, say) has none for the study.
  """
  groups = videos.groupby(["study_id", "target", "class"])
  if groups.size().max() == 1:
    return None, ""
  if (videos["study_id"] == "").any():
    return None, "the study of some videos is unknown"
  differing = groups["truth"].nunique(dropna=False) > 1
  names = set(differing.index[differing].get_level_values("target"))
  shared = videos[~videos["target"].isin(names)]
  why = f"videos of one study differ in {', '.join(sorted(names))}"
  return (
    mean_over_videos(shared) if len(shared) else None, why if names else ""
  )


def judged_targets(rows: pd.DataFrame, split: str) -> list[str]:
  """Targets that have a truth in the split, in the table's order.

  Raises:
    ValueError: none has.
  """
  known = rows[(rows["split"] == split) & rows["truth"].notna()]
  if not len(known):
    raise ValueError(f"no target has a truth in split {split!r}")
  return list(dict.fromkeys(known["target"]))


def write_report(
  workdir: Path, rows: pd.DataFrame, estimates: Sequence[Estimate],
  about: Mapping[str, Any], split: str, notes: Sequence[str] = (),
  draw: bool = True,
) -> None:  # fmt: skip
  """Writes predictions, metrics and, to `draw`, figures of one evaluation.

  Values in groups of patients take seconds a target: they come with figures.
  """
  workdir.mkdir(exist_ok=True)
  write_predictions(workdir / "predictions.csv", rows)
  judged = judged_targets(rows, split)
  unjudged = [name for name in rows["target"].unique() if name not in judged]
  about = {**about, "targets_without_truth": unjudged}
  videos = judged_items(rows)
  why = "" if of_studies(rows) else study_rows(videos)[1]
  notes = [*notes, *([f"no study level: {why}"] if why else [])]
  of = {"split": split, "targets": judged}
  metrics = {
    "about": about, **estimates_to_json(estimates, notes),
    "reliability": reliability_tables(videos, **of),
  }  # fmt: skip
  if draw:
    groups = measure_subgroups(videos, seed=estimates[0].seed, **of)
    metrics["subgroups"] = [one.to_dict() for one in groups]
    scored = (videos["split"] == split) & videos["target"].isin(judged)
    _draw(workdir / "figures", videos[scored], groups)
  text = json.dumps(metrics, indent=2, allow_nan=False)
  write_whole(workdir / "metrics.json", text + "\n")


def _draw(
  folder: Path, videos: pd.DataFrame, groups: Sequence[Subgroups]
) -> None:
  """Writes the figures of each target."""
  folder.mkdir(exist_ok=True)
  for target, table in videos.groupby("target", sort=False):
    drawn = target_figures(table, target)
    if own := [one for one in groups if one.whole.target == target]:
      drawn["subgroups"] = subgroup_figure(own)
    for name, figure in drawn.items():
      path = folder / f"{target}_{name}.png"
      path.write_bytes(figures.encode_png(figure))


def subgroup_figure(found: Sequence[Subgroups]) -> Any:
  """One metric of one target in all its groups, a line each."""
  whole = found[0].whole
  rows = [whole, *(group for one in found for group in one.groups)]
  unit = f" ({whole.unit})" if whole.unit else ""
  return figures.forest_figure(
    [
      f"{one.group or 'all'} ({one.patients:,} patients)" for one in rows
    ],
    [one.value for one in rows], [one.low for one in rows],
    [one.high for one in rows], whole=whole.value,
    label=f"{LABELS.get(whole.target, whole.target)} by group",
    metric=f"{METRIC_LABELS.get(whole.name, whole.name)}{unit}",
    note=f"{100 * whole.level:g} % intervals by patient, each for itself",
  )  # fmt: skip


def target_figures(table: pd.DataFrame, target: str) -> dict[str, Any]:
  """The figures of one target's video rows, by name; none of many labels."""
  known = table[table["truth"].notna()]
  pair = (known["truth"].to_numpy(), known["prediction"].to_numpy())
  label, unit = LABELS.get(target, target), known["unit"].iloc[0]
  kind = kind_of(known, target)
  if kind == "multilabel":
    return {}
  if kind in ("multiclass", "ordinal"):
    wide = widen(known, target, classes_of(target), one_true=True)
    true, called = call_classes(wide, ordered=kind == "ordinal")
    right, chance = called_event(wide, true, called)
    drawn = {
      "confusion": figures.confusion_figure(
        true, called, classes=wide.classes, label=label
      )
    }
    if len(set(right)) == 2:
      drawn["reliability"] = figures.reliability_figure(
        right, chance, label=f"{label}, called class", event="right calls"
      )
    return drawn
  if kind == "binary":
    if len(set(pair[0])) < 2:
      return {}
    return {
      "roc": figures.roc_figure(*pair, label=label),
      "precision_recall": figures.precision_recall_figure(*pair, label=label),
      "reliability": figures.reliability_figure(*pair, label=label),
    }
  return {
    "scatter": figures.scatter_figure(*pair, label=label, unit=unit),
    "bland_altman": figures.bland_altman_figure(*pair, label=label, unit=unit),
  }


@dataclasses.dataclass(frozen=True)
class Reference:
  """What a single prediction is judged by.

  `intervals` are split-conformal, one a regression target, and absent where
  validation had too few patients; `domain` likewise.  Both hold for the mean
  over `clips` clips of a video and for the weights of `step` under the input
  `contract` (its hash).  Validation also chose the checkpoint, so the
  intervals are somewhat too narrow.  `spacing_mm` is the lowest and the
  highest of the pixels that the model saw in training, NaN if all unknown.
  Of a model of studies: `views` of the cines of training, and `mixtures` of
  modalities ("video+ecg") among the studies that the intervals are of.
  `frozen` is the digest of weights that other runs hold.
  """

  intervals: Mapping[str, PredictionInterval]
  domain: Domain | None
  clips: int
  step: int
  contract: str
  spacing_mm: tuple[float, float] = (float("nan"), float("nan"))
  views: tuple[str, ...] = ()
  mixtures: tuple[str, ...] = ()
  frozen: str = NOTHING_FROZEN

  def save(self, path: Path) -> None:
    """Writes plain arrays and numbers."""
    plain = {
      name: dataclasses.asdict(interval)
      for name, interval in self.intervals.items()
    }
    arrays = {} if self.domain is None else self.domain.to_arrays()
    content = io.BytesIO()
    np.savez(
      content, intervals=json.dumps(plain), clips=self.clips, step=self.step,
      contract=self.contract, spacing_mm=self.spacing_mm,
      views=np.array(self.views, str), mixtures=np.array(self.mixtures, str),
      frozen=self.frozen, **arrays,
    )  # fmt: skip
    write_whole(path, content.getvalue())

  @classmethod
  def load(cls, path: Path) -> "Reference":
    """Reads what `save` wrote.

    Raises:
      ValueError: it is of an older form.
    """
    with np.load(path) as arrays:
      plain = json.loads(str(arrays["intervals"]))
      domain = Domain.from_arrays(arrays) if "centre" in arrays else None
      clips, step = int(arrays["clips"]), int(arrays["step"])
      contract = str(arrays["contract"])
      if "spacing_mm" not in arrays:
        raise ValueError(
          f"{path} was written before spacing was kept; evaluate the run again"
        )
      low_mm, high_mm = arrays["spacing_mm"].tolist()
      views, mixtures = (
        tuple(arrays[name].tolist()) if name in arrays else ()
        for name in ("views", "mixtures")
      )
      frozen = str(arrays.get("frozen", NOTHING_FROZEN))
    intervals = {
      name: PredictionInterval(**value) for name, value in plain.items()
    }
    return cls(
      intervals, domain, clips, step, contract, (low_mm, high_mm), views,
      mixtures, frozen,
    )  # fmt: skip


def fit_intervals(
  rows: pd.DataFrame,
  targets: Sequence[Target],
  split: str = "validation",
  coverage: float = 0.95,
) -> dict[str, PredictionInterval]:
  """Intervals from validation videos, where there are patients enough."""
  videos = judged_items(rows[rows["split"] == split])
  intervals = {}
  for target in targets:
    of_target = videos["target"] == target.name
    table = videos[of_target & videos["truth"].notna()]
    enough = table["patient_id"].nunique() >= coverage / (1 - coverage)
    if target.kind == "regression" and enough:
      intervals[target.name] = fit_interval(
        table["truth"], table["prediction"], coverage=coverage,
        patient_id=table["patient_id"], unit=target.unit,
      )  # fmt: skip
  return intervals


def spacing_range(clips: ClipPredictions) -> tuple[float, float]:
  """Lowest and highest known spacing in mm; NaN if none is known."""
  found = clips.inputs.get("clip_spacing_mm", clips.spacing_mm)
  known = found[np.isfinite(found)]
  if not len(known):
    return float("nan"), float("nan")
  return float(known.min()), float(known.max())


def seen_views(clips: ClipPredictions) -> tuple[str, ...]:
  """Views of the cines of studies; "" is one whose view was unknown."""
  if "view" not in clips.inputs:
    return ()
  codes = np.unique(clips.inputs["view"][clips.inputs["video_valid"]])
  return tuple(VIEWS[code] for code in codes)


def seen_mixtures(
  clips: ClipPredictions, modalities: Sequence[str]
) -> tuple[str, ...]:
  """Which of a model's modalities came together in a study."""
  if "present" not in clips.inputs:
    return ()
  rows = np.unique(clips.inputs["present"], axis=0)
  mixed = (mixture_of(row, modalities) for row in rows)
  return tuple(dict.fromkeys(mixed))


def mixture_of(
  present: Bool[np.ndarray, "m"], modalities: Sequence[str]
) -> str:
  """The modalities that a study has of those that a model reads."""
  there = zip(MODALITIES, present, strict=True)
  return "+".join(n for n, is_there in there if is_there and n in modalities)


def mean_embeddings(clips: ClipPredictions) -> np.ndarray:
  """Mean embedding of each video, in order of first appearance."""
  table = pd.DataFrame(clips.embedding)
  return table.groupby(clips.video_id, sort=False).mean().to_numpy()
