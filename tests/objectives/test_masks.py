"""Masks: exact counts, every token once, schemes and polarity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.tokens import TokenGrid
from echo_jax.objectives.masks import (
  MaskRule,
  count_hidden,
  make_mask,
  tokens_inside,
)

GRID = TokenGrid(t=3, h=4, w=5, tubelet=2, patch=8)
KEY = jax.random.key(0)


def bools(mask):
  """Hidden tokens as True: b n."""
  out = np.zeros((len(mask.hidden), GRID.n), bool)
  np.put_along_axis(out, np.asarray(mask.hidden), True, axis=1)
  return out


@pytest.mark.parametrize(
  ("rule", "hidden"),
  [
    (MaskRule(0.85, "tube"), 3 * int(0.85 * 20)),
    (MaskRule(0.85, "token"), int(0.85 * 60)),
    (MaskRule(0.9, "token", "released"), 6),
    (MaskRule(0.85, "token", "released"), 9),
  ],
)
def test_counts_and_every_token_once(rule, hidden):
  mask = make_mask(KEY, rule, GRID, 4)
  assert mask.hidden.shape == (4, hidden)
  both = np.sort(np.concatenate([mask.kept, mask.hidden], axis=1), axis=1)
  np.testing.assert_array_equal(both, np.tile(np.arange(60), (4, 1)))
  assert (np.diff(mask.hidden, axis=1) > 0).all()


def test_tubes_hide_the_same_places_in_every_slice():
  slices = bools(make_mask(KEY, MaskRule(0.5), GRID, 4)).reshape(4, 3, 20)
  assert (slices == slices[:, :1]).all()
  assert (slices[0] != slices[1]).any()


def test_a_mask_of_one_block_is_a_rectangle_through_all_slices():
  grid = TokenGrid(t=2, h=12, w=12, tubelet=2, patch=8)
  rule = MaskRule(0.15, "blocks", block=0.5)  # the first block is enough
  mask = make_mask(KEY, rule, grid, 40)
  hidden = np.zeros((40, grid.n), bool)
  np.put_along_axis(hidden, np.asarray(mask.hidden), True, axis=1)
  slices = hidden.reshape(40, 2, 12, 12)
  assert (slices[:, 0] == slices[:, 1]).all()
  corners, widths = set(), set()
  for one in slices[:, 0]:
    rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
    width, whole = len(columns), 21 // len(columns)
    # Rows are whole from the top; the last is cut off where 21 are hidden.
    assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()
    assert one[rows[:whole]].sum() == whole * width and one.sum() == 21
    widths.add(width)
    corners.add((rows[0], columns[0]))
  # Sides of 72 places, height over width 0.75 to 1.5: 10 to 7 wide.
  assert widths == {7, 8, 9, 10} and len(corners) > 10


def test_blocks_meet_any_ratio_and_the_sector():
  sector = np.zeros((2, 32, 40), bool)
  sector[:, :16] = True
  inside = tokens_inside(jnp.asarray(sector), GRID)
  for ratio in (0.25, 0.75, 0.95):
    rule = MaskRule(ratio, "blocks", block=0.15)
    assert make_mask(KEY, rule, GRID, 2).hidden.shape == (2, 3 * 20 * ratio)
  rule = MaskRule(0.75, "blocks", in_sector=True)
  mask = make_mask(KEY, rule, GRID, 2, inside=inside)
  assert mask.weight.sum(axis=1).tolist() == [3 * 7] * 2  # of 10 a slice


def test_shared_is_one_draw_a_batch():
  hidden = make_mask(KEY, MaskRule(0.5, "token", shared=True), GRID, 4).hidden
  assert (hidden == hidden[:1]).all()


def test_the_ratio_holds_in_the_sector_and_the_rest_has_no_weight():
  sector = np.zeros((2, 32, 40), bool)
  sector[:, :16] = True  # two of four rows of tokens: 10 places of 20
  inside = tokens_inside(jnp.asarray(sector), GRID)
  assert int(inside[0].sum()) == 30
  for ratio, shown in ((0.25, 8), (0.75, 3)):  # of 10 places in the sector
    rule = MaskRule(ratio, in_sector=True)
    mask = make_mask(KEY, rule, GRID, 2, inside=inside)
    hidden = bools(mask)
    assert (hidden.sum(axis=1) == 60 * ratio).all()
    kept_inside = (~hidden & np.asarray(inside)).sum(axis=1)
    assert kept_inside.tolist() == [3 * shown] * 2
    assert mask.weight.sum(axis=1).tolist() == [30 - 3 * shown] * 2


def test_a_small_sector_is_never_hidden_whole():
  grid, rule = TokenGrid(2, 14, 14, 2, 16), MaskRule(0.85, in_sector=True)
  for places in range(1, 12):
    inside = np.zeros((1, 14 * 14), bool)
    inside[0, :places] = True
    inside = jnp.asarray(np.tile(inside, (1, 2)))
    mask = make_mask(KEY, rule, grid, 1, inside=inside)
    hidden = int(mask.weight.sum()) // 2
    assert hidden == int(0.85 * places + 1e-9) < places


def test_padded_tokens_have_no_weight():
  valid = jnp.ones((2, 60), bool).at[:, 40:].set(False)
  mask = make_mask(KEY, MaskRule(0.5), GRID, 2, valid=valid)
  np.testing.assert_array_equal(mask.weight, np.asarray(mask.hidden) < 40)


def test_drawing_again_does_not_compile_again():
  traces = []

  @jax.jit
  def draw(key):
    traces.append(1)
    return make_mask(key, MaskRule(0.7, "token"), GRID, 2)

  first, second = draw(jax.random.key(1)), draw(jax.random.key(2))
  assert len(traces) == 1 and (first.hidden != second.hidden).any()


@pytest.mark.parametrize(
  "wrong",
  [{"ratio": 1.0}, {"scheme": "block"}, {"polarity": "inverted"},
   {"block": 0.0}],
)
def test_wrong_rules_are_refused(wrong):
  with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
    MaskRule(**wrong)


def test_a_ratio_that_hides_nothing_is_refused():
  with pytest.raises(ValueError, match="hides 0 of 20"):
    count_hidden(MaskRule(0.01), GRID)
