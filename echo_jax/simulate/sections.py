"""One view of one study, ready to be drawn: plane, tissue, valves, truth."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from echo_jax.simulate import heart, motion, organs, scanner, slab, views

MITRAL_LEVEL, AORTIC_LEVEL, TRICUSPID_LEVEL = 255, 200, 110
STIFF_SAMPLES = 3  # by so much a closed valve's cusps would be thicker


@dataclasses.dataclass(frozen=True)
class Section:
  """A heart and the plane through it.

  Attributes:
    view: one of views.VIEWS.
    wall: the ventricle with its segments.
    around: what lies around it.
    cut: the plane.
  """

  view: str
  wall: motion.Wall
  around: organs.Organs
  cut: views.Cut


def make_section(
  view: str, wall: motion.Wall, viewpoint: views.Viewpoint
) -> Section:
  """The plane of a view through a heart.

  Raises:
    ValueError: the plane misses the cavity at end-diastole.
  """
  ventricle = wall.ventricle
  cut = views.make_cut(view, ventricle, viewpoint)
  section = Section(view, wall, organs.build_organs(ventricle), cut)
  rest = motion.moment_at(wall, heart.pose_at(ventricle, 0.0))
  far = np.arange(-1.2, 1.2, 0.01) * ventricle.length_mm
  if not cavity_mask(section, rest, far[None], far[:, None]).any():
    raise ValueError(
      f"the plane of {view} misses the left ventricle: offset "
      f"{viewpoint.offset_mm:g} mm, foreshortening "
      f"{viewpoint.foreshortening_deg:g} degrees; its largest half-width is "
      f"{ventricle.radius_mm:.0f} mm"
    )
  return section


def paint_section(
  section: Section,
  window: scanner.Window,
  place: scanner.Placement,
  grid: scanner.Grid,
  layout: np.random.Generator,
  speckle: np.random.Generator,
) -> slab.Slab:
  """Scatterers of all tissue that a clip of this plane can show."""
  wall = section.wall
  a, b = place.heart_axes(grid.x_mm, grid.z_mm)
  extremes = [
    motion.moment_at(wall, heart.pose_at(wall.ventricle, share))
    for share in (0.0, 1.0)
  ]
  margin = slab.MARGIN_MM + 10
  box = (
    float(a.min()) - margin,
    float(a.max()) + margin,
    float(b.min()) - margin,
    float(b.max()) + margin,
  )
  reach = slab.find_reach(
    wall, section.cut, a[::4, ::4], b[::4, ::4], extremes
  )
  return slab.paint_slab(
    section.around,
    section.cut,
    slab.make_look(section.view, _beam(section.cut, place)),
    window,
    box,
    reach,
    layout,
    speckle,
  )


def _beam(cut: views.Cut, place: scanner.Placement):
  """Direction of depth on the heart's axes."""
  start, end = place.heart_axes(0.0, 0.0), place.heart_axes(0.0, 1.0)
  return cut.across * (end[0] - start[0]) + cut.along * (end[1] - start[1])


def look_up(
  section: Section, chest: slab.Slab, now: motion.Moment, a, b
) -> Float[np.ndarray, "d b 2"]:
  """Scatterers that are now at points of the plane."""
  points = section.cut.points(a, b)
  where = motion.reference_position(section.wall, now, *points)
  return chest.sample(*section.cut.flatten(*where))


def cavity_mask(
  section: Section, now: motion.Moment, a, b
) -> Bool[np.ndarray, "..."]:
  """Pixels of the plane in the cavity of the left ventricle."""
  return motion.in_cavity(section.wall, now, *section.cut.points(a, b))


def leaflets(section: Section, now: motion.Moment):
  """[(points [2, 7, 2] in the plane, brightness, thickness)] of the valves.

  Thickness is in samples of the polar grid.
  """
  if section.view == "PSAX":
    return []
  around, ends = section.around, _base_ends_mm(section, now)
  if ends is None:
    return []
  pose = dataclasses.replace(now.pose, length_mm=now.length_mm)
  if section.view in ("A3C", "PLAX"):
    mitral = organs.outflow_mitral_mm(around, ends, pose)
    aortic = organs.aortic_leaflets_mm(around, ends, pose)
    stiff = 1 - section.wall.ventricle.state.aortic_opening_share
    level = round(AORTIC_LEVEL + (255 - AORTIC_LEVEL) * stiff)
    thick = 1 + round(STIFF_SAMPLES * stiff)
    drawn = [(mitral, MITRAL_LEVEL, 1), (aortic, level, thick)]
  else:
    left, right = ((end, pose.length_mm) for end in ends)
    share = 0.6 if section.view == "A4C" else 0.5
    mitral = heart.valve_mm(left, right, share, pose.mitral_open)
    drawn = [(mitral, MITRAL_LEVEL, 1)]
    if section.view == "A4C":
      right = heart.tricuspid_leaflets_mm(section.wall.ventricle, pose)
      drawn.append((right, TRICUSPID_LEVEL, 1))
  return [
    (_on_plane(section, now, lines), level, thick)
    for lines, level, thick in drawn
  ]


def _base_ends_mm(section, now) -> tuple[float, float] | None:
  """Where the base of the cavity begins and ends; None if it is missed."""
  a = np.arange(-60, 60, 0.25)
  upright = np.stack([a, np.full_like(a, now.length_mm - 0.3)], axis=-1)
  line = _on_plane(section, now, upright)
  inside = a[cavity_mask(section, now, line[:, 0], line[:, 1])]
  # a plane off the middle may hold the wide part of the cavity alone
  return (float(inside[0]), float(inside[-1])) if inside.size > 1 else None


def _on_plane(section, now, upright):
  """Points (a, w) of a straight heart where the plane shows them now.

  The base may lean, and the plane may not hold the long axis.
  """
  cut, ventricle = section.cut, section.wall.ventricle
  a, w = upright[..., 0], upright[..., 1]
  x, y = a * float(cut.across[0]), a * float(cut.across[1])
  aspect = ventricle.state.anatomy.depth_aspect
  w = w + now.lean[0] * x + now.lean[1] * y / aspect
  rest = ventricle.length_mm
  return np.stack([a, rest + (w - rest) / float(cut.along[2])], axis=-1)
