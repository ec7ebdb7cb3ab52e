"""The 17 segments of the left ventricle, and how each of them contracts.

Segments after Cerqueira et al. 2002 (Circulation 105:539-542): three rings of
a third of the long axis with six, six and four sectors, and the apex.  Levels
are `u`, 0 at the endocardial apex and 1 at the annulus.  Angles run about the
long axis from the lateral wall of the four-chamber view (0) over the anterior
wall (60 degrees), so that the apical planes, 60 degrees apart, each pass
through the middle of two sectors of a ring of six.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

# Share of the normal squeeze.  Grades after Lang et al. 2015: reduced, absent,
# and reversed thickening; the shares themselves are chosen.
FUNCTIONS = {
  "normal": 1.0,
  "hypokinetic": 0.4,
  "akinetic": 0.0,
  "dyskinetic": -0.3,
}
APEX_U = 0.08  # the apex proper, as far as function goes (chosen)
BORDER_U = 0.06  # half the width over which function passes to a neighbour
BORDER_RAD = math.radians(12)


@dataclasses.dataclass(frozen=True)
class Segment:
  """One of the 17.

  Attributes:
    number: 1 to 17 of the American Heart Association.
    name: ring and wall.
    territory: the coronary artery it is usually assigned to.
    low_u, high_u: levels between which it lies.
    centre_rad, half_rad: middle and half the width about the long axis.
  """

  number: int
  name: str
  territory: str
  low_u: float
  high_u: float
  centre_rad: float
  half_rad: float


def _ring(first, ring, low, high, walls, start_deg):
  """Segments of one ring, counted from the anterior wall to the septum."""
  step = 360 / len(walls)
  return [
    Segment(
      number=first + i,
      name=f"{ring} {wall}".strip(),
      territory=territory,
      low_u=low,
      high_u=high,
      centre_rad=math.radians(start_deg + i * step),
      half_rad=math.radians(step / 2),
    )
    for i, (wall, territory) in enumerate(walls)
  ]


_SIX = (
  ("anterior", "LAD"), ("anteroseptal", "LAD"), ("inferoseptal", "RCA"),
  ("inferior", "RCA"), ("inferolateral", "LCx"), ("anterolateral", "LCx"),
)  # fmt: skip
_FOUR = (
  ("anterior", "LAD"), ("septal", "LAD"), ("inferior", "RCA"),
  ("lateral", "LCx"),
)  # fmt: skip
SEGMENTS: tuple[Segment, ...] = (
  *_ring(1, "basal", 2 / 3, 1.0, _SIX, 60),
  *_ring(7, "mid", 1 / 3, 2 / 3, _SIX, 60),
  *_ring(13, "apical", APEX_U, 1 / 3, _FOUR, 60),
  Segment(17, "apex", "LAD", 0.0, APEX_U, 0.0, math.pi),
)


def territory_numbers(artery: str) -> tuple[int, ...]:
  """Numbers of the segments that "LAD", "LCx" or "RCA" usually supplies.

  Raises:
    ValueError: no such artery.
  """
  found = tuple(s.number for s in SEGMENTS if s.territory == artery)
  if not found:
    raise ValueError(f"artery {artery!r} is none of LAD, LCx, RCA")
  return found


def describe_function(changed: Mapping[int, str]) -> tuple[str, ...]:
  """Function of all 17 segments from those that are not normal.

  Args:
    changed: segment number to one of `FUNCTIONS`.

  Raises:
    ValueError: a number or a word that does not exist.
  """
  for number, word in changed.items():
    if not 1 <= number <= 17 or word not in FUNCTIONS:
      raise ValueError(
        f"segment {number} {word!r}: numbers are 1 to 17, functions "
        f"{', '.join(FUNCTIONS)}"
      )
  return tuple(changed.get(s.number, "normal") for s in SEGMENTS)


def any_abnormal(functions: Sequence[str]) -> bool:
  """Whether a segment is not normal; no functions at all count as normal.

  Raises:
    ValueError: there are some, but not 17.
  """
  if functions and len(functions) != len(SEGMENTS):
    raise ValueError(f"{len(functions)} segment functions; 17 are needed")
  return any(word != "normal" for word in functions)


def _smooth(value, half):
  """0 below -half, 1 above half, and its complement at -value."""
  t = np.clip(value / (2 * half) + 0.5, 0, 1)
  return t * t * (3 - 2 * t)


def _between(u, low, high):
  """Weight of a ring; rings add up to 1 at every level."""
  below = 1.0 if low == 0 else _smooth(u - low, BORDER_U)
  above = 0.0 if high == 1 else _smooth(u - high, BORDER_U)
  return below - above


def segment_weights(
  u: Float[np.ndarray, "..."], angle_rad: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "17 ..."]:
  """Share of each segment in the function of a place; they sum to 1."""
  weights = []
  for s in SEGMENTS:
    away = np.abs((angle_rad - s.centre_rad + np.pi) % (2 * np.pi) - np.pi)
    sector = 1.0
    if s.number != 17:
      sector = _smooth(s.half_rad - away, BORDER_RAD)
    weights.append(_between(u, s.low_u, s.high_u) * sector)
  return np.stack(weights)


def contraction(
  functions: Sequence[str],
  u: Float[np.ndarray, "..."],
  angle_rad: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
  """Squeeze of a place as a share of the normal one, smooth across borders.

  Args:
    functions: one of `FUNCTIONS` for each of the 17 segments.
    u, angle_rad: levels and angles.
  """
  factors = [FUNCTIONS[word] for word in functions]
  return np.tensordot(factors, segment_weights(u, angle_rad), axes=1)
