"""How every point of the ventricle moves, in three dimensions and by segment.

On the axes of heart.py, with `y` out of the four-chamber plane towards the
anterior wall, level `u` and direction `a` about the axis, a point of the wall
keeps `u`, `a` and

  q = 1/L0 * integral from R to r of dw/du(u, a, r) * 2 r dr
  w = (L + k + lean . (x, y / depth_aspect)) u - k u**2

so it is incompressible in every direction, whatever R(u, a) does: the base may
tilt by `lean` and the apex shorten less than the base by `k`.  Segments that
contract less take a smaller part of the squeeze; one that does not contract
keeps its thickness.  What is left over, the others make up: the squeeze is
solved so that the cavity holds EDV (1 - EF * ejected) at every moment.

It cannot twist, shorten one sector of a ring of segments in the middle of the
wall, delay a segment, or make a scar thin at rest.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Bool, Float

from echo_jax.simulate import segments
from echo_jax.simulate.heart import (
  CAP_SHARE,
  FADE_MM,
  TABLE_SIZE,
  Pose,
  Ventricle,
  axis_mm,
  pose_at,
  profile,
  tether,
)

LARGEST_SQUEEZE = 0.96  # share of R**2 that may vanish anywhere
DIRECTIONS, LEVELS = 96, 65  # of the table of segmental contraction
ANTERIOR_RIGHT_HEART = 0.7  # right ventricle before the outflow tract; chosen


class OutOfReach(ValueError):
  """The segments that contract cannot empty the cavity so far."""


@dataclasses.dataclass(frozen=True)
class Wall:
  """A ventricle with what its segments do; fixed during a study.

  Attributes:
    ventricle: the heart at end-diastole.
    table: [LEVELS, DIRECTIONS] contraction over the normal one; None where
      all segments are normal.
    mean, apical: shortening of the long axis over the normal one, and how
      much more of it the apex does than the base.
    lean: the same for the sides: towards x and towards y.
  """

  ventricle: Ventricle
  table: np.ndarray | None
  mean: float
  apical: float
  lean: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Moment:
  """Where the wall is now.

  Attributes:
    pose: the same moment of the heart as a whole.
    length_mm: axis from apex to annulus.
    bow_mm: `k` of the head of this file.
    lean: rise of the base towards x and y, in mm a mm.
    squeeze: of the normal segments.
  """

  pose: Pose
  length_mm: float
  bow_mm: float
  lean: tuple[float, float]
  squeeze: float


def build_wall(ventricle: Ventricle) -> Wall:
  """Prepares a ventricle for motion.

  Raises:
    OutOfReach: the segments that contract cannot bring about the EF.
  """
  functions = ventricle.state.segment_functions
  if not segments.any_abnormal(functions):
    return Wall(ventricle, None, 1.0, 0.0, (0.0, 0.0))
  u = np.linspace(0, 1, LEVELS)[:, None]
  angle = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
  table = segments.contraction(functions, *np.broadcast_arrays(u, angle))
  # the plainest field of long-axis shortening that fits the segments
  wall = Wall(
    ventricle=ventricle,
    table=table.astype(np.float32),
    mean=float(table.mean()),
    apical=float(3 * (table * (1 - 2 * u)).mean()),
    lean=(
      float(2 * (table * np.cos(angle)).mean()),
      float(2 * (table * np.sin(angle)).mean()),
    ),
  )
  moment_at(wall, pose_at(ventricle, 1.0))  # refuses what it cannot do
  return wall


def _strain(wall: Wall, fall: float):
  """(length, bow, lean) after the volume fell by the share `fall`."""
  ventricle = wall.ventricle
  state, length = ventricle.state, ventricle.length_mm
  part = length * state.long_axis_share * fall
  if wall.table is None:
    return length - part, 0.0, (0.0, 0.0)
  reach = math.sqrt(ventricle.integral_mm2) + 0.5 * state.anatomy.wall_mm
  lean = -part * wall.lean[0] / reach, -part * wall.lean[1] / reach
  return length - part * wall.mean, -part * wall.apical, lean


def moment_at(wall: Wall, pose: Pose) -> Moment:
  """Where the wall is when the heart is at `pose`.

  Raises:
    OutOfReach: the segments that contract cannot empty the cavity so far.
  """
  state = wall.ventricle.state
  fall = state.ef_pct / 100 * pose.ejected
  length, bow, lean = _strain(wall, fall)
  if wall.table is None:
    return Moment(pose, length, bow, lean, pose.squeeze)
  now = Moment(pose, length, bow, lean, 0.0)
  target = 1000 * state.edv_ml * (1 - fall)
  squeeze = _solve_squeeze(wall, now, target)
  if not squeeze * wall.table.max() <= LARGEST_SQUEEZE:
    raise OutOfReach(
      f"a beat that ejects {100 * fall:.0f} % of EDV (ef_pct {state.ef_pct:.0f}"
      f", rhythm {state.rhythm}) is more than the segments that still contract "
      "can bring about; lower ef_pct or change fewer segments"
    )
  return dataclasses.replace(now, squeeze=squeeze)


@functools.cache
def _nodes():
  """Levels, weights and directions of the quadrature over the cavity."""
  nodes, weights = np.polynomial.legendre.leggauss(24)
  # the square spreads nodes towards the apex, where R starts like a root
  root = 0.5 * (nodes + 1)
  angle = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
  return (root**2)[:, None], (weights * root)[:, None], angle


def _cavity_terms(wall: Wall, now: Moment):
  """Quadrature weight, spread of levels, lean outwards, R**2 at no squeeze
  and its fall with squeeze, each on [level, direction]."""
  u, weight, angle = _nodes()
  cosine, sine = np.cos(angle), np.sin(angle)
  spread, outward = _stretch(wall, now, u, cosine, sine)
  factor = _factor(wall, u, angle)
  rest = wall.ventricle.radius_mm**2 * profile(wall.ventricle.state.anatomy, u)
  still = _still_mm2(wall, u, rest, spread, outward)
  start = rest + (1 - factor) * (still - rest)
  fall = rest * tether(wall.ventricle.state.anatomy, u) * factor
  aspect = wall.ventricle.state.anatomy.depth_aspect
  measure = weight * (aspect * 2 * math.pi / angle.size)
  terms = measure, spread, outward, start, fall
  return np.broadcast_arrays(*terms, np.empty((1, angle.size)))[:5]


def _solve_squeeze(wall: Wall, now: Moment, target_mm3: float) -> float:
  """Squeeze at which the cavity holds the volume (Newton's method)."""
  measure, spread, outward, start, fall = _cavity_terms(wall, now)
  squeeze = 0.0
  for _ in range(8):
    squared = np.maximum(start - squeeze * fall, 1e-3)
    radius = np.sqrt(squared)
    volume = spread / 2 * squared + outward / 3 * squared * radius
    slope = -(spread / 2 + outward / 2 * radius) * fall
    excess = np.sum(measure * volume) - target_mm3
    squeeze -= float(excess / np.sum(measure * slope))
    if abs(excess) < 1e-6 * target_mm3:
      break
  return squeeze


def cavity_volume_ml(wall: Wall, now: Moment) -> float:
  """Volume of the cavity by integration."""
  measure, spread, outward, start, fall = _cavity_terms(wall, now)
  squared = np.maximum(start - now.squeeze * fall, 0)
  volume = spread / 2 * squared + outward / 3 * squared**1.5
  return float(np.sum(measure * volume)) / 1000


def _stretch(wall, now, u, cosine, sine):
  """dw/du on the axis, and how it grows outwards; mm and mm a mm."""
  spread = now.length_mm + now.bow_mm * (1 - 2 * u)
  if wall.table is None:
    return spread, 0.0
  spread = spread + now.lean[0] * axis_mm(wall.ventricle, u)
  return spread, now.lean[0] * cosine + now.lean[1] * sine


def _factor(wall, u, angle):
  """Contraction over the normal one at levels and directions."""
  if wall.table is None:
    return 1.0
  row = u * (LEVELS - 1)
  column = angle * (DIRECTIONS / (2 * np.pi))
  low, left = np.minimum(np.floor(row), LEVELS - 2), np.floor(column)
  down, right = row - low, column - left
  low, left = low.astype(np.int32), left.astype(np.int32) % DIRECTIONS
  after = (left + 1) % DIRECTIONS
  top = wall.table[low, left] * (1 - right) + wall.table[low, after] * right
  low = low + 1
  end = wall.table[low, left] * (1 - right) + wall.table[low, after] * right
  return top + down * (end - top)


def _still_mm2(wall, u, rest, spread, outward):
  """R**2 at which the wall at level u is as thick as at end-diastole."""
  index = np.asarray(u * (TABLE_SIZE - 1), np.int32)
  radius = np.sqrt(rest)
  thick = wall.ventricle.epicardium_mm[index] - radius
  stretch = spread + outward * (radius + 0.5 * thick)
  area = (2 * radius + thick) * thick * (wall.ventricle.length_mm / stretch)
  return np.maximum((area - thick * thick) / (2 * thick), 0) ** 2


@dataclasses.dataclass(frozen=True)
class Place:
  """Points in the coordinates of the wall.

  Attributes:
    u, level: height over length now, and the same within 0 to 1.
    cosine, sine, radius_mm: direction and distance from the axis, with the
      depth aspect taken out.
    rest_mm2, now_mm2: R**2 at end-diastole and now.
    muscle_mm2: q, where positive: r**2 at end-diastole less `rest_mm2`.
    base_mm: height of the annulus straight above the point.
  """

  u: np.ndarray
  level: np.ndarray
  cosine: np.ndarray
  sine: np.ndarray
  radius_mm: np.ndarray
  rest_mm2: np.ndarray
  now_mm2: np.ndarray
  muscle_mm2: np.ndarray
  base_mm: np.ndarray | float


def locate(wall: Wall, now: Moment, x, y, w) -> Place:
  """Points in mm on the heart's axes in the coordinates of the wall."""
  ventricle = wall.ventricle
  anatomy = ventricle.state.anatomy
  out = y * (1 / anatomy.depth_aspect)
  if wall.table is None:
    base = now.length_mm
    u = w * (1 / base)
  else:
    base = now.length_mm + now.lean[0] * x + now.lean[1] * out
    total = base + now.bow_mm
    root = np.sqrt(np.maximum(total * total - 4 * now.bow_mm * w, 1e-3))
    u = 2 * w / (total + root)
  level = np.clip(u, 0, 1)
  across = x - axis_mm(ventricle, level)
  radius = np.sqrt(across * across + out * out)
  inverse = 1 / np.maximum(radius, 1e-6)
  cosine, sine = across * inverse, out * inverse
  rest = ventricle.radius_mm**2 * profile(anatomy, level)
  held = 1 - now.squeeze * tether(anatomy, level)
  spread, outward = _stretch(wall, now, level, cosine, sine)
  if wall.table is None:
    squared = rest * held
    share = spread * (1 / ventricle.length_mm)
    muscle = share * (radius * radius - squared)
  else:
    factor = _factor(wall, level, np.arctan2(sine, cosine) % (2 * np.pi))
    still = _still_mm2(wall, level, rest, spread, outward)
    squared = rest + (1 - factor) * (still - rest) - factor * rest * (1 - held)
    squared = np.maximum(squared, 1e-6)
    muscle = spread * (radius * radius - squared)
    muscle = muscle + outward * (2 / 3) * (radius**3 - squared**1.5)
    muscle = muscle * (1 / ventricle.length_mm)
  return Place(u, level, cosine, sine, radius, rest, squared, muscle, base)


def in_cavity(wall: Wall, now: Moment, x, y, w) -> Bool[np.ndarray, "..."]:
  """Whether points lie in the cavity."""
  place = locate(wall, now, x, y, w)
  inside = place.radius_mm**2 < place.now_mm2
  return inside & (place.u > 0) & (place.u < 1)


def in_wall(wall: Wall, now: Moment, x, y, w) -> Bool[np.ndarray, "..."]:
  """Whether points lie in the muscle, with the cap over the apex."""
  place = locate(wall, now, x, y, w)
  index = np.asarray(place.level * (TABLE_SIZE - 1), np.int32)
  extent = wall.ventricle.epicardium_mm[index] ** 2 - place.rest_mm2
  dome = 1 - np.clip(-place.u / CAP_SHARE, 0, 1) ** 2
  q = place.muscle_mm2
  return (q > 0) & (q < extent * dome) & (place.u < 1)


def right_heart_share(cosine, sine):
  """Width of the right ventricle beside the septum over that at 180 degrees.

  A crescent about 150 degrees that ends 65 degrees away, thinner in front.
  """
  beside = -0.866 * cosine + 0.5 * sine
  share = np.clip((beside - 0.423) * (1 / 0.443), 0, 1.3) ** 0.6
  front = np.clip(sine * (1 / 0.866), 0, 1)
  return share * (1 - (1 - ANTERIOR_RIGHT_HEART) * front)


def reference_position(
  wall: Wall,
  now: Moment,
  x: Float[np.ndarray, "..."],
  y: Float[np.ndarray, "..."],
  w: Float[np.ndarray, "..."],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Where tissue now at (x, y, w) was at end-diastole, axis straightened.

  `heart.reference_coordinates` in three dimensions: exact in the wall, and
  continued over the right ventricle and the atria until it fades.
  """
  ventricle, pose = wall.ventricle, now.pose
  place = locate(wall, now, x, y, w)
  u, level, r = place.u, place.level, place.radius_mm
  blood = (place.muscle_mm2 < 0) & (u > 0)
  grown = place.rest_mm2 / np.maximum(place.now_mm2, 1e-6)
  r_ref = np.where(blood, r * r * grown, place.muscle_mm2 + place.rest_mm2)
  r_ref = np.sqrt(np.maximum(r_ref, 0))
  above = (ventricle.roof_mm - w) / (ventricle.roof_mm - place.base_mm)
  above = np.clip(above, 0, 1)
  index = (level * (TABLE_SIZE - 1)).astype(np.int32)
  gap = ventricle.rv_gap_mm.take(index)
  gap = gap * right_heart_share(place.cosine, place.sine)
  narrow = gap * (1 - pose.rv_squeeze)
  outside = np.maximum(r_ref - ventricle.epicardium_mm.take(index), 0)
  part = np.minimum(outside / np.maximum(narrow, 1), 1)
  fade = np.clip(1 + (4 + narrow - outside) * (1 / FADE_MM), 0, 1)
  inward = r_ref - r + gap * pose.rv_squeeze * part
  r = r + inward * fade * above
  ramp = np.clip(np.minimum(u, above), -CAP_SHARE, 1)
  fall = ventricle.length_mm - place.base_mm - now.bow_mm * (1 - ramp)
  fall = fall + part * gap / (gap + 6) * (place.base_mm - pose.rv_length_mm)
  aspect = ventricle.state.anatomy.depth_aspect
  return (
    r * place.cosine,
    r * place.sine * aspect,
    w + fall * fade * ramp,
  )
