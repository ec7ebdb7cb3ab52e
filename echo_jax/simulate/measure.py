"""What a careful reader would measure, taken on the simulated heart itself.

Definitions of the chamber guideline (Lang et al. 2015, J Am Soc Echocardiogr
28:1-39).  Linear sizes lie in the plane of the parasternal long axis, at right
angles to the long axis, at the level of the tips of the mitral leaflets; end
systole is the same level of the muscle at the smallest volume.
"""

import dataclasses
import math

import numpy as np

from echo_jax.simulate import motion, organs
from echo_jax.simulate.heart import (
  CAP_SHARE,
  TABLE_SIZE,
  HeartState,
  build_ventricle,
  pose_at,
  profile,
)
from echo_jax.units import ml_from_mm3

MUSCLE_G_ML = 1.05
STEP_MM = 0.75  # of the squares in which atria are counted


@dataclasses.dataclass(frozen=True)
class Measurements:
  """Sizes of one heart.

  Attributes:
    lvidd_mm, lvids_mm: inner diameter at end-diastole and end-systole.
    ivsd_mm, ivss_mm, lvpwd_mm, lvpws_mm: septum and posterior wall.
    cube_mass_g: 0.8 * 1.04 * ((LVIDd + IVSd + LVPWd)^3 - LVIDd^3) + 0.6.
    mass_g: of the muscle, by integration, 1.05 g a ml.
    la_biplane_ml: left atrium at end-systole by 8 / (3 pi) A4C A2C / L, with
      L the shorter of the two lengths.
    la_ml: the same by counting cubes.
    rv_basal_mm: largest width of the basal third of the right ventricle in
      the four-chamber plane at end-diastole.
  """

  lvidd_mm: float
  lvids_mm: float
  ivsd_mm: float
  ivss_mm: float
  lvpwd_mm: float
  lvpws_mm: float
  cube_mass_g: float
  mass_g: float
  la_biplane_ml: float
  la_ml: float
  rv_basal_mm: float


def measure_heart(state: HeartState) -> Measurements:
  """Measures the heart of one study."""
  wall = motion.build_wall(build_ventricle(state))
  around = organs.build_organs(wall.ventricle)
  rest, systole = (
    motion.moment_at(wall, pose_at(wall.ventricle, share))
    for share in (0.0, 1.0)
  )
  level = organs.tips_level(around)
  lvidd, ivsd, lvpwd = measure_lines(wall, rest, level)
  lvids, ivss, lvpws = measure_lines(wall, systole, level)
  four, two = (
    _atrial_plane(around, wall, systole, degrees) for degrees in (0, 60)
  )
  basal = wall.ventricle.rv_gap_mm[2 * TABLE_SIZE // 3 :]
  return Measurements(
    lvidd_mm=lvidd, lvids_mm=lvids, ivsd_mm=ivsd, ivss_mm=ivss,
    lvpwd_mm=lvpwd, lvpws_mm=lvpws,
    cube_mass_g=cube_mass_g(lvidd, ivsd, lvpwd),
    mass_g=muscle_mass_g(wall),
    la_biplane_ml=area_length_ml(four, two),
    la_ml=_atrial_volume_ml(around, wall, systole),
    rv_basal_mm=float(basal.max()),
  )  # fmt: skip


def cube_mass_g(lvidd_mm: float, ivsd_mm: float, lvpwd_mm: float) -> float:
  """Mass of the left ventricle by the linear method, in g."""
  outer = float(ml_from_mm3((lvidd_mm + ivsd_mm + lvpwd_mm) ** 3))
  return 0.8 * 1.04 * (outer - float(ml_from_mm3(lvidd_mm**3))) + 0.6


def measure_lines(
  wall: motion.Wall, now: motion.Moment, level: float
) -> tuple[float, float, float]:
  """(LVID, IVS, LVPW) in mm at a level of the parasternal long axis."""
  reach = float(wall.ventricle.epicardium_mm.max()) * 1.5
  step = 0.01
  p = np.arange(-reach, reach, step)
  line = (
    p * math.cos(organs.OUTFLOW_RAD),
    p * math.sin(organs.OUTFLOW_RAD),
    np.full_like(p, level * now.length_mm),
  )
  inside = motion.in_cavity(wall, now, *line)
  muscle = motion.in_wall(wall, now, *line)
  return (
    step * int(np.count_nonzero(inside)),
    step * int(np.count_nonzero(muscle & (p > 0))),
    step * int(np.count_nonzero(muscle & (p < 0))),
  )


def muscle_mass_g(wall: motion.Wall) -> float:
  """Mass of the muscle by integration of its cross-sections."""
  ventricle = wall.ventricle
  anatomy = ventricle.state.anatomy
  u = np.linspace(0, 1, TABLE_SIZE)
  area = ventricle.epicardium_mm.astype(np.float64) ** 2
  area = area - ventricle.radius_mm**2 * profile(anatomy, u)
  # the cap over the apex falls off like 1 - t^2, whose integral is 2/3
  whole = np.trapezoid(area, u) + 2 / 3 * CAP_SHARE * area[0]
  volume = math.pi * anatomy.depth_aspect * ventricle.length_mm * whole
  return MUSCLE_G_ML * float(ml_from_mm3(volume))


def _atrial_plane(around, wall, now, degrees) -> tuple[float, float]:
  """(area in mm2, length in mm) of the left atrium in an apical plane."""
  across = np.arange(-70, 70, STEP_MM, np.float32)
  top = wall.ventricle.roof_mm + 5
  along = np.arange(now.length_mm - 8, top, STEP_MM, np.float32)
  a, w = np.meshgrid(across, along)
  turn = math.radians(degrees)
  x, y = a * math.cos(turn), a * math.sin(turn)
  inside = _in_atrium(around, wall, now, x, y, w)
  length = w[inside].max() - now.length_mm + STEP_MM / 2
  return float(np.count_nonzero(inside) * STEP_MM**2), float(length)


def _in_atrium(around, wall, now, x, y, w):
  where = motion.reference_position(wall, now, x, y, w)
  base = motion.locate(wall, now, x, y, w).base_mm
  return (organs.left_atrium_mm(around, *where) < 0) & (w > base)


def area_length_ml(
  four: tuple[float, float], two: tuple[float, float]
) -> float:
  """Biplane area-length volume from (area mm2, length mm) of two planes."""
  volume = 8 / (3 * math.pi) * four[0] * two[0] / min(four[1], two[1])
  return float(ml_from_mm3(volume))


def _atrial_volume_ml(around, wall, now, step=2.5) -> float:
  across = np.arange(-60, 60, step, np.float32)
  along = np.arange(
    now.length_mm + step / 2, wall.ventricle.roof_mm + 5, step, np.float32
  )
  grid = np.meshgrid(across, across, along, indexing="ij")
  count = np.count_nonzero(_in_atrium(around, wall, now, *grid))
  return float(ml_from_mm3(count * step**3))
