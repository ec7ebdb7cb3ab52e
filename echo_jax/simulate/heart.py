"""The beating heart as geometry: cavity volume, wall and valves over a beat.

The left ventricle (LV) is a truncated ellipsoid of revolution, stretched by
`depth_aspect` out of the picture plane.  Height above the endocardial apex is
`w`, `u = w / length` runs from 0 (apex) to 1 (mitral annulus), and `x` is the
distance from the long axis in the picture plane, positive towards the lateral
wall.  With `s = length / length at end-diastole`, a point of the wall keeps

  u   and   q = s * (r**2 - R(u)**2),   r = |x|,   R = endocardial radius

during the whole beat.  Because dq du is proportional to r dr dw, a tissue
element keeps its volume whatever length and radius do: the wall is
incompressible by construction, it thickens in systole, and its speckle can be
looked up where the tissue was at end-diastole (the reference state).
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float

ANNULUS_GAP_MM = 10.0  # tissue between atrial roof and resting structures
CAP_SHARE = 0.09  # apical muscle along the axis, as a share of LV length
FADE_MM = 35.0  # motion of tissue outside the heart dies out over this
TABLE_SIZE = 1024  # steps in u of the tabulated outlines
OUTFLOW_SHARE = 0.85  # see outflow_tract_mm


@dataclasses.dataclass(frozen=True)
class Anatomy:
  """Shape of one patient's heart; stays the same from study to study.

  Attributes:
    sphericity: LV length over LV diameter at end-diastole, 1.5 to 2.1.
    truncation: LV length over the ellipsoid's long semi-axis, 1.45 to 1.7.
    taper: > 0 moves the widest place towards the base, -0.2 to 0.3.
    depth_aspect: LV width out of plane over width in plane, 0.92 to 1.08.
    bend_share: bow of the long axis over LV length, -0.05 to 0.05.
    wall_mm: LV wall thickness at end-diastole, 7 to 13 mm.
    basal_tether: how much less the annulus narrows than the apex, 0 to 0.5.
    rv_width_mm: right ventricle at its base, 24 to 42 mm.
    rv_apex_u: where along the LV the right ventricle begins, 0.2 to 0.4.
    la_length_mm, la_width_mm: left atrium at end-diastole.
    ra_length_mm, ra_width_mm: right atrium at end-diastole.
    atrial_wobble: four amplitudes, 0 to 0.1, of the atria's irregularity.
    outflow_mm: diameter of the left ventricular outflow tract, see
      `outflow_tract_mm`.
  """

  sphericity: float
  truncation: float
  taper: float
  depth_aspect: float
  bend_share: float
  wall_mm: float
  basal_tether: float
  rv_width_mm: float
  rv_apex_u: float
  la_length_mm: float
  la_width_mm: float
  ra_length_mm: float
  ra_width_mm: float
  atrial_wobble: tuple[float, float, float, float]
  outflow_mm: float


def outflow_tract_mm(bsa_m2: float) -> float:
  """Diameter of the outflow tract in a body of surface `bsa_m2`.

  5.7 BSA + 12.1 mm (Leye et al. 2009), shrunk.  The cohort's volumes are those
  of 2-D echo (Lang et al. 2015), from which stroke volume comes out at about
  30 ml/m2, nearer 0.7 than 1 of what Doppler finds in health.  The diameter is
  shrunk by the square root of that, so that healthy outflow has a
  velocity-time integral near 19 cm.  The share is chosen.
  """
  return OUTFLOW_SHARE * (5.7 * bsa_m2 + 12.1)


@dataclasses.dataclass(frozen=True)
class HeartState:
  """What one study is about: anatomy plus the function of that day.

  Attributes:
    anatomy: the patient's shape.
    edv_ml, ef_pct: end-diastolic volume and ejection fraction; the truth.
    heart_rate_bpm: mean heart rate.
    long_axis_share: long-axis shortening as a share of EF, 0.15 to 0.38.
    rv_inward_pct: inward motion of the right ventricular free wall.
    rv_shortening_pct: long-axis shortening of the right ventricle.
    early_filling_share: share of filling before atrial contraction.
    segment_functions: function of the 17 segments, see segments.py; empty
      where all are normal.  Only motion.py moves a heart that has them.
    rhythm: one of rhythm.RHYTHMS.  Where beats differ, EDV and EF are those of
      a beat after two intervals of mean length.
    wide_qrs_ms: QRS of beats that the left bundle branch does not lead, 130
      and longer (chosen).
    voltage: size of the ECG's waves over the usual.
    aortic_opening_share: effective area of the aortic valve over a healthy
      one's; below 1 the cusps are thick and open less.
  """

  anatomy: Anatomy
  edv_ml: float
  ef_pct: float
  heart_rate_bpm: float
  long_axis_share: float
  rv_inward_pct: float
  rv_shortening_pct: float
  early_filling_share: float
  segment_functions: tuple[str, ...] = ()
  rhythm: str = "sinus"
  wide_qrs_ms: float = 150.0
  voltage: float = 1.0
  aortic_opening_share: float = 1.0

  @property
  def esv_ml(self) -> float:
    """End-systolic volume in ml."""
    return self.edv_ml * (1 - self.ef_pct / 100)


@dataclasses.dataclass(frozen=True)
class Ventricle:
  """LV at end-diastole in mm, with the outlines the picture needs.

  Attributes:
    state: the study's heart state.
    length_mm, radius_mm: apex to annulus; largest half-width in plane.
    bend_mm: bow of the axis at mid height.
    roof_mm: height of the atrial roof, which hardly moves during a beat.
    epicardium_mm: table over u in [0, 1] of the epicardial radius.
    rv_gap_mm: table over u of the right ventricle's width beside the septum.
    integral_mm2, tethered_mm2: integral over u of R**2, and of R**2 weighted
      by how strongly each level contracts.
  """

  state: HeartState
  length_mm: float
  radius_mm: float
  bend_mm: float
  roof_mm: float
  epicardium_mm: np.ndarray
  rv_gap_mm: np.ndarray
  integral_mm2: float
  tethered_mm2: float


@dataclasses.dataclass(frozen=True)
class Pose:
  """The heart at one moment.

  Attributes:
    length_mm: LV length; the annulus is at this height.
    squeeze: how far R**2 has fallen at the apex, 0 at end-diastole, below 1.
    rv_length_mm: the same as length_mm for the right ventricle.
    rv_squeeze: share by which the right ventricle has narrowed.
    mitral_open, tricuspid_open: 0 closed to 1 wide open.
    ejected: 0 at end-diastole, 1 at end-systole.
    aortic_open: 0 closed to 1 wide open.
  """

  length_mm: float
  squeeze: float
  rv_length_mm: float
  rv_squeeze: float
  mitral_open: float
  tricuspid_open: float
  ejected: float
  aortic_open: float = 0.0


def profile(anatomy: Anatomy, u):
  """R(u)**2 over radius**2 at end-diastole; u in [0, 1]."""
  v = anatomy.truncation * u
  return v * (2 - v) * (1 + anatomy.taper * (u - 0.5))


def tether(anatomy: Anatomy, u):
  """Relative contraction of level u: 1 at the apex, less at the annulus."""
  return 1 - anatomy.basal_tether * u * u


def _integrate(function) -> float:
  """Integral over u in [0, 1] by 12-point Gauss-Legendre quadrature."""
  nodes, weights = np.polynomial.legendre.leggauss(12)
  return float(0.5 * np.sum(weights * function(0.5 * (nodes + 1))))


def build_ventricle(state: HeartState) -> Ventricle:
  """Sizes the shape so that its cavity at end-diastole holds `edv_ml`."""
  a = state.anatomy
  shape = _integrate(lambda u: profile(a, u))
  cubed = state.edv_ml * 1000 / (
    2 * math.pi * a.depth_aspect * a.sphericity * shape
  )
  radius = cubed ** (1 / 3)
  length = 2 * a.sphericity * radius
  u = np.linspace(0, 1, TABLE_SIZE)
  inner = radius * np.sqrt(profile(a, u))
  # The muscle is thicker round the apex, so that the outside is a dome there.
  wall = a.wall_mm * (1 + 0.8 * np.exp(-u / 0.05))
  past = np.clip((u - a.rv_apex_u) / (1 - a.rv_apex_u), 0, 1)
  gap = a.rv_width_mm * np.sin(0.5 * math.pi * past) ** 0.7
  return Ventricle(
    state=state,
    length_mm=length,
    radius_mm=radius,
    bend_mm=a.bend_share * length,
    roof_mm=length + a.la_length_mm + ANNULUS_GAP_MM,
    epicardium_mm=(inner + wall).astype(np.float32),
    rv_gap_mm=gap.astype(np.float32),
    integral_mm2=radius**2 * shape,
    tethered_mm2=radius**2
    * _integrate(lambda u: profile(a, u) * tether(a, u)),
  )


def pose_at(
  ventricle: Ventricle,
  ejected: float,
  mitral_open: float = 0.0,
  tricuspid_open: float = 0.0,
  aortic_open: float = 0.0,
) -> Pose:
  """Length and squeeze that give the volume EDV * (1 - EF * ejected)."""
  state = ventricle.state
  fall = state.ef_pct / 100 * ejected
  length = ventricle.length_mm * (1 - state.long_axis_share * fall)
  volume_mm3 = 1000 * state.edv_ml * (1 - fall)
  disc = volume_mm3 / (math.pi * state.anatomy.depth_aspect * length)
  return Pose(
    length_mm=length,
    squeeze=(ventricle.integral_mm2 - disc) / ventricle.tethered_mm2,
    rv_length_mm=ventricle.length_mm
    * (1 - state.rv_shortening_pct / 100 * ejected),
    rv_squeeze=state.rv_inward_pct / 100 * ejected,
    mitral_open=mitral_open,
    tricuspid_open=tricuspid_open,
    ejected=ejected,
    aortic_open=aortic_open,
  )


def radius_squared_mm2(ventricle: Ventricle, pose: Pose, u):
  """Endocardial R(u)**2 in the picture plane, u in [0, 1]."""
  a = ventricle.state.anatomy
  rest = ventricle.radius_mm**2 * profile(a, u)
  return rest * (1 - pose.squeeze * tether(a, u))


def axis_mm(ventricle: Ventricle, u):
  """Bow of the long axis at u in [0, 1]; a shear, so it keeps volumes."""
  return 4 * ventricle.bend_mm * u * (1 - u)


def cavity_volume_ml(ventricle: Ventricle, pose: Pose) -> float:
  """Volume of the LV cavity by integration of its elliptical discs."""
  aspect = ventricle.state.anatomy.depth_aspect
  discs = _integrate(lambda u: radius_squared_mm2(ventricle, pose, u))
  return math.pi * aspect * pose.length_mm * discs / 1000


def in_cavity(
  ventricle: Ventricle, pose: Pose, x: np.ndarray, w: np.ndarray, depth=0.0
) -> Bool[np.ndarray, "..."]:
  """Whether points (mm, LV axes; `depth` is out of plane) lie in the LV."""
  u = w * (1 / pose.length_mm)
  level = np.clip(u, 0, 1)
  across = x - axis_mm(ventricle, level)
  out = depth / ventricle.state.anatomy.depth_aspect
  inside = across * across + out * out < radius_squared_mm2(
    ventricle, pose, level
  )
  return inside & (u > 0) & (u < 1)


def in_wall(
  ventricle: Ventricle, pose: Pose, x: np.ndarray, w: np.ndarray, depth=0.0
) -> Bool[np.ndarray, "..."]:
  """Whether points lie in the LV wall, with the muscle that caps the apex."""
  u = w / pose.length_mm
  level = np.clip(u, 0, 1)
  across = x - axis_mm(ventricle, level)
  out = depth / ventricle.state.anatomy.depth_aspect
  q = (pose.length_mm / ventricle.length_mm) * (
    across**2 + out**2 - radius_squared_mm2(ventricle, pose, level)
  )
  dome = 1 - np.clip(-u / CAP_SHARE, 0, 1) ** 2
  return (q > 0) & (q < wall_extent_mm2(ventricle, level) * dome) & (u < 1)


def wall_extent_mm2(ventricle: Ventricle, u):
  """Largest q in the wall at level u: epicardium**2 - endocardium**2."""
  a = ventricle.state.anatomy
  index = np.asarray(np.asarray(u) * (TABLE_SIZE - 1), np.int32)
  outer = ventricle.epicardium_mm[index]
  return outer * outer - ventricle.radius_mm**2 * profile(a, u)


def tissue_position_mm(
  ventricle: Ventricle, pose: Pose, u: float, q: float, side: int
) -> tuple[float, float]:
  """Where the wall point (u, q) on `side` (-1 septal, 1 lateral) is now.

  Returns:
    (x, w) in mm on the LV's own axes.
  """
  s = pose.length_mm / ventricle.length_mm
  r = math.sqrt(q / s + radius_squared_mm2(ventricle, pose, u))
  return side * r + axis_mm(ventricle, u), u * pose.length_mm


def material_radius_mm(ventricle: Ventricle, pose: Pose, across, u, level):
  """End-diastolic distance from the axis of tissue now at `across`.

  Muscle moves by the incompressible rule; blood is stretched in proportion,
  so that the map has no jump at the endocardium.
  """
  a = ventricle.state.anatomy
  s = pose.length_mm / ventricle.length_mm
  squared = across * across
  rest = ventricle.radius_mm**2 * profile(a, level)
  keep = 1 - pose.squeeze * tether(a, level)
  now = rest * keep
  blood = (squared < now) & (u > 0)
  muscle = s * (squared - now) + rest
  return np.sqrt(np.where(blood, squared / keep, muscle))


def reference_coordinates(
  ventricle: Ventricle,
  pose: Pose,
  x: Float[np.ndarray, "..."],
  w: Float[np.ndarray, "..."],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
  """Where the tissue now at (x, w) was at end-diastole, axis straightened.

  Exact in the LV wall.  Outside, the motion is continued over the right
  ventricle, which has its own, and over the atria up to their roof, and then
  fades, so that one field carries the whole picture.

  Args:
    ventricle: the heart.
    pose: the moment.
    x, w: points on the LV's axes in mm, float32.

  Returns:
    (x_ref, w_ref) in mm, of the same shape and dtype.
  """
  u = w * (1 / pose.length_mm)
  level = np.clip(u, 0, 1)
  across = x - axis_mm(ventricle, level)
  r = np.abs(across)
  r_ref = material_radius_mm(ventricle, pose, across, u, level)
  # tissue above the annulus follows it less and less up to the atrial roof
  above = (ventricle.roof_mm - w) * (1 / (ventricle.roof_mm - pose.length_mm))
  above = np.clip(above, 0, 1, out=above)
  # the right ventricle stretches back to its resting width; beyond, all fades
  index = (level * (TABLE_SIZE - 1)).astype(np.int32)
  gap = ventricle.rv_gap_mm.take(index) * (across < 0)
  narrow = gap * (1 - pose.rv_squeeze)
  outside = np.maximum(r_ref - ventricle.epicardium_mm.take(index), 0)
  part = np.minimum(outside / np.maximum(narrow, 1), 1)
  fade = np.clip(1 + (4 + narrow - outside) * (1 / FADE_MM), 0, 1)
  inward = r_ref - r + gap * pose.rv_squeeze * part
  r += inward * fade * above
  descent = (ventricle.length_mm - pose.length_mm) + part * gap / (gap + 6) * (
    pose.length_mm - pose.rv_length_mm
  )
  ramp = np.clip(np.minimum(u, above), -CAP_SHARE, 1)
  return np.copysign(r, across), w + descent * fade * ramp


def leaflet_angles_rad(
  width: float, medial: float, lateral: float, opening: float
) -> tuple[float, float]:
  """Angles of two leaflets above the line that joins their hinges.

  Closed leaflets meet: their tips are where circles of radius `medial` and
  `lateral` about the hinges cross.  Open ones point along the blood stream.

  Args:
    width: distance between the hinges in mm.
    medial, lateral: leaflet lengths in mm; together longer than `width`.
    opening: 0 closed to 1 wide open.
  """
  along = (width**2 + medial**2 - lateral**2) / (2 * width)
  closed_medial = math.acos(min(1.0, along / medial))
  closed_lateral = math.acos(min(1.0, (width - along) / lateral))
  wide_medial, wide_lateral = math.radians(78), math.radians(84)
  return (
    closed_medial + opening * (wide_medial - closed_medial),
    closed_lateral + opening * (wide_lateral - closed_lateral),
  )


def _leaflet(hinge, length, angle, toward, belly):
  """Points of one leaflet from hinge to tip; `toward` is +1 or -1 in x."""
  t = np.linspace(0, 1, 7)
  bow = belly * length * 4 * t * (1 - t)  # the belly bulges to the atrium
  x = hinge[0] + toward * (t * length * math.cos(angle) + bow * math.sin(angle))
  w = hinge[1] - t * length * math.sin(angle) + bow * math.cos(angle)
  return np.stack([x, w], axis=-1)


def valve_mm(left, right, medial_share, opening, slack=1.04):
  """Two leaflets between two hinges, as [2, point, (x, w)] in mm.

  `slack` is the leaflets' length together over the distance of the hinges.
  """
  dx, dw = right[0] - left[0], right[1] - left[1]
  width = math.hypot(dx, dw)
  tilt = math.atan2(dw, dx)
  lengths = slack * medial_share * width, slack * (1 - medial_share) * width
  medial, lateral = leaflet_angles_rad(width, *lengths, opening)
  belly = 0.10 * (1 - opening) + 0.05 * opening
  return np.stack(
    [
      _leaflet(left, lengths[0], medial - tilt, 1, belly),
      _leaflet(right, lengths[1], lateral + tilt, -1, belly),
    ]
  )


def mitral_leaflets_mm(
  ventricle: Ventricle, pose: Pose
) -> Float[np.ndarray, "2 7 2"]:
  """Anterior and posterior mitral leaflet, hinge first, as (x, w) in mm."""
  half = math.sqrt(radius_squared_mm2(ventricle, pose, 1.0))
  height = pose.length_mm
  return valve_mm((-half, height), (half, height), 0.6, pose.mitral_open)


def tricuspid_leaflets_mm(
  ventricle: Ventricle, pose: Pose
) -> Float[np.ndarray, "2 7 2"]:
  """Lateral and septal tricuspid leaflet; hinged nearer the apex (x, w)."""
  s = pose.length_mm / ventricle.length_mm
  outer = wall_extent_mm2(ventricle, 0.94) / s
  septal = math.sqrt(radius_squared_mm2(ventricle, pose, 0.94) + float(outer))
  free = septal + float(ventricle.rv_gap_mm[-1]) * (1 - pose.rv_squeeze)
  return valve_mm(
    (-free, pose.rv_length_mm * 0.97),
    (-septal + axis_mm(ventricle, 0.94), pose.length_mm * 0.94),
    0.6,
    pose.tricuspid_open,
  )
