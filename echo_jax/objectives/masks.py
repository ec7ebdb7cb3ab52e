"""Masks for masked reconstruction: which tokens of a clip are hidden.

Sizes are static; tokens are numbered slice by slice (t, then h, then w).
Axes: b clip, n token, k kept, q hidden.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from echo_jax.models.tokens import Mask, TokenGrid

SCHEMES = ("tube", "token")
POLARITIES = ("described", "released")


@dataclass(frozen=True)
class MaskRule:
  """How tokens are hidden.

  Attributes:
    ratio: hidden share, 0.85 in the Echo-Vision-FM paper.
    scheme: "tube" hides the same places in every slice (Tong et al. 2022);
      "token" draws each token by itself.
    polarity: "described" hides `ratio` of the tokens.  "released" is the
      public Echo-Vision-FM script, whose comparison is the other way round:
      it hides 1 - ratio.
    shared: one draw for the whole batch (as released) or one a clip.
    in_sector: hide `ratio` of the ultrasound sector's tokens, fill up with
      tokens outside, and leave those without weight.
  """

  ratio: float = 0.85
  scheme: str = "tube"
  polarity: str = "described"
  shared: bool = False
  in_sector: bool = False

  def __post_init__(self) -> None:
    if not 0 < self.ratio < 1:
      raise ValueError(f"mask ratio {self.ratio} is not between 0 and 1")
    if self.scheme not in SCHEMES:
      raise ValueError(f"mask scheme {self.scheme!r} is not one of {SCHEMES}")
    if self.polarity not in POLARITIES:
      raise ValueError(
        f"mask polarity {self.polarity!r} is not one of {POLARITIES}"
      )


def count_hidden(rule: MaskRule, grid: TokenGrid) -> int:
  """Hidden places: a slice for tubes, in the whole clip for tokens."""
  places = grid.h * grid.w if rule.scheme == "tube" else grid.n
  share = rule.ratio if rule.polarity == "described" else 1 - rule.ratio
  # The small term mends 1 - 0.9 = 0.0999... before rounding down.
  hidden = int(share * places + 1e-9)
  if not 0 < hidden < places:
    raise ValueError(
      f"mask ratio {rule.ratio} ({rule.polarity}) hides {hidden} of {places} "
      "places; at least one must be hidden and one kept"
    )
  return hidden


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
  tube = rule.scheme == "tube"
  places = grid.h * grid.w if tube else grid.n
  hidden = count_hidden(rule, grid)
  noise = jax.random.uniform(key, (1 if rule.shared else clips, places))
  noise = jnp.broadcast_to(noise, (clips, places))
  if rule.in_sector:
    # The sector does not move, so the first slice stands for all.
    noise = noise + _sector_rank(noise, inside[:, :places], hidden / places)
  order = jnp.argsort(noise, axis=-1).astype(jnp.int32)
  chosen, rest = (
    jnp.sort(part, axis=-1) for part in (order[:, :hidden], order[:, hidden:])
  )
  if tube:
    chosen, rest = _along_time(chosen, grid), _along_time(rest, grid)
  weight = jnp.ones(chosen.shape, jnp.float32)
  for counts in (inside if rule.in_sector else None, valid):
    if counts is not None:
      weight = weight * jnp.take_along_axis(counts, chosen, axis=1)
  return Mask(kept=rest, hidden=chosen, weight=weight)


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
