"""Weights of our own for others: safetensors that carry their input contract.

A file says how clips reach its model, what the outputs mean and which code and
run it came from, and is refused under another contract.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from echo_jax.data.contract import InputContract
from echo_jax.interop.weight_files import read_metadata, read_weights
from echo_jax.targets import target_named
from echo_jax.training.writers import write_whole
from echo_jax.trees import named_leaves

ABOUT = "echo_jax"  # the key of the metadata that makes a file ours
# What of a run record goes with the weights: no path and no patient.
KEPT = (
  "experiment", "config", "contract", "contract_hash", "data", "targets",
  "scale", "metric", "seed", "step", "echo_jax", "commit", "packages",
)  # fmt: skip
PLACES = ("dir", "cache", "init_from")  # settings that are of one machine


def about_of(record: Mapping[str, Any], step: int) -> dict[str, Any]:
  """What a file says of itself, from the record of its run."""
  named = record | {
    "config": _without_places(record["config"]), "step": step,
    "experiment": Path(record["experiment"]).name,
  }  # fmt: skip
  return {name: named[name] for name in KEPT}


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Settings less those that only tell where something lies."""
  return {
    name: _without_places(value) if isinstance(value, Mapping) else value
    for name, value in settings.items()
    if name not in PLACES
  }


def write_exported(
  path: Path, variables: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
  """Variables (collection -> tree) by names such as params/encoder/norm/bias.

  `about` is that of `about_of`; in the metadata also the contract, its hash
  and the targets with the order of their classes are texts of their own, for
  readers that know nothing of this package.
  """
  from safetensors.numpy import save

  tensors = {
    name: np.ascontiguousarray(leaf)
    for name, leaf in named_leaves(jax.device_get(variables)).items()
  }
  content = save(
    tensors,
    {
      ABOUT: json.dumps(about),
      "input_contract": json.dumps(about["contract"]),
      "contract_hash": about["contract_hash"],
      "targets": json.dumps(about["targets"]),
      "code_version": f"{about['echo_jax']} {about['commit']}".strip(),
    },
  )
  write_whole(path, content)  # `save_file` hides it from other users


def read_about(path: Path) -> dict[str, Any] | None:
  """What an exported file says of itself; None if it is another's."""
  text = read_metadata(path).get(ABOUT)
  return None if text is None else json.loads(text)


def read_exported(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Variables (collection -> tree) of an exported file, and `read_about`.

  Raises:
    ValueError: it is not one of ours.
  """
  about = read_about(path)
  if about is None:
    raise ValueError(f"{path} was not written by `echo-jax export`")
  return unflatten_dict(read_weights(path), sep="/"), about


def load_exported(
  path: Path, contract: InputContract, targets: Sequence[str]
) -> dict[str, Any]:
  """Variables of an exported file, for a model under the same contract.

  Args:
    contract: how clips reach the model.
    targets: names of what it predicts, in their order.

  Raises:
    ValueError: the file is of another contract; the message has both.
  """
  variables, about = read_exported(path)
  meanings = [target_named(name).meaning for name in targets]
  theirs = {"input": about["contract"], "targets": about["targets"]}
  ours = {"input": vars(contract), "targets": meanings}
  if contract.hash(meanings) != about["contract_hash"]:
    raise ValueError(
      f"{path} is of another input contract: it has {json.dumps(theirs)}; "
      f"here it is {json.dumps(ours)}"
    )
  return variables
