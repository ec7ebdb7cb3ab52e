"""The chest in any plane: layers of scatterers painted about a cut.

tissue.py paints one picture, which holds as long as tissue stays in it.  Here
tissue moves through the plane, as it does wherever the plane does not hold the
long axis, so a few pictures are painted side by side and looked up between.
"""

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Float

from echo_jax.simulate import motion, organs
from echo_jax.simulate.heart import CAP_SHARE, TABLE_SIZE, profile
from echo_jax.simulate.scanner import Window
from echo_jax.simulate.tissue import (
  BLACK_DB,
  STEP_MM,
  bell,
  over,
  patches,
  step,
)
from echo_jax.simulate.views import PARASTERNAL, Cut

LAYER_MM = 2.5  # finer than the thickness of an ultrasound slice
MARGIN_MM = 4.0


@dataclasses.dataclass(frozen=True)
class Slab:
  """Scatterers at end-diastole on layers parallel to a plane.

  Attributes:
    scatterers: [layers * rows, columns, 2] amplitude, layer under layer.
    layers, rows: how they are stacked.
    left_mm, top_mm, first_mm: first column, row and layer in the plane.
  """

  scatterers: np.ndarray
  layers: int
  rows: int
  left_mm: float
  top_mm: float
  first_mm: float

  def sample(
    self,
    a: Float[np.ndarray, "d b"],
    b: Float[np.ndarray, "d b"],
    n: Float[np.ndarray, "d b"],
  ) -> Float[np.ndarray, "d b 2"]:
    """Scatterers at reference positions of the plane, in mm."""
    column = (a - self.left_mm) * (1 / STEP_MM)
    row = (b - self.top_mm) * (1 / STEP_MM)
    row = np.clip(row, 0, self.rows - 1.01)
    if self.layers == 1:
      return self._look(column, row)
    layer = (n - self.first_mm) * (1 / LAYER_MM)
    layer = np.clip(layer, 0, self.layers - 1.01)
    low = np.floor(layer)
    part = (layer - low)[..., None]
    row = row + low * self.rows
    below = self._look(column, row)
    above = self._look(column, row + np.float32(self.rows))
    # mixing must not make speckle fade half way between two layers
    keep = 1 / np.sqrt(part * part + (1 - part) * (1 - part))
    return (below + part * (above - below)) * keep

  def _look(self, column, row):
    return cv2.remap(
      self.scatterers, column, row, cv2.INTER_LINEAR,
      borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Look:
  """What makes one view's echoes differ from another's.

  Attributes:
    beam: [3] direction of the middle beam on the heart's axes.
    weak_rad: direction about the long axis in which the wall drops out.
    weakness: how much of the window's loss it has there.
    specular_db: gain of a wall at right angles to the beam over one along it.
    outflow: whether the plane is that of the outflow tract.
  """

  beam: np.ndarray
  weak_rad: float
  weakness: float
  specular_db: float
  outflow: bool


def make_look(view: str, beam: Float[np.ndarray, "3"]) -> Look:
  """Which walls a view shows well: those across the beam."""
  weak = {"A4C": 0, "A2C": 60, "A3C": 300}.get(view, 0)
  beside = view in PARASTERNAL
  return Look(
    beam=beam,
    weak_rad=math.radians(weak),
    weakness=0.0 if beside else 0.7 if view == "A3C" else 1.0,
    specular_db=11.0 if beside else 0.0,
    outflow=view in ("A3C", "PLAX"),
  )


@dataclasses.dataclass(frozen=True)
class Unevenness:
  """Smooth random fields, the same on all layers: fine to broad."""

  beads: np.ndarray
  soft: np.ndarray
  broad: np.ndarray


def paint_slab(
  around: organs.Organs,
  cut: Cut,
  look: Look,
  window: Window,
  box_mm: tuple[float, float, float, float],
  reach_mm: tuple[float, float],
  layout: np.random.Generator,
  speckle: np.random.Generator,
) -> Slab:
  """Scatterers about a cut at end-diastole.

  Args:
    around: the heart.
    cut: the plane.
    look, window: how bright what is.
    box_mm: left, right, top and bottom of what is seen, in the plane.
    reach_mm: least and greatest height of tissue over the plane.
    layout: unevenness of the tissue.
    speckle: random scatterers.
  """
  left, right, top, bottom = box_mm
  a = np.arange(left, right, STEP_MM, dtype=np.float32)[None]
  b = np.arange(top, bottom, STEP_MM, dtype=np.float32)[:, None]
  low, high = reach_mm
  flat = max(abs(low), abs(high)) < 0.5 * LAYER_MM
  layers = 1 if flat else math.ceil((high - low) / LAYER_MM) + 1
  shape = (b.size, a.size)
  uneven = Unevenness(*(patches(layout, shape, s) for s in (2.5, 5.0, 14.0)))
  painted = np.empty((layers, *shape, 2), np.float32)
  for i in range(layers):
    n = 0.0 if flat else low + i * LAYER_MM
    points = (np.broadcast_to(v, shape) for v in cut.points(a, b, n))
    db = paint_levels(around, look, window, uneven, *points)
    amplitude = np.exp(db * (math.log(10) / 20), dtype=np.float32)
    noise = speckle.standard_normal((*shape, 2), dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
    noise *= 0.707 / float(noise.std())
    np.multiply(noise, amplitude[..., None], out=painted[i])
  stacked = painted.reshape(layers * shape[0], shape[1], 2)
  return Slab(stacked, layers, shape[0], left, top, 0.0 if flat else low)


def paint_levels(around, look, window, uneven, x, y, w):
  """Echo level in dB of every structure at points of the chest."""
  ventricle = around.ventricle
  a, length = ventricle.state.anatomy, ventricle.length_mm
  u = w * (1 / length)
  level = np.clip(u, 0, 1)
  index = (level * (TABLE_SIZE - 1)).astype(np.int32)
  out = y * (1 / a.depth_aspect)
  r = np.sqrt(x * x + out * out)
  cosine, sine = x / np.maximum(r, 1e-3), out / np.maximum(r, 1e-3)
  inner = ventricle.radius_mm * np.sqrt(profile(a, level))
  dome = np.sqrt(1 - np.clip(-u / CAP_SHARE, 0, 1) ** 2)
  outer = ventricle.epicardium_mm[index] * dome
  beyond = np.maximum(r - outer, 0)
  gap = ventricle.rv_gap_mm[index]
  right = organs.right_ventricle_mm(around, x, y, beyond, gap)
  septal = np.clip((beyond - right) * (1 / 6), 0, 1)
  facing = _facing(look, cosine, sine)
  weak = cosine * math.cos(look.weak_rad) + sine * math.sin(look.weak_rad)
  weak = look.weakness * step(weak * r, 14)
  below = step(w - length, 6)
  db = _surroundings(look, uneven, w, beyond, septal, weak, facing)
  left_atrium = organs.left_atrium_mm(around, x, y, w)
  right_atrium = organs.right_atrium_mm(around, x, y, w)
  atria = np.minimum(left_atrium, right_atrium)
  db = over(db, below, _behind(look, uneven, w - length, atria, weak))
  begun = step(u - a.rv_apex_u, 0.1) * (1 - below) * septal
  free = step(right + 0.5) * step(4.5 - right) * begun
  edge = -10 if look.specular_db else -17 - window.rv_loss_db
  db = over(db, free, edge + 4 * uneven.soft)
  rough = right + 0.6 * uneven.beads  # the right heart is trabeculated
  db = over(db, step(-rough, 3) * step(beyond) * begun, BLACK_DB)
  wall = step(outer - r) * step(1.02 - u, 0.02) * step(u + CAP_SHARE, 0.02)
  part = np.clip((r - inner) / np.maximum(outer - inner, 1), 0, 1)
  muscle = _muscle(look, window, uneven, u, part, weak, septal, facing)
  db = over(db, wall, muscle)
  hollow = step(inner - r - 0.4 - 0.7 * uneven.beads)
  hollow = hollow * step(w, 3) * step(length - w, 3)
  db = over(db, hollow, BLACK_DB)
  papillary = organs.papillary_mm(around, x, y, w) + 0.5 * uneven.beads
  db = over(db, step(-papillary) * step(w, 3), -13 + 3 * uneven.soft
            - 0.5 * window.lateral_loss_db * weak)  # fmt: skip
  return _basal(around, look, uneven, db, x, y, w, left_atrium, right_atrium)


def _facing(look, cosine, sine):
  """Squared cosine between the beam and the wall's normal."""
  along = cosine * float(look.beam[0]) + sine * float(look.beam[1])
  return along * along


def _surroundings(look, uneven, w, beyond, septal, weak, facing):
  """Lung, fat and pericardium outside the muscle, in dB."""
  db = -26 + weak * (12 - 0.35 * beyond) + 5 * uneven.broad + 3 * uneven.soft
  db = db + 4 * bell(w, -25, 22) * (look.specular_db == 0)
  if look.specular_db:
    # a bright line where muscle meets lung, then its fading echoes
    line = bell(beyond, 1.6, 1.5)
    free = (1 - septal) * facing
    db = db + free * (9 - 0.45 * beyond)
    db = over(db, 0.9 * line * (1 - septal) * (0.25 + 0.75 * facing),
              1 + 3 * uneven.soft)  # fmt: skip
  return db


def _behind(look, uneven, deep, outside, weak):
  """Walls of the atria and the bright pericardium deep to them, in dB."""
  deep = np.clip((deep - 14) * (1 / 22), 0, 1)
  share = np.maximum(deep, 0.75 * weak)
  if look.specular_db:
    share = 0.6
  band = bell(outside, 9.5, 8.5) * share
  thin = -22 - 0.35 * np.maximum(outside, 0)
  return thin + band * (16 + 5 * uneven.broad)


def _muscle(look, window, uneven, u, part, weak, septal, facing):
  """Wall in dB: what lies across the beam is bright, the rest drops out."""
  good = -8.5 + 2.8 * uneven.soft + 1.2 * uneven.beads + 2 * uneven.broad
  good = good - 6 * bell(u, 0.2, 0.25) * (look.specular_db == 0)
  good = good + look.specular_db * (facing - 1.05)
  loss = window.lateral_loss_db * (0.6 + 0.4 * bell(u, 0.45, 0.3))
  loss = loss + window.gap_db * bell(u, window.gap_u, 0.13)
  db = good - weak * (loss + 2 - 3 * part)
  # both faces of the septum are mirrors in the parasternal views
  if look.specular_db:
    db = db + 4 * facing * (bell(part, 0.0, 0.12) + bell(part, 1.0, 0.15))
  else:
    db = db - window.apex_loss_db * bell(u, 0.0, 0.2)
  return db


def _basal(around, look, uneven, db, x, y, w, left_atrium, right_atrium):
  """Annuli, atria, outflow tract with aortic root, septum between atria."""
  ventricle = around.ventricle
  a, length = ventricle.state.anatomy, ventricle.length_mm
  up = w - length
  r = np.sqrt(x * x + y * y)
  ring = np.exp(-(((r - around.base_mm - 3) / 4.5) ** 2) - ((up - 1) / 5) ** 2)
  db = over(db, ring, -7 + 2 * uneven.soft)
  if look.outflow:
    db = _front(around, look, uneven, db, x, y, w)
  db = over(db, step(-left_atrium), BLACK_DB)
  db = over(db, step(-right_atrium), BLACK_DB)
  crux = -around.base_mm - 0.45 * a.wall_mm
  down = up * (1 / a.la_length_mm)
  line = np.abs(x - crux - 4 * np.sin(2.5 * down)) - 1.6
  fossa = 9 * bell(down, 0.5, 0.17)
  body = step(-line) * step(up, 3) * step(1.05 - down, 0.1)
  body = body * step(16 - np.abs(y), 6)
  db = over(db, body, -12 - fossa + 2 * uneven.soft)
  if look.outflow:
    db = _root(around, look, uneven, db, x, y, w)
  return db


def _root(around, look, uneven, db, x, y, w):
  """Aortic root: two walls, blood between, open towards the ventricle.

  Behind the left atrium the thoracic aorta is cut across.
  """
  tract, along = organs.aorta_mm(around, x, y, w)
  shell = step(organs.AORTIC_WALL_MM - tract) * step(along - 1, 3)
  shell = shell * step(48 - along, 8)
  bright = 3 * uneven.soft - (5 if look.specular_db else 10)
  db = over(db, shell, bright)
  lumen = step(-tract) * step(along + 9) * step(56 - along, 10)
  db = over(db, lumen, BLACK_DB)
  p, h = organs.outflow_plane(x, y)
  middle = -around.base_mm - around.ventricle.state.anatomy.wall_mm - 21
  up = w - around.ventricle.length_mm
  far = np.sqrt((p - middle) ** 2 + (0.8 * (up - 14)) ** 2) - 10
  near = step(20 - np.abs(h), 8)
  db = over(db, 0.8 * step(2 - far) * near, -14 + 4 * uneven.soft)
  return over(db, step(-far) * near, BLACK_DB)


def _front(around, look, uneven, db, x, y, w):
  """Right ventricular outflow tract in front of the aortic root."""
  tract, _ = organs.aorta_mm(around, x, y, w)
  p, h = organs.outflow_plane(x, y)
  up = w - around.ventricle.length_mm
  width = 0.6 * around.ventricle.state.anatomy.rv_width_mm
  outside = np.maximum(tract - 3.5 - width, 3.5 - tract)
  outside = np.maximum(outside, np.abs(h) - 16)
  outside = np.maximum(outside, around.root_p_mm - p + 4)
  outside = np.maximum(outside, np.maximum(up - 36, -up - 2))
  wall = step(outside) * step(4 - outside) * step(tract - 3)
  bright = -11 if look.specular_db else -17
  db = over(db, 0.8 * wall * step(up), bright + 3 * uneven.soft)
  return over(db, step(-outside, 3), BLACK_DB)


def find_reach(
  wall: motion.Wall, cut: Cut, a, b, moments
) -> tuple[float, float]:
  """Least and greatest height over the plane of what it ever shows."""
  heights = []
  for now in moments:
    where = motion.reference_position(wall, now, *cut.points(a, b))
    heights.append(cut.flatten(*where)[2])
  return float(np.min(heights)), float(np.max(heights))
