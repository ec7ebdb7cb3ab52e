"""Blocks, norm and mean: what the encoders of ECG, Doppler and records share.

Axes: b clip, n token, d width.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from echo_jax.models.heads import masked_mean
from echo_jax.models.layers import apply_blocks, layer_norm


class Trunk(nn.Module):
  """Tokens to one vector: `depth` blocks, a norm, the mean of valid tokens.

  Nothing attends to a token that is not valid, and it does not enter the
  mean: it may as well not be there.  A row without a valid token gives zeros.
  The vector is float32 whatever `dtype` the blocks compute in.
  """

  width: int = 192
  depth: int = 4
  heads: int = 3
  mlp_ratio: float = 4.0
  norm_eps: float = 1e-6
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b n d"], valid: Bool[Array, "b n"]
  ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
    x, features = apply_blocks(
      self,
      tokens.astype(self.dtype),
      valid,
      depth=self.depth,
      heads=self.heads,
      mlp_width=round(self.width * self.mlp_ratio),
      norm_eps=self.norm_eps,
      dtype=self.dtype,
    )
    x = layer_norm(self.norm_eps, self.dtype, "norm")(x)
    embedding = masked_mean(x.astype(jnp.float32), valid)
    features |= {"tokens": x, "token_valid": valid, "embedding": embedding}
    return embedding, features
