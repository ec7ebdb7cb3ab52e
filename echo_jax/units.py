"""Unit conversions and the volume formulas of echocardiography.

Only this module converts.  Everywhere else a name ends in its unit.
"""

import numpy as np
from numpy.typing import ArrayLike

# ArrayLike leaves plain numbers to the `complex` of the numeric tower.
Values = ArrayLike | float | int

MS_PER_S = 1000.0
MM_PER_CM = 10.0
CM_PER_M = 100.0


def ms_from_s(seconds: Values) -> np.ndarray | np.floating:
  """Seconds to milliseconds."""
  return np.asarray(seconds, np.float64) * MS_PER_S


def s_from_ms(milliseconds: Values) -> np.ndarray | np.floating:
  """Milliseconds to seconds."""
  return np.asarray(milliseconds, np.float64) / MS_PER_S


def ms_from_bpm(rate_bpm: Values) -> np.ndarray | np.floating:
  """Heart rate in beats a minute to the RR interval in milliseconds."""
  return 60.0 * MS_PER_S / np.asarray(rate_bpm, np.float64)


def mm_from_cm(centimetres: Values) -> np.ndarray | np.floating:
  """Centimetres to millimetres."""
  return np.asarray(centimetres, np.float64) * MM_PER_CM


def cm_from_mm(millimetres: Values) -> np.ndarray | np.floating:
  """Millimetres to centimetres."""
  return np.asarray(millimetres, np.float64) / MM_PER_CM


def m_from_cm(centimetres: Values) -> np.ndarray | np.floating:
  """Centimetres to metres, also in velocities."""
  return np.asarray(centimetres, np.float64) / CM_PER_M


def ml_from_mm3(volume_mm3: Values) -> np.ndarray | np.floating:
  """Cubic millimetres to millilitres."""
  return np.asarray(volume_mm3, np.float64) / 1000.0


def area_length_ml(area_mm2: Values, length_mm: Values) -> np.ndarray:
  """Volume of a ventricle seen in one plane: 8 A^2 / (3 pi L).

  Exact for an ellipsoid of revolution about its length (Dodge et al., Am
  Heart J 1960; Lang et al., J Am Soc Echocardiogr 2015).
  """
  area_mm2 = np.asarray(area_mm2, np.float64)
  volume_mm3 = 8 * area_mm2**2 / (3 * np.pi * np.asarray(length_mm))
  return np.asarray(ml_from_mm3(volume_mm3))


def ef_pct(edv_ml: Values, esv_ml: Values) -> np.ndarray | np.floating:
  """Ejection fraction in percent: 100 (EDV - ESV) / EDV."""
  edv = np.asarray(edv_ml, np.float64)
  return 100.0 * (edv - np.asarray(esv_ml, np.float64)) / edv
