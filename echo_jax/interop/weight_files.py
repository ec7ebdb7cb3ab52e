"""Files of weights: safetensors, and what PyTorch saves.

A file of PyTorch's is a pickle; only tensors and plain values are taken from
it, so that opening a file runs none of its code.  Weights in several files are
read by transformers' index of them.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax.interop.tables import Tensor

PICKLES = (".bin", ".pth", ".pt", ".tar")
# In a folder, the first of these: echo-jax export, transformers, Accelerate.
NAMES = (
  "weights.safetensors", "model.safetensors", "model.safetensors.index.json",
  "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
INDEX = ".index.json"
# Under which training programs keep the model beside their optimiser.
MODELS = ("model", "module", "state_dict", "model_state_dict")


def find_weights(path: Path) -> Path | None:
  """The file of weights that a path, or one of `NAMES` in it, is; or None."""
  if path.is_file():
    return path
  return next((path / n for n in NAMES if (path / n).is_file()), None)


def digest_of(path: Path) -> str:
  """SHA-256 of a file; of an index, over it and the digests of its files."""
  with path.open("rb") as file:
    found = hashlib.file_digest(file, "sha256")
  if path.name.endswith(INDEX):
    for name in sorted(set(_index(path).values())):
      found.update(digest_of(path.with_name(name)).encode())
  return found.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
  """Tensors of a file, or of all that an index names, by name.

  Raises:
    ValueError: a kind of file that is not known, a broken one, one with more
      than tensors and plain values in it, or PyTorch is not installed.
  """
  if path.suffix == ".safetensors":
    return _read_safetensors(path)
  if path.suffix in PICKLES:
    return _read_pickle(path)
  if path.name.endswith(INDEX):
    return _read_indexed(path)
  raise ValueError(
    f"{path} is no file of weights: known are .safetensors, of PyTorch "
    f"{', '.join(PICKLES)}, and {INDEX} of either"
  )


def _read_indexed(path: Path) -> dict[str, Tensor]:
  place, found = _index(path), {}
  for name in sorted(set(place.values())):
    found |= read_weights(path.with_name(name))
  if odd := sorted(place.keys() ^ found.keys()):
    raise ValueError(f"{path} and its files differ in {', '.join(odd[:5])}")
  return found


def _index(path: Path) -> dict[str, str]:
  """The file beside the index that each tensor is in."""
  try:
    place = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} is no index: it has no weight_map") from error
  for name in set(place.values()):
    if Path(name).name != name or not path.with_name(name).is_file():
      raise ValueError(f"{path} names {name!r}, which is no file beside it")
  return place


def read_metadata(path: Path) -> dict[str, str]:
  """What a safetensors file says of itself; nothing of another file."""
  if path.suffix != ".safetensors":
    return {}
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(path, framework="numpy") as file:
      return dict(file.metadata() or {})
  except SafetensorError as error:
    raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
  from safetensors import SafetensorError
  from safetensors.flax import load_file  # NumPy's has no bfloat16

  try:
    return {name: np.asarray(x) for name, x in load_file(path).items()}
  except SafetensorError as error:
    raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
  try:
    import torch
  except ModuleNotFoundError as error:
    raise ValueError(
      f"{path} is PyTorch's, which is not installed: pip install "
      "'echo-jax[torch]', or save the state dict as .safetensors"
    ) from error
  import pickle

  try:
    # VideoMAE's programs save their command line, too.
    with torch.serialization.safe_globals([argparse.Namespace]):
      found = torch.load(path, map_location="cpu", weights_only=True)
  except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
    raise ValueError(
      f"{path} is broken, or holds objects other than tensors, which are not "
      "opened since that runs their code; save its state dict alone"
    ) from error
  state = _model_in(found)
  if not state or not all(torch.is_tensor(x) for x in state.values()):
    raise ValueError(
      f"{path} holds no state dict, nor one under {', '.join(MODELS)}"
    )
  return {
    name: (x.float() if x.is_floating_point() else x).numpy()
    for name, x in state.items()
  }


def _model_in(found: Any) -> Mapping[str, Any]:
  """The state dict in what a training program saved."""
  if not isinstance(found, Mapping):
    return {}
  inner = [found[n] for n in MODELS if isinstance(found.get(n), Mapping)]
  return _model_in(inner[0]) if inner else found
