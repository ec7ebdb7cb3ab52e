"""Standard views: which plane through the heart, and where the probe is.

Apical planes hold the long axis and lie 60 degrees apart (Lang et al. 2015):
A4C at 0, A2C at 60, A3C at 120 degrees in the angles of segments.py, shown
from below, so that the anterior, lateral or anteroseptal wall is on the right.
PLAX is the plane of A3C seen from the chest, apex on the left; PSAX lies
across it.  Hands are not exact: every clip has its own rotation, and its apex
is missed by a few degrees, which foreshortens the ventricle.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from echo_jax.simulate import motion, scanner
from echo_jax.simulate.heart import (
  CAP_SHARE,
  TABLE_SIZE,
  Ventricle,
  pose_at,
)
from echo_jax.simulate.person import VIEWPOINT, Study

VIEWS = ("A4C", "A2C", "A3C", "PLAX", "PSAX")
ANGLE_DEG = {"A4C": 0.0, "A2C": 60.0, "A3C": 120.0, "PLAX": 120.0}
PARASTERNAL = ("PLAX", "PSAX")
LEVEL_U = {"PSAX": 0.52, "PLAX": 0.88}  # where the probe points; chosen
CHEST_MM = 17.0  # skin to right ventricle in the parasternal window


@dataclasses.dataclass(frozen=True)
class Viewpoint:
  """How far the probe is from the textbook, for one clip.

  Attributes:
    rotation_deg: of the plane about the long axis; of the picture in PSAX.
    foreshortening_deg: angle of the plane with the long axis, about the
      middle of the base; in PSAX, with the plane across.
    offset_mm: shift of the plane at right angles to itself.
    level_u: how much higher than usual the probe points in PSAX and PLAX.
  """

  rotation_deg: float = 0.0
  foreshortening_deg: float = 0.0
  offset_mm: float = 0.0
  level_u: float = 0.0


@dataclasses.dataclass(frozen=True)
class Cut:
  """A plane through the heart.

  Attributes:
    origin, across, along, normal: [3] on the heart's axes (x, y, w); unit
      vectors but for the origin.  (0, 0) of the plane is the origin.
  """

  origin: np.ndarray
  across: np.ndarray
  along: np.ndarray
  normal: np.ndarray

  def points(self, a, b, n=0.0):
    """(x, y, w) in mm of points of the plane, `n` in front of it."""
    return tuple(
      a * float(self.across[i])
      + (b * float(self.along[i]) + (n * float(self.normal[i])
      + float(self.origin[i])))
      for i in range(3)
    )  # fmt: skip

  def flatten(self, x, y, w):
    """The inverse: (a, b, n) in mm."""
    x, y, w = (
      v - float(o) for v, o in zip((x, y, w), self.origin, strict=True)
    )
    return tuple(
      x * float(axis[0]) + y * float(axis[1]) + w * float(axis[2])
      for axis in (self.across, self.along, self.normal)
    )


def beat_stream(view: str) -> tuple[int, ...]:
  """What tells the beats of a view apart; A4C, which came first, has none.

  Raises:
    ValueError: a view that there is not.
  """
  if view not in VIEWS:
    raise ValueError(f"view {view!r} is none of {', '.join(VIEWS)}")
  return () if view == "A4C" else (VIEWS.index(view),)


def _level(view: str, viewpoint: Viewpoint) -> float:
  """Height over the apex at which the probe points, as a share of length."""
  level = LEVEL_U[view] + viewpoint.level_u
  if not 0 < level < 1:
    raise ValueError(
      f"level_u {viewpoint.level_u:g} points the probe at {level:g} of the "
      f"ventricle's length in {view}; it wants {-LEVEL_U[view]:g} to "
      f"{1 - LEVEL_U[view]:.2g}, ends excluded"
    )
  return level


def _around(degrees: float) -> Float[np.ndarray, "3"]:
  turn = math.radians(degrees)
  return np.array([math.cos(turn), math.sin(turn), 0.0])


def make_cut(view: str, ventricle: Ventricle, viewpoint: Viewpoint) -> Cut:
  """The plane of a view.

  Raises:
    ValueError: the probe points beside the ventricle.
  """
  lean = math.radians(viewpoint.foreshortening_deg)
  axis = np.array([0.0, 0.0, 1.0])
  base = axis * ventricle.length_mm
  if view == "PSAX":
    across = _around(viewpoint.rotation_deg)
    down = _around(viewpoint.rotation_deg - 90)
    along = math.cos(lean) * down + math.sin(lean) * axis
    origin = axis * _level(view, viewpoint) * ventricle.length_mm
  else:
    angle = ANGLE_DEG[view] + viewpoint.rotation_deg
    across, front = _around(angle), _around(angle + 90)
    along = math.cos(lean) * axis + math.sin(lean) * front
    origin = base - ventricle.length_mm * along
  normal = np.cross(along, across)
  return Cut(origin + viewpoint.offset_mm * normal, across, along, normal)


def draw_viewpoint(study: Study, view: str, clip: int) -> Viewpoint:
  """How the probe was held for a clip; spreads are chosen.

  A poor window leaves less choice of place, so its planes are further off.
  """
  rng = study.rng(VIEWPOINT, VIEWS.index(view), clip)
  rotation, lean, offset, level = rng.normal(size=4).clip(-2.5, 2.5).tolist()
  loose = 1.5 - study.quality
  return Viewpoint(
    rotation_deg=5 * rotation + (5 if view == "PSAX" else 0),
    foreshortening_deg=(3.0 if view in PARASTERNAL else 4.0) * loose * lean,
    offset_mm=(1.5 if view == "PLAX" else 0.0) * offset,
    level_u=0.03 * level,
  )


def view_window(study: Study, view: str, clip: int) -> scanner.Window:
  """The study's acoustic window with the probe placed for this clip."""
  rng = study.rng(VIEWPOINT, VIEWS.index(view), clip, 1)
  poor = 1 - study.quality
  tilt = (-8, 10) if view == "PLAX" else (-6, 6)
  return dataclasses.replace(
    study.window,
    apex_x_mm=float(rng.uniform(-5, 6)),
    apex_depth_mm=float(rng.uniform(17, 26)),
    tilt_deg=float(rng.uniform(*tilt)),
    gap_u=float(rng.uniform(0.25, 0.75)),
    gap_db=float(rng.uniform(0, 8) + 6 * poor),
    shadow_deg=float(rng.uniform(-45, 45)),
    rock_deg=float(rng.uniform(-2, 2)) * (view not in PARASTERNAL),
  )


def place_view(
  view: str,
  wall: motion.Wall,
  device: scanner.Device,
  window: scanner.Window,
  viewpoint: Viewpoint,
) -> scanner.Placement:
  """Puts the plane's axes before the probe, with the ventricle in sight."""
  ventricle = wall.ventricle
  if view not in PARASTERNAL:
    rest = pose_at(ventricle, 0.0)
    wide = max(1.0, ventricle.state.anatomy.depth_aspect)
    cap = CAP_SHARE * ventricle.length_mm
    return scanner.place_heart(ventricle, rest, cap, device, window, wide)
  level = _level(view, viewpoint)
  toward = 120.0 if view == "PLAX" else 90.0 + viewpoint.rotation_deg
  over = _depth_of_axis_mm(ventricle, level, toward)
  under = float(ventricle.epicardium_mm[int(level * (TABLE_SIZE - 1))])
  depth = CHEST_MM + over + 0.25 * (window.apex_depth_mm - 17)
  need = depth + under + (38 if view == "PLAX" else 25) - device.depth_mm
  tilt = math.radians(window.tilt_deg)
  if view == "PSAX":
    place = scanner.Placement(window.apex_x_mm, depth, tilt, 0.0)
  else:
    lean = math.pi / 2 + tilt
    reach = (level + CAP_SHARE) * ventricle.length_mm
    place = scanner.Placement(
      window.apex_x_mm - reach * math.sin(lean),
      depth - reach * math.cos(lean),
      lean,
      0.0,
    )
  deeper = 10 * max(-2, math.ceil(need / 10))
  return dataclasses.replace(place, depth_mm=device.depth_mm + deeper)


def _depth_of_axis_mm(ventricle: Ventricle, level: float, degrees: float):
  """From the front of the right heart to the long axis."""
  index = int(level * (TABLE_SIZE - 1))
  turn = math.radians(degrees)
  share = motion.right_heart_share(
    np.array(math.cos(turn)), np.array(math.sin(turn))
  )
  gap = float(ventricle.rv_gap_mm[index] * share)
  return float(ventricle.epicardium_mm[index]) + gap + 5


def study_clips(
  study: Study, views: tuple[str, ...] = VIEWS, clips: int = 1
) -> tuple[tuple[str, int], ...]:
  """(view, clip) of every recording of a study, in the order asked for.

  A view other than A4C fails with a chance of 1 in 12 in the best window,
  rising evenly to 3 in 12 in the worst (chosen).

  Raises:
    ValueError: a view that there is not, or one named twice.
  """
  if not set(views) <= set(VIEWS) or len(set(views)) < len(views):
    raise ValueError(f"views {views} are not distinct ones of {VIEWS}")
  chance = 1 / 12 + (1 - study.quality) / 6
  return tuple(
    (view, clip)
    for view in views
    for failed in [
      study.rng(VIEWPOINT, VIEWS.index(view)).random() < chance
    ]
    if view == "A4C" or not failed
    for clip in range(clips)
  )
