"""Weights of Hugging Face `VideoMAEForPreTraining`, in and out.

One table names every tensor on both sides; importing and exporting read it
from left to right and back.  Sources: the state dict and configuration of
`transformers`, releases 4 and 5, which name two of the biases differently.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from echo_jax.interop import tables
from echo_jax.interop.tables import (
  Row,
  Tensor,
  linear,
  matrix,
  norm,
  same,
  shapes_of,
  tubelets,
)
from echo_jax.interop.videomae_names import transformers_names
from echo_jax.models.echo_videomae import EchoVideoMAE
from echo_jax.models.mae_decoder import MAEDecoder
from echo_jax.models.tokens import TokenGrid, mask_from_bool
from echo_jax.models.video_vit import VideoViT


class ImportedVideoMAE(EchoVideoMAE):
  """Echo-VideoMAE that remembers how its source named the query bias.

  `query.bias` since transformers 5, `q_bias` before and in the checkpoints on
  the hub, so that an export has the names of the import.
  """

  query_bias: Literal["query.bias", "q_bias"] = "query.bias"


def import_pretraining(
  state_dict: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[EchoVideoMAE, dict]:
  """A model and its parameters from a Hugging Face checkpoint.

  `state_dict` maps names to NumPy arrays, the names being also those of the
  original code (see `videomae_names`), and `config` is what
  `VideoMAEConfig.to_dict()` gives.  Returns the model and float32 parameters
  for `model.apply({"params": params}, video, hidden)`, with video [b, T, H,
  W, c] as the source was fed (channels last here).

  With `use_mean_pooling` the source has no norm after its encoder (its
  classifier has one of its own), and neither has the model.  Raises
  ValueError naming every setting or tensor that does not fit.
  """
  tensors = transformers_names(state_dict)
  model = model_from_config(config, tensors)
  table = list(tensor_table(model))
  return model, tables.load(table, tensors, _parameter_shapes(model))


def export_pretraining(
  model: EchoVideoMAE,
  params: Mapping[str, Any],
  query_bias: Literal["query.bias", "q_bias"] | None = None,
) -> dict[str, Tensor]:
  """State dict of a model: the inverse of `import_pretraining`, bit for bit.

  Biases are named as in the import, in a model of our own as transformers 5
  does; `query_bias="q_bias"` writes the names of release 4 and of the hub.
  """
  return tables.export(list(tensor_table(model, query_bias)), params)


# --- configuration ----------------------------------------------------------

# What a configuration must say, and the only value we carry out where the
# model has no such choice.
REQUIRED = (
  "image_size", "patch_size", "num_channels", "num_frames", "tubelet_size",
  "hidden_size", "num_hidden_layers", "num_attention_heads",
  "intermediate_size", "layer_norm_eps", "use_mean_pooling",
  "decoder_hidden_size", "decoder_num_hidden_layers",
  "decoder_num_attention_heads", "decoder_intermediate_size",
)  # fmt: skip
FIXED = {
  "model_type": "videomae",
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.0,
  "attention_probs_dropout_prob": 0.0,
}


def model_from_config(
  config: Mapping[str, Any], state_dict: Mapping[str, Tensor] = {}
) -> ImportedVideoMAE:
  """The model that a `VideoMAEConfig` dict describes."""
  _check_config(config)
  height, width = _pair(config["image_size"])
  patch = _pair(config["patch_size"])[0]
  shape = config["num_frames"], height, width, config["num_channels"]
  grid = TokenGrid.of(shape, config["tubelet_size"], patch)
  shared = {
    "qkv_bias": config.get("qv_bias", config.get("qkv_bias")),
    "norm_eps": config["layer_norm_eps"],
  }
  encoder = VideoViT(
    width=config["hidden_size"],
    depth=config["num_hidden_layers"],
    heads=config["num_attention_heads"],
    mlp_ratio=config["intermediate_size"] / config["hidden_size"],
    patch=patch,
    tubelet=config["tubelet_size"],
    channels=config["num_channels"],
    final_norm=not config["use_mean_pooling"],
    grid=grid.shape,
    **shared,
  )
  decoder = MAEDecoder(
    width=config["decoder_hidden_size"],
    depth=config["decoder_num_hidden_layers"],
    heads=config["decoder_num_attention_heads"],
    mlp_ratio=(
      config["decoder_intermediate_size"] / config["decoder_hidden_size"]
    ),
    **shared,
  )
  return ImportedVideoMAE(encoder, decoder, query_bias_of(state_dict))


def query_bias_of(
  names: Iterable[str],
) -> Literal["query.bias", "q_bias"]:
  """How tensors of `transformers` name the bias of a query."""
  older = any(name.endswith(".attention.q_bias") for name in names)
  return "q_bias" if older else "query.bias"


def _check_config(config: Mapping[str, Any]) -> None:
  missing = [name for name in REQUIRED if name not in config]
  if "qv_bias" not in config and "qkv_bias" not in config:
    missing.append("qv_bias (qkv_bias before transformers 5)")
  if missing:
    raise ValueError(
      f"the configuration lacks {', '.join(missing)}; pass the whole of "
      "VideoMAEConfig.to_dict()"
    )
  for name, value in FIXED.items():
    if config.get(name, value) != value:
      raise ValueError(
        f"{name}={config[name]!r} is not supported, only {value!r} is"
      )
  patch = _pair(config["patch_size"])
  if patch[0] != patch[1]:
    raise ValueError(f"patch_size={patch} is not supported: not square")


def _pair(size: int | list | tuple) -> tuple[int, int]:
  return (size, size) if isinstance(size, int) else tuple(size)


# --- tensors ----------------------------------------------------------------


def tensor_table(
  model: EchoVideoMAE, query_bias: str | None = None
) -> Iterator[Row]:
  """Every tensor of a masked autoencoder under both of its names."""
  query_bias = query_bias or getattr(model, "query_bias", "query.bias")
  for row in encoder_table(model.encoder, query_bias):
    yield row._replace(path=f"encoder/{row.path}")
  yield matrix("decoder/embed/kernel", "encoder_to_decoder.weight")
  yield Row(
    "decoder/mask_token", "mask_token", np.ravel, lambda x: x[None, None]
  )
  for i in range(model.decoder.depth):
    here, there = f"decoder/block_{i}", f"decoder.decoder_layers.{i}"
    yield from _block(here, there, model.decoder.qkv_bias, query_bias)
  yield from norm("decoder/norm", "decoder.norm")
  yield from linear("decoder/head", "decoder.head")


def encoder_table(encoder: VideoViT, query_bias: str) -> Iterator[Row]:
  """Every tensor of an encoder under both of its names."""
  stem = "videomae.embeddings.patch_embeddings.projection"
  tubelet = encoder.tubelet, encoder.patch, encoder.patch, encoder.channels
  yield tubelets("embed/kernel", f"{stem}.weight", tubelet)
  yield same("embed/bias", f"{stem}.bias")
  for i in range(encoder.depth):
    there = f"videomae.encoder.layer.{i}"
    yield from _block(f"block_{i}", there, encoder.qkv_bias, query_bias)
  if encoder.final_norm:
    yield from norm("norm", "videomae.layernorm")


def _block(
  here: str, there: str, qkv_bias: bool, query_bias: str
) -> Iterator[Row]:
  inner = f"{there}.attention.attention"
  for part in ("query", "key", "value"):
    yield matrix(f"{here}/attention/{part}/kernel", f"{inner}.{part}.weight")
  if qkv_bias:
    value_bias = {"query.bias": "value.bias", "q_bias": "v_bias"}[query_bias]
    yield same(f"{here}/attention/query/bias", f"{inner}.{query_bias}")
    yield same(f"{here}/attention/value/bias", f"{inner}.{value_bias}")
  yield from linear(
    f"{here}/attention/output", f"{there}.attention.output.dense"
  )
  yield from linear(f"{here}/mlp/expand", f"{there}.intermediate.dense")
  yield from linear(f"{here}/mlp/reduce", f"{there}.output.dense")
  yield from norm(f"{here}/attention_norm", f"{there}.layernorm_before")
  yield from norm(f"{here}/mlp_norm", f"{there}.layernorm_after")


def _parameter_shapes(model: EchoVideoMAE) -> dict[str, tuple[int, ...]]:
  encoder = model.encoder
  t, h, w = encoder.grid
  height, width = h * encoder.patch, w * encoder.patch
  shape = 1, t * encoder.tubelet, height, width, encoder.channels
  hidden = np.arange(t * h * w)[None] % 2 == 0
  mask = jax.tree.map(jnp.asarray, mask_from_bool(hidden))
  return shapes_of(
    lambda: model.init(jax.random.key(0), jnp.zeros(shape), mask)["params"]
  )
