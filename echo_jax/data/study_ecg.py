"""Of several ECGs of a study folder, which is used: the nearest in time."""

import math
from dataclasses import dataclass, replace

from echo_jax.data.ingest.moment import Moment
from echo_jax.data.signals import usable_leads
from echo_jax.data.study_files import Piece


def with_one_ecg(pieces: list[Piece], window_h: float | int) -> list[Piece]:
  """Leaves the ECG nearest in time, else of most leads, else the longest.

  One that is further from the first ultrasound than the window is of another
  occasion.  Where a time is not known, a known one goes before.
  """
  times = [p.taken for p in pieces if p.is_ultrasound and p.taken]
  start = min(times, key=lambda t: (t.day, t.seconds or 0.0), default=None)
  ecgs = {p.file: _ranked(p, start) for p in pieces if p.is_found("ecg")}
  near = [e for e in ecgs.values() if not abs(e.after_h) > window_h]
  best = min(near, key=lambda e: e.rank, default=None)
  return [
    _chosen(ecgs[p.file], best, window_h) if p.file in ecgs else p
    for p in pieces
  ]


@dataclass(frozen=True)
class _Ranked:
  """An ECG with what decides between several; hours NaN if unknown."""

  piece: Piece
  after_h: float
  leads: int
  span_s: float

  @property
  def rank(self) -> tuple[bool, float, int, float]:
    unknown = math.isnan(self.after_h)
    hours = 0.0 if unknown else abs(self.after_h)
    return unknown, hours, -self.leads, -self.span_s

  @property
  def words(self) -> str:
    time = "at an unknown time"
    if not math.isnan(self.after_h):
      side = "after" if self.after_h >= 0 else "before"
      time = f"{abs(self.after_h):.3g} h {side} the first ultrasound"
    return f"{time}, {self.leads} usable leads, {self.span_s:.4g} s"


def _ranked(piece: Piece, start: Moment | None) -> _Ranked:
  after_h = math.nan
  if start and piece.taken:
    after_h = start.hours_to(piece.taken)
  leads, _ = usable_leads(piece.data)
  return _Ranked(piece, after_h, len(leads), len(piece.data.mv) / piece.data.hz)


def _chosen(ecg: _Ranked, best: _Ranked | None, window_h: float | int) -> Piece:
  """With when it was taken, or without its data and why."""
  if abs(ecg.after_h) > window_h:
    return ecg.piece.without(
      "refused",
      f"ECG of another occasion: {ecg.words}; allowed are {window_h:g} h",
    )
  if ecg is not best:
    return ecg.piece.without(
      "ignored",
      f"another ECG was taken, {best.piece.file.name} ({best.words}): the "
      "nearest in time, then of most leads, then the longest, then the first; "
      f"this one is {ecg.words}",
    )
  return replace(ecg.piece, notes=(*ecg.piece.notes, f"ECG {ecg.words}"))
