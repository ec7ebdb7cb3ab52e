"""Probes: what a simple model reads from the features of a frozen encoder.

Every encoder compared is given the same clips a video and the same number of
tokens: means over blocks of its grid (`heads.block_means`), side by side in
their order.  Linear and nearest-neighbour probes are scikit-learn's; the
attentive one is a head that is trained, `heads.AttentivePool`.
Axes: b clip, n clip of all splits, f feature, y value (one a class).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import linen as nn
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from echo_jax.data.pipeline import arrays_of
from echo_jax.evaluation.classic import Candidates, fit_target
from echo_jax.evaluation.predict import ClipPredictions, clip_rows
from echo_jax.models.heads import block_means
from echo_jax.models.tokens import TokenGrid, token_valid
from echo_jax.targets import Target, layout

# The most restrained first: of equal errors on validation it is taken.
PENALTIES = (1e5, 1e4, 1e3, 1e2, 1e1, 1e0, 1e-1)
NEIGHBOURS = (100, 50, 20, 10, 5, 2, 1)
CHOSEN = ("alpha", "C", "n_neighbors")


class FrozenClips(NamedTuple):
  """Features of the clips of one split, in their order."""

  video_id: np.ndarray
  start_ms: Float[np.ndarray, "n"]
  features: Float[np.ndarray, "n f"]


def make_encode(
  encoder: nn.Module,
  normalise: Callable[[jax.Array], jax.Array],
  blocks: tuple[int, int, int],
) -> Callable[[Any, Mapping[str, Any]], Float[jax.Array, "b f"]]:
  """A compiled (variables, batch) -> features: its tokens side by side."""

  def encode(variables: Any, batch: Mapping[str, Any]) -> jax.Array:
    video = normalise(batch["video"])
    grid = encoder.token_grid(video.shape)
    valid = token_valid(batch["frame_valid"], grid)
    tokens, _ = encoder.apply(variables, video, None, valid, train=False)
    found, _ = block_means(tokens.astype(jnp.float32), grid, blocks, valid)
    return found.reshape(len(found), -1)

  return jax.jit(encode)


def encode_clips(
  encode: Callable, variables: Any, batches: Iterator[Mapping[str, Any]], *,
  name: str = "encode", progress: bool = False,
) -> FrozenClips:  # fmt: skip
  """Features of every real clip; padding rows are left out."""
  parts: list[tuple[np.ndarray, ...]] = []
  for batch in tqdm(batches, desc=name, unit="batch", disable=not progress):
    columns = (
      np.array(batch["video_id"], str), batch["start_ms"],
      np.asarray(encode(variables, arrays_of(batch))),
    )  # fmt: skip
    parts.append(tuple(column[batch["row_valid"]] for column in columns))
  columns = (np.concatenate(part) for part in zip(*parts, strict=True))
  return FrozenClips(*columns)


def tokens_read(blocks: tuple[int, int, int], grid: TokenGrid) -> str:
  """How many tokens a probe is given, and of how many; in words."""
  if grid.n == 1:
    return "1 token: a one-token encoder, which has no more to give"
  sizes = " x ".join(map(str, blocks)), " x ".join(map(str, grid.shape))
  count = np.prod(blocks)
  return f"{count} tokens ({sizes[0]}) as means of {grid.n} ({sizes[1]})"


def linear(classes: bool) -> list[BaseEstimator]:
  """Logistic (of classes) or ridge regression at several penalties."""
  return [
    make_pipeline(
      StandardScaler(),
      LogisticRegression(C=1 / penalty, max_iter=2000)
      if classes
      else Ridge(alpha=penalty),
    )
    for penalty in PENALTIES
  ]


def neighbours(most: int) -> Candidates:
  """The mean of the nearest clips of training, at most `most` of them.

  Distances are Euclidean between standardised features.
  """

  def candidates(classes: bool) -> list[BaseEstimator]:
    make = KNeighborsClassifier if classes else KNeighborsRegressor
    counts = dict.fromkeys(min(count, most) for count in NEIGHBOURS)
    return [make_pipeline(StandardScaler(), make(count)) for count in counts]

  return candidates


def probe(
  clips: Mapping[str, FrozenClips],
  truth: Mapping[str, Float[np.ndarray, "n u"]],
  index: pd.DataFrame,
  targets: Sequence[Target],
  candidates: Candidates,
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
  """Clip rows of the predictions table, and which probe was taken.

  Fitted on the clips of "train", chosen by those of "validation"; what is of
  other splits is predicted and never looked at before.

  Args:
    clips: by split.
    truth: labels of each clip, columns as in `targets.layout`.
    index: one row a video of all splits.
    targets: an ordinal one is taken as several classes.
    candidates: `linear`, `neighbours` or the like.

  Returns:
    Rows of all splits but training, and the chosen estimator of each target
    in words, one a label.
  """
  split = np.repeat(list(clips), [len(of.video_id) for of in clips.values()])
  every = FrozenClips(
    *(np.concatenate(part) for part in zip(*clips.values(), strict=True))
  )
  labels = np.concatenate([truth[name] for name in clips])
  columns, taken = [], {}
  for target, place in zip(targets, layout(targets), strict=True):
    found, models = fit_target(
      target, every.features.astype(np.float64), labels[:, place.label], split,
      candidates,
    )  # fmt: skip
    columns.append(found)
    taken[target.name] = [_in_words(model) for model in models]
  judged = split != "train"
  unknown = np.full((judged.sum(), 2), np.nan)
  predicted = ClipPredictions(
    every.video_id[judged].tolist(), every.start_ms[judged].astype(np.float64),
    labels[judged].astype(np.float64), np.concatenate(columns, 1)[judged],
    unknown, unknown,
  )  # fmt: skip
  return clip_rows(predicted, targets, index), taken


def _in_words(model: BaseEstimator) -> str:
  """`Ridge, alpha 100`: the estimator and what was chosen of it."""
  last = model[-1] if isinstance(model, Pipeline) else model
  chosen = [
    f"{name} {value:g}"
    for name, value in last.get_params().items()
    if name in CHOSEN
  ]
  return ", ".join([type(last).__name__, *chosen])
