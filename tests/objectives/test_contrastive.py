"""InfoNCE against scipy's log-softmax; who is a negative and who is not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

from echo_jax.models.contrast import ClipEmbedding, Projector
from echo_jax.models.tokens import TokenGrid, patchify, unpatchify
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.contrastive import info_nce, make_contrastive
from echo_jax.objectives.masks import MaskRule, mask_of
from echo_jax.objectives.objective import Aux
from echo_jax.training.step import make_train_step

RNG = np.random.default_rng(0)
FIRST, SECOND = jnp.asarray(RNG.normal(size=(2, 4, 3)), jnp.float32)
ALL = jnp.ones(4, bool)


def similarities(temperature):
  first, second = (
    np.asarray(x, np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    for x in (FIRST, SECOND)
  )
  return first @ second.T / temperature


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_it_is_the_mean_cross_entropy_of_both_directions(temperature):
  logits = similarities(temperature)
  wanted = [-log_softmax(logits, axis=axis).diagonal() for axis in (0, 1)]
  loss, pairs, negatives = info_nce(FIRST, SECOND, temperature, ALL)
  assert float(loss) == pytest.approx(np.mean(wanted), rel=1e-5)
  assert (int(pairs), float(negatives)) == (4, 3.0)


def test_one_person_and_padding_are_no_negatives():
  """Pairs 0 and 1 are one person's, pair 3 is padding."""
  excluded = jnp.eye(4, dtype=bool).at[:2, :2].set(True)
  counts = jnp.array([True, True, True, False])
  loss, pairs, negatives = info_nce(FIRST, SECOND, 0.5, counts, excluded)
  logits = similarities(0.5)
  wanted = []
  for i, others in ((0, [0, 2]), (1, [1, 2]), (2, [0, 1, 2])):
    for row in (logits[i], logits[:, i]):
      wanted.append(np.log(np.exp(row[others]).sum()) - row[i])
  assert float(loss) == pytest.approx(np.mean(wanted), rel=1e-5)
  assert int(pairs) == 3 and float(negatives) == pytest.approx(4 / 3)


def test_a_pair_without_a_negative_is_not_counted():
  same = jnp.ones((4, 4), bool)
  loss, pairs, _ = info_nce(FIRST, SECOND, 0.1, ALL, same)
  assert (float(loss), int(pairs)) == (0.0, 0)


def test_vectors_of_zeros_have_no_gradient_that_is_nan():
  slope = jax.grad(lambda x: info_nce(x, SECOND, 0.1, ALL)[0])(
    jnp.zeros((4, 3))
  )
  assert np.isfinite(slope).all()


CLIP = (4, 8, 8, 1)
GRID = TokenGrid.of(CLIP, 2, 4)


RULE = MaskRule(0.5, shared=True)


def make(width=8):
  model = ClipEmbedding(
    VideoViT(width=8, depth=1, heads=2, patch=4, channels=1),
    Projector(width, 4),
  )
  scale = lambda raw: raw.astype(jnp.float32) / 255  # noqa: E731
  return model, make_contrastive(model, scale, GRID, RULE)


@pytest.fixture(scope="module")
def made():
  """(compiled objective, params, batch of three pairs)."""
  model, objective = make()
  video = RNG.integers(0, 256, (6, *CLIP), np.uint8)
  params = jax.jit(model.init)(jax.random.key(0), video / np.float32(255))
  batch = {
    "video": video, "frame_valid": np.ones((6, 4), bool),
    "person": np.array([7, 7, 8, 8, 9, 9], np.int32),
  }  # fmt: skip
  return jax.jit(objective, static_argnums=4), params["params"], batch


def test_rows_are_pairs_of_clips(made):
  objective, params, batch = made

  def of(order):
    rows = {name: value[order] for name, value in batch.items()}
    return objective(params, Aux(), rows, jax.random.key(1), True)

  loss, (metrics, _) = of([0, 1, 2, 3, 4, 5])
  assert metrics["pairs"] == 3 and metrics["negatives"] == 2
  # Pairs may come in any order; clips may not leave their pair.
  assert float(of([4, 5, 0, 1, 2, 3])[0]) == pytest.approx(float(loss))
  batch = batch | {"person": np.arange(6, dtype=np.int32)}
  assert float(of([0, 2, 1, 3, 4, 5])[0]) != pytest.approx(float(loss))


def test_padding_and_the_same_patient_leave_no_trace(made):
  objective, params, batch = made
  batch = {k: v.copy() for k, v in batch.items()}
  batch["frame_valid"][5] = False  # the last pair has one clip only
  batch["person"][2:4] = 7
  loss, (metrics, _) = objective(
    params, Aux(), batch, jax.random.key(1), True
  )
  assert (float(loss), int(metrics["pairs"])) == (0.0, 0)


def test_only_kept_tokens_are_seen(made):
  objective, params, batch = made
  key, losses = jax.random.key(1), []
  mask = mask_of(batch, key, RULE, GRID)
  for index in (mask.hidden, mask.kept):
    tokens = patchify(jnp.asarray(batch["video"]), 2, 4)
    rows = np.arange(6)[:, None]
    changed = unpatchify(tokens.at[rows, index].set(9), GRID)
    for video in (batch["video"], changed):
      loss, _ = objective(params, Aux(), batch | {"video": video}, key, True)
      losses.append(float(loss))
  assert losses[0] == losses[1] == losses[2] != losses[3]


def test_a_projector_of_width_0_is_none():
  model, _ = make(width=0)
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, *CLIP))
  )
  assert set(shapes["params"]) == {"encoder"}


def test_what_cannot_be_contrasted_is_refused(made):
  model, objective = make()
  odd = {"video": np.zeros((3, *CLIP), np.uint8),
         "frame_valid": np.ones((3, 4), bool)}  # fmt: skip
  with pytest.raises(ValueError, match="a batch of 3 clips; contrast needs"):
    objective({}, Aux(), odd, jax.random.key(0), True)
  with pytest.raises(ValueError, match="temperature is 0"):
    make_contrastive(model, lambda raw: raw, GRID, None, 0.0)
  with pytest.raises(ValueError, match="compares the rows of a batch"):
    make_train_step(objective, optax.sgd(0.1), seed=0, accumulate=2)
