"""Weights of torchvision's `r3d_18` and `r2plus1d_18`.

Source: the state dict of `torchvision.models.video.VideoResNet`.  Its numbers
of batches that a batch norm has seen have no counterpart and are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from echo_jax.interop import tables
from echo_jax.interop.tables import Row, Tensor, convolution, linear, same
from echo_jax.models.video_resnet import VideoResNet

COUNTERS = ".num_batches_tracked"
STAGES = ("layer1", "layer2", "layer3", "layer4")


def import_video_resnet(
  state_dict: Mapping[str, Tensor],
) -> tuple[VideoResNet, dict[str, Any]]:
  """A model and its variables from a state dict of NumPy arrays.

  The mean over tokens of `model.apply(variables, video)` is the output of the
  network, for video [b, T, H, W, c] as it was fed (channels last here).

  Raises:
    ValueError: names every tensor that does not fit.
  """
  tensors = without_counters(state_dict)
  model = model_of(tensors)
  shape = 1, model.tubelet, model.patch, model.patch, model.channels
  shapes = tables.shapes_of(
    lambda: model.init(jax.random.key(0), jnp.zeros(shape))
  )
  return model, tables.load(list(tensor_table(model)), tensors, shapes)


def without_counters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """The state dict without what has no counterpart."""
  return {k: v for k, v in state_dict.items() if not k.endswith(COUNTERS)}


def model_of(tensors: Mapping[str, Tensor]) -> VideoResNet:
  """The network that the names and shapes of its tensors tell.

  Raises:
    ValueError: there is no first convolution, or a stage is missing.
  """
  factored = "stem.3.weight" in tensors
  tail = ".conv2.0.3.weight" if factored else ".conv2.0.weight"
  stages = [
    [n for n in tensors if n.startswith(f"{stage}.") and n.endswith(tail)]
    for stage in STAGES
  ]
  if "stem.0.weight" not in tensors or not all(stages):
    raise ValueError(
      "these are no weights of torchvision's r3d_18 or r2plus1d_18: the stem "
      f"or one of {', '.join(STAGES)} is missing"
    )
  first = tensors["stem.0.weight"].shape
  return VideoResNet(
    factored=factored,
    widths=tuple(tensors[names[0]].shape[0] for names in stages),
    blocks=tuple(len(names) for names in stages),
    stem_middle=first[0] if factored else VideoResNet.stem_middle,
    channels=first[1],
    classes=tensors["fc.weight"].shape[0] if "fc.weight" in tensors else 0,
  )


def tensor_table(model: VideoResNet) -> Iterator[Row]:
  """Every tensor under both of its names; paths begin with a collection."""
  yield from _convolution("embed", "stem", "stem.0", model.factored)
  yield from _batch_norm("embed_norm", f"stem.{4 if model.factored else 1}")
  number, before = 0, model.widths[0]
  for stage, (width, blocks) in enumerate(
    zip(model.widths, model.blocks, strict=True)
  ):
    for i in range(blocks):
      here, there = f"block_{number}", f"layer{stage + 1}.{i}"
      for k in (0, 1):
        inner = f"{there}.conv{k + 1}"
        yield from _convolution(
          f"{here}/conv_{k}", f"{inner}.0", f"{inner}.0", model.factored
        )
        yield from _batch_norm(f"{here}/norm_{k}", f"{inner}.1")
      if (stage and not i) or before != width:
        skip = f"params/{here}/skip/kernel"
        yield convolution(skip, f"{there}.downsample.0.weight")
        yield from _batch_norm(f"{here}/skip_norm", f"{there}.downsample.1")
      number, before = number + 1, width
  if model.classes:
    yield from linear("params/head", "fc")


def _convolution(
  here: str, parts: str, whole: str, factored: bool
) -> Iterator[Row]:
  """Of one layer: `whole`, or its two convolutions among `parts`."""
  if not factored:
    yield convolution(f"params/{here}/conv/kernel", f"{whole}.weight")
    return
  yield convolution(f"params/{here}/space/kernel", f"{parts}.0.weight")
  yield from _batch_norm(f"{here}/space_norm", f"{parts}.1")
  yield convolution(f"params/{here}/time/kernel", f"{parts}.3.weight")


def _batch_norm(here: str, there: str) -> Iterator[Row]:
  yield from tables.norm(f"params/{here}", there)
  yield same(f"batch_stats/{here}/mean", f"{there}.running_mean")
  yield same(f"batch_stats/{here}/var", f"{there}.running_var")
