"""One video at a time: its values with intervals, and what may be shown.

A number is shown as usable only where the model was trained on such input.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from echo_jax.data.pipeline import ClipMaker, stack
from echo_jax.data.schema import Record
from echo_jax.evaluation.grades import call_grades
from echo_jax.evaluation.predict import ClipPredictions, predict_clips
from echo_jax.evaluation.report import Reference
from echo_jax.targets import Target, layout
from echo_jax.training.state import TrainState

NEED_SPACING = ("mm", "ml")  # units, as the sources of a target end in them
SPACING_SLACK = 0.02  # 2 % in length, 6 % in volume: less than any interval
INSIDE = "within the training domain"
OUTSIDE = "outside the training domain: research only"
UNCHECKED = "not checked against the training domain: research only"


@dataclass(frozen=True)
class Value:
  """One predicted target; `low` and `high` hold 95 % of true values if the
  video is like the validation ones.  `withheld` says why nothing is shown.

  A target of several classes has `classes` and the probability of each,
  `chances`; its `value` is NaN, and `called` the class that is scored as the
  call ("" for labels of which any number may be true).
  """

  target: str
  unit: str
  value: float
  low: float
  high: float
  kind: str
  withheld: str = ""
  classes: tuple[str, ...] = ()
  chances: tuple[float, ...] = ()
  called: str = ""

  def __str__(self) -> str:
    if self.withheld:
      return f"{self.target}: withheld ({self.withheld})"
    if self.classes:
      each = ", ".join(
        f"{name} {chance:.2f}"
        for name, chance in zip(self.classes, self.chances, strict=True)
      )
      said = f"{self.called} ({each})" if self.called else each
      return f"{self.target}: {said}"
    interval = (
      f" (95 % interval {self.low:.1f} to {self.high:.1f})"
      if np.isfinite(self.low)
      else " (no interval)"
    )
    return f"{self.target}: {self.value:.1f} {self.unit}{interval}"


@dataclass(frozen=True)
class Judged:
  """What a model says of one video or study, and how far it is to be believed.
  """

  values: tuple[Value, ...]
  distance: float | None
  threshold: float | None
  domain: str

  def lines(self, name: str) -> list[str]:
    """In words; `name` is of the video or study."""
    first = f"{name}: {self.domain}"
    if self.distance is not None:
      first += f" (distance {self.distance:.2f}, limit {self.threshold:.2f})"
    return [first, *(f"  {value}" for value in self.values)]

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON; what is not known is None."""
    values = [
      {k: None if v != v else v for k, v in dataclasses.asdict(value).items()}
      for value in self.values
    ]
    return {
      "domain": self.domain, "distance": self.distance,
      "limit": self.threshold, "values": values,
    }  # fmt: skip

  def rows(
    self, level: str, item_id: str, record: Mapping[str, Any]
  ) -> list[dict[str, Any]]:
    """Rows of the predictions table, of values that may be shown.

    One row a class where a target has several.  `record` says who and where.
    """
    names = (
      "study_id", "patient_id", "site", "device", "view", "split", "sex",
      "age_years", "quality", "patient_known",
    )  # fmt: skip
    about = {name: record[name] for name in names}
    return [
      {
        "level": level, "item_id": item_id, **about,
        "target": value.target, "unit": value.unit, "truth": np.nan,
        "prediction": prediction, "low": value.low, "high": value.high,
        "domain": self.domain, "class": name, "kind": value.kind,
      }
      for value in self.values
      if not value.withheld
      for name, prediction in (
        zip(value.classes, value.chances, strict=True)
        if value.classes
        else [("", value.value)]
      )
    ]  # fmt: skip


@dataclass(frozen=True)
class Finding:
  """What a model says of one video."""

  record: Record
  judged: Judged
  clips: ClipPredictions

  @property
  def values(self) -> tuple[Value, ...]:
    """One a target."""
    return self.judged.values

  @property
  def domain(self) -> str:
    """Whether the video is like those of training."""
    return self.judged.domain

  def __str__(self) -> str:
    return "\n".join(self.judged.lines(self.record["video_id"]))

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON; what is not known is None."""
    return {"video_id": self.record["video_id"], **self.judged.to_dict()}

  def rows(self) -> list[dict[str, Any]]:
    """Video rows of the predictions table."""
    return self.judged.rows("video", self.record["video_id"], self.record)


def predict_record(
  record: Record,
  maker: ClipMaker,
  predict_step: Callable,
  state: TrainState,
  targets: Sequence[Target],
  reference: Reference,
) -> Finding:
  """Mean prediction over evenly spread clips of one video.

  As many clips as the reference was fitted with.  An interval is given inside
  the training domain only, since elsewhere it holds nothing.  Lengths and
  volumes are withheld where the spacing is unknown or unlike that of all
  training videos: the picture does not tell a model how large a pixel is.

  Raises:
    UnknownTimes, UnknownBeats: the video has no frame times, or no beats, and
      the contract asks for them.
  """
  rows = [
    maker.at(record, start) | {"row_valid": np.True_}
    for start in maker.starts(record, reference.clips)
  ]
  found = predict_clips(predict_step, state, iter([stack(rows)]))
  no_size = why_no_size(found.spacing_mm[0], reference.spacing_mm)
  return Finding(record, judge(found, targets, reference, no_size), found)


def judge(
  found: ClipPredictions, targets: Sequence[Target], reference: Reference,
  no_size: str, has_intervals: bool = True,
) -> Judged:  # fmt: skip
  """The mean over all rows, as one video's or study's.

  Args:
    found: predictions of its clips, or of the study.
    targets: of the model.
    reference: what it is judged by.
    no_size: why lengths and volumes are withheld; "" if they are not.
    has_intervals: False if those of the reference are of something else.
  """
  mean = found.prediction.mean(axis=0)
  distance, threshold, verdict = None, None, UNCHECKED
  if reference.domain is not None:
    embedding = found.embedding.mean(axis=0)[None]
    distance = float(reference.domain.distance(embedding)[0])
    threshold = reference.domain.threshold
    verdict = INSIDE if distance <= threshold else OUTSIDE
  holds = verdict == INSIDE and has_intervals
  intervals = reference.intervals if holds else {}
  values = tuple(
    _value(target, mean[place.value], intervals, no_size)
    for target, place in zip(targets, layout(targets), strict=True)
  )
  return Judged(values, distance, threshold, verdict)


def why_no_size(
  spacing_mm: Float[np.ndarray, "2"], trained_mm: tuple[float, float]
) -> str:
  """Why lengths and volumes have no ground; "" where they have some."""
  if not np.isfinite(spacing_mm).all():
    return "pixel spacing unknown, so lengths and volumes have no ground"
  low_mm, high_mm = trained_mm
  if not np.isfinite(trained_mm).all():
    return "trained on videos of unknown pixel spacing"
  slack = 1 + SPACING_SLACK
  if low_mm / slack <= spacing_mm.min() and spacing_mm.max() <= high_mm * slack:
    return ""
  return (
    f"the model sees {spacing_mm[0]:.2f} x {spacing_mm[1]:.2f} mm a pixel, and "
    f"in training saw {low_mm:.2f} to {high_mm:.2f} mm"
  )


def _value(
  target: Target, found: Float[np.ndarray, "y"], intervals: Mapping,
  no_size: str,
) -> Value:  # fmt: skip
  nan = float("nan")
  sized = any(one.rpartition("_")[2] in NEED_SPACING for one in target.sources)
  if sized and no_size:
    return Value(
      target.name, target.unit, nan, nan, nan, target.kind, withheld=no_size
    )
  if target.classes:
    return Value(
      target.name, target.unit, nan, nan, nan, target.kind,
      classes=target.classes, chances=tuple(map(float, found)),
      called=_call(target, found),
    )  # fmt: skip
  value = found[0]
  low, high = np.nan, np.nan
  if target.name in intervals:
    bottom = -np.inf if target.logarithm else 0.0
    top = 100.0 if target.unit == "%" else np.inf
    low, high = intervals[target.name].around(value, bottom, top)
  return Value(
    target.name, target.unit, float(value), float(low), float(high),
    target.kind,
  )  # fmt: skip


def _call(target: Target, found: Float[np.ndarray, "y"]) -> str:
  """The class that stands for a distribution, as in scoring."""
  if target.kind == "multilabel":
    return ""
  if target.kind == "ordinal":
    return target.classes[call_grades(found[None])[0]]
  return target.classes[found.argmax()]
