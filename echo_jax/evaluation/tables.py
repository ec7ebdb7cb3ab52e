"""A table of our results, every seed shown, beside published values.

Results are those of result folders.  Runs that were judged in different ways
are never put into one line, and into one table only where that is asked for.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from echo_jax.evaluation.estimate import LABELS, NAN, Estimate
from echo_jax.evaluation.published import Published

NOT_RUN = "not run"
INCOMPARABLE = "*"
FORMATS = ("md", "latex", "csv")
COLUMNS = (
  "table", "model", "metric", "kind", "seed", "value", "low", "high", "unit",
  "patients", "rows", "resamples", "dropped", "positive", "protocol", "mark",
  "source", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
  """What runs of one table must have in common.

  Attributes:
    split: that was judged.
    clips: a video, at most, that were predicted; None of a baseline that sees
      no clip.
    data: fingerprints of the data sets, as text.
    tiny: whether the model was the tiny one, whose numbers mean nothing.
  """

  split: str
  clips: int | None
  data: str
  tiny: bool = False

  def __str__(self) -> str:
    clips = f"{self.clips} clips a video predicted, " if self.clips else ""
    tiny = ", TINY MODEL: NUMBERS MEAN NOTHING" if self.tiny else ""
    return f"{self.split} split, {clips}{self.data}{tiny}"


@dataclass(frozen=True)
class Result:
  """What a table needs of one run.

  Attributes:
    folder: of the run.
    model: which of a table's models it is; "" in a table of a sweep.
    label: the line it belongs to; runs of a line differ by their seed.
    seed: of the training.
    protocol: how it was judged.
    estimates: what came out, at the level of the table.
  """

  folder: str
  model: str
  label: str
  seed: int
  protocol: Protocol
  estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class Line:
  """One metric of one model: each seed, and what others published of it.

  Attributes:
    model, label: as of a `Result`.
    metric: its name.
    target: of what, where a table has several.
    seeds: each seed and what came out.
    protocol: None where nothing was run.
    published: values of others.
    foreign: whether it is a model that is not ours to run.
  """

  model: str
  label: str
  metric: str
  target: str = ""
  seeds: tuple[tuple[int, Estimate], ...] = ()
  protocol: Protocol | None = None
  published: tuple[Published, ...] = ()
  foreign: bool = False

  @property
  def words(self) -> str:
    """The metric as it is printed."""
    return f"{self.target} {LABELS.get(self.metric, self.metric)}".lstrip()


def check_protocols(results: Sequence[Result], mixed: bool = False) -> None:
  """Refuses runs that cannot stand in one table.

  A baseline that sees no clip stands beside runs of any number of clips.

  Args:
    mixed: whether runs of several protocols may, each line marked with its own.

  Raises:
    ValueError: names the runs.
  """
  ways: dict[Protocol, list[str]] = {}
  seen = [one.protocol.clips for one in results]
  first = next((clips for clips in seen if clips is not None), None)
  for one, clips in zip(results, seen, strict=True):
    way = replace(one.protocol, clips=first if clips is None else clips)
    ways.setdefault(way, []).append(one.folder)
  if len(ways) > 1 and not mixed:
    told = "; ".join(f"[{way}] {', '.join(of)}" for way, of in ways.items())
    raise ValueError(
      f"runs of {len(ways)} protocols in one table: {told}. Give runs of one, "
      "or --mixed to have each line marked with its own"
    )
  there: dict[tuple, str] = {}
  for one in results:
    key = one.label, one.protocol, one.seed
    if key in there:
      raise ValueError(
        f"{one.label} has two runs of seed {one.seed}: {there[key]} and "
        f"{one.folder}; give one of them"
      )
    there[key] = one.folder


def make_lines(results: Iterable[Result]) -> list[Line]:
  """A line for every metric of every label, in the order of the results.

  A metric has its target's name only where there are several.
  """
  results = list(results)
  several = len({e.target for one in results for e in one.estimates}) > 1
  groups: dict[tuple, dict[int, Estimate]] = {}
  for one in results:
    for estimate in one.estimates:
      target = estimate.target if several else ""
      key = one.model, one.label, estimate.name, target, one.protocol
      groups.setdefault(key, {})[one.seed] = estimate
  return [
    Line(model, label, metric, target, tuple(sorted(seeds.items())), protocol)
    for (model, label, metric, target, protocol), seeds in groups.items()
  ]


def beside_published(
  lines: Sequence[Line], published: Sequence[Published],
  models: Mapping[str, str], metrics: Sequence[str],
) -> list[Line]:  # fmt: skip
  """Lines of every model of a table, then of what others published alone.

  Args:
    lines: of our runs.
    published: of this table.
    models: titles by name; one that has not run gets a line that says so.
    metrics: that the table shows.
  """
  theirs: dict[tuple[str, str], list[Published]] = {}
  for one in published:
    theirs.setdefault((one.model, one.metric), []).append(one)
  found = []
  for name, title in models.items():
    for metric in metrics:
      ours = [one for one in lines if (one.model, one.metric) == (name, metric)]
      for line in ours or [Line(name, title, metric)]:
        beside = tuple(theirs.get((name, metric), ()))
        found.append(replace(line, published=beside))
  return found + [
    Line(name, name, metric, published=tuple(of), foreign=True)
    for (name, metric), of in theirs.items()
    if name not in models and metric in metrics
  ]


def format_lines(
  lines: Sequence[Line], format: str, table: str = ""
) -> str:
  """The table as Markdown ("md"), LaTeX ("latex") or CSV ("csv", long form).

  Args:
    table: its name, a column of the CSV form.

  Raises:
    ValueError: another format.
  """
  if format not in FORMATS:
    raise ValueError(f"format is {format!r}; allowed: {FORMATS}")
  if format == "csv":
    return _as_csv(lines, table)
  notes = _Notes()
  head = ["model", "metric", "each seed (95 % interval)", "mean of seeds", "by"]
  if any(line.published for line in lines):
    head.append("published")
  rows = [_cells(line, notes)[: len(head)] for line in lines]
  return (_markdown if format == "md" else _latex)(head, rows, notes.lines)


class _Notes:
  """Footnotes, numbered as they come up; equal ones are one."""

  def __init__(self) -> None:
    self._ours: dict[str, str] = {}
    self._caveats: dict[str, str] = {}
    self._theirs: dict[str, str] = {}

  def ours(self, text: str) -> str:
    """The number of a protocol of ours: P1, P2, …"""
    return self._ours.setdefault(text, f"P{len(self._ours) + 1}")

  def caveat(self, text: str) -> str:
    """The number of what is to be known of a value of ours: N1, N2, …"""
    return self._caveats.setdefault(text, f"N{len(self._caveats) + 1}")

  def theirs(self, one: Published) -> str:
    """The number of a source, with a mark if it cannot be compared."""
    n = f"; n = {one.n:,}" if one.n else ""
    positive = f"; positive class: {one.positive}" if one.positive else ""
    note = f"; {INCOMPARABLE} {one.note}" if one.note else ""
    text = f"{one.source} ({one.mark}); {one.protocol}{n}{positive}{note}"
    number = self._theirs.setdefault(text, f"[{len(self._theirs) + 1}]")
    return number + INCOMPARABLE * bool(one.note)

  @property
  def lines(self) -> list[str]:
    """All of them, ours first, and what the mark means."""
    found = [
      f"{number} {text}"
      for notes in (self._ours, self._caveats, self._theirs)
      for text, number in notes.items()
    ]
    marked = any(f"; {INCOMPARABLE} " in text for text in self._theirs)
    return found + [f"{INCOMPARABLE} cannot be compared as it stands"] * marked


def _cells(line: Line, notes: _Notes) -> list[str]:
  """Cells of a line; what was not run says so."""
  values = [one for _, one in line.seeds]
  each = ", ".join(_seed_text(one, notes) for one in values)
  theirs = "; ".join(
    f"{one.value_text} {notes.theirs(one)}" for one in line.published
  )
  if not values:
    each = "–" if line.foreign else NOT_RUN
  how = notes.ours(_protocol_text(line)) if values else ""
  return [line.label, line.words, each, mean_text(values), how, theirs]


def _seed_text(one: Estimate, notes: _Notes) -> str:
  """Value, interval and mark; without one, digits that tell losses apart."""
  mark = f" {notes.caveat(one.caveat)}" if one.caveat else ""
  if one.defined and not math.isfinite(one.low):
    return f"{one.value:.4g} {one.unit}".rstrip() + f" (no interval){mark}"
  return f"{one.value_text} ({one.interval_text}){mark}"


def mean_text(values: Sequence[Estimate]) -> str:
  """The mean over seeds with their number; nothing for fewer than two."""
  if len(values) < 2:
    return ""
  mean = math.fsum(one.value for one in values) / len(values)
  if not math.isfinite(mean):
    return f"undefined in some of {len(values)}"
  one = replace(values[0], value=mean)
  text = one.value_text if math.isfinite(one.low) else f"{mean:.4g}"
  return f"{text}, {len(values)} seeds"


def _protocol_text(line: Line) -> str:
  """How a line of ours was measured, on whom, and with what intervals."""
  first = line.seeds[0][1]
  said = list(
    dict.fromkeys(
      f"{one.protocol}; {one.patients:,} patients, {one.rows:,} rows"
      if one.patients else one.protocol
      for _, one in line.seeds
    )
  )  # fmt: skip
  if first.positive:
    said.append(f"positive class: {first.positive}")
  if math.isfinite(first.threshold):
    cuts = ", ".join(f"{one.threshold:.3g}" for _, one in line.seeds)
    said.append(f"cut at {cuts} {first.threshold_rule}")
  if math.isfinite(first.low):
    said.append(
      f"{100 * first.level:g} % intervals of each seed: {first.method}, "
      f"{first.resamples:,} resamples, seed {first.seed}"
    )
  return "; ".join([*said, str(line.protocol)])


def _markdown(
  head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
  lines = [head, ["---"] * len(head), *rows]
  table = [
    "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |"
    for line in lines
  ]
  return "\n".join([*table, "", *(f"- {note}" for note in notes), ""])


_LATEX = {
  "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
  "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}", "²": "$^2$", "–": "--", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _latex(
  head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
  def row(cells: Sequence[str]) -> str:
    return " & ".join(_in_latex(cell) for cell in cells) + r" \\"

  return "\n".join(
    [
      rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\hline", row(head),
      r"\hline", *map(row, rows), r"\hline", r"\end{tabular}",
      r"\par\footnotesize",
      *(_in_latex(note) + r"\par" for note in notes), "",
    ]
  )  # fmt: skip


def _in_latex(text: str) -> str:
  return "".join(_LATEX.get(letter, letter) for letter in text)


def _as_csv(lines: Sequence[Line], table: str) -> str:
  """One row a seed and one a published value; nothing is a mean."""
  held = io.StringIO()
  writer = csv.DictWriter(held, COLUMNS, restval="", lineterminator="\n")
  writer.writeheader()
  for line in lines:
    of = {"table": table, "model": line.label, "metric": line.words}
    for seed, one in line.seeds:
      writer.writerow(
        of | _numbers(one.value, one.low, one.high) | {
          "kind": "ours", "seed": seed, "unit": one.unit,
          "patients": one.patients, "rows": one.rows,
          "resamples": one.resamples, "dropped": one.dropped,
          "positive": one.positive, "note": one.reason,
          "protocol": f"{one.protocol}; {line.protocol}",
        }
      )  # fmt: skip
    if not line.seeds and not line.foreign:
      writer.writerow(of | {"kind": NOT_RUN})
    for one in line.published:
      writer.writerow(
        of | _numbers(one.value, one.low, one.high) | {
          "kind": "published", "unit": one.unit, "rows": one.n or "",
          "positive": one.positive, "protocol": one.protocol,
          "mark": one.mark, "source": one.source, "note": one.note,
        }
      )  # fmt: skip
  return held.getvalue()


def _numbers(*values: float) -> dict[str, float | str]:
  return {
    name: "" if math.isnan(value) else value
    for name, value in zip(("value", "low", "high"), values, strict=True)
  }


def validation_loss(
  lines: Sequence[Mapping], metric: str = "loss"
) -> Estimate:
  """The validation loss of a log, as an Estimate without interval.

  It is that of the checkpoint which the run keeps as its best, by `metric`.
  """
  known = [
    (line[metric], line["step"], line["loss"]) for line in lines
    if line["part"] == "validation" and line.get(metric) is not None
  ]  # fmt: skip
  _, step, value = min(known, default=(NAN, 0, NAN))
  return Estimate(
    "loss", value, split="validation",
    protocol=f"loss of validation at step {step:,}, of the lowest {metric}",
    reason="of one validation pass" if known else "no validation in its log",
  )  # fmt: skip
