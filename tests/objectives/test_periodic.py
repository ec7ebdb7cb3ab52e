"""Contrast by phase against loops in NumPy; what has no phase has no part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.contrast import Projector, SliceEmbedding
from echo_jax.models.tokens import TokenGrid
from echo_jax.models.video_vit import VideoViT
from echo_jax.objectives.masks import MaskRule
from echo_jax.objectives.objective import Aux
from echo_jax.objectives.periodic import (
  make_periodic,
  phase_contrast,
  phase_pairs,
  slice_beats,
)

RNG = np.random.default_rng(0)


def test_a_slice_lies_in_its_middle_and_is_unknown_with_one_frame():
  beat = jnp.array([[0.0, 0.2, 0.4, jnp.nan, 0.8, 1.0]])
  valid = jnp.array([[True] * 5 + [False]])
  np.testing.assert_allclose(
    slice_beats(beat, valid, 2)[0], [0.1, np.nan, np.nan]
  )


def test_who_is_of_equal_phase():
  beat = jnp.array([[0.0, 0.05, 0.5, 0.96, 1.5, jnp.nan]])
  positive, negative = phase_pairs(beat, 0.1)
  assert np.argwhere(positive[0]).tolist() == [
    [0, 3], [1, 3], [2, 4], [3, 0], [3, 1], [4, 2]
  ]  # fmt: skip
  # Not with itself, its neighbour in the same beat, or what is not known.
  assert np.argwhere(negative[0])[:, 1].tolist() == [
    2, 4, 2, 4, 0, 1, 3, 2, 4, 0, 1, 3
  ]  # fmt: skip


def test_the_loss_is_that_of_the_formula():
  z = RNG.normal(size=(1, 6, 4)).astype(np.float32)
  beat = jnp.array([[0.0, 0.3, 0.6, 1.0, 1.3, 2.02]])
  pairs = phase_pairs(beat, 0.1)
  got = phase_contrast(jnp.asarray(z), *pairs, 0.5)[0]
  unit = z[0] / np.linalg.norm(z[0], axis=1, keepdims=True)
  exp = np.exp(unit.astype(np.float64) @ unit.T / 0.5)
  positive, negative = (np.asarray(pair[0]) for pair in pairs)
  for i in range(6):
    others = exp[i][positive[i] | negative[i]].sum()
    each = [-np.log(exp[i, p] / others) for p in np.flatnonzero(positive[i])]
    wanted = np.mean(each) if each else 0.0
    assert float(got[i]) == pytest.approx(wanted, rel=1e-5)
  assert len(np.flatnonzero(positive[0])) == 2  # both later beats
  assert float(got[2]) == 0  # no second moment like that


CLIP = (8, 8, 8, 1)
GRID = TokenGrid.of(CLIP, 2, 4)


@pytest.fixture(scope="module")
def made():
  """(compiled loss with gradients and metrics, batch of three clips)."""
  model = SliceEmbedding(
    VideoViT(width=8, depth=1, heads=2, patch=4, channels=1), Projector(8, 4)
  )
  scale = lambda raw: raw.astype(jnp.float32) / 255  # noqa: E731
  rule = MaskRule(0.5, shared=True)
  objective = make_periodic(model, scale, GRID, rule)
  video = RNG.integers(0, 256, (3, *CLIP), np.uint8)
  params = jax.jit(model.init)(jax.random.key(0), video / np.float32(255))
  both = jax.jit(
    jax.value_and_grad(objective, has_aux=True), static_argnums=4
  )
  beat = np.arange(8, dtype=np.float32) / 4
  batch = {
    "video": video, "frame_valid": np.ones((3, 8), bool),
    "beat": np.stack([beat, np.full(8, np.nan), beat]).astype(np.float32),
  }  # fmt: skip
  batch["frame_valid"][2] = False  # padding

  def losses(batch):
    (loss, (metrics, _)), slope = both(
      params["params"], Aux(), batch, jax.random.key(1), True
    )
    return float(loss), {k: int(v) for k, v in metrics.items()}, slope

  return losses, batch


def test_clips_without_phase_and_padding_have_no_part_and_are_counted(made):
  losses, batch = made
  loss, metrics, slope = losses(batch)
  assert metrics == {
    "slices": 4, "clips_with_phase": 1, "clips_without_phase": 1
  }  # fmt: skip
  other = batch | {"video": batch["video"].copy()}
  other["video"][1:] = 7
  again, _, other_slope = losses(other)
  assert again == loss > 0
  jax.tree.map(np.testing.assert_array_equal, slope, other_slope)
  assert any((leaf != 0).any() for leaf in jax.tree.leaves(slope["encoder"]))


def test_no_phase_at_all_is_no_loss_and_no_nan(made):
  losses, batch = made
  loss, metrics, slope = losses(
    batch | {"beat": np.full((3, 8), np.nan, np.float32)}
  )
  assert loss == 0 and metrics["clips_without_phase"] == 2
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"rule": MaskRule(0.5, "token")}, "scheme 'tube' or"),
    ({"temperature": 0.0}, "temperature is 0"),
    ({"tolerance": 0.5}, "tolerance is 0.5 beats"),
  ],
)
def test_wrong_settings_are_refused(options, says):
  model = SliceEmbedding(VideoViT(), Projector())
  with pytest.raises(ValueError, match=says):
    make_periodic(model, lambda raw: raw, GRID, **options)
