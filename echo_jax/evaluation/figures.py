"""Figures of agreement, discrimination, calibration and learning.

Every function returns a matplotlib Figure of its own, with no global state:
`figure.savefig(path)`, or `encode_png(figure)` for a page.  Colours are those
of Okabe and Ito (2008), told apart by the colour-blind.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image
from sklearn import metrics

from echo_jax.evaluation.calibration import reliability_table
from echo_jax.evaluation.regression import LIMIT

BLUE, ORANGE, GREEN, RED, GREY = (
  "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6F6F6F"
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def scatter_figure(
  truth: ArrayLike, prediction: ArrayLike, *, label: str, unit: str = "",
  note: str = "",
) -> Figure:  # fmt: skip
  """Predicted against true value, with the line of identity.

  Args:
    label: the quantity in words ("Ejection fraction").
    note: one line below the title, such as an Estimate's text.
  """
  truth, prediction = _pair(truth, prediction)
  figure, axes = _frame(note=note, title=f"{label}: predicted against true")
  both = np.concatenate((truth, prediction))
  low, high = _padded(both.min(), both.max())
  axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=1)
  _points(axes, truth, prediction)
  axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
  axes.set_xlabel(f"True {_lower(label)}{_bracket(unit)}")
  axes.set_ylabel(f"Predicted {_lower(label)}{_bracket(unit)}")
  return figure


def bland_altman_figure(
  truth: ArrayLike, prediction: ArrayLike, *, label: str, unit: str = "",
  note: str = "",
) -> Figure:  # fmt: skip
  """Error against the mean of both, with bias and limits of agreement.

  Error is prediction minus truth (Bland & Altman, Lancet 1986).
  """
  truth, prediction = _pair(truth, prediction)
  error, mean = prediction - truth, (prediction + truth) / 2
  figure, axes = _frame(note=note, title=f"{label}: Bland–Altman")
  axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
  _points(axes, mean, error)
  bias = error.mean()
  reach = LIMIT * error.std(ddof=1) if len(error) > 1 else np.nan
  for value, name, style in (
    (bias, "bias", "-"),
    (bias + reach, "+1.96 SD", "--"),
    (bias - reach, "−1.96 SD", "--"),
  ):
    if np.isfinite(value):
      axes.axhline(value, color=RED, linestyle=style, linewidth=1.4)
      axes.annotate(
        f"{name}: {value:.1f}".replace("-", "−"), (1, value),
        xycoords=axes.get_yaxis_transform(), xytext=(-4, 3),
        textcoords="offset points", ha="right", va="bottom",
        color=RED, fontsize=9, bbox=_PLATE,
      )  # fmt: skip
  top = 1.15 * np.nanmax([np.abs(error).max(), abs(bias) + reach, 1e-9])
  axes.set_ylim(-top, top)
  axes.set_xlabel(f"Mean of predicted and true{_bracket(unit)}")
  axes.set_ylabel(f"Predicted − true{_bracket(unit)}")
  return figure


def roc_figure(
  truth: ArrayLike, prediction: ArrayLike, *, label: str,
  threshold: float | int | None = None, note: str = "",
) -> Figure:  # fmt: skip
  """Sensitivity against 1 - specificity; a ring marks the threshold in use."""
  truth, prediction = _pair(truth, prediction, binary=True)
  false, true, _ = metrics.roc_curve(truth, prediction)
  figure, axes = _frame(note=note, title=f"{label}: ROC curve")
  axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
  axes.plot(false, true, color=BLUE, linewidth=2)
  if threshold is not None:
    called = prediction >= threshold
    point = called[truth == 0].mean(), called[truth == 1].mean()
    _ring(axes, *point, f"threshold {threshold:.2g}")
  axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
  axes.set_xlabel("1 − specificity")
  axes.set_ylabel("Sensitivity")
  return figure


def precision_recall_figure(
  truth: ArrayLike, prediction: ArrayLike, *, label: str,
  threshold: float | int | None = None, note: str = "",
) -> Figure:  # fmt: skip
  """Precision against sensitivity; the grey line is chance (prevalence)."""
  truth, prediction = _pair(truth, prediction, binary=True)
  precision, recall, _ = metrics.precision_recall_curve(truth, prediction)
  figure, axes = _frame(note=note, title=f"{label}: precision and recall")
  share = truth.mean()
  axes.axhline(share, color=GREY, linewidth=1)
  axes.annotate(
    f"prevalence {share:.2f}", (0.01, share), xytext=(0, 3),
    textcoords="offset points", color=GREY, fontsize=9,
  )  # fmt: skip
  axes.step(recall, precision, where="post", color=BLUE, linewidth=2)
  if threshold is not None and (prediction >= threshold).any():
    called = prediction >= threshold
    point = called[truth == 1].mean(), truth[called].mean()
    _ring(axes, *point, f"threshold {threshold:.2g}")
  axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
  axes.set_xlabel("Recall (sensitivity)")
  axes.set_ylabel("Precision (positive predictive value)")
  return figure


def reliability_figure(
  truth: ArrayLike, prediction: ArrayLike, *, label: str, bins: int = 10,
  note: str = "", event: str = "positives",
) -> Figure:  # fmt: skip
  """Observed share of positives against predicted probability.

  Bins share the rows (equal mass); bars are 95 % Wilson intervals (rows taken
  as independent); below, how the predictions are spread.

  Args:
    event: what truth 1 is, as in "right calls".
  """
  truth, prediction = _pair(truth, prediction, binary=True)
  bins = max(1, min(bins, len(truth) // 10))
  figure, axes = _frame(note=note, title=f"{label}: reliability")
  table = reliability_table(
    truth, prediction, np.arange(len(truth)), "mass", bins
  )
  predicted, observed = table["predicted"], table["observed"]
  low, high = _wilson(observed.to_numpy(), table["rows"].to_numpy())
  axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
  axes.errorbar(
    predicted, observed, yerr=(observed - low, high - observed), fmt="o-",
    color=BLUE, ecolor=BLUE, elinewidth=1, capsize=3, linewidth=1.2,
  )  # fmt: skip
  counts, edges = np.histogram(prediction, bins=20, range=(0, 1))
  axes.bar(
    edges[:-1], 0.12 * counts / counts.max(), width=0.05, align="edge",
    color=GREY, alpha=0.35, linewidth=0,
  )  # fmt: skip
  axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.02), aspect="equal")
  axes.set_xlabel("Predicted probability")
  axes.set_ylabel(f"Observed share of {event}")
  return figure


def forest_figure(
  names: Sequence[str], values: ArrayLike, lows: ArrayLike, highs: ArrayLike,
  *, label: str, metric: str, whole: float, note: str = "",
) -> Figure:  # fmt: skip
  """A value with its interval a line, and the value of all as a grey line.

  Args:
    names: of the lines, from the top; says how many patients each has.
    values, lows, highs: NaN is drawn as "not told".
    metric: what the values are, with its unit.
    whole: the value of all patients.

  Raises:
    ValueError: nothing to draw, or lengths that differ.
  """
  values, lows, highs = (
    np.asarray(one, np.float64) for one in (values, lows, highs)
  )
  if not len(names) == len(values) == len(lows) == len(highs) > 0:
    raise ValueError(
      f"{len(names)} names, {len(values)} values, {len(lows)} and "
      f"{len(highs)} ends; want as many of each, and one at least"
    )
  figure, axes = _frame(
    note=note, title=label, size=(6.4, 1.4 + 0.32 * len(names))
  )
  if np.isfinite(whole):
    axes.axvline(whole, color=GREY, linewidth=1)
  for place, (value, low, high) in enumerate(
    zip(values, lows, highs, strict=True)
  ):
    if not np.isfinite(value):
      axes.annotate(
        "not told", (0.5, place), xycoords=axes.get_yaxis_transform(),
        ha="center", va="center", color=GREY, fontsize=9,
      )  # fmt: skip
      continue
    axes.plot([low, high], [place, place], color=BLUE, linewidth=1.6)
    axes.plot(value, place, "s", color=BLUE, markersize=5)
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.set_xlabel(metric)
  axes.grid(axis="y", visible=False)
  return figure


def confusion_figure(
  true: ArrayLike, called: ArrayLike, *, classes: Sequence[str], label: str,
  note: str = "",
) -> Figure:  # fmt: skip
  """How often each true class was called what: counts, shaded by row share.

  Args:
    true, called: places in `classes`, one a row.
  """
  true, called = _pair(true, called)
  counts = metrics.confusion_matrix(true, called, labels=range(len(classes)))
  share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  figure, axes = _frame(note=note, title=f"{label}: called against true")
  axes.grid(False)
  axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
  for (row, column), count in np.ndenumerate(counts):
    axes.text(
      column, row, f"{count:,}", ha="center", va="center", fontsize=9,
      color="white" if share[row, column] > 0.6 else "black",
    )  # fmt: skip
  places = range(len(classes))
  axes.set_xticks(places, classes, rotation=30, ha="right")
  axes.set_yticks(places, classes)
  axes.set(xlabel="Called", ylabel="True")
  return figure


def learning_figure(
  curves: Mapping[str, tuple[ArrayLike, ArrayLike]], *,
  title: str = "Learning", x_label: str = "Step", y_label: str = "Loss",
  log: bool = False, note: str = "",
) -> Figure:  # fmt: skip
  """Curves over training, named at their ends.

  Args:
    curves: name to (steps, values); a value that is not finite leaves a gap.
    log: a logarithmic value axis.

  Raises:
    ValueError: no curve.
  """
  if not curves:
    raise ValueError("no curve to draw")
  figure, axes = _frame(note=note, title=title, size=(6.4, 4.2))
  for k, (name, (steps, values)) in enumerate(curves.items()):
    axes.plot(
      steps, values, color=COLOURS[k % len(COLOURS)], label=name,
      linewidth=1.8, marker=MARKERS[k % len(MARKERS)], markersize=4,
      markevery=max(1, np.size(steps) // 8),
    )  # fmt: skip
  if log:
    axes.set_yscale("log")
  axes.set(xlabel=x_label, ylabel=y_label)
  axes.legend(frameon=False, fontsize=9)
  return figure


def sweep_figure(
  curves: Mapping[str, Sequence[tuple[float, float, float, float]]], *,
  title: str, x_label: str, y_label: str, note: str = "",
) -> Figure:  # fmt: skip
  """A metric against a setting; every run a point with its interval.

  Args:
    curves: name to (setting, value, low, high) of each run; low and high are
      NaN without an interval.  The line goes through the means of runs of one
      setting, as of several seeds.

  Raises:
    ValueError: no run.
  """
  if not any(curves.values()):
    raise ValueError("no run to draw")
  figure, axes = _frame(note=note, title=title, size=(6.4, 4.2))
  for k, (name, runs) in enumerate(curves.items()):
    x, y, low, high = np.asarray(runs, np.float64).T
    colour, places = COLOURS[k % len(COLOURS)], np.unique(x)
    axes.errorbar(
      x, y, yerr=np.nan_to_num([y - low, high - y]).clip(0), fmt="none",
      ecolor=colour, elinewidth=1, alpha=0.5, capsize=2,
    )  # fmt: skip
    axes.plot(x, y, MARKERS[k % len(MARKERS)], color=colour, markersize=4)
    axes.plot(
      places, [y[x == place].mean() for place in places], color=colour,
      label=name, linewidth=1.8,
    )  # fmt: skip
  axes.set(xlabel=x_label, ylabel=y_label)
  if len(curves) > 1:
    axes.legend(frameon=False, fontsize=9)
  return figure


def encode_png(
  figure: Figure, dpi: int = 110, colours: int | None = None
) -> bytes:
  """The figure as a PNG file's bytes; figures drawn alike give the same.

  Args:
    colours: 2 to 256, of a palette, which makes lines and text a third of the
      size; None keeps all.
  """
  held = io.BytesIO()
  figure.savefig(held, format="png", dpi=dpi, metadata={"Software": None})
  if colours is None:
    return held.getvalue()
  small = io.BytesIO()
  whole = Image.open(held).convert("RGB")
  whole.quantize(colours).save(small, format="png", optimize=True)
  return small.getvalue()


_PLATE = dict(facecolor="white", edgecolor="none", alpha=0.75, pad=0.8)


def _frame(
  *, title: str, note: str, size: tuple[float, float] = (5.2, 5.0)
) -> tuple[Figure, Axes]:
  figure = Figure(figsize=size, layout="constrained")
  figure.get_layout_engine().set(h_pad=0.06, w_pad=0.08)
  axes = figure.add_subplot()
  figure.suptitle(title, fontsize=12)
  if note:
    axes.set_title(note, fontsize=9, color="#404040")
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(color="#E8E8E8", linewidth=0.6)
  axes.set_axisbelow(True)
  return figure, axes


def _points(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
  many = len(x) > 300
  axes.scatter(
    x, y, s=10 if many else 20, color=BLUE, alpha=0.35 if many else 0.65,
    linewidth=0, zorder=2,
  )  # fmt: skip


def _ring(axes: Axes, x: float, y: float, text: str) -> None:
  axes.plot(
    x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor=RED,
    markeredgewidth=1.8, zorder=3,
  )  # fmt: skip
  left = x > 0.6
  axes.annotate(
    text, (x, y), xytext=(-10 if left else 10, -14),
    textcoords="offset points", ha="right" if left else "left",
    color=RED, fontsize=9, bbox=_PLATE,
  )  # fmt: skip


def _pair(
  truth: ArrayLike, prediction: ArrayLike, binary: bool = False
) -> tuple[np.ndarray, np.ndarray]:
  truth = np.asarray(truth, np.float64)
  prediction = np.asarray(prediction, np.float64)
  if truth.shape != prediction.shape or truth.ndim != 1 or not len(truth):
    raise ValueError(
      f"want equal, non-empty [n]; got {truth.shape} and {prediction.shape}"
    )
  if not (np.isfinite(truth).all() and np.isfinite(prediction).all()):
    raise ValueError("truth and prediction must be finite")
  if binary and set(np.unique(truth)) != {0.0, 1.0}:
    raise ValueError("the curve needs rows of both classes, 0 and 1")
  return truth, prediction


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """95 % Wilson score interval of a share of n rows."""
  z2 = LIMIT**2
  middle = (share + z2 / (2 * n)) / (1 + z2 / n)
  half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
  half /= 1 + z2 / n
  return (
    np.minimum(middle - half, share), np.maximum(middle + half, share)
  )  # fmt: skip


def _padded(low: float, high: float) -> tuple[float, float]:
  pad = 0.05 * (high - low) or 1.0
  return low - pad, high + pad


def _lower(label: str) -> str:
  """Lower-cases the first letter, unless the word is an abbreviation."""
  return label if label[:2].isupper() else label[:1].lower() + label[1:]


def _bracket(unit: str) -> str:
  return f" ({unit})" if unit else ""
