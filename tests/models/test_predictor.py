"""Predictor: one contract for every head, padding, and a first guess of 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.heads import MaxPool, MeanPool, Moments
from echo_jax.models.predictor import Predictor
from echo_jax.models.recurrent import GRUHead
from echo_jax.models.stf_net import STFNet
from echo_jax.models.video_vit import VideoViT

ENCODER = VideoViT(width=16, depth=1, heads=2, patch=8, channels=1)
STF = {"norm": "group", "attention_hidden": 8, "groups": 2}
HEADS = [
  MaxPool(),
  MeanPool(),
  Moments(),
  GRUHead(width=8),
  STFNet(**STF),
  STFNet(slice_mixer="pool_dense", **STF),
]


def clip(frames):
  rng = np.random.default_rng(0)
  return {
    "video": rng.random((2, 8, 16, 16, 1), np.float32)[:, :frames],
    "frame_time_s": np.tile(np.arange(frames, dtype=np.float32) / 50, (2, 1)),
    "frame_index": np.tile(np.arange(frames, dtype=np.int32), (2, 1)),
  }


@pytest.mark.parametrize(
  "head", HEADS, ids=lambda h: type(h).__name__ + getattr(h, "slice_mixer", "")
)
def test_padding_a_short_clip_changes_nothing(head, fill):
  """6 real frames give the same alone and followed by 2 that are not."""
  model = Predictor(ENCODER, head, outputs=3)
  short, padded = clip(6), clip(8)
  padded["video"][:, 6:] = 5.0
  variables = fill(model, **short)
  predict = jax.jit(lambda given: model.apply(variables, **given)[0])
  valid = np.tile(np.arange(8) < 6, (2, 1))
  alone = predict(short)
  masked = predict({**padded, "frame_valid": valid})
  unmasked = predict({**padded, "frame_valid": valid | True})
  assert alone.shape == (2, 3) and np.abs(alone).max() > 1e-3
  np.testing.assert_allclose(masked, alone, atol=1e-4)
  assert np.abs(unmasked - alone).max() > 1e-3


def test_frozen_parts_keep_their_running_statistics():
  head = STFNet(norm="batch", attention_hidden=8)
  given = clip(4)
  free = Predictor(ENCODER, head, outputs=1)
  variables = free.init(jax.random.key(0), **given)

  def step(frozen):
    model = Predictor(ENCODER, head, outputs=1, frozen=frozen)
    (_, features), changed = model.apply(
      variables, **given, train=True, mutable=["batch_stats"]
    )
    return features["embedding"], changed["batch_stats"]

  def moved(statistics):
    pairs = jax.tree.map(
      lambda a, b: float(jnp.abs(a - b).max()), statistics,
      variables["batch_stats"],
    )  # fmt: skip
    return max(jax.tree.leaves(pairs))

  still, statistics = step(("encoder", "head"))
  evaluated = free.apply(variables, **given)[1]["embedding"]
  np.testing.assert_allclose(still, evaluated, rtol=1e-5)
  assert moved(statistics) == 0 < moved(step(("encoder",))[1])


def test_an_untrained_model_predicts_the_training_mean():
  model = Predictor(ENCODER, MaxPool(), outputs=3)
  (output, _), _ = model.init_with_output(jax.random.key(0), **clip(4))
  np.testing.assert_array_equal(output, np.zeros((2, 3)))


def test_features_name_what_lies_between(fill):
  model = Predictor(ENCODER, HEADS[-1], outputs=1)
  given = clip(4)
  variables = fill(model, **given)
  output, features = jax.jit(lambda given: model.apply(variables, **given))(
    given
  )
  assert output.dtype == jnp.float32
  assert {
    "block_0", "tokens", "embedding", "joint_attention", "slice_attention",
    "output",
  } <= set(features)  # fmt: skip
  assert features["tokens"].shape == (2, 8, 16)


def test_encoder_parameters_are_interchangeable(fill):
  """`params["encoder"]` is what VideoViT makes, with no layer of its own."""
  model = Predictor(ENCODER, Moments(), outputs=1)
  given = clip(4)
  params = fill(model, **given)["params"]
  own = fill(ENCODER, given["video"])["params"]
  assert jax.tree.structure(params["encoder"]) == jax.tree.structure(own)
  assert set(params) == {"encoder", "output"}


def test_hidden_layers_and_their_statistics(fill):
  """Released head without its linear flag: linear, batch norm, ReLU."""
  model = Predictor(ENCODER, MeanPool(), outputs=2, hidden_layers=(20, 10))
  given = clip(4)
  variables = fill(model, **given)
  assert variables["params"]["output"]["kernel"].shape == (10, 2)
  video = given.pop("video")
  (output, _), new = model.apply(
    variables, video, train=True, mutable=["batch_stats"], **given
  )
  assert output.shape == (2, 2)
  assert set(new["batch_stats"]) == {"hidden_norm_0", "hidden_norm_1"}
