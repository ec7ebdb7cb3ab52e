"""The names that VideoMAE's weights go by, brought to those of one library.

The original code (MCG-NJU/VideoMAE) keeps query, key and value in one matrix,
with biases of query and value beside it; `transformers` keeps them apart.
Echo-Vision-FM's released weights have the names of `transformers`, as
Accelerate saves them.  Sources: the state dicts of these programs.
"""

import re
from collections.abc import Mapping

import numpy as np

from echo_jax.interop.tables import Tensor

# What wrappers of a model put before every name: DataParallel, torch.compile.
WRAPPERS = ("module.", "_orig_mod.")
PARTS = ("query", "key", "value")
ORIGINAL = r"(^|\.)patch_embed\.proj\.weight$"
STEM = "videomae.embeddings.patch_embeddings.projection."
TO_TRANSFORMERS = (
  (r"^(encoder\.)?patch_embed\.proj\.", STEM),
  (r"^decoder\.blocks\.", "decoder.decoder_layers."),
  (r"^(encoder\.)?blocks\.", "videomae.encoder.layer."),
  (r"^(encoder\.)?norm\.", "videomae.layernorm."),
  (r"^head\.", "classifier."),
  (r"\.attn\.(query|key|value)\.", r".attention.attention.\1."),
  (r"\.attn\.q_bias$", ".attention.attention.query.bias"),
  (r"\.attn\.v_bias$", ".attention.attention.value.bias"),
  (r"\.attn\.proj\.", ".attention.output.dense."),
  (r"\.norm1\.", ".layernorm_before."),
  (r"\.norm2\.", ".layernorm_after."),
  (r"\.mlp\.fc1\.", ".intermediate.dense."),
  (r"\.mlp\.fc2\.", ".output.dense."),
)


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """The tensors without what wrappers put before all of their names."""
  found = dict(tensors)
  while found and (
    shared := [w for w in WRAPPERS if all(n.startswith(w) for n in found)]
  ):
    found = {name.removeprefix(shared[0]): x for name, x in found.items()}
  return found


def transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """VideoMAE's tensors under the names of `VideoMAEForPreTraining`.

  Biases of query and value keep which of the names of `transformers` they
  have (`q_bias` or `query.bias`); the original's become `query.bias`.  A key
  bias, which softmax removes, is left out.
  """
  tensors = unwrapped(tensors)
  if any(re.search(ORIGINAL, name) for name in tensors):
    return _from_original(tensors)
  if any(name.startswith("embeddings.") for name in tensors):  # a bare encoder
    return {f"videomae.{name}": x for name, x in tensors.items()}
  return tensors


def _from_original(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """From the names and the joint matrices of the original code."""
  apart = {}
  for name, x in tensors.items():
    stem, fused, kind = name.rpartition(".qkv.")
    if fused:
      thirds = zip(PARTS, np.split(np.asarray(x), 3), strict=True)
      apart |= {f"{stem}.{part}.{kind}": third for part, third in thirds}
    else:
      apart[name] = x
  found = {}
  for name, x in apart.items():
    for theirs, ours in TO_TRANSFORMERS:
      name = re.sub(theirs, ours, name)
    if not name.endswith(".attention.attention.key.bias"):
      found[name] = x
  return found
