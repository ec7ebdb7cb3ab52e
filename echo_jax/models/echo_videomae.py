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
from echo_jax.models.tokens import Mask, mask_from_bool, patchify, take_tokens
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
    del train  # no layer here behaves otherwise in training
    mask = hidden if isinstance(hidden, Mask) else as_mask(hidden)
    size = self.encoder.tubelet, self.encoder.patch
    seen = take_tokens(patchify(jnp.asarray(video), *size), mask.kept)
    return self.fill_in(seen, mask, video.shape, valid=valid)

  def fill_in(
    self,
    seen: Float[Array, "b k p"],
    mask: Mask,
    video_shape: tuple[int, ...],
    *,
    valid: Bool[Array | np.ndarray, "b n"] | None = None,
  ) -> tuple[Float[Array, "b q p"], dict[str, Array]]:
    """The same from the kept tubelets, cut out of a video of that shape.

    Who cuts first need not scale and hold as float32 what is hidden.
    """
    grid = self.encoder.token_grid(video_shape)
    if mask.kept.shape[1] + mask.hidden.shape[1] != grid.n:
      raise ValueError(
        f"the mask names {mask.kept.shape[1]} kept and "
        f"{mask.hidden.shape[1]} hidden tokens, the video has {grid.n}"
      )
    valid = None if valid is None else jnp.asarray(valid)
    tokens, features = self.encoder.encode(seen, grid.n, mask.kept, valid)
    logits, decoded = self.decoder(tokens, mask, seen.shape[-1], valid)
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
