"""Makes golden_nets.npz: what tiny networks of other libraries give.

  python tests/interop/make_golden_nets.py   (extras [oracle,torchvision])

torchvision's own blocks in a narrow `VideoResNet`, as R3D and R(2+1)D, and a
`VivitModel` of `transformers`.  Weights are a formula of their name and shape,
so that only names, shapes and outputs are kept.
"""

import json
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden_nets.npz")
NARROW = 32  # times narrower than torchvision's
BLOCKS = [2, 1, 1, 1]  # of each stage
VIVIT = {
  "image_size": 32,
  "num_frames": 4,
  "tubelet_size": [2, 8, 8],
  "num_channels": 3,
  "hidden_size": 24,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "intermediate_size": 48,
}
RESNETS = ("r3d_18", "r2plus1d_18")
COUNTER = "num_batches_tracked"


def integers(count: int, seed: int = 0) -> np.ndarray:
  """Numbers in [0, 1) from integer arithmetic: the same everywhere."""
  index = np.arange(count, dtype=np.uint64) + np.uint64(seed)
  return (index * 2654435761 % 2**32 // 2**8).astype(np.float32) / 2**24


def make_video(*shape: int) -> np.ndarray:
  """Pixel values in [0, 1)."""
  return integers(np.prod(shape)).reshape(shape)


def make_tensor(name: str, shape: list[int]) -> np.ndarray:
  """A weight that lets signals through as they are, never zero or one."""
  if name.endswith(COUNTER):
    return np.asarray(7)
  count = int(np.prod(shape))
  x = 2 * integers(count, zlib.crc32(name.encode())) - 1
  if name.endswith("running_var"):
    x = 1 + x / 2
  elif len(shape) == 1 and name.endswith("weight"):
    x = 1 + x / 4
  elif len(shape) == 1 or "embeddings" in name and "projection" not in name:
    x = x / 4
  else:
    x = x * (6 / np.prod(shape[1:])) ** 0.5
  return x.reshape(shape).astype(np.float32)


def make_state(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
  return {name: make_tensor(name, shape) for name, shape in shapes.items()}


def load_torchvision():
  """`torchvision.models.video.resnet`.

  A torchvision that was built for CUDA does not find its operators beside a
  PyTorch that was not; of those that it then asks for at import the video
  networks use none.
  """
  import torch

  signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
  try:
    import torchvision
  except RuntimeError:
    for name in ("nms", "qnms"):
      torch.library.define(f"torchvision::{name}", signature)
    import torchvision
  return torchvision.models.video.resnet


def narrow_resnet(name: str, classes: int = 5):
  """torchvision's network with `NARROW` times fewer channels."""
  from torch import nn

  resnet = load_torchvision()
  factored = name == "r2plus1d_18"
  width = 64 // NARROW

  class Narrow(resnet.VideoResNet):
    def _make_layer(self, block, conv, planes, blocks, stride=1):
      if planes == 64:
        self.inplanes = width
      return super()._make_layer(block, conv, planes // NARROW, blocks, stride)

  def stem():
    whole = resnet.R2Plus1dStem() if factored else resnet.BasicStem()
    made, before = [], 3
    for layer in whole:
      if isinstance(layer, nn.Conv3d):
        after = 3 if layer.out_channels == 45 else width
        layer = nn.Conv3d(
          before, after, layer.kernel_size, layer.stride, layer.padding,
          bias=False,
        )  # fmt: skip
        before = after
      elif isinstance(layer, nn.BatchNorm3d):
        layer = nn.BatchNorm3d(before)
      made.append(layer)
    return nn.Sequential(*made)

  conv = resnet.Conv2Plus1D if factored else resnet.Conv3DSimple
  model = Narrow(resnet.BasicBlock, [conv] * 4, BLOCKS, stem)
  model.fc = nn.Linear(512 // NARROW, classes)
  return model


def shapes_of(model) -> dict[str, list[int]]:
  return {name: list(x.shape) for name, x in model.state_dict().items()}


def fill(model):
  """The model with the weights of the formula."""
  import torch

  state = make_state(shapes_of(model))
  model.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()})
  return model


def run_resnet(model, video: np.ndarray) -> np.ndarray:
  """Output of a channels-last video."""
  import torch

  with torch.no_grad():
    return model(
      torch.from_numpy(video.transpose(0, 4, 1, 2, 3).copy())
    ).numpy()


def run_vivit(model, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Last hidden state and pooler's output of a channels-last video."""
  import torch

  with torch.no_grad():
    found = model(torch.from_numpy(video.transpose(0, 1, 4, 2, 3).copy()))
  return found.last_hidden_state.numpy(), found.pooler_output.numpy()


def main() -> None:
  kept, video = {}, make_video(2, 16, 32, 32, 3)
  for name in RESNETS:
    model = fill(narrow_resnet(name))
    kept[f"{name}/shapes"] = json.dumps(shapes_of(model))
    kept[f"{name}/evaluated"] = run_resnet(model.eval(), video)
    kept[f"{name}/trained"] = run_resnet(model.train(), video)
    for key, tensor in model.state_dict().items():
      if key.endswith(("running_mean", "running_var")):
        kept[f"{name}/after/{key}"] = tensor.numpy()
  # After torchvision, which it would import by itself.
  from transformers import VivitConfig, VivitModel

  vivit = fill(VivitModel(VivitConfig(**VIVIT))).eval()
  hidden, pooled = run_vivit(vivit, make_video(2, 4, 32, 32, 3))
  kept |= {
    "vivit/shapes": json.dumps(shapes_of(vivit)),
    "vivit/config": json.dumps(vivit.config.to_dict()),
    "vivit/hidden": hidden, "vivit/pooled": pooled,
  }  # fmt: skip
  np.savez_compressed(GOLDEN, **kept)
  print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
  main()
