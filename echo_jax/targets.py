"""The task table: what each target is, where its label lies, how it is judged.

Adding a task is one row of `TARGETS`.  A head has `outputs` numbers a target,
a batch `labels` columns of truth and the predictions `values` columns; the
three are laid out by `layout`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple


class Kind(NamedTuple):
  """Losses a kind of target may be trained by, and the metrics it gets.

  The first loss is used where a row of the table and the run name none.
  """

  losses: tuple[str, ...]
  metrics: tuple[str, ...]


LINKS = ("identity", "log")
_OF_CLASSES = ("macro_auroc", "balanced_accuracy", "macro_f1", "accuracy")
_OF_CALLED = ("called_brier", "called_ece_width", "called_ece_mass")

KINDS: dict[str, Kind] = {
  "regression": Kind(
    ("huber", "l1", "l2"),
    ("mae", "rmse", "r2", "pearson_r", "bias", "loa_low", "loa_high"),
  ),
  "binary": Kind(
    ("entropy",),
    ("auroc", "auprc", "f1", "accuracy", "sensitivity", "specificity",
     "brier", "ece_width", "ece_mass", "calibration_slope",
     "calibration_intercept"),
  ),
  "multiclass": Kind(("entropy",), _OF_CLASSES + _OF_CALLED),
  "ordinal": Kind(
    ("cumulative",),
    (*_OF_CLASSES, "quadratic_kappa", "mae_grades", *_OF_CALLED),
  ),
  "multilabel": Kind(("entropy",), ("mean_auroc", "mean_auprc")),
}  # fmt: skip


def check_metrics(names: Iterable[str]) -> None:
  """Raises ValueError at a name that is no metric of any kind of target."""
  known = dict.fromkeys(n for kind in KINDS.values() for n in kind.metrics)
  if strange := [name for name in names if name not in known]:
    raise ValueError(f"no metric {strange[0]!r}; there are {', '.join(known)}")


@dataclass(frozen=True)
class Target:
  """One thing a model predicts: a row of the task table.

  Attributes:
    name: in settings, predictions and results; of a binary target it says
      which class is the positive one.
    kind: one of `KINDS`: a number, one of two, one of several classes with
      (ordinal) or without (multiclass) an order, or several of them at once
      (multilabel).
    unit: of a regression target.
    source: key of the record that holds the label; of a multilabel target
      one key a class.
    below, at_least, positive: when a binary target, or a label of several, is
      1: its source lies below a number, at or above one, or is one of these
      texts.  One of the three is given.
    classes: of a multiclass target as its source has them, in rising order of
      an ordinal one, names of the labels of a multilabel one.
    loss: one of the kind's; "" leaves it to the run.
    logarithm: of a regression target: its value is the natural logarithm of
      the source, and is predicted and judged as that.
    link: of a regression target, one of `LINKS`: with "log" a model regresses
      the logarithm of the value, and what it predicts is the value.
  """

  name: str
  kind: str
  unit: str
  source: str | tuple[str, ...]
  below: float = float("nan")
  classes: tuple[str, ...] = ()
  at_least: float = float("nan")
  positive: tuple[str, ...] = ()
  loss: str = ""
  logarithm: bool = False
  link: str = "identity"

  def __post_init__(self) -> None:
    if self.kind not in KINDS:
      raise ValueError(
        f"{self.name}: no kind {self.kind!r}; there are {sorted(KINDS)}"
      )
    if self.loss not in ("", *KINDS[self.kind].losses):
      raise ValueError(
        f"{self.name}: loss {self.loss!r} is not one of "
        f"{KINDS[self.kind].losses}"
      )
    if self.link not in LINKS:
      raise ValueError(f"{self.name}: link {self.link!r} is not one of {LINKS}")
    if self.kind != "regression" and (self.logarithm or self.link == "log"):
      raise ValueError(f"{self.name} is {self.kind}: it has no logarithm")
    several = self.kind not in ("regression", "binary")
    fewest = 1 if self.kind == "multilabel" else 2
    if several != bool(self.classes) or 0 < len(self.classes) < fewest:
      raise ValueError(
        f"{self.name} is {self.kind} and has {len(self.classes)} classes"
      )
    if len(set(self.classes)) < len(self.classes) or "" in self.classes:
      raise ValueError(f"{self.name}: classes must differ and have a name")
    rules = (not math.isnan(self.below)) + (not math.isnan(self.at_least))
    rules += bool(self.positive)
    if rules != (self.kind in ("binary", "multilabel")):
      raise ValueError(
        f"{self.name} is {self.kind}: {rules} of below, at_least and positive "
        "are given; a binary or multilabel target wants one, others none"
      )
    if isinstance(self.source, str) == (self.kind == "multilabel") or (
      self.kind == "multilabel" and len(self.source) != len(self.classes)
    ):
      raise ValueError(
        f"{self.name} is {self.kind}: its source is {self.source!r}; it wants "
        "one key, a multilabel target a tuple with one key a class"
      )

  @property
  def sources(self) -> tuple[str, ...]:
    """Keys of the record that are read."""
    return (self.source,) if isinstance(self.source, str) else self.source

  @property
  def outputs(self) -> int:
    """Numbers that a head gives for it."""
    return max(len(self.classes) - (self.kind == "ordinal"), 1)

  @property
  def labels(self) -> int:
    """Columns of truth in a batch: the place of a class is one number."""
    return len(self.sources)

  @property
  def values(self) -> int:
    """Columns of what is predicted: a value, or one probability a class."""
    return max(len(self.classes), 1)

  @property
  def metrics(self) -> tuple[str, ...]:
    """Names of the metrics it is judged by."""
    return KINDS[self.kind].metrics

  @property
  def meaning(self) -> str:
    """What the outputs mean: the name, and the classes in their order."""
    if not self.classes:
      return self.name
    return f"{self.name} ({self.kind}: {', '.join(self.classes)})"

  def rule(self, label: int = 0) -> str:
    """When it is 1, as in `ef_pct < 50`; "" if it is not of 0 and 1."""
    source = self.sources[label]
    if self.positive:
      return f"{source} is {' or '.join(self.positive)}"
    if not math.isnan(self.below):
      return f"{source} < {self.below:g}"
    return "" if math.isnan(self.at_least) else f"{source} >= {self.at_least:g}"


TARGETS: dict[str, Target] = {
  target.name: target
  for target in (
    Target("ef_pct", "regression", "%", "ef_pct"),
    Target("edv_ml", "regression", "ml", "edv_ml"),
    Target("esv_ml", "regression", "ml", "esv_ml"),
    Target("edv_ln_ml", "regression", "ln(ml)", "edv_ml", logarithm=True),
    Target("esv_ln_ml", "regression", "ln(ml)", "esv_ml", logarithm=True),
    Target("ef_below_50", "binary", "", "ef_pct", below=50.0),
    Target("ef_at_least_50", "binary", "", "ef_pct", at_least=50.0),
    Target("ef_at_least_45", "binary", "", "ef_pct", at_least=45.0),
    *(
      Target(f"{name}_mm", "regression", "mm", f"{name}_mm")
      for name in ("ivsd", "lvidd", "lvpwd", "ivss", "lvids", "lvpws")
    ),
    Target("la_ml", "regression", "ml", "la_ml"),
    Target("as_grade", "ordinal", "", "as_grade", classes=(
      "none", "mild", "moderate", "severe",
    )),
    Target("as_vmax_cm_s", "regression", "cm/s", "as_vmax_cm_s"),
    Target(
      "mr_present", "binary", "", "mr_grade",
      positive=("mild", "moderate", "severe"),
    ),
    Target(
      "segments_abnormal", "multilabel", "",
      tuple(f"segment_{number:02d}" for number in range(1, 18)),
      classes=tuple(f"segment_{number:02d}" for number in range(1, 18)),
      positive=("hypokinetic", "akinetic", "dyskinetic"),
    ),
    Target("disease", "multiclass", "", "disease", classes=(
      "none", "dilated", "hypertrophic", "infiltrative", "ischaemic",
      "valvular",
    )),
    Target("rhythm", "multiclass", "", "rhythm", classes=(
      "sinus", "atrial_fibrillation", "ventricular_ectopy",
      "left_bundle_branch_block",
    )),
    Target(
      "arrhythmic_event_2y", "binary", "", "arrhythmic_event_2y", at_least=1.0
    ),
    Target("as_tmed5", "multiclass", "", "as_tmed5", classes=(
      "no_AS", "mild_AS", "mildtomod_AS", "moderate_AS", "severe_AS",
    )),
    Target("as_tmed3", "multiclass", "", "as_tmed3", classes=(
      "none", "early", "significant",
    )),
    Target(
      "as_significant", "binary", "", "as_tmed5",
      positive=("moderate_AS", "severe_AS"),
    ),
    Target("view", "multiclass", "", "view", classes=(
      "A4C", "A2C", "A3C", "A5C", "PLAX", "PSAX", "SC", "OTHER",
    )),
    Target("image_quality", "ordinal", "", "quality", classes=(
      "poor", "medium", "good",
    )),
  )
}  # fmt: skip


def target_named(name: str) -> Target:
  """The target of that name.

  Raises:
    ValueError: no such target; the message lists those that exist.
  """
  if name not in TARGETS:
    raise ValueError(f"no target {name!r}; there are {sorted(TARGETS)}")
  return TARGETS[name]


class Columns(NamedTuple):
  """Where a target lies in outputs, in truth and in predictions."""

  output: slice
  label: slice
  value: slice


def layout(targets: Sequence[Target]) -> tuple[Columns, ...]:
  """Columns of each target, one target after the other."""
  places, output, label, value = [], 0, 0, 0
  for one in targets:
    places.append(
      Columns(
        slice(output, output := output + one.outputs),
        slice(label, label := label + one.labels),
        slice(value, value := value + one.values),
      )
    )
  return tuple(places)


def count_outputs(targets: Sequence[Target]) -> int:
  """Numbers that a head gives for all of them."""
  return sum(target.outputs for target in targets)


def truths_of(
  targets: Sequence[Target], scalars: Mapping[str, Any]
) -> list[float]:
  """Labels of all targets for one record, in the order of `layout`."""
  return [
    truth_of(target, scalars, label)
    for target in targets
    for label in range(target.labels)
  ]


def truth_of(
  target: Target, scalars: Mapping[str, Any], label: int = 0
) -> float:
  """Label of a target for one record; NaN where its source is unknown.

  A value, 0 or 1, or the place of a class.  `label` is which of several.

  Raises:
    ValueError: a class that the target does not have, or the logarithm of
      what is not above 0.
  """
  value = scalars[target.sources[label]]
  if target.kind in ("multiclass", "ordinal"):
    return _class_of(target, value)
  if target.positive:
    return float(value in target.positive) if value else float("nan")
  # -1 is an unknown integer; a number of a quantity may be -1.0.
  unknown = isinstance(value, Integral) and value == -1
  value = float("nan") if unknown else float(value)
  if math.isnan(value):
    return value
  if target.logarithm:
    if value <= 0:
      raise ValueError(
        f"{target.name}: {target.source} is {value:g}, which has no logarithm; "
        "leave the target out, or the video"
      )
    return math.log(value)
  if target.kind == "regression":
    return value
  if math.isnan(target.below):
    return float(value >= target.at_least)
  return float(value < target.below)


def _class_of(target: Target, name: str) -> float:
  if not name:
    return float("nan")
  if name not in target.classes:
    raise ValueError(
      f"{target.name} has no class {name!r}; there are {target.classes}"
    )
  return float(target.classes.index(name))
