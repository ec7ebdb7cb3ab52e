"""What `echo-jax inspect` shows of an ECG: leads, rate, duration, faults."""

from typing import Any

import numpy as np

from echo_jax.data.ingest.ecg import ECG
from echo_jax.data.signals import LEADS, usable_leads


def describe_ecg(ecg: ECG) -> dict[str, Any]:
  """The facts of an ECG in JSON types; what is unknown is None."""
  try:
    usable, flaws = usable_leads(ecg)
  except ValueError as error:
    usable, flaws = (), (str(error),)
  known = np.isfinite(ecg.mv).any(axis=0)
  return {
    "kind": "ecg",
    "samples": len(ecg.mv),
    "rate_hz": ecg.hz,
    "span_s": len(ecg.mv) / ecg.hz,
    "leads": list(ecg.leads),
    "range_mv": [
      float(np.nanmax(mv) - np.nanmin(mv)) if there else None
      for mv, there in zip(ecg.mv.T, known, strict=True)
    ],
    "missing_leads": [name for name in LEADS if name not in ecg.leads],
    "usable_leads": list(usable),
    "warnings": [*ecg.warnings, *flaws],
  }


def ecg_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
  """Name and text of each line to read."""
  shown = ", ".join(facts["leads"])
  missing = ", ".join(facts["missing_leads"]) or "none"
  ranges = ", ".join(
    "unknown" if mv is None else f"{mv:.3g}" for mv in facts["range_mv"]
  )
  usable = len(facts["usable_leads"])
  return [
    ("kind", "ecg"),
    ("rate", f"{facts['rate_hz']:g} Hz"),
    ("duration", f"{facts['span_s']:.6g} s, {facts['samples']} samples"),
    ("leads", f"{len(facts['leads'])}: {shown}"),
    ("range", f"{ranges} mV from lowest to highest"),
    ("missing", f"{missing} (of the twelve)"),
    ("usable", f"{usable} of {len(LEADS)}, by the first 10 s"),
    *(("WARNING", warning) for warning in facts["warnings"]),
  ]
