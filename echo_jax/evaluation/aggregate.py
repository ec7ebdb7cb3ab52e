"""From clips to videos to studies: the mean of the predictions."""

import warnings

import numpy as np
import pandas as pd

from echo_jax.evaluation.predictions import (
  LEVELS,
  PredictionsWarning,
  named_by_clip,
)

_SAME_TRUTH = 1e-6  # relative; the truth is copied, not computed


def first_clips(frame: pd.DataFrame) -> pd.DataFrame:
  """One clip row of each video and target: the one that starts first.

  Raises:
    ValueError: there are no clip rows, or they have no start.
  """
  clips = _clips_with_video(frame)
  if clips.start_ms.isna().any():
    raise ValueError("the first clip is unknown: clip rows have no start_ms")
  order = clips.sort_values("start_ms", kind="stable")
  return order.drop_duplicates(["item_id", "target", "class"]).sort_index()


def mean_over_clips(frame: pd.DataFrame) -> pd.DataFrame:
  """Video rows: the mean prediction over each video's clips.

  The added column `clips` holds how many there were.

  Raises:
    ValueError: no clip rows, or clips of one video differ in truth, split or
      patient.
  """
  return _mean_by(_clips_with_video(frame), "item_id", "video", "clips")


def mean_over_videos(frame: pd.DataFrame) -> pd.DataFrame:
  """Study rows: the mean prediction over each study's videos.

  The added column `videos` holds how many there were; `clips`, where the
  videos have it, becomes the number of clips in all.

  Raises:
    ValueError: no video rows, an empty study_id, or videos of one study
      differ in truth, split or patient.
  """
  videos = frame[frame.level == "video"]
  if not len(videos):
    raise ValueError("no video rows to take the mean of")
  if (videos.study_id == "").any():
    raise ValueError("study_id is empty: studies cannot be told apart")
  return _mean_by(videos, "study_id", "study", "videos")


def at_level(frame: pd.DataFrame, level: str | None = None) -> pd.DataFrame:
  """Rows of one level, made from the level below where there are none.

  Without a level: video if the table has it, else study, else clip.

  Raises:
    ValueError: the table cannot give that level.
  """
  there = set(frame.level)
  if level is None:
    level = next(x for x in ("video", "study", "clip") if x in there)
    if len(there) > 1:
      warnings.warn(
        f"the table has the levels {', '.join(sorted(there))}; "
        f"{level} is scored", PredictionsWarning, stacklevel=3,
      )  # fmt: skip
  if level not in LEVELS:
    raise ValueError(f"level is {level!r}; allowed: {', '.join(LEVELS)}")
  if level in there:
    return frame[frame.level == level].reset_index(drop=True)
  if level == "video":
    return mean_over_clips(frame)
  if level == "study":
    return mean_over_videos(at_level(frame, "video"))
  raise ValueError(f"no clip rows; the table has {', '.join(sorted(there))}")


def _clips_with_video(frame: pd.DataFrame) -> pd.DataFrame:
  clips = frame[frame.level == "clip"]
  if not len(clips):
    there = ", ".join(sorted(set(frame.level)))
    raise ValueError(f"no clip rows; the table has the level {there}")
  if named_by_clip(clips):
    raise ValueError(
      "the table names clips only (clip_id); add item_id, the video of each"
    )
  return clips


def _mean_by(
  rows: pd.DataFrame, name: str, level: str, count: str
) -> pd.DataFrame:
  """One row a (name, target, class); what differs within is left empty."""
  groups = rows.groupby([name, "target", "class"], sort=False)
  for column in ("split", "patient_id", "unit", "kind"):
    _refuse(groups[column].nunique() > 1, column, level)
  low, high = groups.truth.min(), groups.truth.max()
  partly = groups.truth.count().between(1, groups.size() - 1)
  differ = (high - low) > _SAME_TRUTH * np.maximum(1, high.abs())
  _refuse(partly | differ, "truth", level)
  mean = groups.first()
  for column in ("study_id", "site", "device", "view", "sex", "quality"):
    if column != name:
      mean[column] = mean[column].where(groups[column].nunique() == 1, "")
  mean["prediction"] = groups.prediction.mean()
  if "clips" in rows:
    mean["clips"] = groups.clips.sum(min_count=1)
  mean[count] = groups.size()
  mean = mean.reset_index()
  mean["item_id"], mean["level"], mean["start_ms"] = mean[name], level, np.nan
  return mean.reindex(
    columns=[c for c in rows if c != "clip_id"]
    + [count] * (count not in rows)
  )


def _refuse(differ: pd.Series, column: str, level: str) -> None:
  if differ.any():
    item, target, _ = differ.index[np.flatnonzero(differ)[0]]
    raise ValueError(
      f"{column} differs within one {level}: {item}, target {target}"
    )
