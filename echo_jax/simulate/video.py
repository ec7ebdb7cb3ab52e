"""From a study to its cine: frames with the truth that belongs to each."""

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from echo_jax.simulate import (
  electrics,
  heart,
  motion,
  rhythm,
  scanner,
  sections,
  segments,
  slab,
  tissue,
  views,
)
from echo_jax.simulate.person import PICTURE, RHYTHM, Study

LEAFLET_DB = -17.0
PAINTERS = ("plane", "slab")  # tissue.py and slab.py
POOL_SHIFT = 64  # samples by which the blood noise may be displaced


@dataclasses.dataclass(frozen=True)
class SimulatedVideo:
  """A cine and everything true about it.

  Both isovolumic phases outlast a frame interval, so in every complete beat
  (R wave to R wave) some sampled `volume_ml` equals its end-diastolic and its
  end-systolic volume.  In a steady rhythm all beats have the same, `edv_ml`
  and `esv_ml`; elsewhere these and `ef_pct` are means over the complete beats
  that are neither ectopic nor next after an ectopic one, NaN without any.

  Attributes:
    frames: uint8 [T, H, W] grey.
    frame_time_ms: float32 [T] from the first frame.
    spacing_mm: float32 [2], row and column.
    sector: bool [H, W], inside the ultrasound sector.
    lv_mask: bool [T, H, W], LV cavity in the picture.
    volume_ml: float32 [T], LV cavity by integration of its shape.
    edv_ml, esv_ml, ef_pct, ef_method: truth; the method is "simulated".
    ed_frame, es_frame: of the first of these beats: the first frame at its
      end-diastolic and at its end-systolic volume; -1 where the recording
      holds none.
    r_wave_ms: float32 [beats], those within the recording.
    beats: the whole run of beats, with the rhythm and the kind of each.
    ef_beat_pct, ed_frames, es_frames: [complete], of every complete beat.
    ef_caveat: what to say of `ef_pct` where these beats are too few.
    heart_rate_bpm, sex, age_years, device, view, site, quality: about it.
  """

  frames: UInt8[np.ndarray, "T H W"]
  frame_time_ms: Float[np.ndarray, "T"]
  spacing_mm: Float[np.ndarray, "2"]
  sector: Bool[np.ndarray, "H W"]
  lv_mask: Bool[np.ndarray, "T H W"]
  volume_ml: Float[np.ndarray, "T"]
  edv_ml: float
  esv_ml: float
  ef_pct: float
  ef_method: str
  ed_frame: int
  es_frame: int
  r_wave_ms: Float[np.ndarray, "beats"]
  beats: rhythm.Beats
  ef_beat_pct: Float[np.ndarray, "complete"]
  ed_frames: Int[np.ndarray, "complete"]
  es_frames: Int[np.ndarray, "complete"]
  ef_caveat: str
  heart_rate_bpm: float
  sex: str
  age_years: float
  device: str
  view: str
  site: str
  quality: float


@dataclasses.dataclass(frozen=True)
class Timeline:
  """When frames are taken and what the heart does then.

  Attributes:
    frame_time_ms: [T] from the first frame.
    beats: R waves and what belongs to them, from before the first frame to
      after the last.
    cycles: of every beat but the last.
    poses: [T] of heart.Pose.
  """

  frame_time_ms: np.ndarray
  beats: rhythm.Beats
  cycles: tuple[rhythm.Cycle, ...]
  poses: tuple[heart.Pose, ...]


def make_timeline(
  study: Study,
  ventricle: heart.Ventricle,
  duration_s: float | int,
  clip: int,
  *more: int,
) -> Timeline:
  """Frame times of the device and the heart's pose at each.

  `more` tells clips of one number in several views apart.
  """
  rng = study.rng(RHYTHM, clip, *more)
  state, device = study.heart, study.device
  beats = rhythm.draw_beats(rng, state.rhythm, state.heart_rate_bpm, duration_s)
  cycles = rhythm.run_cycles(beats, state.ef_pct, state.early_filling_share)
  count = max(1, math.ceil(duration_s * device.frame_hz - 1e-9))
  time = np.arange(count) * (1000 / device.frame_hz)
  jitter = np.clip(rng.normal(size=count), -3, 3) * device.frame_jitter_ms
  jitter[0] = 0.0
  time = time + jitter
  # the cusps' orifice is round: its radius goes with the root of its area
  widest = math.sqrt(state.aortic_opening_share)
  poses = []
  for now in time.tolist():
    number = int(np.searchsorted(beats.r_wave_ms, now, side="right")) - 1
    since = (now - float(beats.r_wave_ms[number])) / 1000
    share = rhythm.ejected_at(cycles[number], since)
    opening = rhythm.valve_opening(cycles[number], since)
    aortic = widest * electrics.aortic_opening(cycles[number].phases, since)
    poses.append(heart.pose_at(ventricle, share, opening, opening, aortic))
  return Timeline(time, beats, cycles, tuple(poses))


def find_extremes(
  timeline: Timeline, volume_ml: Float[np.ndarray, "T"]
) -> tuple[Int[np.ndarray, "complete"], Int[np.ndarray, "complete"]]:
  """ED and ES frame of every complete beat.

  End-diastole is sought before ejection begins: the diastole at the end of
  the beat belongs to the next one and may fill more.
  """
  time, waves = timeline.frame_time_ms, timeline.beats.r_wave_ms
  ends = []
  for beat in rhythm.complete_beats(timeline.beats, time[-1]).tolist():
    ejection_ms = 1000 * timeline.cycles[beat].phases.ejection_start_s
    first, ejection, last = np.searchsorted(
      time, [waves[beat], waves[beat] + ejection_ms, waves[beat + 1]]
    )
    ends.append(
      (
        first + np.argmax(volume_ml[first : max(ejection, first + 1)]),
        first + np.argmin(volume_ml[first:last]),
      )
    )
  frames = np.array(ends, np.int64).reshape(-1, 2)
  return frames[:, 0], frames[:, 1]


def true_volumes(
  study: Study, timeline: Timeline
) -> tuple[Float[np.ndarray, "complete"], Float[np.ndarray, "complete"]]:
  """True end-diastolic and end-systolic volume of every complete beat in ml."""
  state = study.heart
  edv, esv = rhythm.beat_volumes_ml(timeline.cycles, state.edv_ml, state.ef_pct)
  end_ms = timeline.frame_time_ms[-1]
  complete = rhythm.complete_beats(timeline.beats, end_ms)
  return edv[complete], esv[complete]


def move_heart(
  study: Study,
  place: scanner.Placement,
  ventricle: heart.Ventricle,
  pose: heart.Pose,
  time_ms: float,
  cap_share: float = heart.CAP_SHARE,
) -> scanner.Placement:
  """Axes of the LV now: the outer apex stays, but for breath and rocking."""
  window = study.window
  breath = math.sin(2 * math.pi * 0.23 * time_ms / 1000 + window.gap_u * 9)
  tilt = place.tilt_rad + math.radians(window.rock_deg) * pose.ejected
  cap = cap_share * pose.length_mm
  return dataclasses.replace(
    place,
    apex_x_mm=place.apex_x_mm
    + 0.6 * window.sway_mm * breath
    + cap * math.sin(tilt),
    apex_z_mm=place.apex_z_mm + window.sway_mm * breath + cap * math.cos(tilt),
    tilt_rad=tilt,
  )


@dataclasses.dataclass(frozen=True)
class Scene:
  """Everything of a clip's picture that does not change between frames.

  Attributes:
    ventricle, device, grid: what is looked at, and with what.
    depth_mm: depth shown.
    chest: scatterers at end-diastole.
    gain, blood: [depth, beam, 2] amplitude of tissue, and of what is new in
      every frame.
    static: [depth, beam, 2] echoes that stand still.
    haze: [depth, beam] power without speckle.
    pool: normal noise, from which every frame cuts its blood.
    glint: [depth, beam] amplitude of a leaflet over its drawn brightness.
    receiver: from scatterers to grey.
    page: [H, W] burned-in marks.
  """

  ventricle: heart.Ventricle
  device: scanner.Device
  grid: scanner.Grid
  depth_mm: float
  chest: tissue.Chest | slab.Slab
  gain: np.ndarray
  blood: np.ndarray
  static: np.ndarray
  haze: np.ndarray
  pool: np.ndarray
  glint: np.ndarray
  receiver: scanner.Receiver
  page: np.ndarray


def prepare_scene(
  study: Study,
  ventricle: heart.Ventricle,
  place: scanner.Placement,
  grid: scanner.Grid,
  rng: np.random.Generator,
) -> Scene:
  """Paints what is fixed; `rng` brings the scatterers of this clip."""
  layout = study.rng(PICTURE)
  chest = tissue.paint_chest(ventricle, study.window, layout, rng)
  return light_scene(study, ventricle, place, grid, chest, layout, rng)


def light_scene(
  study: Study,
  ventricle: heart.Ventricle,
  place: scanner.Placement,
  grid: scanner.Grid,
  chest: tissue.Chest | slab.Slab,
  layout: np.random.Generator,
  rng: np.random.Generator,
  view: str = "A4C",
) -> Scene:
  """Adds to painted tissue what the machine and the chest wall do."""
  device, window = study.device, study.window
  static = scanner.near_field(grid, window, layout)
  haze = scanner.haze(grid, window, layout)
  gain = scanner.sensitivity(grid, device, window)
  blood = scanner.blood_level(grid, window)
  depths, beams = gain.shape
  pool = rng.standard_normal(
    (depths + POOL_SHIFT, beams + POOL_SHIFT, 2), dtype=np.float32
  )
  # a leaflet is thin and catches the beam here and there
  grain = 0.5 + 0.6 * np.abs(pool[:depths, :beams, 0])
  return Scene(
    ventricle=ventricle,
    device=device,
    grid=grid,
    depth_mm=place.depth_mm,
    chest=chest,
    gain=np.repeat(gain[..., None], 2, axis=-1),
    blood=np.broadcast_to(blood[..., None], (depths, beams, 2)).copy(),
    static=static,
    haze=haze,
    pool=pool,
    glint=10 ** (LEAFLET_DB / 20) / 255 * gain * grain,
    receiver=scanner.make_receiver(grid, device),
    page=scanner.burned_in(device, grid, place.depth_mm, view),
  )


def draw_frame(
  scene: Scene,
  pose: heart.Pose,
  axes: scanner.Placement,
  rng: np.random.Generator,
) -> UInt8[np.ndarray, "H W"]:
  """One grey frame of the heart at `pose`, lying along `axes`."""
  x, w = axes.heart_axes(scene.grid.x_mm, scene.grid.z_mm)
  where = heart.reference_coordinates(scene.ventricle, pose, x, w)
  valves = (
    (heart.mitral_leaflets_mm(scene.ventricle, pose), 255, 1),
    (heart.tricuspid_leaflets_mm(scene.ventricle, pose), 110, 1),
  )
  return develop(scene, scene.chest.sample(*where), valves, axes, rng)


def develop(
  scene: Scene,
  field: Float[np.ndarray, "d b 2"],
  valves,
  axes: scanner.Placement,
  rng: np.random.Generator,
) -> UInt8[np.ndarray, "H W"]:
  """Scatterers and leaflets as the machine shows them.

  Args:
    scene: what is fixed.
    field: the tissue's scatterers, overwritten.
    valves: (points [2, point, 2] on `axes`, brightness, thickness in samples)
      of each valve.
    axes: where the heart lies.
    rng: brings blood and noise.
  """
  field *= scene.gain
  field[..., 0] += _draw_valves(scene, valves, axes)
  i, j = rng.integers(0, POOL_SHIFT, size=2).tolist()
  depths, beams = scene.glint.shape
  field += scene.blood * scene.pool[i : i + depths, j : j + beams]
  field += scene.static
  polar = scanner.detect(scene.receiver, field, scene.haze)
  return cv2.add(scanner.scan_convert(scene.grid, polar), scene.page)


def _draw_valves(scene, valves, axes):
  """Amplitude of the leaflets, drawn as thin lines on the polar grid."""
  depths, beams = scene.glint.shape
  canvas = np.zeros((depths, beams), np.uint8)
  face = scene.device.face_radius_mm
  half = math.radians(scene.device.half_angle_deg)
  for leaflets, level, thick in valves:
    x, z = axes.probe_axes(leaflets[..., 0], leaflets[..., 1])
    range_mm = np.hypot(x, z + face) - face
    angle = np.arctan2(x, z + face)
    beam = (angle / half + 1) / 2 * (beams - 1)
    depth = range_mm / scene.depth_mm * (depths - 1)
    points = np.rint(np.stack([beam, depth], axis=-1) * 16)  # 4 binary places
    lines = list(points.astype(np.int32))
    cv2.polylines(canvas, lines, False, level, thick, cv2.LINE_AA, 4)
  return canvas * scene.glint


def simulate_video(
  study: Study,
  *,
  size: int = 112,
  duration_s: float | int = 2.0,
  clip: int = 0,
  view: str = "A4C",
  viewpoint: views.Viewpoint | None = None,
  painter: str = "",
) -> SimulatedVideo:
  """Renders one cine with its truth.

  Args:
    study: from `draw_study`.
    size: height and width of the picture in pixels, at least 32.
    duration_s: length in seconds; one complete beat is inside from
      60 / heart rate upwards, nearly.
    clip: another recording of the same heart: other beats, other speckle.
    view: one of views.VIEWS.
    viewpoint: how the plane misses the textbook's.  By default A4C is exact
      (but for the referred) and the other views have what `draw_viewpoint`
      gives the clip.
    painter: one of `PAINTERS`, "plane" for A4C and "slab" for the other views
      and for the referred if not named.  Their pictures of A4C differ at a
      glance, and "plane" draws neither a viewpoint nor segments that are not
      normal; where A4C has these, "slab" must be named, and is wanted for the
      controls too.

  Raises:
    ValueError: the size, the duration, the view or what the painter is asked
      for cannot be drawn.
  """
  if size < 32 or duration_s <= 0 or clip < 0:
    raise ValueError(
      f"need size >= 32 px, duration > 0 s and clip >= 0, "
      f"not {size} px, {duration_s} s, clip {clip}"
    )
  more = views.beat_stream(view)
  ventricle = heart.build_ventricle(study.heart)
  timeline = make_timeline(study, ventricle, duration_s, clip, *more)
  if _choose_painter(study, view, viewpoint, painter) == "plane":
    grid, film = _film_plain(study, ventricle, size, clip)
  else:
    grid, film = _film_view(study, ventricle, size, clip, view, viewpoint)
  count = len(timeline.poses)
  frames = np.empty((count, size, size), np.uint8)
  masks = np.empty((count, size, size), bool)
  volume = np.empty(count, np.float32)
  moments = zip(timeline.poses, timeline.frame_time_ms.tolist(), strict=True)
  for i, (pose, now) in enumerate(moments):
    frames[i], masks[i], volume[i] = film(pose, now)
  return _record(study, view, timeline, grid, frames, masks, volume)


def _choose_painter(study, view, viewpoint, painter) -> str:
  """The painter asked for, or the view's own; refuses a silent change."""
  if painter not in ("", *PAINTERS):
    raise ValueError(f"painter {painter!r} is none of {', '.join(PAINTERS)}")
  # of the referred, some have segments that only one painter draws: so all
  plane = view == "A4C" and study.condition is None
  chosen = painter or ("plane" if plane else "slab")
  odd = viewpoint is not None or segments.any_abnormal(
    study.heart.segment_functions
  )
  if chosen == "plane" and (view != "A4C" or odd):
    raise ValueError(
      "painter 'plane' draws only the exact A4C of a heart whose segments are "
      "all normal; name painter='slab', for the controls too: in A4C the two "
      "painters differ at a glance"
    )
  return chosen


def _film_plain(study, ventricle, size, clip):
  """(grid, film): the exact four-chamber plane, painted as one picture."""
  rest = heart.pose_at(ventricle, 0.0)
  cap = heart.CAP_SHARE * ventricle.length_mm
  place = scanner.place_heart(ventricle, rest, cap, study.device, study.window)
  grid = scanner.make_grid(study.device, place.depth_mm, size)
  rng = study.rng(PICTURE, 1, clip)
  scene = prepare_scene(study, ventricle, place, grid, rng)

  def film(pose, time_ms):
    axes = move_heart(study, place, ventricle, pose, time_ms)
    frame = draw_frame(scene, pose, axes, rng)
    across, along = axes.heart_axes(grid.pixel_x_mm, grid.pixel_z_mm)
    mask = heart.in_cavity(ventricle, pose, across, along) & grid.sector
    return frame, mask, heart.cavity_volume_ml(ventricle, pose)

  return grid, film


def _film_view(study, ventricle, size, clip, view, viewpoint):
  """(grid, film): any plane, and any function of the segments."""
  number = views.VIEWS.index(view)
  if number or study.condition is not None:
    window = views.view_window(study, view, clip)
    study = dataclasses.replace(study, window=window)
    viewpoint = viewpoint or views.draw_viewpoint(study, view, clip)
  viewpoint = viewpoint or views.Viewpoint()
  wall = motion.build_wall(ventricle)
  section = sections.make_section(view, wall, viewpoint)
  place = views.place_view(view, wall, study.device, study.window, viewpoint)
  grid = scanner.make_grid(study.device, place.depth_mm, size)
  rng = study.rng(PICTURE, 2, number, clip)
  layout = study.rng(PICTURE, 3, number)
  chest = sections.paint_section(
    section, study.window, place, grid, layout, rng
  )
  scene = light_scene(study, ventricle, place, grid, chest, layout, rng, view)
  cap_share = 0.0 if view == "PSAX" else heart.CAP_SHARE

  def film(pose, time_ms):
    now = motion.moment_at(wall, pose)
    axes = move_heart(study, place, ventricle, pose, time_ms, cap_share)
    field = sections.look_up(
      section, chest, now, *axes.heart_axes(grid.x_mm, grid.z_mm)
    )
    frame = develop(scene, field, sections.leaflets(section, now), axes, rng)
    across, along = axes.heart_axes(grid.pixel_x_mm, grid.pixel_z_mm)
    mask = sections.cavity_mask(section, now, across, along) & grid.sector
    return frame, mask, motion.cavity_volume_ml(wall, now)

  return grid, film


def _record(
  study, view, timeline, grid, frames, masks, volume
) -> SimulatedVideo:
  """Frames and truth as one record."""
  ed_frames, es_frames = find_extremes(timeline, volume)
  edv, esv = true_volumes(study, timeline)
  ef_beat = 100 * (1 - esv / edv)
  end_ms = timeline.frame_time_ms[-1]
  complete = rhythm.complete_beats(timeline.beats, end_ms)
  typical = np.flatnonzero(rhythm.typical_beats(timeline.beats, complete))
  times, waves = timeline.frame_time_ms, timeline.beats.r_wave_ms
  person, state = study.patient, study.heart
  if state.rhythm in rhythm.STEADY:
    truth = state.edv_ml, state.esv_ml, state.ef_pct
  elif len(typical):
    truth = tuple(float(v[typical].mean()) for v in (edv, esv, ef_beat))
  else:
    truth = (math.nan,) * 3
  return SimulatedVideo(
    frames=frames,
    frame_time_ms=times.astype(np.float32),
    spacing_mm=np.asarray(grid.spacing_mm, np.float32),
    sector=grid.sector.copy(),
    lv_mask=masks,
    volume_ml=volume,
    edv_ml=truth[0],
    esv_ml=truth[1],
    ef_pct=truth[2],
    ef_method="simulated",
    ed_frame=int(ed_frames[typical[0]]) if len(typical) else -1,
    es_frame=int(es_frames[typical[0]]) if len(typical) else -1,
    r_wave_ms=waves[(waves >= 0) & (waves <= times[-1])].astype(np.float32),
    beats=timeline.beats,
    ef_beat_pct=ef_beat,
    ed_frames=ed_frames,
    es_frames=es_frames,
    ef_caveat=rhythm.too_few_beats(state.rhythm, len(edv), len(typical)),
    heart_rate_bpm=state.heart_rate_bpm,
    sex=person.sex,
    age_years=person.age_years,
    device=study.device.name,
    view=view,
    site=person.site,
    quality=study.quality,
  )
