"""Study encoder: any number of clips of any views to one representation.

Axes: b study, v clip, e embedding of a clip, d width.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.layers import (
  Codes,
  Linear,
  ReadBlock,
  apply_blocks,
  layer_norm,
)


class StudyEncoder(nn.Module):
  """One vector of a set of clips, each with its view.

  Clips attend to each other in `depth` blocks, then one learned query reads
  them (Set Transformer, Lee et al. 2019).  There is no position: the order of
  the clips does not matter.  Nor does it when every clip is given twice; a
  single clip that is given twice counts twice.  A study without a clip gives
  zeros: tell the fusion that it is absent.  `views` is the number of views,
  the one for "unknown" included.
  """

  views: int
  width: int = 192
  depth: int = 1
  heads: int = 3
  mlp_ratio: float = 4.0
  norm_eps: float = 1e-6
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    clips: Float[Array | np.ndarray, "b v e"],
    view: Int[Array | np.ndarray, "b v"],
    video_valid: Bool[Array | np.ndarray, "b v"],
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
    """A view that is not 0 to views - 1 gives NaN, never another's code.

    Features hold `study_attention` [b a 1 v], the weight of each clip.
    """
    del train  # no layer here behaves otherwise in training
    valid = jnp.asarray(video_valid)
    view = jnp.where(valid, jnp.asarray(view), 0)
    x = jnp.where(valid[..., None], jnp.asarray(clips), 0.0)
    x = layer_norm(self.norm_eps, self.dtype, "clip_norm")(x)
    x = Linear(self.width, dtype=self.dtype, name="embed")(x)
    x = x + Codes(self.views, self.width, self.dtype, name="view")(view)
    mlp_width = round(self.width * self.mlp_ratio)
    x, features = apply_blocks(
      self,
      x.astype(self.dtype),
      valid,
      depth=self.depth,
      heads=self.heads,
      mlp_width=mlp_width,
      norm_eps=self.norm_eps,
      dtype=self.dtype,
    )
    query = self.param("query", nn.initializers.normal(0.02), (1, self.width))
    query = jnp.broadcast_to(query.astype(self.dtype), (len(x), *query.shape))
    y, weight = ReadBlock(
      self.heads, mlp_width, self.norm_eps, self.dtype, name="read"
    )(query, x, valid)
    y = layer_norm(self.norm_eps, self.dtype, "norm")(y)
    embedding = jnp.where(
      valid.any(axis=1)[:, None], y[:, 0].astype(jnp.float32), 0.0
    )
    return embedding, {
      **features, "tokens": x, "study_attention": weight,
      "embedding": embedding,
    }  # fmt: skip
