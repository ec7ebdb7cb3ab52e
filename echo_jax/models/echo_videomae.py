"""Echo-VideoMAE: a video transformer that learns by filling in hidden tubelets.

VideoMAE (Tong et al. 2022) on echocardiograms, as in Echo-Vision-FM.
Axes: b clip, T H W frames and pixels, c channel, n token, k kept token,
q hidden token, p values per tubelet.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import Mask, mask_from_bool
from echo_jax.models.video_vit import VideoViT


class EchoVideoMAE(nn.Module):
  """Masked autoencoder; `params["encoder"]` are exactly those of VideoViT.

  `hidden` is a `Mask` of indices, which may be traced, or a concrete bool
  array that is True where a token is hidden, with the same count in each row.
  Logits are the predicted pixel values of the hidden tokens in the order of
  `Mask.hidden`; the target's normalisation belongs to the objective.
  """

  encoder: VideoViT
  decoder: MAEDecoder

  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    hidden: Mask | Bool[Array | np.ndarray, "b n"],
    *,
    valid: Bool[Array | np.ndarray, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b q p"], dict[str, Array]]:
    mask = hidden if isinstance(hidden, Mask) else as_mask(hidden)
    grid = self.encoder.token_grid(video.shape)
    if mask.kept.shape[1] + mask.hidden.shape[1] != grid.n:
      raise ValueError(
        f"the mask names {mask.kept.shape[1]} kept and "
        f"{mask.hidden.shape[1]} hidden tokens, the video has {grid.n}"
      )
    valid = None if valid is None else jnp.asarray(valid)
    tokens, features = self.encoder(video, mask.kept, valid, train=train)
    values = grid.tubelet * grid.patch**2 * video.shape[-1]
    logits, decoded = self.decoder(tokens, mask, values, valid)
    decoded = {f"decoder_{name}": value for name, value in decoded.items()}
    return logits, {**features, **decoded}


def as_mask(hidden: Bool[Array | np.ndarray, "b n"]) -> Mask:
  """Indices of a bool mask; under jit its values are unknown, so refused."""
  if isinstance(hidden, jax.core.Tracer):
    raise TypeError(
      "a bool mask inside jit has no fixed number of hidden tokens; call "
      "mask_from_bool on the host and pass the Mask"
    )
  return mask_from_bool(hidden)
