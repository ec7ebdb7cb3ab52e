"""One study through all its modalities: encoders, then one fusion.

A study is a mapping from name to arrays, as `data.studies` makes it; what a
model is not made for is not looked at.  Axes: b study, v clip, T H W frames
and pixels, c channel, k Doppler location, s sample, l lead, m modality,
e embedding, d width, o output.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from echo_jax.modalities import MODALITIES
from echo_jax.models.clinical import ClinicalEncoder
from echo_jax.models.doppler import DopplerEncoder
from echo_jax.models.ecg import ECGEncoder
from echo_jax.models.fusion import drop_modalities
from echo_jax.models.layers import Codes
from echo_jax.models.study import StudyEncoder
from echo_jax.models.tokens import token_valid
from echo_jax.models.video_vit import VideoViT

Arrays = Mapping[str, Array | np.ndarray]
Tokens = tuple[Float[Array, "b n d"], Bool[Array, "b n"] | None]


class StudyModel(nn.Module):
  """Targets of a study in standardised units or logits, from what is there.

  Attributes:
    fusion: any module of `fusion`; its `modalities`, in the order of
      `MODALITIES`, say which encoders are needed.
    encoder, pool: of one clip; a head of `heads` that has no parameters makes
      its tokens one vector.
    video, doppler, ecg, clinical, genetic: encoder of each modality.
    leads: places of the ECG's leads among the twelve.
    modality_dropout: rate at which training drops a modality that is there,
      never the only one (key "dropout").

  What a modality that is not `present` holds has no influence, nor does a
  clip, spectrum, lead or sample that is not valid.
  """

  fusion: nn.Module
  encoder: VideoViT | None = None
  pool: nn.Module | None = None
  video: StudyEncoder | None = None
  doppler: DopplerEncoder | None = None
  ecg: ECGEncoder | None = None
  clinical: ClinicalEncoder | None = None
  genetic: ClinicalEncoder | None = None
  leads: tuple[int, ...] = tuple(range(12))
  modality_dropout: float | int = 0.0

  @nn.compact
  def __call__(
    self, study: Arrays, *, train: bool = False
  ) -> tuple[Float[Array, "b o"], dict[str, Array]]:
    """Reads of `study`: `present` [b m] over `MODALITIES` and, of video,
    either `clip_features` [b v e] or `video` [b v T H W c] with `frame_valid`.
    What frozen encoders gave may stand for spectra (`doppler_tokens` [b k d])
    and ECG (`ecg_tokens` [b 1 d]).
    """
    names = self.fusion.modalities
    places = [MODALITIES.index(name) for name in names]
    present = jnp.asarray(study["present"])[:, places]
    if train and self.modality_dropout:
      present = drop_modalities(
        self.make_rng("dropout"), present, self.modality_dropout
      )
    embeddings, valid = {}, {}
    for name in names:
      embeddings[name], there = getattr(self, f"read_{name}")(study, train)
      if there is not None:
        valid[name] = there
    output, features = self.fusion(
      embeddings, present, token_valid=valid, train=train
    )
    tokens = {f"{name}_tokens": x for name, x in embeddings.items()}
    return output, {**tokens, **features, "present": present}

  def encode_clips(
    self,
    video: Float[Array | np.ndarray, "b T H W c"],
    frame_valid: Bool[Array | np.ndarray, "b T"],
    train: bool = False,
  ) -> Float[Array, "b e"]:
    """One vector a clip: what is cached of a frozen encoder."""
    grid = self.encoder.token_grid(video.shape)
    valid = token_valid(jnp.asarray(frame_valid), grid)
    tokens, _ = self.encoder(video, None, valid, train=train)
    none = jnp.zeros(frame_valid.shape)  # such heads do not read times
    embedding, _ = self.pool(
      tokens, grid=grid, frame_time_s=none,
      frame_index=none.astype(jnp.int32), valid=valid, train=train,
    )  # fmt: skip
    return embedding

  def read_video(self, study: Arrays, train: bool) -> Tokens:
    """One token: the set of clips."""
    if "clip_features" in study:
      clips = jnp.asarray(study["clip_features"])
    else:
      video, valid = study["video"], study["frame_valid"]
      shape = video.shape[:2]
      flat = self.encode_clips(
        video.reshape(-1, *video.shape[2:]),
        valid.reshape(-1, valid.shape[2]), train,
      )  # fmt: skip
      clips = flat.reshape(*shape, -1)
    token, _ = self.video(
      clips, study["view"], study["video_valid"], train=train
    )
    return token[:, None], None

  def encode_doppler(self, study: Arrays) -> Float[Array, "b k d"]:
    """One token a location: what is cached of a frozen encoder."""
    b, k = study["doppler_valid"].shape
    names = ("spectrum", "spectrum_shown", "velocity_cm_s", "time_ms")
    spectra = (
      study[name].reshape(b * k, *study[name].shape[2:]) for name in names
    )
    token, _ = self.doppler(*spectra, study["doppler_kind"].reshape(-1))
    return token.reshape(b, k, -1)

  def encode_ecg(self, study: Arrays) -> Float[Array, "b 1 d"]:
    """One token: what is cached of a frozen encoder."""
    token, _ = self.ecg(
      study["ecg_mv"], study["lead_valid"], study["sample_valid"],
      lead=self.leads,
    )  # fmt: skip
    return token[:, None]

  def read_doppler(self, study: Arrays, train: bool) -> Tokens:
    """One token a location, with a code that says which."""
    del train  # no layer of the signals' encoders behaves otherwise in training
    valid = jnp.asarray(study["doppler_valid"])
    given = "doppler_tokens" in study
    tokens = study["doppler_tokens"] if given else self.encode_doppler(study)
    k, width = tokens.shape[1:]
    code = Codes(k, width, name="location")(jnp.arange(k))
    return jnp.asarray(tokens) + code, valid

  def read_ecg(self, study: Arrays, train: bool) -> Tokens:
    """One token."""
    del train
    given = "ecg_tokens" in study
    return jnp.asarray(
      study["ecg_tokens"] if given else self.encode_ecg(study)
    ), None

  def read_clinical(self, study: Arrays, train: bool) -> Tokens:
    """One token."""
    token, _ = self.clinical(
      study["clinical_numbers"], study["clinical_categories"], train=train
    )
    return token[:, None], None

  def read_genetic(self, study: Arrays, train: bool) -> Tokens:
    """One token."""
    token, _ = self.genetic(
      study["genetic_numbers"], study["genetic_categories"], train=train
    )
    return token[:, None], None
