"""From weights and clips to rows of the predictions table.

Axes: b clip, u label (a column of truth), y value (one a class), e embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from flax import linen as nn
from jaxtyping import Float
from tqdm import tqdm

from echo_jax.data.index import as_text
from echo_jax.data.pipeline import arrays_of, item_ids
from echo_jax.evaluation.predictions import check_predictions
from echo_jax.objectives.outputs import Standardisation, predictions_of
from echo_jax.objectives.supervised import clip_arguments, predict_outputs
from echo_jax.targets import Target, layout
from echo_jax.training import sharding
from echo_jax.training.state import TrainState
from echo_jax.training.step import evaluated_params

Batches = Iterator[Mapping[str, Any]]
# Of a batch of studies: which modalities there are, and what each clip is.
INPUTS = ("present", "video_valid", "view", "clip_spacing_mm")
NO_INPUTS: Mapping[str, np.ndarray] = MappingProxyType({})


class ClipPredictions(NamedTuple):
  """Predictions of N clips in the targets' units, in the clips' order.

  Columns of truth and prediction are those of `targets.layout`.  `spacing_mm`
  is that of the pixels which the model saw, NaN if unknown.  Of batches of
  studies, `video_id` holds the study of each row, which has no start and no
  spacing (NaN); `inputs` holds what of `INPUTS` these batches had.
  """

  video_id: list[str]
  start_ms: Float[np.ndarray, "N"]
  truth: Float[np.ndarray, "N u"]
  prediction: Float[np.ndarray, "N y"]
  embedding: Float[np.ndarray, "N e"]
  spacing_mm: Float[np.ndarray, "N 2"]
  inputs: Mapping[str, np.ndarray] = NO_INPUTS


def make_predict_step(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  targets: Sequence[Target],
  scale: Standardisation,
  arguments: Callable = clip_arguments,
) -> Callable:
  """A compiled (params, aux, batch) -> (prediction [b, y], embedding [b, e]).

  Predictions are in the targets' units, or probabilities.  `arguments` is that
  of `supervised.predict_outputs`.
  """

  def predict_step(params, aux, batch):
    (output, features), _ = predict_outputs(
      model, normalise, params, aux, batch, arguments=arguments
    )
    return predictions_of(output, targets, scale), features["embedding"]

  compiled = jax.jit(predict_step)
  return lambda params, *rest: sharding.call_on(
    sharding.mesh_of(params), compiled, params, *rest
  )


def predict_clips(
  predict_step: Callable,
  state: TrainState,
  batches: Batches,
  *,
  name: str = "predict",
  progress: bool = False,
) -> ClipPredictions:
  """Runs every real clip once; padding rows are left out."""
  video_id: list[str] = []
  parts: list[tuple[np.ndarray, ...]] = []
  inputs: list[dict[str, np.ndarray]] = []
  params = evaluated_params(state)
  mesh = sharding.mesh_of(params)
  for batch in tqdm(batches, desc=name, unit="batch", disable=not progress):
    arrays = sharding.all_rows(arrays_of(batch), mesh)
    prediction, embedding = map(
      sharding.on_host, predict_step(params, state.aux, arrays)
    )
    real = batch["row_valid"]
    video_id += [v for v, is_real in zip(item_ids(batch), real, strict=True)
                 if is_real]  # fmt: skip
    inputs.append({name: batch[name][real] for name in INPUTS if name in batch})
    unknown = np.full((len(real), 2), np.nan)
    parts.append(
      tuple(
        np.asarray(part, np.float64)[real]
        for part in (
          batch.get("start_ms", unknown[:, 0]), batch["target"], prediction,
          embedding, batch.get("spacing_mm", unknown),
        )  # fmt: skip
      )
    )
  columns = (np.concatenate(part) for part in zip(*parts, strict=True))
  seen = {
    name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]
  }
  return ClipPredictions(video_id, *columns, seen)


def clip_rows(
  clips: ClipPredictions, targets: Sequence[Target], index: pd.DataFrame,
  level: str = "clip",
) -> pd.DataFrame:  # fmt: skip
  """Clip-level rows of the predictions table, with who and what from `index`.

  A target of several classes has one row a class.  `index` has one row a video
  (see `data.sources.read_index`), or a study at `level` "study".
  """
  key = "study_id" if level == "study" else "video_id"
  names = ("study_id", "patient_id", "site", "device", "view", "split")
  optional = ("sex", "age_years", "quality", "patient_known")
  about = index.set_index(key).loc[clips.video_id].reset_index()
  about = as_text(about[[*names, *optional]]).assign(
    level=level, item_id=clips.video_id, start_ms=clips.start_ms
  )
  return rows_of(about, clips.truth, clips.prediction, targets)


def rows_of(
  about: pd.DataFrame,
  truth: Float[np.ndarray, "N u"],
  prediction: Float[np.ndarray, "N y"],
  targets: Sequence[Target],
) -> pd.DataFrame:
  """Rows of the predictions table; a target of several classes has one each.

  Args:
    about: level, item_id, start_ms (NaN but for clips) and who and what each
      of the N predictions is of.
    truth, prediction: columns as in `targets.layout`.
  """
  tables = []
  for target, place in zip(targets, layout(targets), strict=True):
    true = truth_by_class(target, truth[:, place.label])
    value = prediction[:, place.value]
    for column, name in enumerate(target.classes or ("",)):
      tables.append(
        about.assign(
          **{"class": name, "kind": target.kind}, target=target.name,
          unit=target.unit, truth=true[:, column], prediction=value[:, column],
        )
      )  # fmt: skip
  return check_predictions(pd.concat(tables, ignore_index=True))


def truth_by_class(
  target: Target, truth: Float[np.ndarray, "N u"]
) -> Float[np.ndarray, "N y"]:
  """Truth as the predictions table has it: 1 in the true one of the classes.

  A value, or what is of 0 and 1 already, stays as it is.
  """
  if target.kind not in ("multiclass", "ordinal"):
    return truth
  true = (truth == np.arange(len(target.classes))).astype(np.float64)
  return np.where(np.isnan(truth), np.nan, true)


def validation_losses(
  predict_step: Callable,
  batches: Callable[[], Batches],
  targets: Sequence[Target],
  scale: Standardisation,
  weights: Sequence[float] = (),
) -> Callable[[TrainState], dict[str, float]]:
  """A function of the state: error of each target, and their mean as "loss".

  Regression: mean absolute error in the target's unit (`mae_ef_pct`); in the
  mean it counts in the scale's deviations, and where the link is "log" as that
  of the logarithm.  Others: cross-entropy, of an ordinal target that of "above
  this grade", over its thresholds.
  `known_ef_pct` is the number of labels behind a target's error; one without
  any is left out of the mean, in which targets count by `weights` if given.
  """

  def validate(state: TrainState) -> dict[str, float]:
    clips = predict_clips(predict_step, state, batches())
    numbers, counts, losses, counted = {}, {}, [], []
    for i, (target, place) in enumerate(
      zip(targets, layout(targets), strict=True)
    ):
      truth = clips.truth[:, place.label]
      value = clips.prediction[:, place.value]
      counts[f"known_{target.name}"] = int((~np.isnan(truth)).sum())
      if np.isnan(truth).all():
        continue
      if target.kind == "regression":
        pair = truth[:, 0], value[:, 0]
        numbers[f"mae_{target.name}"] = error = _mean_error(*pair)
        if target.link == "log":
          error = _mean_error(*map(np.log, pair))
        losses.append(error / scale.std[i])
      else:
        losses.append(_entropy(target, truth, value))
        numbers[f"entropy_{target.name}"] = losses[-1]
      counted.append(i)
    mean = (
      np.average(losses, weights=[weights[i] for i in counted])
      if weights
      else np.mean(losses)
    )
    return {"loss": float(mean), **numbers, **counts}

  return validate


def _mean_error(
  truth: Float[np.ndarray, "N"], value: Float[np.ndarray, "N"]
) -> float:
  known = ~np.isnan(truth)
  return float(np.abs(value[known] - truth[known]).mean())


def _entropy(
  target: Target, truth: Float[np.ndarray, "N u"],
  value: Float[np.ndarray, "N y"],
) -> float:  # fmt: skip
  """Mean -log of the probability given to what is true."""
  if target.kind == "multiclass":
    known = ~np.isnan(truth[:, 0])
    place = truth[known].astype(int)
    chance = np.take_along_axis(value[known], place, axis=1)
    return float(-np.log(np.clip(chance, 1e-7, 1)).mean())
  if target.kind == "ordinal":
    above = truth > np.arange(len(target.classes) - 1)
    truth = np.where(np.isnan(truth), np.nan, above)
    value = 1 - value.cumsum(axis=1)[:, :-1]
  known = ~np.isnan(truth)
  truth, value = truth[known], value[known]
  chance = np.clip(np.where(truth == 1, value, 1 - value), 1e-7, 1)
  return float(-np.log(chance).mean())
