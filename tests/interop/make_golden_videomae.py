"""Makes golden_videomae.npz: two tiny VideoMAEs of `transformers`, run there.

  python tests/interop/make_golden_videomae.py   (needs the extra [oracle])

Weights are the library's own initialisation plus 0.05 N(0, 1), so that no
tensor is zero or one.  The second model differs from the first in having no
norm after its encoder (`use_mean_pooling`) and shares the other weights.
"""

import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden_videomae.npz")
CONFIG = {
  "image_size": 32,
  "patch_size": 8,
  "num_channels": 3,
  "num_frames": 4,
  "tubelet_size": 2,
  "hidden_size": 24,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "intermediate_size": 48,
  "decoder_hidden_size": 16,
  "decoder_num_hidden_layers": 1,
  "decoder_num_attention_heads": 2,
  "decoder_intermediate_size": 32,
}


def make_video(*shape: int) -> np.ndarray:
  """Pixel values in [0, 1] from integer arithmetic: the same everywhere."""
  index = np.arange(np.prod(shape), dtype=np.uint64)
  return (index * 2654435761 % 2**32 // 2**24).astype(np.float32).reshape(
    shape
  ) / np.float32(255)


def perturbed_model(config: dict, scale: float = 0.05, seed: int = 0):
  """A VideoMAEForPreTraining with the library's weights + scale N(0, 1)."""
  import torch
  from transformers import VideoMAEConfig, VideoMAEForPreTraining

  torch.manual_seed(seed)
  model = VideoMAEForPreTraining(VideoMAEConfig(**config)).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(scale * torch.randn_like(parameter))
  return model


def run(model, video: np.ndarray, hidden: np.ndarray) -> np.ndarray:
  """Logits [b q p] of a channels-last video."""
  import torch

  pixels = torch.from_numpy(video.transpose(0, 1, 4, 2, 3).copy())
  with torch.no_grad():
    return model(pixels, torch.from_numpy(hidden)).logits.numpy()


def state_of(model) -> dict[str, np.ndarray]:
  return {name: x.numpy() for name, x in model.state_dict().items()}


def make_hidden(b: int, n: int, q: int, seed: int = 0) -> np.ndarray:
  order = np.random.default_rng(seed).permuted(
    np.tile(np.arange(n), (b, 1)), axis=1
  )
  return order < q


def main() -> None:
  video, hidden = make_video(1, 4, 32, 32, 3), make_hidden(1, 32, 12)
  with_norm = perturbed_model({**CONFIG, "use_mean_pooling": False})
  without = perturbed_model({**CONFIG, "use_mean_pooling": True})
  state = state_of(with_norm)
  shared = without.state_dict().keys()
  without.load_state_dict({k: with_norm.state_dict()[k] for k in shared})
  np.savez_compressed(
    GOLDEN,
    hidden=hidden,
    config=json.dumps(with_norm.config.to_dict()),
    logits_with_norm=run(with_norm, video, hidden),
    logits_without_norm=run(without, video, hidden),
    **{f"state/{name}": tensor for name, tensor in state.items()},
  )
  print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
  main()
