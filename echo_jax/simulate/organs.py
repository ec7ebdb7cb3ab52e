"""What lies around the left ventricle at end-diastole, in three dimensions.

Structures are signed distances in mm, negative inside, on the straightened
axes of heart.py with `y` towards the anterior wall.  `p` runs in the plane of
the outflow tract, from the inferolateral wall to the front of the septum.
Sizes without a source are chosen so that the planes look as they should.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from echo_jax.simulate.heart import (
  Pose,
  Ventricle,
  profile,
  valve_mm,
)
from echo_jax.simulate.motion import right_heart_share

OUTFLOW_RAD = math.radians(120)  # where the outflow tract leaves the septum
ROOT_TILT_RAD = math.radians(20)  # of the aortic root against the long axis
LA_BEHIND_MM = 6.0  # the left atrium lies behind the four-chamber plane
AORTIC_WALL_MM = 2.8
MITRAL_SLACK = 1.15  # leaflet length over annulus in the outflow plane
POSTERIOR_SHARE = 0.38  # of that length


@dataclasses.dataclass(frozen=True)
class Organs:
  """Sizes derived from a ventricle.

  Attributes:
    ventricle: the heart.
    base_mm: endocardial radius at the annulus.
    outflow_mm: diameter of the outflow tract and aortic annulus.
    root_p_mm: middle of the aortic annulus in the outflow plane.
  """

  ventricle: Ventricle
  base_mm: float
  outflow_mm: float
  root_p_mm: float


def build_organs(ventricle: Ventricle) -> Organs:
  """Fits what surrounds the ventricle to its size."""
  anatomy = ventricle.state.anatomy
  base = ventricle.radius_mm * math.sqrt(profile(anatomy, 1.0))
  outflow = anatomy.outflow_mm
  return Organs(ventricle, base, outflow, base + 2.5 - outflow / 2)


def outflow_plane(x, y):
  """(p along, h across) the plane of the outflow tract."""
  cosine, sine = math.cos(OUTFLOW_RAD), math.sin(OUTFLOW_RAD)
  return x * cosine + y * sine, y * cosine - x * sine


def _rounded(dx, dy, dw, wobble, phase):
  """Radius over 1 in an irregular body that is round about dw."""
  flat = dx * dx + dy
  flat = np.maximum(flat, 0)
  high = dw * dw
  radius = np.sqrt(np.sqrt(flat * flat + high * high + 1.2 * flat * high))
  turn = np.arctan2(dw, dx)
  # off the plane in which it was described, the outline grows regular
  near = (dx * dx + high) / np.maximum(flat + high, 1e-3)
  ripple = (
    wobble[0] * np.cos(2 * turn + phase)
    + wobble[1] * np.cos(3 * turn + 2 * phase)
    + wobble[2] * np.cos(5 * turn + 3 * phase) * 0.6
  )
  return radius * (1 + ripple * np.clip(near, 0, 1))


def left_atrium_mm(organs: Organs, x, y, w) -> Float[np.ndarray, "..."]:
  """Outside the left atrium; at y = 0 the outline that tissue.py paints."""
  a, length = organs.ventricle.state.anatomy, organs.ventricle.length_mm
  half = a.la_width_mm / 2, a.la_length_mm / 2 + 1.5
  deep = (y + LA_BEHIND_MM) ** 2 - LA_BEHIND_MM**2
  radius = _rounded(
    (x + organs.base_mm + 1 - half[0]) * (1 / half[0]),
    deep * (1 / half[0] ** 2),
    (w - length - half[1] + 1) * (1 / half[1]),
    a.atrial_wobble,
    1.0,
  )
  body = (radius - 1) * (0.5 * sum(half))
  across = np.sqrt(x * x + y * y) - 0.93 * organs.base_mm
  funnel = np.maximum(across, np.abs(w - length - 4) - 6)
  return np.minimum(body, funnel)


def right_atrium_mm(organs: Organs, x, y, w) -> Float[np.ndarray, "..."]:
  """Outside the right atrium; at y = 0 the outline that tissue.py paints."""
  a, length = organs.ventricle.state.anatomy, organs.ventricle.length_mm
  half = a.ra_width_mm / 2, a.ra_length_mm / 2 + 1.5
  middle = -organs.base_mm - 7 - half[0]
  radius = _rounded(
    (x - middle) * (1 / half[0]),
    y * y * (1 / half[0] ** 2),
    (w - 0.95 * length - half[1] + 1) * (1 / half[1]),
    a.atrial_wobble[::-1],
    2.0,
  )
  body = (radius - 1) * (0.5 * sum(half))
  flat = np.sqrt((x - middle) ** 2 + y * y)
  door = np.maximum(flat - 0.9 * half[0], np.abs(w - 0.95 * length - 3) - 6)
  return np.minimum(body, door)


def aorta_mm(organs: Organs, x, y, w):
  """(outside the lumen of outflow tract and root, height above annulus)."""
  p, h = outflow_plane(x, y)
  cosine, sine = math.cos(ROOT_TILT_RAD), math.sin(ROOT_TILT_RAD)
  dp, dw = p - organs.root_p_mm, w - organs.ventricle.length_mm
  along = dp * sine + dw * cosine
  across = np.sqrt((dp * cosine - dw * sine) ** 2 + h * h)
  sinus = np.exp(-(((along - 9) * (1 / 6)) ** 2))
  wide = np.clip((along - 12) * (1 / 12), 0, 1)
  radius = organs.outflow_mm / 2 * (1 + 0.3 * sinus + 0.15 * wide)
  return across - radius, along


def right_ventricle_mm(organs: Organs, x, y, beyond, gap):
  """Outside the right ventricle beside the septum.

  Args:
    organs: the sizes.
    x, y: points.
    beyond: their distance outside the epicardium of the left ventricle.
    gap: width of the right ventricle at their level at 180 degrees.
  """
  r = np.maximum(np.sqrt(x * x + y * y), 1e-3)
  return beyond - gap * right_heart_share(x / r, y / r)


def papillary_mm(organs: Organs, x, y, w):
  """Outside the two papillary muscles, which stand on the wall (12 mm long).

  The anterolateral and the posteromedial one, at the lower and the left of
  the short axis' lower half; in the four-chamber plane there is neither.
  """
  ventricle = organs.ventricle
  level = 0.52
  inner = ventricle.radius_mm * math.sqrt(
    profile(ventricle.state.anatomy, level)
  )
  thick = 0.16 * inner + 1.5
  found = None
  for degrees in (318, 212):
    turn = math.radians(degrees)
    dx = x - (inner - 0.6 * thick) * math.cos(turn)
    dy = y - (inner - 0.6 * thick) * math.sin(turn)
    dw = (w - level * ventricle.length_mm) * (thick / 17)
    far = np.sqrt(dx * dx + dy * dy + dw * dw) - thick
    found = far if found is None else np.minimum(found, far)
  return found


def outflow_mitral_mm(
  organs: Organs, ends_mm: tuple[float, float], pose: Pose
) -> Float[np.ndarray, "2 7 2"]:
  """Posterior and anterior mitral leaflet in the outflow plane, as (p, w).

  The anterior one hangs from the back wall of the aortic root.

  Args:
    organs: the sizes.
    ends_mm: where the cavity's base begins and ends now.
    pose: length of the ventricle and opening of the valve.
  """
  shrunk = ends_mm[1] / organs.base_mm
  back = (organs.root_p_mm - organs.outflow_mm / 2) * shrunk
  return valve_mm(
    (ends_mm[0], pose.length_mm), (back, pose.length_mm), POSTERIOR_SHARE,
    pose.mitral_open, slack=MITRAL_SLACK,
  )  # fmt: skip


def aortic_leaflets_mm(
  organs: Organs, ends_mm: tuple[float, float], pose: Pose
) -> Float[np.ndarray, "2 7 2"]:
  """Two aortic cusps in the outflow plane, as (p, w): one line when shut."""
  radius = organs.outflow_mm / 2
  middle = organs.root_p_mm * ends_mm[1] / organs.base_mm
  cosine, sine = math.cos(ROOT_TILT_RAD), math.sin(ROOT_TILT_RAD)
  t = np.linspace(0, 1, 7)
  shut, rise = 1 - np.minimum(1, 1.35 * t), 0.95 * t * t
  # open cusps lie along the wall
  out = radius * (shut + pose.aortic_open * (1 - 0.22 * t - shut))
  along = radius * (rise + pose.aortic_open * (1.05 * t - rise))
  p = [middle + side * out * cosine + along * sine for side in (-1, 1)]
  w = [along * cosine - side * out * sine + 1 for side in (-1, 1)]
  return np.stack([np.array(p), pose.length_mm + np.array(w)], axis=-1)


def tips_level(organs: Organs) -> float:
  """Level u of the tip of the open anterior mitral leaflet."""
  length = organs.ventricle.length_mm
  open_wide = Pose(length, 0.0, length, 0.0, 1.0, 1.0, 0.0)
  ends = -organs.base_mm, organs.base_mm
  tip = outflow_mitral_mm(organs, ends, open_wide)[1, -1, 1]
  return float(tip / length)
