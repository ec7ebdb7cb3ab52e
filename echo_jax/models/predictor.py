"""Predictor: encoder, pooling head and a linear map to the targets.

Axes: b clip, T H W frames and pixels, c channel, e embedding, o output.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.cnn import VideoCNN
from echo_jax.models.tokens import token_valid
from echo_jax.models.video_resnet import VideoResNet
from echo_jax.models.video_vit import VideoViT
from echo_jax.models.vivit import ViViT

PARTS = ("encoder", "head")
Encoder = VideoViT | ViViT | VideoCNN | VideoResNet


class Predictor(nn.Module):
  """Targets of a clip in standardised units or logits, o = `outputs` numbers.

  `encoder` is one of `Encoder`: any module with a `token_grid` and called
  `encoder(video, None, valid, train=)`.
  `head` is any module of `heads`, `stf_net` or `recurrent`.  The last map
  starts at zero, so that an untrained model predicts the training mean of
  every standardised target (and logit 0 of a class).  `hidden_layers` puts
  linear, batch norm, ReLU layers before it; the released head without
  `--linear_prediction_head` is (200, 100).  The `frozen` ones of "encoder" and
  "head" run as in evaluation while the rest trains: no dropout, and running
  statistics that do not move.
  """

  encoder: Encoder
  head: nn.Module
  outputs: int
  hidden_layers: tuple[int, ...] = ()
  frozen: tuple[str, ...] = ()

  @nn.compact
  def __call__(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    *,
    frame_time_s: Float[Array | np.ndarray, "b T"],
    frame_index: Int[Array | np.ndarray, "b T"],
    frame_valid: Bool[Array | np.ndarray, "b T"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b o"], dict[str, Array]]:
    """Frames that are not valid (padding of a short clip) never count."""
    grid = self.encoder.token_grid(video.shape)
    valid = None if frame_valid is None else token_valid(frame_valid, grid)
    trained = [train and name not in self.frozen for name in PARTS]
    tokens, features = self.encoder(video, None, valid, train=trained[0])
    x, pooled = self.head(
      tokens,
      grid=grid,
      frame_time_s=jnp.asarray(frame_time_s),
      frame_index=jnp.asarray(frame_index),
      valid=valid,
      train=trained[1],
    )
    x = x.astype(jnp.float32)
    for i, width in enumerate(self.hidden_layers):
      x = nn.Dense(width, name=f"hidden_{i}")(x)
      x = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, name=f"hidden_norm_{i}"
      )(x)
      x = jax.nn.relu(x)
    init = nn.initializers.zeros
    output = nn.Dense(self.outputs, kernel_init=init, name="output")(x)
    return output, {**features, **pooled, "output": output}
