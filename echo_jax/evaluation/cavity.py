"""What a cavity's mask over time tells: the classic pipeline's features.

Area, length and area-length volume at their extremes, how fast they change,
and the beats that the area itself shows, so that no ECG is needed.  NaN where
something cannot be measured.  Axes: t frame, H W pixels.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import signal

from echo_jax.simpson import measure_area_and_length
from echo_jax.units import area_length_ml, ef_pct, s_from_ms

Series = Float[np.ndarray, "t"]

# Chosen: half of what the area does overall, and 200 beats a minute.
LEAST_SWING = 0.5
LEAST_BEAT_MS = 300.0
WHO = ("video_id", "study_id", "view")


def cavity_features(
  masks: Bool[np.ndarray, "t H W"],
  frame_time_ms: Series,
  spacing_mm: Float[np.ndarray, "2"],
) -> dict[str, float]:
  """Features of one video.

  Args:
    masks: cavity of each frame, in order; may be empty.
    frame_time_ms: rising, or NaN where unknown: then there are no times.
    spacing_mm: of rows and columns; NaN: then there are no sizes, and what
      is relative to them remains.

  A single frame sets no extreme: series are medians of three frames.
  """
  seen = masks.any((1, 2))
  area, length_mm = map(
    _median_of_three, _measured(masks, seen, np.asarray(spacing_mm, np.float64))
  )
  mm2 = float(np.prod(spacing_mm))
  low, high = _extremes(area)
  short, long = _extremes(length_mm)
  with np.errstate(divide="ignore", invalid="ignore"):
    volume = area_length_ml(area * mm2, length_mm)
    least, most = _extremes(volume)
    sizes = {
      "area_max_mm2": high * mm2,
      "area_min_mm2": low * mm2,
      "length_max_mm": long,
      "length_min_mm": short,
      "volume_max_ml": most,
      "volume_min_ml": least,
      "area_length_ef_pct": float(ef_pct(most, least)),
      "fractional_area_change_pct": float(ef_pct(high, low)),
      "shortening_pct": float(ef_pct(long, short)),
      "width_to_length": float(4 / np.pi * high * mm2 / np.square(long)),
    }
  share = float(seen.mean()) if len(seen) else 0.0
  beats = _beat_features(area / high, frame_time_ms)
  return sizes | beats | {"seen_share": share}


def study_features(videos: pd.DataFrame) -> pd.DataFrame:
  """One row a study, by study_id: means over the videos of each view.

  `videos` has `WHO` and features; a column of the result names view and
  feature (`a4c_area_max_mm2`).  A view that a study lacks is NaN.
  """
  views = videos["view"].where(videos["view"] != "", "view_unknown")
  table = videos.drop(columns=[name for name in WHO if name != "study_id"])
  table = table.assign(view=views.str.lower())
  means = table.groupby(["study_id", "view"]).mean().unstack("view")
  means.columns = [f"{view}_{name}" for name, view in means.columns]
  return means.dropna(axis=1, how="all")


def _measured(
  masks: Bool[np.ndarray, "t H W"], seen: Bool[np.ndarray, "t"],
  spacing_mm: Float[np.ndarray, "2"],
) -> tuple[Series, Series]:  # fmt: skip
  """Area in pixels and length in mm of each mask; NaN where unknown."""
  area, length = np.full((2, len(masks)), np.nan)
  scaled = np.isfinite(spacing_mm).all()
  scale = spacing_mm if scaled else np.ones(2)
  for i in np.flatnonzero(seen):
    mm2, length[i] = measure_area_and_length(masks[i], scale)
    area[i] = mm2 / np.prod(scale)
  return area, length if scaled else length * np.nan


def _beat_features(share: Series, frame_time_ms: Series) -> dict[str, float]:
  """Times, rates and differences between beats, of area over its largest."""
  names = (
    "beat_ms", "beat_sd_ms", "time_to_minimum_ms", "emptying_per_s",
    "filling_per_s", "minimum_sd", "maximum_sd",
  )  # fmt: skip
  known = np.isfinite(share) & np.isfinite(frame_time_ms)
  if known.sum() < 3:
    return dict.fromkeys(names, float("nan"))
  share, time = share[known], np.asarray(frame_time_ms, np.float64)[known]
  rate = np.gradient(share, s_from_ms(time))
  lows, highs = (_turns(sign * share, time) for sign in (-1, 1))
  gaps = np.diff(time[lows])
  falls = [time[i] - time[highs[highs < i][-1]] for i in lows if highs[0] < i] \
    if len(highs) else []
  return {
    "beat_ms": _mean(gaps),
    "beat_sd_ms": _deviation(gaps),
    "time_to_minimum_ms": _mean(falls),
    "emptying_per_s": float(-rate.min()),
    "filling_per_s": float(rate.max()),
    "minimum_sd": _deviation(share[lows]),
    "maximum_sd": _deviation(share[highs]),
  }


def _turns(series: Series, time_ms: Series) -> Int[np.ndarray, "k"]:
  """Maxima of a series that stand out, one a beat; none at its ends."""
  step = float(np.median(np.diff(time_ms)))
  distance = max(round(LEAST_BEAT_MS / step), 1)
  swing = LEAST_SWING * float(np.ptp(series))
  if not swing:
    return np.zeros(0, np.int64)
  return signal.find_peaks(series, prominence=swing, distance=distance)[0]


def _median_of_three(series: Series) -> Series:
  """Median of each frame and its neighbours; of those that are known."""
  padded = np.pad(series, 1, constant_values=np.nan)
  three = np.stack([padded[:-2], padded[1:-1], padded[2:]])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # all three unknown
    return np.nanmedian(three, axis=0)


def _extremes(series: Series) -> tuple[float, float]:
  known = series[np.isfinite(series)]
  if not len(known):
    return float("nan"), float("nan")
  return float(known.min()), float(known.max())


def _mean(values: Sequence[float] | np.ndarray) -> float:
  return float(np.mean(values)) if len(values) else float("nan")


def _deviation(values: np.ndarray) -> float:
  return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
