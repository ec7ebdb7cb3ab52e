"""Recurrent head: a gated recurrent unit reads a clip slice after slice.

The same step runs over a whole clip and over a live stream, where its carry
is kept between slices.
Axes: b clip, T frame, n token, t slice, d width, e embedding.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.heads import slice_means
from echo_jax.models.tokens import TokenGrid, slice_valid


class Carry(NamedTuple):
  """What the head remembers: its state and the time of the last slice."""

  state: Float[Array, "b e"]
  time_s: Float[Array, " b"]
  started: Bool[Array, " b"]


class GRUHead(nn.Module):
  """State of a GRU after the last valid slice (e = `width`).

  A slice enters as its mean over space and the seconds since the slice
  before it (0 for the first).  Slices that are not valid leave the carry as
  it was.  For streaming, apply `step` with `method="step"`.
  """

  width: int = 256

  def setup(self):
    self.cell = nn.GRUCell(self.width)

  def initial_carry(self, b: int) -> Carry:
    """Nothing seen yet, for b clips."""
    return Carry(
      jnp.zeros((b, self.width)), jnp.zeros(b), jnp.zeros(b, bool)
    )

  def step(
    self,
    carry: Carry,
    feature: Float[Array, "b d"],
    time_s: Float[Array, " b"],
    valid: Bool[Array, " b"],
  ) -> tuple[Carry, Float[Array, "b e"]]:
    """Reads one slice (mean feature, mean time); returns carry and state."""
    elapsed_s = jnp.where(carry.started, time_s - carry.time_s, 0.0)
    x = jnp.concatenate([feature, elapsed_s[:, None]], axis=-1)
    state, _ = self.cell(carry.state, x)
    state = jnp.where(valid[:, None], state, carry.state)
    time_s = jnp.where(valid, time_s, carry.time_s)
    return Carry(state, time_s, carry.started | valid), state

  def __call__(
    self,
    tokens: Float[Array, "b n d"],
    *,
    grid: TokenGrid,
    frame_time_s: Float[Array, "b T"],
    frame_index: Int[Array, "b T"],
    valid: Bool[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b e"], dict[str, Array]]:
    if valid is None:
      valid = jnp.ones(tokens.shape[:2], bool)
    slices = slice_means(tokens.astype(jnp.float32), grid, valid)
    time_s = frame_time_s.reshape(-1, grid.t, grid.tubelet).mean(axis=-1)
    scan = nn.scan(
      lambda head, carry, xs: head.step(carry, *xs),
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=1,
      out_axes=1,
    )
    carry, states = scan(
      self,
      self.initial_carry(len(tokens)),
      (slices, time_s, slice_valid(valid, grid)),
    )
    return carry.state, {
      "slices": slices, "states": states, "embedding": carry.state
    }
