"""A model card from a run's own record and results (Mitchell et al. 2019).

It says what was trained on what, on whom it was judged, how it did, in whom
it did worst and what it is not for; nothing in it is written by hand.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from echo_jax.data.card import LEAST, Counts, size_table
from echo_jax.data.leakage import CHOSE_ORIGIN, Group
from echo_jax.evaluation.estimate import (
  Estimate,
  estimates_from_json,
  format_table,
)

RESEARCH = "Research only: not a medical device, not for decisions on patients."
LIMITS = (
  RESEARCH,
  "Judged on the split named above and on nobody else; other scanners, sites, "
  "views and patients may give larger errors, without a warning.",
  "Input is read by the contract below; other frame spans, sizes or grey "
  "scales are other inputs.",
  "Labels are taken as they are: their own error is part of every error here.",
)  # fmt: skip
NOT_JUDGED = (
  RESEARCH,
  "It predicts nothing by itself: it is there to begin another training from "
  "(`--config.init_from`), under the contract below and no other.",
  "Its own validation loss is all that it was judged by. What it is worth for "
  "any measurement or finding, and in which patients, scanners or sites it is "
  "worth less, is not known: judge what is trained from it.",
)
SIMULATED = (
  "It has learnt simulated hearts (SynthEcho) and says nothing about people."
)
ROLES = {
  "train": "it was trained on", "validation": "it was chosen on",
  "pretrain": "its first weights were trained on",
  CHOSE_ORIGIN: "its first weights were chosen on",
}  # fmt: skip
NOT_KEPT = (
  "- this run did not keep how many studies and videos it was trained on, nor "
  "of which sites, devices and views; `--data-dir` reads it from the data set"
)
ROUNDED = (
  f"Some counts in this part are below {LEAST}: its others are rounded to "
  f"{LEAST}."
)


def model_card(
  record: Mapping[str, Any], people: Sequence[Group],
  metrics: Mapping[str, Any], rows: pd.DataFrame, subgroups: str, name: str,
) -> str:  # fmt: skip
  """Markdown on a trained and evaluated run.

  Args:
    record: the run record (`run.json`).
    people: of the run's list, as `people_of` gives them.
    metrics: what `evaluate` wrote (`metrics.json`).
    rows: its predictions.
    subgroups: tables of its error in groups of patients, as text.
    name: of the model, for the title.
  """
  about = metrics["about"]
  estimates = estimates_from_json(metrics)
  simulated = bool(rows.item_id.str.startswith("synthetic_echo:").any())
  judged = [
    f"## Judged on: split {about['split']}", "",
    f"Step {about['step']:,}, {about['clips_per_video']} clips a video; data "
    f"{_datasets(about['data'])}. Intervals: {estimates[0].method}, "
    f"{estimates[0].resamples:,} resamples, seed {estimates[0].seed}.", "",
    format_table(estimates, "md"), "",
    *(f"- {note}" for note in metrics["notes"]), "",
    "## Subgroups", "", "```", subgroups, "```", "",
  ]  # fmt: skip
  return _card(record, people, name, LIMITS, simulated, judged)


def encoder_card(
  record: Mapping[str, Any], people: Sequence[Group], loss: Estimate,
  simulated: bool, name: str,
) -> str:  # fmt: skip
  """Markdown on a run that predicts no target, as a pre-training.

  Args:
    record, people, name: as of `model_card`.
    loss: what validation gave.
    simulated: whether it has seen simulated hearts.
  """
  value = f"{loss.value:.4g}, " * loss.defined
  judged = [
    "## Judged by: its loss alone", "",
    f"- {value}{loss.reason}: {loss.protocol}", "",
  ]  # fmt: skip
  return _card(record, people, name, NOT_JUDGED, simulated, judged)


def _card(
  record: Mapping[str, Any], people: Sequence[Group], name: str,
  limits: Sequence[str], simulated: bool, judged: Sequence[str],
) -> str:  # fmt: skip
  parts = [
    f"# Model card: {name}", "",
    "Made by `echo-jax card` from the run's own record and results. What may "
    "leave a hospital, of this card and of the run: `GOVERNANCE.md` of "
    "echo_jax.", "",
    "## Intended use and limits", "",
    *(f"- {line}" for line in [SIMULATED] * simulated + [*limits]), "",
    "## The model", "", *_model(record), "",
    "## Learnt from", "", *_origin(record),
    *_cohort(people, record.get("learnt_from", {})), "",
    *judged,
    "## Input contract", "",
    f"Hash `{record['contract_hash']}`: weights refuse to load under another.",
    "", "```json", json.dumps(record["contract"], indent=1), "```", "",
  ]  # fmt: skip
  return "\n".join(parts)


def _model(record: Mapping[str, Any]) -> Iterator[str]:
  config = record["config"]
  encoder, head = config.get("encoder", {}), config.get("head", {})
  yield f"- experiment `{record['experiment']}`"
  yield f"- encoder: {_settings(encoder)}"
  if head:
    yield f"- head: {_settings(head)}"
  yield f"- predicts: {'; '.join(record['targets']) or 'no target'}"
  yield (
    f"- code {record['echo_jax']} {record['commit'] or '(installed)'}, Python "
    f"{record['python']}, {_settings(record['packages'])}"
  )


def _settings(settings: Mapping[str, Any]) -> str:
  return ", ".join(f"{k} {v}" for k, v in settings.items() if v not in ("", ()))


def _origin(record: Mapping[str, Any]) -> Iterator[str]:
  yield f"- data {_datasets(record['data'])}, seed {record['seed']}"
  start = record.get("init_from")
  if not start:
    yield "- first weights: random"
    return
  if "file" in start:
    yield f"- first weights: file {start['file']}, SHA-256 `{start['sha256']}`"
  if "experiment" in start:  # a run of ours, or what was exported of one
    yield (
      f"- first weights: `{start['experiment']}`, step {start['step']}, "
      f"contract `{start['contract_hash']}`, data {_datasets(start['data'])}"
    )


def _cohort(
  people: Sequence[Group], sizes: Mapping[str, Sequence[int]]
) -> list[str]:
  """Whom it learnt from; small numbers are told as those of a data card."""
  counts = Counts()
  lines = list(_whom(people, sizes, counts))
  if counts.small:
    lines = [*_whom(people, sizes, Counts(LEAST)), "", ROUNDED]
  return lines


def _whom(
  people: Sequence[Group], sizes: Mapping[str, Sequence[int]], counts: Counts
) -> Iterator[str]:
  for one in people:
    if one.people or not one.whole:
      yield f"- patients {ROLES[one.role]}: {_how_many(one, counts)}"
  if not people:
    yield "- patients: the run kept no list of them"
  if not sizes:
    yield NOT_KEPT
  else:
    yield from ("", "Trained on:", "", *size_table(sizes, counts))


def _how_many(one: Group, counts: Counts) -> str:
  if not one.whole:
    return "not known, no list of all was kept"
  unnamed = sum(not known for known in one.people.values())
  by_rule = f", {counts.people(unnamed)} of them not named by their owner"
  return counts.people(len(one.people)) + by_rule * bool(unnamed)


def _datasets(data: Sequence[Mapping[str, str]]) -> str:
  return ", ".join(
    f"{one['dataset']} (labels `{one['labels']}`)" for one in data
  )


def read_metrics(workdir: Path) -> dict[str, Any]:
  """What `evaluate` wrote of a run.

  Raises:
    FileNotFoundError: the run was not evaluated.
  """
  path = Path(workdir) / "metrics.json"
  if not path.exists():
    raise FileNotFoundError(
      f"{workdir} has no metrics.json; run `echo-jax evaluate {workdir}` first"
    )
  return json.loads(path.read_text(encoding="utf-8"))
