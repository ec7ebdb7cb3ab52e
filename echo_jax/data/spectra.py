"""Doppler spectra of every zoom on one physical grid of velocity and time.

Axes: H W rows and columns: of the picture going in, of the grid coming out.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from echo_jax.data.ingest.spectrum import DopplerScale

WHITE = 255.0
# Chosen: flow is brighter than this share of white, and so much of it may be
# noise beyond the velocities of the grid.
BRIGHT, MOST_LOST = 0.4, 0.01


@dataclass(frozen=True)
class SpectrumGrid:
  """Velocity rows from the top down, zero in the middle; time columns.

  Attributes:
    rows, columns: their number.
    step_cm_s, step_ms: their size.
  """

  rows: int
  columns: int
  step_cm_s: float
  step_ms: float

  @property
  def velocity_cm_s(self) -> Float32[np.ndarray, " H"]:
    """Middle of each row; positive above the baseline, as on the screen."""
    middle = (self.rows - 1) / 2 - np.arange(self.rows)
    return (middle * self.step_cm_s).astype(np.float32)

  @property
  def time_ms(self) -> Float32[np.ndarray, " W"]:
    """Middle of each column from the start of the window."""
    middle = np.arange(self.columns) + 0.5
    return (middle * self.step_ms).astype(np.float32)


# Chosen to hold the largest scales that machines are set to (8 m/s for a jet,
# 2 m/s at a pulsed gate, 30 cm/s for tissue) and two beats of 47 a minute.
# Of one shape, so that kinds can share a batch.
GRIDS = {
  "cw": SpectrumGrid(160, 256, 10.0, 10.0),
  "pw": SpectrumGrid(160, 256, 2.5, 10.0),
  "tdi": SpectrumGrid(160, 256, 0.4, 10.0),
}


@dataclass(frozen=True)
class Spectrum:
  """What `DopplerEncoder` takes, of one picture.

  Attributes:
    spectrum: brightness 0 to 1; 0 where nothing is shown.
    shown: False past the ends of the display and, if so asked for, beyond its
      range of velocities.
    velocity_cm_s, time_ms: middle of each row and column.
  """

  spectrum: Float32[np.ndarray, "H W"]
  shown: Bool[np.ndarray, "H W"]
  velocity_cm_s: Float32[np.ndarray, " H"]
  time_ms: Float32[np.ndarray, " W"]


def resample_spectrum(
  picture: UInt8[np.ndarray, "H W"] | Float[np.ndarray, "H W"],
  scale: DopplerScale,
  grid: SpectrumGrid,
  *,
  start_ms: float | int = 0.0,
  beyond: str = "dark",
) -> Spectrum:
  """The spectrum in a picture, from `start_ms` on, on the grid.

  Each cell is a weighted mean of pixels whose weight falls linearly to 0 at
  one cell's (or one pixel's, if that is larger) distance: where the picture
  is finer than the grid, its zoom no longer shows.

  Args:
    picture: grey levels 0 to 255 of the whole picture.
    scale: where the spectrum is and what its pixels mean.
    grid: usually `GRIDS[kind]`.
    start_ms: from the left edge of the spectrum.
    beyond: what velocities are that the display does not reach.  "dark" takes
      it that the scale was set so that the flow fits, and makes a spectrum at
      a wide scale equal to one at a narrow scale.  "unknown" makes them not
      shown: a flow that left the display is then not denied, but how much is
      shown tells a model which scale the sonographer chose.

  Raises:
    ValueError: a scale that is not known, a box outside of the picture, flow
      at velocities that the grid does not hold, or nothing from `start_ms` on.
  """
  if beyond not in ("dark", "unknown"):
    raise ValueError(f'beyond is {beyond!r}, wants "dark" or "unknown"')
  refuse_without_scale(scale)
  x0, y0, x1, y1 = scale.box_px
  rows, columns = picture.shape
  if not (0 <= x0 < x1 < columns and 0 <= y0 < y1 < rows):
    raise ValueError(
      f"spectrum at x {x0}..{x1}, y {y0}..{y1} does not lie in the picture of "
      f"{columns}x{rows} px; give the box of this picture"
    )
  part = picture[y0 : y1 + 1, x0 : x1 + 1].astype(np.float64) / WHITE
  velocity = (scale.zero_px - np.arange(y0, y1 + 1)) * scale.cm_s
  time = (np.arange(x1 - x0 + 1) + 0.5) * scale.ms - start_ms
  holds = grid.rows / 2 * grid.step_cm_s
  bright = part > BRIGHT
  lost = bright[np.abs(velocity) > holds + scale.cm_s].sum()
  if lost > MOST_LOST * bright.sum():
    raise ValueError(
      f"{lost} of {bright.sum()} bright pixels lie beyond the {holds:g} cm/s "
      "of the grid: take one of more rows or larger steps, that loses no flow"
    )
  by_row, row_shown = _weights(
    grid.velocity_cm_s, grid.step_cm_s, velocity, scale.cm_s, beyond == "dark"
  )
  by_column, column_shown = _weights(
    grid.time_ms, grid.step_ms, time, scale.ms, False
  )
  if not column_shown.any():
    raise ValueError(
      f"from {start_ms:g} ms on there is no whole column of {grid.step_ms:g} "
      f"ms: the spectrum ends at {len(time) * scale.ms:g} ms"
    )
  inside = row_shown[:, None] & column_shown
  values = np.where(inside, by_row @ part @ by_column.T, 0.0)
  return Spectrum(
    values.astype(np.float32), inside, grid.velocity_cm_s, grid.time_ms
  )


def refuse_without_scale(scale: DopplerScale) -> None:
  """Raises ValueError where velocity, time or the baseline is not known."""
  needed = {
    "velocity of a row (cm/s)": scale.cm_s,
    "time of a column (ms)": scale.ms,
  }
  lacking = [name for name, step in needed.items() if not 0 < step < np.inf]
  if not np.isfinite(scale.zero_px):
    lacking.append("row of zero velocity")
  if lacking:
    raise ValueError(
      f"Doppler spectrum without {', '.join(lacking)}: not used.  Its header "
      "needs a spectral region with cm/s, s and a reference pixel"
    )


def _weights(
  cells: Float[np.ndarray, " cells"],
  cell: float,
  pixels: Float[np.ndarray, " pixels"],
  pixel: float,
  dark: bool,
) -> tuple[Float[np.ndarray, "cells pixels"], Bool[np.ndarray, " cells"]]:
  """Share of each pixel in each cell, and which cells are shown.

  Those that lie in the display are; or all, where it is dark around it: then
  dark pixels have their share in cells at the edge.
  """
  reach = max(cell, pixel)
  more = math.ceil(reach / pixel) if dark else 0
  step = pixels[1] - pixels[0]
  wide = pixels[0] + np.arange(-more, len(pixels) + more) * step
  distance = np.abs(cells.astype(np.float64)[:, None] - wide)
  weight = np.maximum(0.0, 1.0 - distance / reach)
  weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
  weight = weight[:, more : more + len(pixels)]
  if dark:
    return weight, np.ones(len(cells), bool)
  slack = 1e-6 * cell
  low, high = pixels.min() - pixel / 2, pixels.max() + pixel / 2
  inside = (cells - cell / 2 >= low - slack) & (
    cells + cell / 2 <= high + slack
  )
  return weight, inside
