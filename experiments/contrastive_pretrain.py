"""Pre-training by contrast alone: two clips of a video against other patients.

`joint_pretrain` with that objective only, on whole clips and with a projector,
as in SimCLR (Chen et al., ICML 2020).  What the two clips of a video do not
share, the encoder learns to leave out: augmentations say what that is.

Example:
  echo-jax train experiments/contrastive_pretrain.py --workdir runs/contrast \\
    --tiny
  echo-jax train experiments/contrastive_pretrain.py --workdir runs/contrast \\
    --config.data.dir=data --config.contrast.of=study
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import joint_pretrain

build = joint_pretrain.build
tiny = joint_pretrain.tiny


def get_config() -> ConfigDict:
  """ViT-B on 256 clips of 128 videos; brightness, crops and speckle change."""
  config = joint_pretrain.get_config()
  config.update_from_flattened_dict(
    {
      "weights.reconstruction": 0.0,
      "weights.contrast": 1.0,
      "contrast.width": 2048,
      "masked": False,
      "data.gain": 0.2,
      "data.contrast": 0.2,
      "data.crop": 0.5,
      "data.crop_aspect": 0.1,
      "data.speckle": 0.2,
      "run.batch_size": 256,
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Temperature, and whose clips are alike, as flat overrides."""
  for of in ("video", "study"):
    for temperature in (0.05, 0.1, 0.2):
      yield {"contrast.of": of, "contrast.temperature": temperature}
