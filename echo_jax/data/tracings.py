"""Left-ventricular contours from an owner's table to keys of the record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from echo_jax.data.ingest import Recording
from echo_jax.data.ledger import Rejected
from echo_jax.data.tables import id_of, number, read_table

LEAST_POINTS = 3
LEAST_AREA_PX2 = 1.0
MOST_BACKWARDS = 0.25  # of the axis, both ways; two contours have half
MOST_TURNS = 1.5  # about the middle

Block = list[list[float]]  # rows of one frame that follow each other


@dataclass(frozen=True)
class Tracing:
  """The left ventricle in one frame.

  Attributes:
    frame: index from 0.
    points_px: x and y along the wall, in the owner's order.
  """

  frame: int
  points_px: Float32[np.ndarray, "points 2"]

  @property
  def area_px2(self) -> float:
    """Area of the polygon (shoelace formula)."""
    x, y = self.points_px.T.astype(np.float64)
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


@dataclass(frozen=True)
class Traced:
  """The contours of one video in file order, and what could not be read."""

  tracings: tuple[Tracing, ...] = ()
  notes: tuple[str, ...] = ()


def polygon_of_chords(
  rows: Float[np.ndarray, "rows 4"],
) -> Float32[np.ndarray, "points 2"]:
  """Chord ends x1 y1 x2 y2 as a polygon: down one wall and up the other.

  The first row is the long axis, not a chord, and is left out.

  Raises:
    Rejected: chords that turn back along the axis: two contours, or rows in
      disorder.
  """
  axis = rows[0, 2:] - rows[0, :2]
  middles = (rows[1:, :2] + rows[1:, 2:]) / 2
  steps = np.diff(middles @ axis)
  back = np.minimum(steps, 0).sum(), np.maximum(steps, 0).sum()
  if min(np.abs(back)) > MOST_BACKWARDS * (axis @ axis):
    raise Rejected("its chords turn back along the axis")
  ends = rows[1:].astype(np.float32)
  return np.concatenate([ends[:, :2], ends[::-1, 2:]])


def polygon_of_points(
  rows: Float[np.ndarray, "rows 2"],
) -> Float32[np.ndarray, "points 2"]:
  """Points x y as they come.

  Raises:
    Rejected: they go round more than once, as two contours do.
  """
  x, y = (rows - rows.mean(axis=0)).T
  angle = np.unwrap(np.arctan2(y, x), period=2 * np.pi)
  if abs(angle[-1] - angle[0]) > MOST_TURNS * 2 * np.pi:
    raise Rejected("its points go round more than once")
  return rows.astype(np.float32)


def read_tracings(
  path: Path, values: Sequence[str], polygon: Callable[..., np.ndarray],
  unframed: Sequence[str] = (),
) -> dict[str, Traced]:  # fmt: skip
  """Contours by video id in lower case.

  Args:
    path: table with FileName, Frame and the columns `values`.
    values: columns that `polygon` takes, one row a chord or point.
    polygon: makes the points of a contour from its rows.
    unframed: words of the owner for a contour whose frame is unknown; only
      its rows are left out.  Any other word in a row leaves out all contours
      of the video, since it is not known which one lacks the row.

  One frame holds one contour: rows that are there twice count once, and a
  frame whose rows are in several places or make no contour is left out.

  Raises:
    ValueError: see `tables.read_table`.
  """
  rows: dict[str, dict[int, list[Block]]] = {}
  before: dict[str, int | None] = {}
  notes: dict[str, list[str]] = {}
  bad: dict[str, str] = {}
  words = {word.lower() for word in unframed}
  for row in read_table(path, ("FileName", "Frame", *values)):
    name = id_of(row["FileName"], ".avi").lower()
    said = notes.setdefault(name, [])
    if row["Frame"].lower() in words:
      note = f"tracing without a frame left out: Frame is {row['Frame']!r}"
      if note not in said:
        said.append(note)
      before[name] = None
      continue
    try:
      frame, point = _numbers(row, values)
    except Rejected as error:
      bad[name] = f"tracings left out: {error}"
      continue
    blocks = rows.setdefault(name, {}).setdefault(frame, [])
    if before.get(name) != frame:
      blocks.append([])
    blocks[-1].append(point)
    before[name] = frame
  return {
    name: Traced((), (bad[name],))
    if name in bad
    else _traced(rows.get(name, {}), polygon, tuple(said))
    for name, said in notes.items()
  }


def _numbers(
  row: Mapping[str, str], values: Sequence[str]
) -> tuple[int, list[float]]:
  frame = number("Frame", row["Frame"])
  point = [number(column, row[column]) for column in values]
  if np.isnan([frame, *point]).any() or frame % 1:
    raise Rejected("a value is empty, or Frame is not whole")
  return int(frame), point


def _traced(
  frames: Mapping[int, list[Block]], polygon: Callable[..., np.ndarray],
  notes: tuple[str, ...],
) -> Traced:  # fmt: skip
  short = [
    n for n, blocks in frames.items()
    if min(len(block) for block in blocks) < LEAST_POINTS
  ]  # fmt: skip
  if short:
    return Traced(
      (), (*notes, f"tracings left out: frame {short[0]} has too few rows")
    )
  tracings, said = [], [*notes]
  for frame, blocks in frames.items():
    try:
      once = _once(blocks)
      tracings.append(Tracing(frame, polygon(np.array(once))))
    except Rejected as reason:
      said.append(f"tracing of frame {frame} left out: {reason}")
      continue
    if len(once) < sum(len(block) for block in blocks):
      said.append(f"rows of frame {frame} are there again: taken once")
  return Traced(tuple(tracings), tuple(said))


def _once(blocks: list[Block]) -> Block:
  """The rows of a frame without repetitions of the whole.

  Raises:
    Rejected: rows in several places that are not the same.
  """
  kept: list[Block] = []
  for block in blocks:
    lengths = (n for n in range(LEAST_POINTS, len(block) + 1)
               if block == block[:n] * (len(block) // n))  # fmt: skip
    block = block[: next(lengths)]
    if block not in kept:
      kept.append(block)
  if len(kept) > 1:
    raise Rejected(f"its rows are in {len(kept)} places and differ")
  return kept[0]


def tracing_labels(
  traced: Traced, recording: Recording, notes: list[str]
) -> dict[str, Any]:
  """Keys of the record: contours in file order, ED and ES frames.

  ED is the frame of the largest area and ES of the smallest; both are unknown
  with fewer than two contours.  What is odd goes to `notes`.
  """
  notes += traced.notes
  tracings = _usable(traced.tracings, recording, notes)
  if not tracings:
    notes.append("no tracing: ED and ES frames unknown")
    return {}
  labels = {
    "tracing_frame": [tracing.frame for tracing in tracings],
    "tracing_count": [len(tracing.points_px) for tracing in tracings],
    "tracing_px": np.concatenate([tracing.points_px for tracing in tracings]),
  }
  if len(tracings) == 1:
    notes.append("one traced frame only: ED and ES frames unknown")
    return labels
  areas = [tracing.area_px2 for tracing in tracings]
  if max(areas) == min(areas):
    notes.append("traced frames of one area: ED and ES frames unknown")
    return labels
  if areas[-1] != max(areas):
    notes.append(
      f"the last traced frame has {areas[-1]:.0f} px2, not the largest area "
      f"({max(areas):.0f} px2): ED and ES were taken by area"
    )
  return labels | {
    "ed_frame": tracings[int(np.argmax(areas))].frame,
    "es_frame": tracings[int(np.argmin(areas))].frame,
  }


def _usable(
  tracings: tuple[Tracing, ...], recording: Recording, notes: list[str]
) -> tuple[Tracing, ...]:
  """Contours that lie in the video; the others are noted and left out."""
  frames, rows, columns = recording.frames.shape[:3]
  kept = []
  for tracing in tracings:
    where = f"tracing of frame {tracing.frame}"
    low, high = tracing.points_px.min(0), tracing.points_px.max(0)
    if not 0 <= tracing.frame < frames:
      notes.append(f"{where} left out: the video has {frames} frames")
      continue
    if not tracing.area_px2 >= LEAST_AREA_PX2:  # not a number, too
      notes.append(f"{where} left out: it encloses no area")
      continue
    if (low < -1).any() or (high > [columns, rows]).any():
      notes.append(f"{where} leaves the {columns}x{rows} picture")
    kept.append(tracing)
  return tuple(kept)
