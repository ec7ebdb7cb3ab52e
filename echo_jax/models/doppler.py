"""Doppler encoder: a spectrum whose patches are placed in cm/s and ms.

Axes: b spectrum, H row (velocity), W column (time), h w patch grid, n token,
d width.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from echo_jax.modalities import DOPPLER_KINDS as KINDS
from echo_jax.models.layers import Codes, Linear
from echo_jax.models.positions import sinusoid
from echo_jax.models.tokens import patchify
from echo_jax.models.trunk import Trunk

POSITION_CM_S = 1.0  # these times 2 pi are the shortest waves of the codes
POSITION_MS = 10.0


class DopplerEncoder(nn.Module):
  """One vector of a Doppler spectrum, brightness 0 to 1.

  A patch's place is the velocity (signed; 0 on the baseline) and the time of
  its middle, not its row and column, and `kind` is a place in `KINDS`.  What
  is not shown (past the end of a display, say) has no influence.  Patches of
  one kind must be of one physical size: the host brings spectra of all zooms
  to one step in cm/s and ms (`echo_jax.data.spectra`), after which only the
  true flow is left to see.
  """

  trunk: Trunk
  patch: int = 16

  @nn.compact
  def __call__(
    self,
    spectrum: Float[Array | np.ndarray, "b H W"],
    shown: Bool[Array | np.ndarray, "b H W"],
    velocity_cm_s: Float[Array | np.ndarray, "b H"],
    time_ms: Float[Array | np.ndarray, "b W"],
    kind: Int[Array | np.ndarray, " b"],
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
    """A kind outside of `KINDS` gives NaN, never another kind's code."""
    del train  # no layer here behaves otherwise in training
    width, dtype = self.trunk.width, self.trunk.dtype
    shown = jnp.asarray(shown)
    values = jnp.where(shown, jnp.asarray(spectrum), 0.0)
    pair = jnp.stack([values, shown.astype(values.dtype)], axis=-1)
    patches = patchify(pair[:, None], 1, self.patch)
    x = Linear(width, dtype=dtype, name="embed")(patches)
    code = Codes(len(KINDS), width, dtype, name="kind")(jnp.asarray(kind))
    place = self.patch_places(velocity_cm_s, time_ms)
    x = x + code[:, None] + place.astype(dtype)
    token_valid = patchify(shown[:, None, :, :, None], 1, self.patch).any(-1)
    return self.trunk(x, token_valid)

  def patch_places(
    self,
    velocity_cm_s: Float[Array | np.ndarray, "b H"],
    time_ms: Float[Array | np.ndarray, "b W"],
  ) -> Float[Array, "b n d"]:
    """Code of each patch: half of the width for velocity, half for time."""
    half = self.trunk.width // 2

    def code(places: Array | np.ndarray, unit: float) -> Float[Array, "b h e"]:
      middle = jnp.asarray(places).reshape(len(places), -1, self.patch)
      return sinusoid(middle.mean(axis=-1) / unit, half)

    rows = code(velocity_cm_s, POSITION_CM_S)[:, :, None]
    columns = code(time_ms, POSITION_MS)[:, None]
    shape = (len(rows), rows.shape[1], columns.shape[2], half)
    both = [jnp.broadcast_to(part, shape) for part in (rows, columns)]
    return jnp.concatenate(both, axis=-1).reshape(len(rows), -1, 2 * half)
