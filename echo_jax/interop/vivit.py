"""Weights of Hugging Face `VivitModel`, as releases 4 and 5 name them.

A bias of the keys adds the same number to every score of a query, which
softmax removes: it has no counterpart and is left out.  Source: the state dict
and configuration of `transformers`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

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
  tubelets,
)
from echo_jax.models.tokens import TokenGrid
from echo_jax.models.vivit import ViViT

# From the names of release 5 to those of release 4 and of the hub.
OLDER = (
  (r"^vivit\.", ""),
  (r"^layers\.", "encoder.layer."),
  (r"\.attention\.q_proj\.", ".attention.attention.query."),
  (r"\.attention\.k_proj\.", ".attention.attention.key."),
  (r"\.attention\.v_proj\.", ".attention.attention.value."),
  (r"\.attention\.o_proj\.", ".attention.output.dense."),
  (r"\.mlp\.fc1\.", ".intermediate.dense."),
  (r"\.mlp\.fc2\.", ".output.dense."),
)
KEY_BIAS = ".attention.attention.key.bias"
REQUIRED = (
  "image_size", "tubelet_size", "num_channels", "num_frames", "hidden_size",
  "num_hidden_layers", "num_attention_heads", "intermediate_size", "qkv_bias",
  "layer_norm_eps",
)  # fmt: skip
FIXED = {
  "model_type": "vivit",
  "hidden_act": "gelu_fast",
  "hidden_dropout_prob": 0.0,
  "attention_probs_dropout_prob": 0.0,
  "pooler_act": "tanh",
}


def import_vivit(
  state_dict: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[ViViT, dict[str, Any]]:
  """A model and its parameters from a state dict of NumPy arrays.

  `config` is what `VivitConfig.to_dict()` gives.  `model.apply({"params":
  params}, video)`, with video [b, T, H, W, c] as the source was fed (channels
  last here), has the source's last hidden state in the features "class_token"
  and "tokens", and its pooler's output, if it has one, in "pooled".

  Raises:
    ValueError: names every setting or tensor that does not fit.
  """
  tensors = older_names(state_dict)
  model = model_from_config(config, "pooler.dense.weight" in tensors)
  t, h, w = model.grid
  shape = (
    1, t * model.tubelet, h * model.patch, w * model.patch, model.channels
  )
  shapes = tables.shapes_of(
    lambda: model.init(jax.random.key(0), jnp.zeros(shape))["params"]
  )
  table = list(tensor_table(model))
  return model, tables.load(table, tensors, shapes)


def older_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """The state dict under the names of release 4, without biases of keys."""
  found = {}
  for name, tensor in state_dict.items():
    for newer, older in OLDER:
      name = re.sub(newer, older, name)
    if not name.endswith(KEY_BIAS):
      found[name] = tensor
  return found


def model_from_config(config: Mapping[str, Any], pooler: bool) -> ViViT:
  """The model that a `VivitConfig` dict describes.

  Raises:
    ValueError: a setting that is missing, or that it does not have.
  """
  if missing := [name for name in REQUIRED if name not in config]:
    raise ValueError(
      f"the configuration lacks {', '.join(missing)}; pass the whole of "
      "VivitConfig.to_dict()"
    )
  for name, value in FIXED.items():
    if config.get(name, value) != value:
      raise ValueError(
        f"{name}={config[name]!r} is not supported, only {value!r} is"
      )
  width = config["hidden_size"]
  if config.get("pooler_output_size") not in (None, width):
    raise ValueError(
      f"pooler_output_size={config['pooler_output_size']} is not supported, "
      f"only that of the tokens ({width}) is"
    )
  size, (tubelet, *patch) = config["image_size"], config["tubelet_size"]
  if patch[0] != patch[1]:
    raise ValueError(f"tubelet_size={config['tubelet_size']}: not square")
  height, columns = (size, size) if isinstance(size, int) else size
  shape = config["num_frames"], height, columns, config["num_channels"]
  return ViViT(
    width=width,
    depth=config["num_hidden_layers"],
    heads=config["num_attention_heads"],
    mlp_ratio=config["intermediate_size"] / width,
    patch=patch[0],
    tubelet=tubelet,
    channels=config["num_channels"],
    qkv_bias=config["qkv_bias"],
    norm_eps=config["layer_norm_eps"],
    grid=TokenGrid.of(shape, tubelet, patch[0]).shape,
    readout="pooled" if pooler else "tokens",
  )


def tensor_table(model: ViViT) -> Iterator[Row]:
  """Every tensor under both of its names."""
  stem = "embeddings.patch_embeddings.projection"
  tubelet = model.tubelet, model.patch, model.patch, model.channels
  yield tubelets("embed/map/kernel", f"{stem}.weight", tubelet)
  yield same("embed/map/bias", f"{stem}.bias")
  yield Row(
    "embed/class_token", "embeddings.cls_token", np.ravel,
    lambda x: x[None, None],
  )  # fmt: skip
  yield Row(
    "embed/position", "embeddings.position_embeddings", lambda x: x[0],
    lambda x: x[None],
  )  # fmt: skip
  for i in range(model.depth):
    here, there = f"block_{i}", f"encoder.layer.{i}"
    for part in ("query", "key", "value"):
      inner = f"{there}.attention.attention.{part}"
      yield matrix(f"{here}/attention/{part}/kernel", f"{inner}.weight")
      if model.qkv_bias and part != "key":
        yield same(f"{here}/attention/{part}/bias", f"{inner}.bias")
    yield from linear(
      f"{here}/attention/output", f"{there}.attention.output.dense"
    )
    yield from linear(f"{here}/mlp/expand", f"{there}.intermediate.dense")
    yield from linear(f"{here}/mlp/reduce", f"{there}.output.dense")
    yield from norm(f"{here}/attention_norm", f"{there}.layernorm_before")
    yield from norm(f"{here}/mlp_norm", f"{there}.layernorm_after")
  yield from norm("norm", "layernorm")
  if model.readout == "pooled":
    yield from linear("pooler", "pooler.dense")
