"""Masks for masked reconstruction: which tokens of a clip are hidden.

Sizes are static; tokens are numbered slice by slice (t, then h, then w).
Axes: b clip, n token, k kept, q hidden.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from echo_jax.models.tokens import Mask, TokenGrid, token_valid
from echo_jax.objectives.objective import Arrays

SCHEMES = ("tube", "token", "blocks")
POLARITIES = ("described", "released")
# Of V-JEPA 2 (Assran et al. 2025): height over width of a block.
BLOCK_ASPECT = (0.75, 1.5)
MOST_BLOCKS = 32  # chosen; the rest is filled up by single places


@dataclass(frozen=True)
class MaskRule:
  """How tokens are hidden.

  Attributes:
    ratio: hidden share, 0.85 in the Echo-Vision-FM paper.
    scheme: "tube" hides the same places in every slice (Tong et al. 2022), so
      it is the one spatial mask for all frames of EchoFM (Kim et al. 2025).
      "token" draws each token by itself.  "blocks" hides rectangles through
      all slices, one after another until the ratio is met (V-JEPA, Bardes et
      al. 2024, hides a fixed number of blocks, whatever they cover).
    polarity: "described" hides `ratio` of the tokens.  "released" is the
      public Echo-Vision-FM script, whose comparison is the other way round:
      it hides 1 - ratio.
    shared: one draw for the whole batch (as released) or one a clip.
    in_sector: hide `ratio` of the ultrasound sector's tokens, fill up with
      tokens outside, and leave those without weight.
    block: share of a slice that one of the blocks covers.
  """

  ratio: float = 0.85
  scheme: str = "tube"
  polarity: str = "described"
  shared: bool = False
  in_sector: bool = False
  block: float = 0.15

  def __post_init__(self) -> None:
    if not 0 < self.ratio < 1:
      raise ValueError(f"mask ratio {self.ratio} is not between 0 and 1")
    if not 0 < self.block < 1:
      raise ValueError(f"mask block {self.block} is not between 0 and 1")
    if self.scheme not in SCHEMES:
      raise ValueError(f"mask scheme {self.scheme!r} is not one of {SCHEMES}")
    if self.polarity not in POLARITIES:
      raise ValueError(
        f"mask polarity {self.polarity!r} is not one of {POLARITIES}"
      )


def count_hidden(rule: MaskRule, grid: TokenGrid) -> int:
  """Hidden places: in the whole clip for tokens, else in every slice."""
  places = grid.n if rule.scheme == "token" else grid.h * grid.w
  share = rule.ratio if rule.polarity == "described" else 1 - rule.ratio
  # The small term mends 1 - 0.9 = 0.0999... before rounding down.
  hidden = int(share * places + 1e-9)
  if not 0 < hidden < places:
    raise ValueError(
      f"mask ratio {rule.ratio} ({rule.polarity}) hides {hidden} of {places} "
      "places; at least one must be hidden and one kept"
    )
  return hidden


def mask_of(
  batch: Arrays, key: jax.Array, rule: MaskRule, grid: TokenGrid
) -> Mask:
  """Draws the mask of a batch's clips.

  Tokens without a real frame (`frame_valid`) carry no weight; `sector` is
  needed when masks stay inside it.
  """
  inside = tokens_inside(batch["sector"], grid) if rule.in_sector else None
  valid = token_valid(batch["frame_valid"], grid)
  return make_mask(key, rule, grid, len(valid), inside=inside, valid=valid)


def make_mask(
  key: jax.Array,
  rule: MaskRule,
  grid: TokenGrid,
  clips: int,
  *,
  inside: Bool[Array, "b n"] | None = None,
  valid: Bool[Array, "b n"] | None = None,
) -> Mask:
  """Draws the mask of a batch.

  Args:
    key: randomness.
    rule: what to hide.
    grid: token grid of a clip.
    clips: b.
    inside: tokens in the sector; needed when `rule.in_sector`.
    valid: tokens with at least one real frame; others carry no weight.
  """
  if rule.in_sector and inside is None:
    raise ValueError("masks inside the sector need `inside`")
  places = grid.n if rule.scheme == "token" else grid.h * grid.w
  hidden = count_hidden(rule, grid)
  draws = 1 if rule.shared else clips
  if rule.scheme == "blocks":
    noise = _in_blocks(key, rule.block, grid, draws)
  else:
    noise = jax.random.uniform(key, (draws, places))
  noise = jnp.broadcast_to(noise, (clips, places))
  if rule.in_sector:
    # The sector does not move, so the first slice stands for all.
    noise = noise + _sector_rank(noise, inside[:, :places], hidden / places)
  order = jnp.argsort(noise, axis=-1).astype(jnp.int32)
  chosen, rest = (
    jnp.sort(part, axis=-1) for part in (order[:, :hidden], order[:, hidden:])
  )
  if rule.scheme != "token":
    chosen, rest = _along_time(chosen, grid), _along_time(rest, grid)
  weight = jnp.ones(chosen.shape, jnp.float32)
  for counts in (inside if rule.in_sector else None, valid):
    if counts is not None:
      weight = weight * jnp.take_along_axis(counts, chosen, axis=1)
  return Mask(kept=rest, hidden=chosen, weight=weight)


def _in_blocks(
  key: jax.Array, share: float, grid: TokenGrid, clips: int
) -> Float[Array, "b s"]:
  """Places from 0 to 1 in the order in which blocks come to cover them.

  All blocks of a clip are of one size.  The last one that is needed is cut
  off at a row; what no block covers comes last, in random order.
  """
  shape, top, left, rest = jax.random.split(key, 4)
  low, high = BLOCK_ASPECT
  aspect = jax.random.uniform(shape, (clips, 1), minval=low, maxval=high)
  area = share * grid.h * grid.w
  sides = jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)

  def covers(key: jax.Array, side: jax.Array, size: int) -> jax.Array:
    """b block s: whether a row, or column, lies in a block."""
    side = jnp.clip(jnp.round(side), 1, size)
    room = jax.random.uniform(key, (clips, MOST_BLOCKS))
    start = jnp.floor(room * (size - side + 1))[..., None]
    place = jnp.arange(size)
    return (place >= start) & (place < start + side[..., None])

  rows, columns = covers(top, sides[0], grid.h), covers(left, sides[1], grid.w)
  blocks = (rows[..., :, None] & columns[..., None, :]).reshape(
    clips, MOST_BLOCKS, grid.h * grid.w
  )
  first = jnp.where(blocks.any(1), blocks.argmax(1), MOST_BLOCKS)
  row_major = jnp.arange(grid.h * grid.w) / (grid.h * grid.w)
  random = jax.random.uniform(rest, first.shape)
  within = jnp.where(first == MOST_BLOCKS, random, row_major)
  return (first + within) / (MOST_BLOCKS + 1)


def _sector_rank(
  noise: Float[Array, "b s"], inside: Bool[Array, "b s"], ratio: float
) -> Float[Array, "b s"]:
  """0 for the sector's share of hidden places, 2 outside, 4 for its rest.

  Were the whole sector hidden before anything outside it, a high ratio would
  leave the encoder nothing but black.
  """
  place = jnp.argsort(jnp.argsort(noise + 2.0 * ~inside, axis=-1), axis=-1)
  # Rounded down like `count_hidden`; else a small sector is hidden whole.
  share = jnp.floor(ratio * inside.sum(axis=-1, keepdims=True) + 1e-6)
  return jnp.where(inside, jnp.where(place < share, 0.0, 4.0), 2.0)


def _along_time(places: jax.Array, grid: TokenGrid) -> jax.Array:
  """The same places in every slice: b s -> b (t s)."""
  slices = jnp.arange(grid.t, dtype=jnp.int32) * (grid.h * grid.w)
  tubes = places[:, None, :] + slices[None, :, None]
  return tubes.reshape(places.shape[0], -1)


def tokens_inside(
  sector: Bool[Array, "b H W"], grid: TokenGrid
) -> Bool[Array, "b n"]:
  """Tokens of which at least half the pixels lie in the sector."""
  b = sector.shape[0]
  patch = sector.shape[1] // grid.h
  cells = sector.reshape(b, grid.h, patch, grid.w, patch)
  inside = cells.mean(axis=(2, 4)) >= 0.5
  return jnp.tile(inside.reshape(b, -1), (1, grid.t))
