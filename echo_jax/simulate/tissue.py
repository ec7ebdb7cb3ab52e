"""What the heart is made of, as echoes: one painted chest at end-diastole.

The picture is painted once a clip on the LV's straightened axes: a level in
decibels for every structure, times complex Gaussian scatterers (fully
developed speckle, Wagner et al. 1983).  Frames look it up where their tissue
was at end-diastole, which is how speckle moves with the tissue.
"""

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Float

from echo_jax.simulate.heart import (
  CAP_SHARE,
  TABLE_SIZE,
  Anatomy,
  Ventricle,
  profile,
)
from echo_jax.simulate.scanner import Window

STEP_MM = 0.75
LEFT_MM, RIGHT_MM, ABOVE_MM, BELOW_MM = -115.0, 95.0, -45.0, 45.0
BLACK_DB = -70.0


@dataclasses.dataclass(frozen=True)
class Chest:
  """Scatterers at end-diastole.

  Attributes:
    scatterers: [rows, columns, 2] complex amplitude of the echoes.
    left_mm, top_mm: position of the first sample on the LV's axes.
  """

  scatterers: np.ndarray
  left_mm: float
  top_mm: float

  def sample(
    self, x: Float[np.ndarray, "d b"], w: Float[np.ndarray, "d b"]
  ) -> Float[np.ndarray, "d b 2"]:
    """Scatterers at reference positions in mm."""
    column = (x - self.left_mm) * (1 / STEP_MM)
    row = (w - self.top_mm) * (1 / STEP_MM)
    return cv2.remap(
      self.scatterers,
      column,
      row,
      cv2.INTER_LINEAR,
      borderMode=cv2.BORDER_REFLECT,
    )


def step(value, width=1.5):
  """Soft step: 0 where value is well below 0 mm, 1 where well above."""
  return np.clip(value * (1 / width) + 0.5, 0, 1)


def bell(value, centre, width):
  t = (value - centre) * (1 / width)
  return np.exp(-t * t)


def over(db, weight, level):
  """Paints `level` over `db` where `weight` is 1."""
  return db + weight * (level - db)


def patches(rng: np.random.Generator, shape, sigma_mm: float):
  """Smooth random field of unit spread: tissue is never even."""
  coarse = max(1, int(sigma_mm / STEP_MM / 2))
  small = (shape[0] // coarse + 2, shape[1] // coarse + 2)
  field = rng.standard_normal(small, dtype=np.float32)
  field = cv2.GaussianBlur(field, (0, 0), 2.0)
  field *= 1 / float(field.std())
  return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _atrium_mm(x, w, centre, half_size, wobble, phase):
  """Distance in mm outside an irregular atrium, negative inside."""
  dx = (x - centre[0]) * (1 / half_size[0])
  dw = (w - centre[1]) * (1 / half_size[1])
  turn = np.arctan2(dw, dx)
  radius = np.sqrt(np.sqrt(dx**4 + dw**4 + 1.2 * (dx * dw) ** 2))
  radius = radius * (
    1
    + wobble[0] * np.cos(2 * turn + phase)
    + wobble[1] * np.cos(3 * turn + 2 * phase)
    + wobble[2] * np.cos(5 * turn + 3 * phase) * 0.6
  )
  return (radius - 1) * (0.5 * sum(half_size))


def _atria_mm(a: Anatomy, length, base, x, w):
  """Distance outside the left and the right atrium; `base` R at annulus."""
  la_half = (a.la_width_mm / 2, a.la_length_mm / 2 + 1.5)
  left = _atrium_mm(
    x,
    w,
    (-base - 1 + la_half[0], length + la_half[1] - 1),
    la_half,
    a.atrial_wobble,
    1.0,
  )
  # the mitral orifice is open over its whole width
  funnel = np.maximum(np.abs(x) - 0.93 * base, np.abs(w - length - 4) - 6)
  ra_half = (a.ra_width_mm / 2, a.ra_length_mm / 2 + 1.5)
  right_x = -base - 7 - ra_half[0]
  right = _atrium_mm(
    x,
    w,
    (right_x, 0.95 * length + ra_half[1] - 1),
    ra_half,
    a.atrial_wobble[::-1],
    2.0,
  )
  door = np.maximum(
    np.abs(x - right_x) - 0.9 * ra_half[0], np.abs(w - 0.95 * length - 3) - 6
  )
  return np.minimum(left, funnel), np.minimum(right, door)


def paint_levels(
  ventricle: Ventricle, window: Window, rng: np.random.Generator
) -> Float[np.ndarray, "rows columns"]:
  """Echo level in dB of every structure, on the reference grid."""
  x, w = reference_grid(ventricle)
  a, length = ventricle.state.anatomy, ventricle.length_mm
  u = w * (1 / length)
  level = np.clip(u, 0, 1)
  index = (level * (TABLE_SIZE - 1)).astype(np.int32)
  inner = ventricle.radius_mm * np.sqrt(profile(a, level))
  dome = np.sqrt(1 - np.clip(-u / CAP_SHARE, 0, 1) ** 2)
  outer = ventricle.epicardium_mm[index] * dome
  gap = ventricle.rv_gap_mm[index]
  right = step(x, 12)
  r = np.abs(x)
  below = step(w - length, 6)
  base = ventricle.radius_mm * math.sqrt(profile(a, 1.0))
  soft = patches(rng, r.shape, 5.0)
  broad = patches(rng, r.shape, 14.0)
  beads = patches(rng, r.shape, 2.5)

  # surroundings: lung and fat, brighter beside the lateral wall
  beyond = np.maximum(r - outer, 0)
  db = -26 + right * (12 - 0.35 * beyond) + 5 * broad + 3 * soft
  db = db + 4 * bell(w, -25, 22)
  la, ra = _atria_mm(a, length, base, x, w)
  db = over(db, below, _behind(ventricle, x, w, np.minimum(la, ra), broad))
  # right ventricle between the septum and its thin free wall
  free = step(beyond - gap) * step(5 - beyond + gap) * (1 - right)
  begun = step(u - a.rv_apex_u, 0.1) * (1 - below)
  db = over(db, free * begun, -19 - window.rv_loss_db + 4 * soft)
  db = over(db, step(gap - beyond, 3) * (1 - right) * (1 - below), BLACK_DB)
  db = over(db, _band(a, u, beyond, gap, x), -25)
  wall = step(outer - r) * step(1.02 - u, 0.02) * step(u + CAP_SHARE, 0.02)
  part = np.clip((r - inner) / np.maximum(outer - inner, 1), 0, 1)
  muscle = _muscle(window, u, part, right, soft + beads, broad)
  db = over(db, wall, muscle)
  hollow = step(inner - r - 0.4 - 0.7 * beads)  # trabeculae roughen it
  db = over(db, hollow * step(w, 3) * step(length - w, 3), BLACK_DB)
  muscle = rng.uniform(0, 1) * _papillary(ventricle, rng, x, u, inner)
  db = over(db, muscle, -16 - 0.5 * window.lateral_loss_db + 4 * beads)
  db = over(db, step(-np.minimum(la, ra)), BLACK_DB)
  return _hinges(ventricle, base, db, x, w, soft)


def _behind(ventricle, x, w, outside, broad):
  """Atrial walls and the bright pericardium deep to the atria, in dB."""
  deep = np.clip((w - ventricle.length_mm - 14) * (1 / 22), 0, 1)
  lateral = np.clip((x + 5) * (1 / 25), 0, 1)
  band = bell(outside, 9.5, 8.5) * np.maximum(deep, 0.75 * lateral)
  thin = -22 - 0.35 * np.maximum(outside, 0)
  side = np.clip(-(x + 75) * (1 / 25), 0, 1)
  return thin + band * (16 + 5 * broad) - 10 * side


def _band(a: Anatomy, u, beyond, gap, x):
  """Weight of the moderator band, which crosses the right ventricle low."""
  along = bell(u, a.rv_apex_u + 0.18, 0.035)
  return 0.8 * along * step(gap - beyond) * (x < 0) * (beyond > 0)


def _papillary(ventricle, rng, x, u, inner):
  """Weight of a papillary muscle: beside the lateral wall, in the cavity."""
  height, thick = rng.uniform(0.35, 0.5), rng.uniform(3, 5.5)
  far_x = (x - inner + 0.8 * thick) * (1 / thick)
  far_w = (u - height) * ventricle.length_mm * (1 / 11)
  return np.clip(1.6 - 1.4 * (far_x**2 + far_w**2), 0, 1)


def _muscle(window: Window, u, part, right, soft, broad):
  """LV wall in dB: bright septum, lateral wall and apex that drop out."""
  septum = -8 + 2.8 * soft + 2.0 * broad - 6 * bell(u, 0.2, 0.25)
  loss = window.lateral_loss_db * (0.6 + 0.4 * bell(u, 0.45, 0.3))
  loss = loss + window.gap_db * bell(u, window.gap_u, 0.13)
  lateral = -10 + 2.0 * soft + 2.5 * broad - loss + 3 * part
  db = septum + right * (lateral - septum)
  return db - window.apex_loss_db * bell(u, 0.0, 0.2)


def _hinges(ventricle, base, db, x, w, soft):
  """Fibrous body, annuli and the septum between the atria."""
  a, length = ventricle.state.anatomy, ventricle.length_mm
  crux = -base - 0.45 * a.wall_mm

  def spot(centre_x, centre_w, width, height):
    far = ((x - centre_x) / width) ** 2 + ((w - centre_w) / height) ** 2
    return np.exp(-far)

  db = over(db, spot(crux, length + 1, 4.5, 6.5), -4 + 2 * soft)
  db = over(db, spot(base + 3, length + 1, 5, 5), -8 + 2 * soft)
  free = crux - a.rv_width_mm - 4
  db = over(db, spot(free, 0.96 * length, 4.5, 5), -13 + 2 * soft)
  down = (w - length) * (1 / a.la_length_mm)
  line = np.abs(x - crux - 4 * np.sin(2.5 * down)) - 1.6
  fossa = 9 * bell(down, 0.5, 0.17)  # thin, and parallel to the beam
  body = step(-line) * step(w - length, 3) * step(1.05 - down, 0.1)
  return over(db, body, -12 - fossa + 2 * soft)


def reference_grid(ventricle: Ventricle):
  """(x, w) of the painted picture's samples in mm, float32."""
  x = np.arange(LEFT_MM, RIGHT_MM, STEP_MM, dtype=np.float32)
  w = np.arange(
    ABOVE_MM, ventricle.roof_mm + BELOW_MM, STEP_MM, dtype=np.float32
  )
  shape = (w.size, x.size)
  return (
    np.ascontiguousarray(np.broadcast_to(x[None], shape)),
    np.ascontiguousarray(np.broadcast_to(w[:, None], shape)),
  )


def paint_chest(
  ventricle: Ventricle,
  window: Window,
  layout: np.random.Generator,
  speckle: np.random.Generator,
) -> Chest:
  """Scatterers of the whole chest at end-diastole.

  Args:
    ventricle: the heart.
    window: what drops out.
    layout: random unevenness of the tissue; belongs to the study.
    speckle: random scatterers; belongs to the clip.
  """
  db = paint_levels(ventricle, window, layout)
  amplitude = np.exp(db * (math.log(10) / 20), dtype=np.float32)
  noise = speckle.standard_normal((*db.shape, 2), dtype=np.float32)
  # band-limited, so that looking between samples does not make it flicker
  noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
  noise *= 0.707 / float(noise.std())
  noise *= amplitude[..., None]
  return Chest(scatterers=noise, left_mm=LEFT_MM, top_mm=ABOVE_MM)
