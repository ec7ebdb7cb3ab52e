"""Rank and variance of features by hand; a run whose features collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.objective import Aux
from echo_jax.training.collapse import (
  Collapsed,
  Limits,
  effective_rank,
  make_feature_step,
  spread_of,
  watch_collapse,
)
from echo_jax.training.state import TrainState
from echo_jax.training.validate import mean_losses, rank_by_age

RNG = np.random.default_rng(0)


def test_ranks_by_hand():
  axes = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
  assert effective_rank(axes) == pytest.approx(4)  # alike in 4 directions
  assert effective_rank(axes * [1, 1, 0, 0] + 5) == pytest.approx(2)
  line = np.outer(RNG.normal(size=50), [1.0, 2, 3]).astype(np.float32)
  assert effective_rank(line) == pytest.approx(1)
  # Shares 3/4 and 1/4 of the singular values.
  uneven = axes[[0, 1, 4, 5]] * [3, 1, 0, 0]
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  assert effective_rank(uneven) == pytest.approx(np.exp(entropy))


def test_white_noise_has_nearly_full_rank_and_a_constant_none():
  white = RNG.normal(size=(2000, 8)).astype(np.float32)
  assert effective_rank(white) == pytest.approx(8, rel=0.01)
  constant = np.full((20, 8), 0.7, np.float32)
  assert effective_rank(constant) == 0
  spread = spread_of(constant)
  assert spread.variance < 1e-12 and spread.clips == 20
  assert spread_of(white).variance == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
  ("features", "says"),
  [
    (np.zeros((9, 4), np.float32), "rank is 0.00 .limit 1.5."),
    (np.outer(np.arange(9), [1, 2]).astype(np.float32), "rank is 1.00"),
    (1e-3 * RNG.normal(size=(9, 4)), "variance .*e-0[67] .limit 0.0001."),
  ],
)
def test_a_collapse_is_named_with_its_remedy(features, says):
  with pytest.raises(Collapsed, match=says) as told:
    Limits().refuse(spread_of(features), 40)
  for words in ("step 40", "9 validation clips", "run.average_decay"):
    assert words in str(told.value)
  Limits().refuse(spread_of(RNG.normal(size=(9, 4))), 40)


@pytest.fixture(scope="module")
def watched():
  """(validation that watches, variables of an encoder, batches)."""
  encoder = VideoViT(width=8, depth=1, heads=2, patch=4, channels=1)
  video = RNG.integers(0, 256, (4, 4, 8, 8, 1), np.uint8)
  batch = {"video": video, "frame_valid": np.ones((4, 4), bool)}
  valid = np.array([[True] * 4] * 2 + [[False] * 4] * 2)
  padded = {"video": video[::-1].copy(), "frame_valid": valid}
  scale = lambda raw: raw.astype(jnp.float32) / 255  # noqa: E731
  params = jax.jit(encoder.init)(jax.random.key(0), scale(video))["params"]
  validate = watch_collapse(
    lambda state: {"loss": 1.0}, make_feature_step(encoder, scale),
    lambda: iter([batch, padded]), Limits(variance=1e-9),
  )  # fmt: skip
  return validate, params


def state_of(params, average=None):
  return TrainState(7, {"encoder": params}, None, Aux(average=average))


def test_the_judged_weights_are_watched_without_padding(watched):
  validate, params = watched
  numbers = validate(state_of(params))
  assert numbers["loss"] == 1 and numbers["feature_variance"] > 1e-9
  assert 1.5 < numbers["feature_rank"] < 6
  same = jax.tree.map(jnp.zeros_like, params)
  with pytest.raises(Collapsed, match="over 6 validation clips"):
    validate(state_of(params, average={"encoder": same}))


def test_means_of_parts_are_weighted_by_what_each_counts():
  rows = iter([
    {"loss": 0, "a_loss": 1.0, "a_rows": 3.0, "b_loss": 5.0, "b_pairs": 0.0,
     "b_clips_without": 8.0},
    {"loss": 0, "a_loss": 5.0, "a_rows": 1.0, "b_loss": 7.0, "b_pairs": 2.0,
     "b_clips_without": 1.0},
  ])  # fmt: skip
  validate = mean_losses(
    lambda *_: next(rows), lambda: iter([{}, {}]), {"a": 1.0, "b": 0.5},
    {"a": "rows", "b": "pairs"},
  )  # fmt: skip
  assert validate(state_of({})) == {
    "loss": 2 + 0.5 * 7, "a_loss": 2, "a_rows": 4, "b_loss": 7, "b_pairs": 2,
    "b_clips_without": 9,
  }  # fmt: skip


def test_an_objective_without_anything_to_judge_is_refused():
  validate = mean_losses(
    lambda *_: {"loss": 0, "b_loss": 0.0, "b_pairs": 0.0}, lambda: iter([{}]),
    {"b": 1.0}, {"b": "pairs"},
  )  # fmt: skip
  with pytest.raises(ValueError, match="validation has no pairs for .* b;"):
    validate(state_of({}))


def test_the_newest_is_the_best_by_age():
  validate = rank_by_age(lambda state: {"loss": 3.0}, 10)
  assert validate(state_of({})) == {"loss": 3.0, "steps_left": 3.0}
