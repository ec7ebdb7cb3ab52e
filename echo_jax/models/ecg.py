"""ECG encoder: one token a lead and stretch of time, 1 to 12 leads.

Axes: b recording, s sample, l lead, t stretch of `patch` samples, n token
(t by l, leads run fastest), p values of a patch, d width.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from echo_jax.models.layers import Codes, Linear
from echo_jax.models.positions import sinusoid
from echo_jax.models.trunk import Trunk

LEADS = 12
POSITION_S = 0.1  # the shortest wave of the time code lasts 2 pi of it


class ECGEncoder(nn.Module):
  """One vector of an ECG at `hz` samples a second, in millivolts.

  All leads share one patch embedding; a learned code says which lead it is
  and a fixed one when it was, in seconds.  What is not valid (a lead that was
  not recorded, padding, a gap) has no influence, whatever stands there: a
  patch without a valid sample is no token, and in others each sample comes
  with a flag, so that a lost sample is not taken for 0 mV.  The host brings
  every recording to this rate (`echo_jax.data.signals`).
  """

  trunk: Trunk
  hz: float = 250.0
  patch: int = 50

  @nn.compact
  def __call__(
    self,
    ecg_mv: Float[Array | np.ndarray, "b s l"],
    lead_valid: Bool[Array | np.ndarray, "b l"],
    sample_valid: Bool[Array | np.ndarray, "b s l"] | None = None,
    *,
    lead: tuple[int, ...] = tuple(range(LEADS)),
    train: bool = False,
  ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
    """`lead` says which of the twelve (I II III aVR aVL aVF V1-V6) l are."""
    del train  # no layer here behaves otherwise in training
    b, s, leads = ecg_mv.shape
    self.check_shape(s, leads, lead)
    valid = jnp.broadcast_to(jnp.asarray(lead_valid)[:, None], (b, s, leads))
    if sample_valid is not None:
      valid = valid & jnp.asarray(sample_valid)
    values = jnp.where(valid, jnp.asarray(ecg_mv), 0.0)
    pair = jnp.stack([values, valid.astype(values.dtype)], axis=-1)
    patches = pair.reshape(b, -1, self.patch, leads, 2)
    patches = patches.transpose(0, 1, 3, 2, 4).reshape(
      b, -1, leads, 2 * self.patch
    )  # b t l p
    width, dtype = self.trunk.width, self.trunk.dtype
    x = Linear(width, dtype=dtype, name="embed")(patches)
    code = Codes(LEADS, width, dtype, name="lead")(jnp.array(lead))
    time = sinusoid(self.patch_time_s(s // self.patch) / POSITION_S, width)
    x = x + code + time.astype(dtype)[:, None]
    token_valid = valid.reshape(b, -1, self.patch, leads).any(axis=2)
    return self.trunk(x.reshape(b, -1, width), token_valid.reshape(b, -1))

  def patch_time_s(self, t: int) -> Float[Array, " t"]:
    """Middle of each patch, seconds from the first sample."""
    middle = jnp.arange(t) * self.patch + (self.patch - 1) / 2
    return middle / self.hz

  def check_shape(self, s: int, leads: int, lead: tuple[int, ...]) -> None:
    """Refuses samples that leave a rest and leads that are not named."""
    if not s or s % self.patch:
      raise ValueError(
        f"an ECG of {s} samples does not divide into patches of {self.patch} "
        "samples; pad it with invalid samples or cut it"
      )
    if len(lead) != leads or len(set(lead)) != leads:
      raise ValueError(
        f"an ECG of {leads} leads has lead={lead}; name each once, as places "
        "among the twelve"
      )
    if not all(0 <= i < LEADS for i in lead):
      raise ValueError(f"lead={lead} has a place outside of 0 to {LEADS - 1}")
