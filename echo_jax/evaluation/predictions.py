"""The predictions table: one row a prediction, with who and what it is of.

`item_id` is the video or study predicted for; a clip row adds its start.
A target of several classes has one row a class: the prediction is its
probability, truth is 1 in the true one (multiclass, ordinal) or in every true
one (multilabel), NaN where not known.  The key (level, item_id, start_ms,
target, class) occurs once.  Our own files hold every column of `COLUMNS`;
another's may lack some (`read_predictions`).
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from echo_jax import targets

LEVELS = ("clip", "video", "study")
KINDS = (*targets.KINDS, "")
COLUMNS = (
  "level", "item_id", "start_ms", "study_id", "patient_id", "site", "device",
  "view", "split", "target", "unit", "truth", "prediction",
)  # fmt: skip
# patient_known is 0 where a rule stands for the owner's word (one video is
# one patient), so that a count of patients can say so.
OPTIONAL = ("class", "kind", "sex", "age_years", "quality", "patient_known")
KEY = ("level", "item_id", "start_ms", "target", "class")
COUNTS = ("clips", "videos")  # how many a mean was taken over
NUMBERS = (
  "start_ms", "truth", "prediction", "age_years", "patient_known", *COUNTS
)  # fmt: skip

_NEEDED = ("patient_id", "split", "target", "truth", "prediction")
_NEVER_EMPTY = ("level", "item_id", "patient_id", "split", "target")
_MISSING = ("", "na", "nan", "none", "null")


class PredictionsWarning(UserWarning):
  """Something assumed or left out on the way to a score."""


@contextlib.contextmanager
def collected_notes() -> Iterator[list[str]]:
  """Gathers what PredictionsWarnings say; other warnings are passed on."""
  notes: list[str] = []
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", PredictionsWarning)
    yield notes
  for one in caught:
    if issubclass(one.category, PredictionsWarning):
      notes.append(str(one.message))
    else:
      warnings.warn_explicit(
        one.message, one.category, one.filename, one.lineno
      )


def check_predictions(frame: pd.DataFrame) -> pd.DataFrame:
  """The table in its full, typed form, or a refusal.

  Numbers become float64, text str; an absent optional column is filled with
  what means unknown (NaN, "").  `clip_id`, where there is one, names a clip
  in place of its start.

  Raises:
    ValueError: a column is missing, a number cannot be read, a prediction is
      not finite, a clip has no start, or a key occurs twice.
  """
  _require(frame, [name for name in COLUMNS if name != "start_ms"])
  if not len(frame):
    raise ValueError("the predictions table has no rows")
  frame = frame.reset_index(drop=True)
  for name in dict.fromkeys(COLUMNS + OPTIONAL):
    if name not in frame:
      frame[name] = np.nan if name in NUMBERS else ""
  for name in frame:
    if name in NUMBERS:
      frame[name] = _numbers(frame, name)
    elif name in COLUMNS + OPTIONAL + ("clip_id",):
      frame[name] = _texts(frame[name])
  _check_values(frame)
  _check_keys(frame)
  extra = [name for name in frame if name not in COLUMNS + OPTIONAL]
  return frame[[*COLUMNS, *OPTIONAL, *extra]]


def write_predictions(path: str | Path, frame: pd.DataFrame) -> None:
  """Writes a checked table; reading it back gives the same numbers.

  The file appears whole or not at all.
  """
  path = Path(path)
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    check_predictions(frame).to_csv(partial, index=False)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def read_predictions(path: str | Path) -> pd.DataFrame:
  """A checked table from our own or another's CSV (UTF-8).

  Another's needs `item_id` or `clip_id` and patient_id, split, target, truth
  and prediction.  Without `level`, rows with a start or named by `clip_id`
  are taken as clips, others as videos; a PredictionsWarning says so.

  Raises:
    FileNotFoundError: no such file.
    ValueError: empty file, missing column or bad value.
  """
  try:
    frame = pd.read_csv(
      path, dtype=str, keep_default_na=False, encoding="utf-8-sig"
    )
  except pd.errors.EmptyDataError:
    raise ValueError(f"{path} is empty") from None
  except (pd.errors.ParserError, UnicodeDecodeError) as error:
    raise ValueError(f"{path} is not a CSV in UTF-8: {error}") from None
  frame.columns = [name.strip() for name in frame.columns]
  try:
    return check_predictions(_complete(frame.fillna("")))
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None


def named_by_clip(frame: pd.DataFrame) -> bool:
  """Whether `clip_id` alone names the rows, so that videos are unknown."""
  return "clip_id" in frame and bool((frame.clip_id == frame.item_id).all())


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
  """Adds what a foreign table may leave out; says what was assumed."""
  _require(frame, _NEEDED)
  if "item_id" not in frame and "clip_id" not in frame:
    raise ValueError(
      f"no column item_id or clip_id; found: {', '.join(frame.columns)}"
    )
  frame = frame.copy()
  if "item_id" not in frame:
    frame["item_id"] = frame["clip_id"]
  if "level" not in frame:
    frame["level"] = _assumed_level(frame)
  if not {"start_ms", "clip_id"} & set(frame) and "clip" in set(frame.level):
    _warn("no column start_ms: item_id is taken to name single clips")
    frame["clip_id"] = frame["item_id"]
  for name in COLUMNS:
    if name not in frame:
      frame[name] = ""
  return frame


def _assumed_level(frame: pd.DataFrame) -> str:
  if "clip_id" in frame:
    level, sign = "clip", "clip_id"
  elif "start_ms" not in frame or (frame.start_ms == "").all():
    level, sign = "video", "item_id and no start_ms"
  elif (frame.start_ms != "").all():
    level, sign = "clip", "start_ms"
  else:
    raise ValueError(
      "no column level, and only some rows have a start_ms; add a column "
      f"level with one of {', '.join(LEVELS)}"
    )
  _warn(f"no column level: each row is taken as one {level} (it has {sign})")
  return level


def _warn(text: str) -> None:
  warnings.warn(text, PredictionsWarning, stacklevel=4)


def _require(frame: pd.DataFrame, names: list[str] | tuple[str, ...]) -> None:
  missing = [name for name in names if name not in frame]
  if missing:
    found = ", ".join(map(str, frame.columns))
    raise ValueError(f"missing column {', '.join(missing)}; found: {found}")


def _texts(column: pd.Series) -> pd.Series:
  known = column.astype(object).where(column.notna(), "")
  return known.map(str).astype(object)


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
  """Exact float64 of a column; pandas' own parser rounds differently."""
  column = frame[name]
  if pd.api.types.is_numeric_dtype(column):
    return column.to_numpy(np.float64, na_value=np.nan)
  values = np.empty(len(column))
  for row, text in enumerate(column):
    text = str(text).strip()
    try:
      values[row] = np.nan if text.lower() in _MISSING else float(text)
    except ValueError:
      raise ValueError(
        f"{name} is {text!r} in row {row + 1} ({frame.item_id[row]}); "
        "it must be a number"
      ) from None
  return values


def _check_values(frame: pd.DataFrame) -> None:
  for name in _NEVER_EMPTY:
    if (frame[name] == "").any():
      raise ValueError(f"{name} is empty in {_rows(frame, frame[name] == '')}")
  for name, allowed in (("level", LEVELS), ("kind", KINDS)):
    strange = sorted(set(frame[name]) - set(allowed))
    if strange:
      raise ValueError(f"{name} is {strange[0]!r}; allowed: {allowed}")
  bad = ~np.isfinite(frame.prediction)
  if bad.any():
    where = _rows(frame, bad)
    raise ValueError(f"prediction is not a finite number in {where}")
  bad = np.isinf(frame.truth)
  if bad.any():
    raise ValueError(f"truth is infinite in {_rows(frame, bad)}")
  clip = frame.level == "clip"
  named = (frame.clip_id != "") if "clip_id" in frame else False
  bad = clip & ~(np.isfinite(frame.start_ms) | named)
  if bad.any():
    raise ValueError(f"a clip has no start_ms in {_rows(frame, bad)}")
  bad = ~clip & frame.start_ms.notna()
  if bad.any():
    raise ValueError(
      f"start_ms belongs to clips only; set level to clip in "
      f"{_rows(frame, bad)}"
    )


def _check_keys(frame: pd.DataFrame) -> None:
  names = [*KEY, *(["clip_id"] if "clip_id" in frame else [])]
  twice = frame.duplicated(names)
  if twice.any():
    first = frame.loc[twice, names].iloc[0]
    key = ", ".join(f"{n}={v}" for n, v in first.items() if v != "")
    raise ValueError(
      f"{int(twice.sum()):,} rows repeat a key; the first is {key} "
      "(clips of one video need their own start_ms)"
    )


def _rows(frame: pd.DataFrame, where: pd.Series | np.ndarray) -> str:
  """Where the trouble is: how many rows and the first of them."""
  row = int(np.flatnonzero(where)[0])
  return (
    f"{int(np.sum(where)):,} of {len(frame):,} rows, first row {row + 1} "
    f"(item_id {frame.item_id[row]}, target {frame.target[row]})"
  )
