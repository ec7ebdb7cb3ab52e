"""Spectral Doppler: velocities of one place over time as a calibrated picture.

A spectrum is painted as the machine sees it: power over velocity from the
true curves of `flow`, spread by transit time and window, folded at the
Nyquist limit, speckled, filtered, log compressed.  Up is positive; from the
apex, ejection runs away from the probe and lies below the line.  What is
painted reaches half its power at the true velocity.

Strengths, widths and presets are chosen by eye, without a source.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import ndtr

from echo_jax import units
from echo_jax.simulate.flow import (
  BeatFlow,
  BeatMeasures,
  average_measures,
  measure_beat,
)

MIRROR_DB = -27.0  # leakage between the two directions of flow
CLICK_DB, CLICK_SPREAD_DB, CLICK_S = -9.0, 3.0, 0.003  # leaflets slapping
BYSTANDER_DB = (-26.0, -16.0)  # mitral inflow at the edge of another beam
FALLING = 0.2  # flow that slows down is less of one speed: wider by this
HEADROOM_DB = 7.0  # a signal of 0 dB is this far below white
RIGHT_PX, TOP_PX, BOTTOM_PX, LEFT_PX = 46, 10, 18, 6  # round the spectrum


@dataclasses.dataclass(frozen=True)
class Location:
  """Where the beam listens and how its spectrum looks.

  Attributes:
    kind: key of the record schema: "cw", "pw" or "tdi".
    curve: attribute of `BeatFlow` that is heard.
    sign: 1 if that curve runs towards the probe, so upwards, else -1.
    inner: slowest velocity of the bright band over the fastest.
    fill_db: power of what is slower still; -inf for none.
    core_db: power of the outflow tract's slower stream, through which a
      continuous wave passes on its way to the jet; -inf for none.
    bystander: whether the edge of the beam catches mitral inflow.
    broadening: spread of the edge over the velocity (transit time).
    least_cm_s: half-width of the band at rest.
    filter_cm_s: wall filter; 0 is off.
    clicks: whether valves slap in the beam.
    scales_cm_s: reaches in the direction of flow that the machine offers.
    back: reach in the other direction, over that in the direction of flow.
  """

  kind: str
  curve: str
  sign: int
  inner: float
  fill_db: float
  core_db: float
  bystander: bool
  broadening: float
  least_cm_s: float
  filter_cm_s: float
  clicks: bool
  scales_cm_s: tuple[int, ...]
  back: float


_BLOOD_CM_S = (60, 80, 100, 120, 160, 200)
# In the order of `Location`.
LOCATIONS = {
  "aortic_cw": Location(
    "cw", "jet_cm_s", -1, 0.88, -7.0, -4.0, True, 0.012, 0.0, 20.0, True,
    (150, 200, 300, 400, 500, 600, 800), 0.3,
  ),
  "outflow_pw": Location(
    "pw", "outflow_cm_s", -1, 0.74, -15.0, -math.inf, True, 0.015, 0.0, 8.0,
    True, _BLOOD_CM_S, 0.4,
  ),
  "mitral_pw": Location(
    "pw", "inflow_cm_s", 1, 0.66, -13.0, -math.inf, False, 0.018, 0.0, 8.0,
    True, _BLOOD_CM_S, 0.4,
  ),
  "annulus_tdi": Location(
    "tdi", "annulus_cm_s", 1, 0.86, -math.inf, -math.inf, False, 0.02, 0.4,
    0.0, False, (8, 12, 16, 20, 30), 1.0,
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Preset:
  """What a machine brings to every spectrum; generic, after no vendor.

  Attributes:
    name: "device-a", "device-b", "device-c".
    rows, columns: size of the spectrum in pixels.
    sweep_s: time across the spectrum; at least two slow beats.
    window_s: length of the analysed window (Gaussian sigma).
    noise_db: noise floor under a full signal.
    range_db, gamma: dynamic range and grey map.
    margin: largest share of the chosen reach that the flow may fill.
  """

  name: str
  rows: int
  columns: int
  sweep_s: float
  window_s: float
  noise_db: float
  range_db: float
  gamma: float
  margin: float


PRESETS = (
  Preset("device-a", 240, 480, 3.2, 0.0035, -31.0, 34.0, 1.0, 0.85),
  Preset("device-b", 200, 512, 4.0, 0.0045, -28.0, 36.0, 1.1, 0.75),
  Preset("device-c", 260, 420, 3.0, 0.0030, -29.0, 33.0, 0.95, 0.9),
)


@dataclasses.dataclass(frozen=True)
class Display:
  """Scales of one spectrum.

  Attributes:
    top_cm_s, bottom_cm_s: velocities at the two edges, above and below 0.
      Their distance is twice the Nyquist limit of pulsed waves.
    sweep_s: time from the left to the right edge.
    gain_db: overall gain; 0 is well set.
  """

  top_cm_s: float
  bottom_cm_s: float
  sweep_s: float
  gain_db: float = 0.0


def find_peak_cm_s(location: str, flows: Sequence[BeatFlow]) -> float:
  """Highest speed in either direction that the place will show."""
  curve = LOCATIONS[location].curve
  return max(float(np.abs(getattr(flow, curve)).max()) for flow in flows)


def set_display(
  location: str, preset: Preset, peak_cm_s: float, gain_db: float = 0.0
) -> Display:
  """Scale as a sonographer sets it: the smallest that holds the flow.

  A peak beyond the largest scale gets the largest; then pulsed waves alias
  and a continuous wave leaves the picture.
  """
  _check_location(location)
  place = LOCATIONS[location]
  fitting = [s for s in place.scales_cm_s if peak_cm_s <= preset.margin * s]
  reach = float(fitting[0] if fitting else place.scales_cm_s[-1])
  ahead, behind = reach, place.back * reach
  top, bottom = (ahead, behind) if place.sign > 0 else (behind, ahead)
  return Display(top, -bottom, preset.sweep_s, gain_db)


@dataclasses.dataclass(frozen=True)
class SimulatedDoppler:
  """A spectrum's picture, its scales, and what is true about it.

  `velocity = (zero_px - row) * cm_s`, rows and columns of the whole picture.

  Attributes:
    picture: uint8 [H, W] grey.
    location, kind: key of `LOCATIONS`; kind of the record schema.
    box_px: int32 [4], x0 y0 x1 y1 of the spectrum, both ends inside.
    zero_px: row of zero velocity.
    cm_s, ms: velocity of a row, time of a column.
    r_wave_ms: [beats] R waves from the left edge of the spectrum, inside it.
    beats: truth of every beat that is wholly inside, in order.
    truth: their mean.
    device: name of the preset.
  """

  picture: UInt8[np.ndarray, "H W"]
  location: str
  kind: str
  box_px: tuple[int, int, int, int]
  zero_px: float
  cm_s: float
  ms: float
  r_wave_ms: Float[np.ndarray, "beats"]
  beats: tuple[BeatMeasures, ...]
  truth: BeatMeasures
  device: str

  def labels(self) -> dict:
    """The keys of the video record."""
    return {
      "kind": self.kind,
      "device": self.device,
      "doppler_box_px": self.box_px,
      "doppler_zero_px": self.zero_px,
      "doppler_cm_s": self.cm_s,
      "doppler_ms": self.ms,
    }


def _check_location(location: str) -> None:
  if location not in LOCATIONS:
    raise ValueError(f"location {location!r} is none of {', '.join(LOCATIONS)}")


def sweep_curve(
  name: str,
  flows: Sequence[BeatFlow],
  first_r_s: float,
  sweep_s: float,
  columns: int,
) -> Float[np.ndarray, "W"]:
  """Mean of a curve over each column's time.

  Args:
    name: attribute of `BeatFlow`.
    flows: beats in a row.
    first_r_s: R wave of the first beat from the left edge; not above 0.
    sweep_s, columns: time across the spectrum, and its width in pixels.
  """
  steps = np.concatenate([np.full(f.time_s.size, f.step_s) for f in flows])
  values = np.concatenate([getattr(f, name) for f in flows])
  moments = first_r_s + np.concatenate([[0], np.cumsum(steps)])
  travelled = np.concatenate([[0], np.cumsum(values * steps)])
  edges = np.linspace(0, sweep_s, columns + 1)
  return np.diff(np.interp(edges, moments, travelled)) * columns / sweep_s


@dataclasses.dataclass(frozen=True)
class Layer:
  """One stream in the beam: power `db` between `slow` and `fast`.

  Attributes:
    fast: [W] signed velocity of its fastest part.
    inner: [W] share of `fast` at which the band ends.
    db: power.
  """

  fast: Float[np.ndarray, "W"]
  inner: Float[np.ndarray, "W"]
  db: float


def _falling(curve: np.ndarray, column_s: float) -> np.ndarray:
  """1 where a flow slows down, 0 where it speeds up, smooth between."""
  falling = (np.gradient(np.abs(curve)) < 0).astype(np.float32)[None]
  return cv2.GaussianBlur(falling, (0, 0), sigmaX=0.03 / column_s)[0]


def hear_streams(
  place: Location,
  flows: Sequence[BeatFlow],
  first_r_s: float,
  display: Display,
  columns: int,
  rng: np.random.Generator,
) -> list[Layer]:
  """What runs through the beam; the first layer is what it is aimed at."""

  def curve(name, sign):
    return sign * sweep_curve(
      name, flows, first_r_s, display.sweep_s, columns
    )

  aimed = curve(place.curve, place.sign)
  filled = np.zeros(columns)
  inner = np.full(columns, place.inner)
  if place.kind != "tdi":
    inner -= FALLING * _falling(aimed, display.sweep_s / columns)
  layers = [Layer(aimed, inner, 0.0)]
  if math.isfinite(place.fill_db):
    layers.append(Layer(aimed, filled, place.fill_db))
  if math.isfinite(place.core_db):
    core = curve("outflow_cm_s", place.sign)
    layers.append(Layer(core, filled, place.core_db))
  if place.bystander:
    aside = 0.7 * curve("inflow_cm_s", -place.sign)
    layers.append(Layer(aside, filled, float(rng.uniform(*BYSTANDER_DB))))
  return layers


def _power(db):
  """Power ratio of a level in decibels."""
  return 10 ** (db / 10)


def paint_power(
  place: Location,
  velocity: Float[np.ndarray, "velocity"],
  layers: Sequence[Layer],
) -> Float[np.ndarray, "velocity W"]:
  """Power over velocity (up is positive) before folding and noise.

  Both edges of a layer are at half its power.  Where it stands still it is
  `least_cm_s` wide to either side of zero.

  Args:
    place: spreads the edges.
    velocity: middles of the rows in cm/s, equally spaced.
    layers: what to paint.
  """
  axis = velocity.astype(np.float32)[:, None]
  row = abs(float(velocity[1] - velocity[0]))
  power = np.zeros((velocity.size, layers[0].fast.size), np.float32)
  for layer in layers:
    speed = np.abs(layer.fast)
    half = np.maximum((1 - layer.inner) / 2 * speed, place.least_cm_s)
    middle = np.sign(layer.fast) * np.maximum(speed - half, 0)
    still = np.hypot(0.6 * row, 0.5 * place.least_cm_s)
    spread = np.hypot(still, place.broadening * speed)
    scale = (1 / spread).astype(np.float32)
    low = ((middle - half) / spread).astype(np.float32)
    high = ((middle + half) / spread).astype(np.float32)
    inside = ndtr(axis * scale - low)
    inside -= ndtr(axis * scale - high)
    power += np.float32(_power(layer.db)) * inside
  return power


def fold(
  power: Float[np.ndarray, "velocity W"], rows: int
) -> Float[np.ndarray, "H W"]:
  """Adds what lies beyond the Nyquist limit where it appears.

  Args:
    power: over an odd number of spans of `rows` velocities each; the middle
      span is the one that is shown.
    rows: rows shown.
  """
  return power.reshape(-1, rows, power.shape[1]).sum(axis=0)


def _spans(place: Location, display: Display, layers: Sequence[Layer]) -> int:
  """Spans above and below the shown one into which any stream reaches."""
  if place.kind == "cw":
    return 0  # sampled fast enough; what is too fast leaves the picture
  span = display.top_cm_s - display.bottom_cm_s
  fast = np.stack([layer.fast for layer in layers])
  high = 1.1 * float(fast.max()) - display.top_cm_s
  low = display.bottom_cm_s - 1.1 * float(fast.min())
  return max(0, math.ceil(max(high, low) / span))


def _clicks(place, flows, first_r_s, time, velocity, span, rng):
  """Power of valves slapping: both directions, short, fading with speed."""
  power = np.zeros((velocity.size, time.size), np.float32)
  start = first_r_s
  for flow in flows:
    beat = flow.beat
    if place.curve == "inflow_cm_s":
      moments = (beat.mitral_opening_s, beat.rr_s)
    else:
      moments = (beat.ejection_start_s, beat.ejection_end_s)
    for moment, db in zip(moments, (CLICK_DB - 5, CLICK_DB), strict=True):
      db = db + CLICK_SPREAD_DB * rng.normal()
      reach = span * rng.uniform(0.03, 0.07)
      when = np.exp(-0.5 * ((time - start - moment) / CLICK_S) ** 2)
      power += _power(db) * np.outer(np.exp(-np.abs(velocity) / reach), when)
    start += beat.rr_s
  return power


def _mirror(place, power, zero):
  """The same velocities with the other sign, where the picture has them."""
  index = 2 * zero - np.arange(len(power))
  image = power[index % len(power)]
  if place.kind == "cw":
    image[(index < 0) | (index >= len(power))] = 0
  return image


def _speckle(shape, rng) -> Float[np.ndarray, "H W"]:
  """Power of a random signal with mean 1, alike over about two pixels."""
  noise = rng.standard_normal((*shape, 2), dtype=np.float32)
  noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.7, sigmaY=1.3)
  power = np.square(noise).sum(axis=-1)
  # display smoothing: neighbouring estimates are averaged
  power = cv2.GaussianBlur(power, (3, 3), 0.8)
  return power / float(power.mean())


def paint_spectrum(
  place: Location,
  flows: Sequence[BeatFlow],
  first_r_s: float,
  preset: Preset,
  display: Display,
  rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "H W"], int]:
  """Grey spectrum, and the row in it of zero velocity."""
  rows, columns = preset.rows, preset.columns
  span = display.top_cm_s - display.bottom_cm_s
  row, column_s = span / rows, display.sweep_s / columns
  zero = round(display.top_cm_s / row)
  layers = hear_streams(place, flows, first_r_s, display, columns, rng)
  extra = _spans(place, display, layers)
  reach = np.arange(-extra * rows, (extra + 1) * rows)
  power = fold(paint_power(place, (zero - reach) * row, layers), rows)
  velocity = (zero - np.arange(rows)) * row
  if place.clicks:
    time = (np.arange(columns) + 0.5) * column_s
    power += _clicks(place, flows, first_r_s, time, velocity, span, rng)
  window = preset.window_s / column_s
  power = cv2.GaussianBlur(power, (0, 0), sigmaX=window, sigmaY=0.5)
  power += np.float32(_power(MIRROR_DB)) * _mirror(place, power, zero)
  if place.filter_cm_s:
    stop = np.exp(-2 * (velocity / place.filter_cm_s) ** 2)
    power *= (1 - stop[:, None]).astype(np.float32)
  # breath and contact: the signal comes and goes by a decibel or two
  sway = np.interp(
    np.arange(columns), np.linspace(0, columns, 8), rng.normal(0, 1.0, 8)
  )
  power *= _power(sway).astype(np.float32)
  power += np.float32(_power(preset.noise_db))
  return _grey(power * _speckle(power.shape, rng), preset, display), zero


def _grey(power, preset, display):
  """Log compression and grey map."""
  level = cv2.log(np.maximum(power, 1e-9)) * np.float32(10 / math.log(10))
  level = 1 + (level + display.gain_db - HEADROOM_DB) / preset.range_db
  level = np.clip(level, 0, 1) ** preset.gamma
  return np.rint(255 * level).astype(np.uint8)


def _tick_cm_s(span: float) -> float:
  """A round distance of ticks that gives four to ten of them."""
  for step in (2, 5, 10, 20, 50, 100, 200):
    if span / step <= 10:
      return float(step)
  return 500.0


def draw_page(
  spectrum: UInt8[np.ndarray, "rows columns"], zero: int, display: Display
) -> tuple[UInt8[np.ndarray, "H W"], tuple[int, int, int, int]]:
  """The spectrum on its page with zero line and scales, and its box."""
  rows, columns = spectrum.shape
  page = np.zeros(
    (rows + TOP_PX + BOTTOM_PX, columns + LEFT_PX + RIGHT_PX), np.uint8
  )
  box = (LEFT_PX, TOP_PX, LEFT_PX + columns - 1, TOP_PX + rows - 1)
  inside = page[box[1] : box[3] + 1, box[0] : box[2] + 1]
  inside[:] = spectrum
  inside[zero] = np.maximum(inside[zero], 110)
  row = (display.top_cm_s - display.bottom_cm_s) / rows
  step = _tick_cm_s(rows * row)
  first = math.ceil(display.bottom_cm_s / step)
  font = cv2.FONT_HERSHEY_SIMPLEX
  for i in range(first, math.floor(display.top_cm_s / step) + 1):
    y = TOP_PX + zero - round(i * step / row)
    if TOP_PX <= y < TOP_PX + rows:
      page[y, box[2] + 2 : box[2] + 7] = 150
      where = (box[2] + 10, y + 4)
      cv2.putText(page, f"{i * step:g}", where, font, 0.33, 150, 1, cv2.LINE_AA)
  for i in range(int(5 * display.sweep_s) + 1):
    x = LEFT_PX + round(i * columns / (5 * display.sweep_s))
    if x <= box[2]:
      page[box[3] + 2 : box[3] + (8 if i % 5 == 0 else 5), x] = 150
  words = (box[2] + 8, rows + TOP_PX + BOTTOM_PX - 4)
  cv2.putText(page, "cm/s", words, font, 0.33, 150, 1, cv2.LINE_AA)
  return page, box


def simulate_doppler(
  location: str,
  flows: Sequence[BeatFlow],
  first_r_ms: float,
  preset: Preset,
  display: Display,
  rng: np.random.Generator,
) -> SimulatedDoppler:
  """One spectral recording with its truth.

  Args:
    location: key of `LOCATIONS`: "aortic_cw", "outflow_pw", "mitral_pw" or
      "annulus_tdi".
    flows: beats in a row, from `flow.sample_beats`.
    first_r_ms: R wave of the first beat from the left edge; not above 0.
    preset: the machine.
    display: scales, for example from `set_display`.
    rng: noise of this recording; no truth depends on it.

  Raises:
    ValueError: no such location, a scale without width, beats that do not cover
      the sweep, or no whole beat in it.
  """
  _check_location(location)
  if not display.bottom_cm_s < 0 < display.top_cm_s or display.sweep_s <= 0:
    raise ValueError(
      f"a spectrum from {display.bottom_cm_s:g} to {display.top_cm_s:g} cm/s "
      f"over {display.sweep_s:g} s; zero must lie inside, time above 0"
    )
  first_s = float(units.s_from_ms(first_r_ms))
  starts = first_s + np.cumsum([0.0] + [f.beat.rr_s for f in flows])
  if starts[0] > 0 or starts[-1] < display.sweep_s - 1e-9:
    raise ValueError(
      f"beats from {starts[0]:.3f} to {starts[-1]:.3f} s do not cover a sweep "
      f"of {display.sweep_s:g} s; give more beats"
    )
  whole = [
    measure_beat(f)
    for f, start, end in zip(flows, starts[:-1], starts[1:], strict=True)
    if start >= 0 and end <= display.sweep_s
  ]
  if not whole:
    raise ValueError(
      f"no whole beat in a sweep of {display.sweep_s:g} s; lengthen it"
    )
  spectrum, zero = paint_spectrum(
    LOCATIONS[location], flows, first_s, preset, display, rng
  )
  page, box = draw_page(spectrum, zero, display)
  inside = starts[(starts >= 0) & (starts < display.sweep_s)]
  return SimulatedDoppler(
    picture=page,
    location=location,
    kind=LOCATIONS[location].kind,
    box_px=box,
    zero_px=float(TOP_PX + zero),
    cm_s=(display.top_cm_s - display.bottom_cm_s) / preset.rows,
    ms=float(units.ms_from_s(display.sweep_s / preset.columns)),
    r_wave_ms=np.asarray(units.ms_from_s(inside)),
    beats=tuple(whole),
    truth=average_measures(whole),
    device=preset.name,
  )
