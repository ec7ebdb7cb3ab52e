"""Writes a trained model for others: weights, a runnable file, its contract.

weights.safetensors holds the best checkpoint's weights, and in its metadata
how clips must reach the model, what its outputs mean and which code made it;
`--config.init_from=DIR` starts from it, under the same contract only, and
`interop.exported.load_exported` reads it.
predict.jaxexport is the whole model as one function of clips, for any number
of them, that needs JAX and none of our code; contract.json says what it takes
and gives:

  from jax import export
  model = export.deserialize(bytearray(open("predict.jaxexport", "rb").read()))
  values = model.call(video, frame_time_ms, frame_index, frame_valid)["ef_pct"]

Runs that predict nothing, and those of whole studies, have no such file.
Nothing about a patient is written.  Research only, not for clinical use.

Example:
  echo-jax export runs/ef --out exported
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echo_jax import experiment
from echo_jax.interop.artefact import (
  PLATFORMS,
  inputs_of,
  make_artefact,
  outputs_of,
)
from echo_jax.interop.exported import about_of, write_exported
from echo_jax.interop.weight_files import digest_of
from echo_jax.objectives.objective import Aux
from echo_jax.training.writers import write_whole

WEIGHTS, PREDICT, CONTRACT = (
  "weights.safetensors", "predict.jaxexport", "contract.json"
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Run, where to write, and what it shall run on."""
  parser.add_argument("workdir", type=Path)
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument(
    "--platforms", nargs="+", choices=PLATFORMS, default=list(PLATFORMS),
    help="that predict.jaxexport shall run on (default: all)",
  )  # fmt: skip


def run(args: argparse.Namespace) -> int:
  """Writes the three files; the contract last."""
  record = experiment.read_record(args.workdir)
  step, variables = experiment.best_variables(str(args.workdir))
  about = about_of(record, step)
  args.out.mkdir(parents=True, exist_ok=True)
  for name in (WEIGHTS, PREDICT, CONTRACT):  # not of another export
    (args.out / name).unlink(missing_ok=True)
  write_exported(args.out / WEIGHTS, variables, about)
  written, signature = [WEIGHTS], {}
  if not record["targets"]:
    print(f"no {PREDICT}: a pre-training run predicts no target")
  elif "clip" in record["contract"]:
    print(f"no {PREDICT}: the model reads whole studies, not clips")
  else:
    signature = write_artefact(
      args.out / PREDICT, args.workdir, variables, args.platforms
    )
    written.append(PREDICT)
  files = {name: digest_of(args.out / name) for name in written}
  text = json.dumps(about | signature | {"sha256": files}, indent=2)
  write_whole(args.out / CONTRACT, text + "\n")
  for name in (*written, CONTRACT):
    size = (args.out / name).stat().st_size
    print(f"{args.out / name}: {size / 1e6:.1f} MB")
  return 0


def write_artefact(
  path: Path, workdir: Path, variables: Mapping[str, Any],
  platforms: list[str],
) -> dict[str, Any]:  # fmt: skip
  """Writes the runnable file; returns what it is called with and gives."""
  built = experiment.rebuild(workdir, with_data=False)
  collections = dict(variables)
  params = collections.pop("params")
  path.write_bytes(
    make_artefact(
      built.model, params, Aux(collections), built.contract, built.targets,
      built.scale, platforms,
    )
  )  # fmt: skip
  return {
    "inputs": inputs_of(built.contract),
    "outputs": outputs_of(built.targets),
    "platforms": list(platforms),
  }
