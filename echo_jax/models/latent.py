"""Latent prediction: from the tokens that are seen, features of the hidden.

Axes: b clip, T H W frames and pixels, c channel, n token, q hidden token,
d width.
"""

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Bool, Float

from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import Mask
from echo_jax.models.video_vit import VideoViT


class LatentPredictor(nn.Module):
  """Encoder of the kept tokens and a narrow transformer that goes on from it.

  As in I-JEPA (Assran et al. 2023) and V-JEPA (Bardes et al. 2024) the
  predictor reads what the encoder makes of the kept tokens, beside one learned
  vector with its position for each hidden one, and gives features of the
  hidden tokens, as wide as the encoder's.  That is the decoder of a masked
  autoencoder with other outputs, so it is one here.
  """

  encoder: VideoViT
  predictor: MAEDecoder

  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    mask: Mask,
    *,
    valid: Bool[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b q d"], dict[str, Array]]:
    """Predicted features in the order of `mask.hidden`, in float32."""
    tokens, features = self.encoder(video, mask.kept, valid, train=train)
    predicted, _ = self.predictor(tokens, mask, self.encoder.width, valid)
    return predicted, {**features, "predicted": predicted}
