"""A trained model as one file that runs with JAX alone, without our code.

`jax.export` keeps the compiled-to program (StableHLO) with its weights, for
any number of clips.  Axes: b clip, T H W frames and pixels, c channel.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.export

from echo_jax.data.contract import InputContract, normalise
from echo_jax.evaluation.predict import make_predict_step
from echo_jax.models.attention import attend_plainly
from echo_jax.models.layers import PLAIN
from echo_jax.models.predictor import Predictor
from echo_jax.objectives.outputs import Standardisation
from echo_jax.targets import Target, layout

PLATFORMS = ("cpu", "cuda", "tpu")


def make_artefact(
  model: Predictor, params: Any, aux: Any, contract: InputContract,
  targets: Sequence[Target], scale: Standardisation,
  platforms: Sequence[str] = PLATFORMS,
) -> bytes:  # fmt: skip
  """A serialised function of clips, to be read by `jax.export.deserialize`.

  Its `call(video, frame_time_ms, frame_index, frame_valid)` takes what
  `inputs_of` says, for any b on one of the platforms, and gives a dict from
  target to values in its unit [b], or probabilities ([b], or [b, class] in
  the order of `outputs_of`).

  Args:
    model: of clips.
    params, aux: weights, and batch statistics if there are any; they become
      part of the program.
    contract, targets, scale: of the model.
    platforms: that it shall run on.
  """
  predict_step = make_predict_step(
    portable(model), partial(normalise, contract=contract), targets, scale
  )

  def of_row(*inputs: jax.Array) -> dict[str, jax.Array]:
    batch = {
      one["name"]: row[None]
      for one, row in zip(inputs_of(contract), inputs, strict=True)
    }
    values = predict_step(params, aux, batch)[0][0]
    return {
      target.name: values[place.value] if target.classes
      else values[place.value][0]
      for target, place in zip(targets, layout(targets), strict=True)
    }  # fmt: skip

  (b,) = jax.export.symbolic_shape("b")
  shapes = [
    jax.ShapeDtypeStruct((b, *one["shape"][1:]), one["dtype"])
    for one in inputs_of(contract)
  ]
  # Row by row, so that no layer asks for the number of clips.
  exported = jax.export.export(
    jax.jit(jax.vmap(of_row)), platforms=platforms
  )(*shapes)
  return bytes(exported.serialize())


def portable(model: Predictor) -> Predictor:
  """The model with nothing in it that only one kind of device can do."""
  if not hasattr(model.encoder, "execution"):
    return model
  execution = dataclasses.replace(PLAIN, spread=lambda _: attend_plainly)
  return model.clone(encoder=model.encoder.clone(execution=execution))


def inputs_of(contract: InputContract) -> list[dict[str, Any]]:
  """Name, shape, type and meaning of what an artefact is called with."""
  frames = ["b", contract.frames]
  return [
    {
      "name": "video", "shape": ["b", *contract.shape], "dtype": "uint8",
      "meaning": "grey levels 0 to 255, frames, rows, columns, channels",
    },
    {
      "name": "frame_time_ms", "shape": frames, "dtype": "float32",
      "meaning": "of each frame, from the first frame of the video",
    },
    {
      "name": "frame_index", "shape": frames, "dtype": "int32",
      "meaning": "number of each frame in the video",
    },
    {
      "name": "frame_valid", "shape": frames, "dtype": "bool",
      "meaning": "false where a short video is repeated to fill the clip",
    },
  ]  # fmt: skip


def outputs_of(targets: Sequence[Target]) -> list[dict[str, Any]]:
  """Name, shape, unit and meaning of what an artefact gives."""
  return [
    {
      "name": target.name,
      "shape": ["b", len(target.classes)] if target.classes else ["b"],
      "kind": target.kind,
      "unit": target.unit or "probability",
      "classes": list(target.classes),
      "rules": [target.rule(label) for label in range(target.labels)],
    }
    for target in targets
  ]  # fmt: skip
