"""The ultrasound machine: devices, probe position, beams, pixels, grey levels.

A frame is made the way a phased array makes it.  Scatterers are summed on a
polar grid of depths and beams, blurred by the point spread function (constant
in angle, so wider with depth, and wider still away from the focus), detected,
log compressed, mapped to grey and scan converted.  The grid is the same for
every picture size, so the physics does not depend on the size asked for.
"""

import dataclasses
import functools
import math

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from echo_jax.simulate.heart import Ventricle, radius_squared_mm2

DEPTHS, BEAMS = 160, 96  # samples of the polar grid
HEADROOM_DB = 16.0  # an echo of 0 dB is this far below white
MARGIN_DEG = 1.5  # the cavity stays this far inside the sector


@dataclasses.dataclass(frozen=True)
class Device:
  """A machine's settings; generic, after no vendor.

  Attributes:
    name: "device-a", "device-b", "device-c".
    frame_hz, frame_jitter_ms: frame rate, spread of a frame's moment.
    depth_mm: smallest depth shown; deeper in steps of 10 mm for big hearts.
    half_angle_deg: half the sector's opening.
    face_radius_mm: radius of the rounded probe face.
    lateral_beams, axial_samples: point spread (Gaussian sigma) on the grid.
    focus_mm: depth of the transmit focus.
    range_db: dynamic range of the log compression.
    gamma: exponent of the grey map.
    pixel_aspect: column spacing over row spacing.
    width_shown: share of the sector's width that the picture holds.
    layout: where marks are burned in: 0, 1 or 2.
  """

  name: str
  frame_hz: float
  frame_jitter_ms: float
  depth_mm: float
  half_angle_deg: float
  face_radius_mm: float
  lateral_beams: float
  axial_samples: float
  focus_mm: float
  range_db: float
  gamma: float
  pixel_aspect: float
  width_shown: float
  layout: int


DEVICES = (
  Device(
    name="device-a",
    frame_hz=48.7,
    frame_jitter_ms=0.0,
    depth_mm=145.0,
    half_angle_deg=35.0,
    face_radius_mm=9.0,
    lateral_beams=1.0,
    axial_samples=0.65,
    focus_mm=80.0,
    range_db=52.0,
    gamma=1.0,
    pixel_aspect=1.0,
    width_shown=1.0,
    layout=0,
  ),
  Device(
    name="device-b",
    frame_hz=39.4,
    frame_jitter_ms=0.12,
    depth_mm=155.0,
    half_angle_deg=42.0,
    face_radius_mm=14.0,
    lateral_beams=1.2,
    axial_samples=0.9,
    focus_mm=95.0,
    range_db=56.0,
    gamma=1.15,
    pixel_aspect=1.0,
    width_shown=0.85,
    layout=1,
  ),
  Device(
    name="device-c",
    frame_hz=31.8,
    frame_jitter_ms=0.05,
    depth_mm=165.0,
    half_angle_deg=38.0,
    face_radius_mm=5.0,
    lateral_beams=1.4,
    axial_samples=1.0,
    focus_mm=70.0,
    range_db=50.0,
    gamma=0.95,
    pixel_aspect=1.1,
    width_shown=1.0,
    layout=2,
  ),
)


@dataclasses.dataclass(frozen=True)
class Window:
  """Where the probe was held and what the chest lets through.

  Attributes:
    apex_x_mm, apex_depth_mm: the heart's apex right of and below the probe.
    tilt_deg: lean of the long axis, base to the right.
    gain_db: overall gain.
    clutter_db, haze_db: echoes of the chest wall; diffuse haze below it.
    lateral_loss_db, apex_loss_db: dropout of the lateral wall and the apex.
    rv_loss_db: dropout of the right ventricle's free wall.
    gap_u, gap_db: an extra gap in the lateral wall at this level.
    edge_loss_db: loss at the sector's edges.
    shadow_deg, shadow_db: a rib's shadow.
    sway_mm, rock_deg: motion of the whole heart with breath and beat.
  """

  apex_x_mm: float
  apex_depth_mm: float
  tilt_deg: float
  gain_db: float
  clutter_db: float
  haze_db: float
  lateral_loss_db: float
  apex_loss_db: float
  rv_loss_db: float
  gap_u: float
  gap_db: float
  edge_loss_db: float
  shadow_deg: float
  shadow_db: float
  sway_mm: float
  rock_deg: float


@dataclasses.dataclass(frozen=True)
class Placement:
  """The heart in front of the probe: epicardial apex, lean, depth shown.

  Probe coordinates: x to the right of the picture, z down from the middle of
  the probe face, both in mm.
  """

  apex_x_mm: float
  apex_z_mm: float
  tilt_rad: float
  depth_mm: float

  def heart_axes(self, x, z):
    """Probe coordinates to the LV's (across, along), origin at `apex`."""
    cosine, sine = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
    dx, dz = x - self.apex_x_mm, z - self.apex_z_mm
    return dx * cosine - dz * sine, dx * sine + dz * cosine

  def probe_axes(self, across, along):
    """The inverse of `heart_axes`."""
    cosine, sine = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
    x = self.apex_x_mm + across * cosine + along * sine
    return x, self.apex_z_mm - across * sine + along * cosine


def place_heart(
  ventricle: Ventricle,
  rest,
  cap_mm: float,
  device: Device,
  window: Window,
  widening: float = 1.0,
) -> Placement:
  """Holds the probe as drawn, or nearest to it with the whole LV in sight.

  Args:
    ventricle: the heart.
    rest: its pose at end-diastole.
    cap_mm: muscle above the endocardial apex.
    device, window: machine and intended probe position.
    widening: width in the plane of the view over that in the picture plane.
  """
  u = np.linspace(0, 1, 41)
  half = np.sqrt(radius_squared_mm2(ventricle, rest, u))
  half = widening * half + abs(ventricle.bend_mm)
  limit = math.radians(device.half_angle_deg - MARGIN_DEG)
  tilt = math.radians(window.tilt_deg)
  offsets = sorted(
    np.arange(-14.0, 14.5).tolist(), key=lambda x: abs(x - window.apex_x_mm)
  )
  offsets.insert(0, window.apex_x_mm)
  for extra in np.arange(0.0, 40.0, 2.0).tolist():
    for lean in (tilt, 0.5 * tilt, 0.0):
      for x in offsets:
        place = Placement(x, window.apex_depth_mm + extra, lean, 0.0)
        edge = [
          place.probe_axes(side * half, u * ventricle.length_mm + cap_mm)
          for side in (-1, 1)
        ]
        if all(
          np.all(np.abs(px) < np.tan(limit) * (pz + device.face_radius_mm))
          for px, pz in edge
        ):
          need = place.apex_z_mm + ventricle.roof_mm + 8 - device.depth_mm
          deeper = 10 * max(0, math.ceil(need / 10))
          return dataclasses.replace(place, depth_mm=device.depth_mm + deeper)
  raise ValueError(
    f"an LV of {ventricle.length_mm:.0f} x {2 * ventricle.radius_mm:.0f} mm "
    f"does not fit the sector of {device.name}"
  )


@dataclasses.dataclass(frozen=True)
class Grid:
  """Sample positions of one device at one depth and picture size.

  Attributes:
    x_mm, z_mm: [depth, beam] polar samples in probe coordinates.
    range_mm, angle_rad: [depth, 1] from the probe face, and [1, beam].
    pixel_x_mm, pixel_z_mm: [H, W] pixel centres in probe coordinates.
    sector: [H, W] pixels inside the sector.
    lookup: scan conversion's maps, at `oversample` times the picture's size.
    spacing_mm: (row, column) of the picture.
    oversample: fine pixels a pixel and direction.
  """

  x_mm: np.ndarray
  z_mm: np.ndarray
  range_mm: np.ndarray
  angle_rad: np.ndarray
  pixel_x_mm: np.ndarray
  pixel_z_mm: np.ndarray
  sector: np.ndarray
  lookup: tuple[np.ndarray, np.ndarray]
  spacing_mm: tuple[float, float]
  oversample: int


@functools.lru_cache(maxsize=32)
def make_grid(device: Device, depth_mm: float, size: int) -> Grid:
  """Beams and pixels; the sector fills the picture but for a small margin."""
  half, face = math.radians(device.half_angle_deg), device.face_radius_mm
  rho = face + np.linspace(0, depth_mm, DEPTHS)[:, None]
  angle = np.linspace(-half, half, BEAMS)[None]
  top = face * math.cos(half) - face
  height = depth_mm - top
  width = 2 * (face + depth_mm) * math.sin(half) * device.width_shown
  row = max(height / 0.93, width / 0.97 / device.pixel_aspect) / size
  column = row * device.pixel_aspect
  first = top - 0.4 * (size * row - height)  # of the free rows, 40 % on top

  def pixels(count):
    centre = (np.arange(count) + 0.5) / count * size
    return (centre[None] - size / 2) * column, first + centre[:, None] * row

  def polar(x, z):
    far = np.hypot(x, z + face)
    return far - face, np.arctan2(x, z + face)

  oversample = 2 if size < 200 else 1
  far, turn = polar(*pixels(size * oversample))
  outside = (far < 0) | (far > depth_mm) | (np.abs(turn) > half)
  beam = (turn / half + 1) / 2 * (BEAMS - 1)
  sample = far / depth_mm * (DEPTHS - 1)
  x, z = pixels(size)
  far, turn = polar(x, z)
  sector = (far >= 0) & (far <= depth_mm) & (np.abs(turn) <= half)
  single = np.float32
  return Grid(
    x_mm=(rho * np.sin(angle)).astype(single),
    z_mm=(rho * np.cos(angle) - face).astype(single),
    range_mm=(rho - face).astype(single),
    angle_rad=angle.astype(single),
    pixel_x_mm=np.broadcast_to(x, (size, size)).astype(single),
    pixel_z_mm=np.broadcast_to(z, (size, size)).astype(single),
    sector=sector,
    lookup=cv2.convertMaps(
      np.where(outside, -9, beam).astype(single),
      np.where(outside, -9, sample).astype(single),
      cv2.CV_16SC2,
    ),
    spacing_mm=(row, column),
    oversample=oversample,
  )


def _ramp(value, low, high):
  """0 below `low`, 1 above `high`, straight between."""
  return np.clip((value - low) / (high - low), 0, 1)


def sensitivity(
  grid: Grid, device: Device, window: Window
) -> Float[np.ndarray, "depth beam"]:
  """Amplitude of tissue by depth and beam after time gain compensation."""
  half = math.radians(device.half_angle_deg)
  edge = np.abs(grid.angle_rad) / half
  db = window.gain_db - window.edge_loss_db * edge**2.5
  depth = grid.range_mm
  db = db - 0.03 * np.maximum(depth - device.focus_mm, 0)
  db = db - 9 * (1 - _ramp(depth, 8, 50))
  shadow = (grid.angle_rad - math.radians(window.shadow_deg)) / 0.07
  # a rib lies near the skin: full shadow from a few centimetres on
  db = db - window.shadow_db * np.exp(-(shadow**2)) * _ramp(depth, 5, 40)
  return (10 ** (db / 20)).astype(np.float32)


def near_field(
  grid: Grid, window: Window, rng: np.random.Generator
) -> Float[np.ndarray, "depth beam 2"]:
  """Echoes that do not move: chest wall, probe face, reverberation."""
  depth = grid.range_mm
  spread = rng.normal(size=(DEPTHS, BEAMS, 2)).astype(np.float32)
  spread = cv2.GaussianBlur(spread, (0, 0), sigmaX=4.0, sigmaY=0.7)
  spread *= 4.5
  wall_mm = rng.uniform(11, 17)
  ghost = 10 ** ((window.clutter_db - 5 - 0.25 * depth) / 20)
  chest = 10 ** ((window.clutter_db + 1) / 20) * np.exp(
    -(((depth - wall_mm) / 5) ** 2)
  )
  layer = 10 ** ((window.clutter_db + 5) / 20) * np.exp(
    -(((depth - wall_mm - 2) / 1.2) ** 2)
  )
  half = float(grid.angle_rad[0, -1])
  middle = 1 - 0.75 * (np.abs(grid.angle_rad) / half) ** 1.5
  static = spread * ((ghost + chest + layer) * middle)[..., None]
  # ringing of the probe face: one or two bright arcs
  ring = 0.10 * np.exp(-(((depth - 1.2) / 0.8) ** 2))
  ring = ring + 0.06 * np.exp(-(((depth - 5.0) / 0.7) ** 2))
  arc = np.exp(-((grid.angle_rad / (0.55 * half)) ** 2))
  static[..., 0] += ring * arc
  return static.astype(np.float32)


def haze(
  grid: Grid, window: Window, rng: np.random.Generator
) -> Float[np.ndarray, "depth beam"]:
  """Power of reverberation too diffuse to speckle; lies over the apex."""
  depth = grid.range_mm
  db = window.haze_db - 0.14 * depth - 8 * (grid.angle_rad / 0.6) ** 2
  uneven = rng.normal(size=(DEPTHS, BEAMS)).astype(np.float32)
  uneven = cv2.GaussianBlur(uneven, (0, 0), sigmaX=9, sigmaY=7)
  db = db + 2.5 * uneven / float(uneven.std())
  return (10 ** (db / 10)).astype(np.float32)


def blood_level(
  grid: Grid, window: Window
) -> Float[np.ndarray, "depth 1"]:
  """Amplitude of the part that is new in every frame: blood and noise."""
  depth = grid.range_mm
  blood = 10 ** ((window.haze_db - 10 - 0.12 * depth) / 20)
  floor = 10 ** ((window.gain_db - 62 + 0.05 * depth) / 20)
  return (blood + floor).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Receiver:
  """What turns summed scatterers into a grey polar picture.

  Attributes:
    narrow: point spread in focus, along beams and along depth.
    wide: what defocus adds across beams.
    defocus: [depth, 1, 1] share of the widened picture.
    scale, offset: from the logarithm of power to 0..255.
    curve: [256] grey map.
  """

  narrow: tuple[np.ndarray, np.ndarray]
  wide: np.ndarray
  defocus: np.ndarray
  scale: float
  offset: float
  curve: np.ndarray


def _gauss(sigma: float) -> np.ndarray:
  """Normalised kernel that keeps the power of white noise."""
  reach = max(1, math.ceil(2.6 * sigma))
  taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
  return (taps / np.sqrt(np.sum(taps**2))).astype(np.float32)


def make_receiver(grid: Grid, device: Device) -> Receiver:
  """Point spread, detection and grey map of a device."""
  curve = 255 * np.linspace(0, 1, 256) ** device.gamma
  away = grid.range_mm / device.focus_mm - 1
  far = np.where(away < 0, away * away, 0.3 * away)
  decibel = 10 / math.log(10)
  return Receiver(
    narrow=(_gauss(device.lateral_beams), _gauss(device.axial_samples)),
    wide=_gauss(2.4 * device.lateral_beams),
    defocus=np.clip(far, 0, 1)[..., None].astype(np.float32),
    scale=255 / device.range_db * decibel,
    offset=255 * (1 - HEADROOM_DB / device.range_db),
    curve=np.rint(curve).astype(np.uint8),
  )


def detect(
  receiver: Receiver,
  field: Float[np.ndarray, "depth beam 2"],
  diffuse: Float[np.ndarray, "depth beam"],
) -> UInt8[np.ndarray, "depth beam"]:
  """Point spread, envelope, log compression and grey map of one frame."""
  one = np.ones(1, np.float32)
  sharp = cv2.sepFilter2D(field, -1, *receiver.narrow)
  blunt = cv2.sepFilter2D(sharp, -1, receiver.wide, one)
  blunt -= sharp
  blunt *= receiver.defocus
  sharp += blunt
  sharp *= sharp
  power = sharp[..., 0] + sharp[..., 1]
  # compounding: neighbouring looks are averaged before the logarithm
  power = cv2.GaussianBlur(power, (3, 3), 0.7)
  power += diffuse
  level = cv2.log(power)
  level *= receiver.scale
  level += receiver.offset
  np.clip(level, 0, 255, out=level)
  return receiver.curve[level.astype(np.uint8)]


def scan_convert(
  grid: Grid, polar: UInt8[np.ndarray, "depth beam"]
) -> UInt8[np.ndarray, "H W"]:
  """Polar samples to pixels; black outside the sector."""
  fine = cv2.remap(polar, *grid.lookup, cv2.INTER_LINEAR)
  if grid.oversample == 1:
    return fine
  size = fine.shape[0] // grid.oversample
  return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def burned_in(
  device: Device, grid: Grid, depth_mm: float, view: str = "A4C"
) -> UInt8[np.ndarray, "H W"]:
  """Marks outside the sector: text, orientation dot, depth ticks, grey bar."""
  size = grid.sector.shape[0]
  full = 448
  page = np.zeros((full, full), np.uint8)

  def text(words, x, y, level=150):
    cv2.putText(
      page, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, level, 1, cv2.LINE_AA
    )

  scale = full / size / grid.spacing_mm[0]
  zero = float(grid.pixel_z_mm[0, 0]) - 0.5 * grid.spacing_mm[0]
  ticks = [int((10 * i - zero) * scale) for i in range(int(depth_mm / 10) + 1)]
  edge = (6, full - 7, full - 4)[device.layout]
  for i, y in enumerate(ticks):
    reach = 3 if i % 5 else 6
    cv2.line(page, (edge - reach, y), (edge, y), 120, 1)
  dot = (full // 2 + 45, full // 2 - 45, full // 2 + 60)[device.layout]
  cv2.circle(page, (dot, max(8, ticks[0])), 5, 190, -1, cv2.LINE_AA)
  if device.layout == 0:
    text("Adult", full - 70, 20)
    text("MI 1.2", full - 70, 40)
    text("TIS 0.8", full - 70, 60)
  elif device.layout == 1:
    text("Cardiac", 6, 18)
    text("HAR", 6, 38)
    for y in range(40, 160):
      page[y, full - 20 : full - 10] = 255 - int((y - 40) * 255 / 120)
  else:
    text(view, 6, 24, 200)
    text(f"{depth_mm / 10:.0f} cm", full - 60, full - 12)
    text("G 52", 6, 46)
  small = cv2.resize(page, (size, size), interpolation=cv2.INTER_AREA)
  small[grid.sector] = 0
  return small
