"""From weights and clips to rows of the predictions table.

Axes: b clip, o target, e embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from flax import linen as nn
from jaxtyping import Float
from tqdm import tqdm

from echo_jax.data.pipeline import arrays_of
from echo_jax.evaluation.predictions import check_predictions
from echo_jax.objectives.supervised import (
  Standardisation,
  predict_outputs,
  predictions_of,
)
from echo_jax.targets import Target
from echo_jax.training.state import TrainState
from echo_jax.training.step import evaluated_params

Batches = Iterator[Mapping[str, Any]]


class ClipPredictions(NamedTuple):
  """Predictions of N clips in the targets' units, in the clips' order.

  `spacing_mm` is that of the pixels which the model saw, NaN if unknown.
  """

  video_id: list[str]
  start_ms: Float[np.ndarray, "N"]
  truth: Float[np.ndarray, "N o"]
  prediction: Float[np.ndarray, "N o"]
  embedding: Float[np.ndarray, "N e"]
  spacing_mm: Float[np.ndarray, "N 2"]


def make_predict_step(
  model: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  targets: Sequence[Target],
  scale: Standardisation,
) -> Callable:
  """A compiled (params, aux, batch) -> (prediction [b, o], embedding [b, e]).

  Predictions are in the targets' units, or P(positive).
  """

  def predict_step(params, aux, batch):
    (output, features), _ = predict_outputs(
      model, normalise, params, aux, batch
    )
    return predictions_of(output, targets, scale), features["embedding"]

  return jax.jit(predict_step)


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
  params = evaluated_params(state)
  for batch in tqdm(batches, desc=name, unit="batch", disable=not progress):
    prediction, embedding = predict_step(params, state.aux, arrays_of(batch))
    real = batch["row_valid"]
    video_id += [v for v, is_real in zip(batch["video_id"], real, strict=True)
                 if is_real]  # fmt: skip
    parts.append(
      tuple(
        np.asarray(part, np.float64)[real]
        for part in (
          batch["start_ms"], batch["target"], prediction, embedding,
          batch["spacing_mm"],
        )  # fmt: skip
      )
    )
  columns = (np.concatenate(part) for part in zip(*parts, strict=True))
  return ClipPredictions(video_id, *columns)


def clip_rows(
  clips: ClipPredictions, targets: Sequence[Target], index: pd.DataFrame
) -> pd.DataFrame:
  """Clip-level rows of the predictions table, with who and what from `index`.

  `index` has one row a video (see `data.sources.read_index`).
  """
  about = index.set_index("video_id").loc[clips.video_id].reset_index()
  names = ("study_id", "patient_id", "site", "device", "view", "split")
  tables = []
  for column, target in enumerate(targets):
    optional = ("sex", "age_years", "quality", "patient_known")
    table = about[[*names, *optional]].copy()
    table.insert(0, "level", "clip")
    table.insert(1, "item_id", clips.video_id)
    table["start_ms"] = clips.start_ms
    table["target"], table["unit"] = target.name, target.unit
    table["truth"] = clips.truth[:, column]
    table["prediction"] = clips.prediction[:, column]
    table["kind"] = target.kind
    tables.append(table)
  return check_predictions(pd.concat(tables, ignore_index=True))


def validation_losses(
  predict_step: Callable,
  batches: Callable[[], Batches],
  targets: Sequence[Target],
  scale: Standardisation,
) -> Callable[[TrainState], dict[str, float]]:
  """A function of the state: error of each target, and their mean as "loss".

  Regression: mean absolute error in the target's unit (`mae_ef_pct`); in the
  mean it counts in training standard deviations.  Binary: cross-entropy.
  """

  def validate(state: TrainState) -> dict[str, float]:
    clips = predict_clips(predict_step, state, batches())
    numbers, losses = {}, []
    for column, target in enumerate(targets):
      truth, value = clips.truth[:, column], clips.prediction[:, column]
      known = ~np.isnan(truth)
      truth, value = truth[known], value[known]
      if target.kind == "binary":
        chance = np.clip(np.where(truth == 1, value, 1 - value), 1e-7, 1)
        numbers[f"entropy_{target.name}"] = float(-np.log(chance).mean())
        losses.append(numbers[f"entropy_{target.name}"])
      else:
        error = float(np.abs(value - truth).mean())
        numbers[f"mae_{target.name}"] = error
        losses.append(error / scale.std[column])
    return {"loss": float(np.mean(losses)), **numbers}

  return validate
