"""The reliability table of a target: what was predicted, what came true.

Of a binary target the event is its positive class, of one of several classes
that the called class is the true one.  Axes: n item.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from echo_jax.evaluation.aggregate import at_level
from echo_jax.evaluation.calibration import CUTS, reliability_table
from echo_jax.evaluation.items import widen, with_truth
from echo_jax.evaluation.measured import call_classes, called_event
from echo_jax.evaluation.predictions import (
  check_predictions,
  collected_notes,
)
from echo_jax.evaluation.score import kind_of, ordered_classes, positive_class


class Events(NamedTuple):
  """Whether an event came true, 0 or 1, and how probable it was said to be."""

  event: str
  truth: Float[np.ndarray, "n"]
  prediction: Float[np.ndarray, "n"]
  patient_id: np.ndarray


def events_of(
  part: pd.DataFrame, target: str, kind: str, order: Sequence[str] = ()
) -> Events | None:
  """The events of rows of one target with a truth; None if it has none."""
  if kind == "binary":
    return Events(
      positive_class(target), part.truth.to_numpy(),
      part.prediction.to_numpy(), part.patient_id.to_numpy(),
    )  # fmt: skip
  if kind not in ("multiclass", "ordinal"):
    return None
  classes = ordered_classes(target, kind, order)
  wide = widen(part, target, classes, one_true=True)
  calls = call_classes(wide, ordered=kind == "ordinal")
  return Events(
    "the called class is the true one", *called_event(wide, *calls),
    wide.patient_id,
  )  # fmt: skip


def reliability_tables(
  frame: pd.DataFrame, *, level: str | None = None, split: str = "test",
  targets: Sequence[str] | None = None, binary: Sequence[str] = (),
  ordinal: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
  """A table a target and kind of bins, for JSON; arguments as of `score`."""
  frame = at_level(check_predictions(frame), level)
  found, orders = [], ordinal or {}
  for target in targets or list(dict.fromkeys(frame.target)):
    rows = frame[frame.target == target]
    kind = kind_of(rows, target, binary, orders)
    with collected_notes():  # `score` gives them
      part, _ = with_truth(rows, target, split)
    events = events_of(part, target, kind, orders.get(target, ()))
    for cut in CUTS if events else ():
      bins = reliability_table(*events[1:], cut)
      found.append(
        {
          "target": target, "event": events.event, "bins_of_equal": cut,
          "bins": bins.to_dict("records"),
        }
      )  # fmt: skip
  return found


def reliability_text(found: Sequence[Mapping[str, Any]]) -> str:
  """The tables as text for the terminal."""
  blocks = []
  for one in found:
    lines = [
      f"{one['target']}: reliability, bins of equal {one['bins_of_equal']}; "
      f"event: {one['event']}",
      "  probability     predicted  observed  patients  rows",
    ]
    lines += [
      f"  {of['low']:5.3f} to {of['high']:5.3f}  {of['predicted']:9.3f}"
      f"  {of['observed']:8.3f}  {of['patients']:8,}  {of['rows']:,}"
      for of in one["bins"]
    ]
    blocks.append("\n".join(lines))
  return "\n\n".join(blocks)
