"""The fan of an ultrasound sector: its apex and rays, from its mask.

Axes: H W pixels; x counts columns, y counts rows, downwards.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

LEAST_OPENING = 0.1  # tangent between both edges; less is a linear probe
EDGE_ROWS = (0.2, 0.9)  # part of the way to the widest row with straight edges


@dataclass(frozen=True)
class Fan:
  """Where the rays of a sector come from.

  Attributes:
    apex_px: x and y where the straight edges meet, often above the picture;
      where they do not (linear probe), the middle of the sector's top.
    converging: whether they meet; if not, rays are vertical.
    near_px, far_px: distance from the apex to the sector's nearest and
      farthest pixel, along the rays.
  """

  apex_px: tuple[float, float]
  converging: bool
  near_px: float
  far_px: float


def find_fan(sector: Bool[np.ndarray, "H W"]) -> Fan:
  """Fits lines to the left and right edge of a mask and lets them meet.

  Rows where an edge is cut by the side of the picture are left out.

  Raises:
    ValueError: the mask is empty.
  """
  rows = np.flatnonzero(sector.any(axis=1))
  if not len(rows):
    raise ValueError("the sector is empty, so it has no apex")
  left = sector.argmax(axis=1)[rows]
  right = sector.shape[1] - 1 - sector[:, ::-1].argmax(axis=1)[rows]
  widest = int((right - left).argmax())
  low, high = (round(share * widest) for share in EDGE_ROWS)
  straight = slice(low, high + 1)
  left_line = _line(rows[straight], left[straight], 0, -0.5)
  right_line = _line(rows[straight], right[straight], sector.shape[1] - 1, 0.5)
  top = float(rows[0])
  middle = (float(left[0] + right[0]) / 2, top)
  if left_line is not None and right_line is not None:
    opening = right_line[0] - left_line[0]
    if opening > LEAST_OPENING:
      y = (left_line[1] - right_line[1]) / opening
      x = left_line[0] * y + left_line[1]
      if y <= top + 0.1 * len(rows):
        return _with_reach(sector, (float(x), float(y)), True)
  return _with_reach(sector, middle, False)


def ray_coordinates(
  fan: Fan, shape: tuple[int, int]
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
  """Depth (0 at the probe's face, 1 at the deepest pixel) and angle in rad.

  The angle is 0 straight down and positive to the right; of vertical rays it
  is the lateral distance over the sector's depth.
  """
  depth_px = _distance(fan.apex_px, fan.converging, shape)
  depth = (depth_px - fan.near_px) / max(fan.far_px - fan.near_px, 1.0)
  across = np.arange(shape[1], dtype=np.float32) - np.float32(fan.apex_px[0])
  down = np.arange(shape[0], dtype=np.float32) - np.float32(fan.apex_px[1])
  if fan.converging:
    return depth, np.arctan2(across[None], down[:, None])
  reach = np.float32(max(fan.far_px - fan.near_px, 1.0))
  return depth, np.broadcast_to(across[None] / reach, shape)


def _line(
  rows: np.ndarray, edge: np.ndarray, side: int, outwards: float
) -> tuple[float, float] | None:
  """Slope and offset of an edge; None where the picture cuts it off.

  The edge lies half a pixel `outwards` of the last pixel's middle.
  """
  inside = edge != side
  if inside.sum() < 3:
    return None
  y, x = rows[inside], edge[inside] + outwards
  away = y - y.mean()
  slope = float((away * x).sum() / (away * away).sum())
  return slope, float(x.mean() - slope * y.mean())


def _with_reach(sector, apex_px: tuple[float, float], converging: bool) -> Fan:
  depth_px = _distance(apex_px, converging, sector.shape)[sector]
  return Fan(
    apex_px, converging, float(depth_px.min()), float(depth_px.max())
  )


def _distance(apex_px, converging: bool, shape) -> np.ndarray:
  down = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(apex_px[1])
  if not converging:
    return np.broadcast_to(down, shape)
  across = np.arange(shape[1], dtype=np.float32)[None] - np.float32(apex_px[0])
  return np.hypot(across, down)
