"""VideoResNet and ViViT: encoders like VideoViT; padding, norms, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax import trees
from echo_jax.models.heads import MaxPool, MeanPool
from echo_jax.models.predictor import Predictor
from echo_jax.models.video_resnet import BatchNorm, VideoResNet
from echo_jax.models.vivit import ViViT
from echo_jax.training.optimizers import decay_mask, layer_scale
from echo_jax.training.sharding import spec_of

SMALL = {"widths": (2, 4), "blocks": (1, 1), "stem_middle": 3, "channels": 1}
RESNETS = [VideoResNet(factored, **SMALL) for factored in (False, True)]
VIVIT = ViViT(
  width=8, depth=1, heads=2, patch=8, channels=1, grid=(4, 2, 2),
  readout="pooled",
)  # fmt: skip


def clip(frames):
  rng = np.random.default_rng(0)
  return {
    "video": rng.random((2, 8, 16, 16, 1), np.float32)[:, :frames],
    "frame_time_s": np.tile(np.arange(frames, dtype=np.float32) / 50, (2, 1)),
    "frame_index": np.tile(np.arange(frames, dtype=np.int32), (2, 1)),
  }


@pytest.mark.parametrize("encoder", RESNETS, ids=["3-D", "(2+1)-D"])
def test_padding_changes_neither_output_nor_statistics(encoder, fill):
  """6 real frames are alike alone and before 2 that are not, in training."""
  model = Predictor(encoder, MeanPool(), outputs=3)
  short, padded = clip(6), clip(8)
  padded["video"][:, 6:] = 5.0
  valid = np.tile(np.arange(8) < 6, (2, 1))
  variables = fill(model, **short)

  @jax.jit
  def train(given):
    (output, _), changed = model.apply(
      variables, **given, train=True, mutable=["batch_stats"]
    )
    return output, changed

  alone, masked, unmasked = (
    train(short), train({**padded, "frame_valid": valid}),
    train({**padded, "frame_valid": valid | True}),
  )  # fmt: skip
  for one, other in zip(
    jax.tree.leaves(alone), jax.tree.leaves(masked), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=1e-5)
  assert np.abs(unmasked[0] - alone[0]).max() > 1e-4


def test_places_of_a_resnet(fill):
  """The grid is that of the strides; a class head keeps the mean's meaning."""
  assert (VideoResNet().tubelet, VideoResNet().patch) == (8, 16)
  assert VideoResNet().depth == 8
  encoder = RESNETS[0].clone(classes=5)
  grid = encoder.token_grid((8, 16, 16, 1))
  assert grid.shape == (4, 4, 4) and (grid.tubelet, grid.patch) == (2, 4)
  shapes = jax.eval_shape(
    lambda: encoder.init_with_output(jax.random.key(0), clip(8)["video"])
  )
  (tokens, features), variables = shapes
  assert tokens.shape == (2, 64, 5)
  assert features["block_1"].shape == (2, 4, 4, 4, 4)
  assert variables["params"]["head"]["kernel"].shape == (4, 5)


def test_batch_norm_by_hand():
  """Normalised by the biased variance, remembered by the unbiased one."""
  x = jnp.arange(8.0).reshape(2, 4, 1, 1, 1)
  real = jnp.asarray([[True, True, False, False], [True, False, False, False]])
  norm = BatchNorm(jnp.float32)
  variables = norm.init(jax.random.key(0), x, None, False)
  y, changed = norm.apply(
    variables, x, real, True, mutable=["batch_stats"]
  )  # of 0, 1 and 4: mean 5/3, variance 26/9, unbiased 13/3
  known = np.asarray([0, 1, 4], np.float32)
  wanted = (known - 5 / 3) / np.sqrt(26 / 9 + 1e-5)
  np.testing.assert_allclose(np.asarray(y)[real][:, 0, 0, 0], wanted, rtol=1e-5)
  np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * 5 / 3)
  np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 1.3 / 3)
  still = norm.apply(variables, x, real, False)
  np.testing.assert_allclose(still, x / np.sqrt(1 + 1e-5))


def test_a_frozen_resnet_keeps_its_statistics(fill):
  given = clip(8)
  model = Predictor(RESNETS[0], MeanPool(), outputs=1, frozen=("encoder",))
  variables = fill(model, **given)
  (still, _), changed = jax.jit(
    lambda: model.apply(variables, **given, train=True, mutable=["batch_stats"])
  )()
  jax.tree.map(
    np.testing.assert_array_equal, changed["batch_stats"],
    variables["batch_stats"],
  )  # fmt: skip
  evaluated = jax.jit(lambda: model.apply(variables, **given)[0])()
  np.testing.assert_allclose(still, evaluated, rtol=1e-5)


def test_vivit_reads_its_class_token_and_no_padding(fill):
  given = clip(8)
  valid = np.tile(np.arange(8) < 6, (2, 1))
  means, highest = (
    Predictor(VIVIT, head, outputs=2) for head in (MeanPool(), MaxPool())
  )
  variables = fill(means, **given)

  @jax.jit
  def predict(video):
    rest = given | {"video": video, "frame_valid": valid}
    return means.apply(variables, **rest), highest.apply(variables, **rest)[0]

  (mean, features), high = predict(given["video"])
  np.testing.assert_allclose(mean, high, atol=1e-6)
  pooled = features["pooled"]
  np.testing.assert_allclose(features["embedding"], pooled, rtol=1e-5)
  assert features["tokens"].shape == (2, 16, 8)
  assert features["class_token"].shape == (2, 8)
  other = given["video"].copy()
  other[:, 6:] = 5.0
  np.testing.assert_allclose(predict(other)[0][0], mean, atol=1e-5)
  other[:, :6] += 0.5
  assert np.abs(predict(other)[0][0] - mean).max() > 1e-3
  tokens = VIVIT.clone(readout="tokens")
  params = dict(variables["params"]["encoder"])
  params.pop("pooler")
  kept, same = tokens.apply({"params": params}, given["video"])
  np.testing.assert_array_equal(kept, same["tokens"])


@pytest.mark.parametrize("encoder", [*RESNETS, VIVIT])
def test_every_weight_has_its_place_and_its_rate(encoder):
  """On a mesh, in weight decay, and in the decay of rates by layer."""
  shapes = jax.eval_shape(
    lambda: encoder.init(jax.random.key(0), clip(8)["video"])
  )
  for name, leaf in trees.named_leaves(shapes).items():
    spec_of(name, leaf.shape, {"data": 2, "fsdp": 2, "model": 1})
  decayed = trees.named_leaves(decay_mask(shapes["params"]))
  assert {n.rpartition("/")[2] for n, is_so in decayed.items() if is_so} == {
    "kernel"
  }
  first = [n for n in decayed if n.startswith("embed")]
  assert len(first) > 2
  for name in first:
    assert layer_scale(f"encoder/{name}", 0.5, encoder.depth) == (
      0.5 ** (encoder.depth + 1)
    )


@pytest.mark.parametrize(
  ("encoder", "shape", "words"),
  [
    (RESNETS[0], (8, 16, 16, 3), "3 channels and the encoder was made for 1"),
    (RESNETS[0], (7, 16, 16, 1), "does not divide"),
    (VIVIT, (8, 16, 16, 3), "3 channels and the encoder was made for 1"),
    (VIVIT, (6, 16, 16, 1), r"grid of \(3, 2, 2\).*positions for \(4, 2, 2\)"),
  ],
)
def test_clips_that_do_not_fit_are_refused(encoder, shape, words):
  with pytest.raises(ValueError, match=words):
    encoder.token_grid(shape)


@pytest.mark.parametrize("encoder", [RESNETS[0], VIVIT])
def test_they_refuse_to_leave_tokens_out(encoder):
  with pytest.raises(ValueError, match="use VideoViT for that"):
    kept = np.zeros((2, 3), np.int32)
    encoder.init(jax.random.key(0), clip(8)["video"], kept)


def test_an_unknown_readout_is_refused():
  with pytest.raises(ValueError, match="readout is 'mean'; there are"):
    VIVIT.clone(readout="mean").init(jax.random.key(0), clip(8)["video"])
