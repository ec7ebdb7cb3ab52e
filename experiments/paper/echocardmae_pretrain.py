"""EchoCardMAE's pre-training (MICCAI 2025, paper 0271), from its public code.

75 % of the tokens inside the sector are hidden; what is to be predicted are
pixels after a 3 x 3 median, not normalised a tubelet; beside it two clips of a
video are contrasted by the mean of their visible tokens, without a projector.

Known to differ: it starts from VideoMAE's ViT-S of Kinetics, hides by one
sector for all videos, the same tokens in both clips and as many in each slice,
and shows the encoder no token outside.  Here the sector is each video's own.

Example:
  echo-jax train experiments/paper/echocardmae_pretrain.py \\
    --workdir runs/paper/echocardmae_pretrain --config.data.name=echonet_dynamic
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import joint_pretrain, parts

build = joint_pretrain.build
tiny = joint_pretrain.tiny


def get_config() -> ConfigDict:
  """ViT-S with 2 x 8 x 8 tubelets on every 4th of 64 frames, 1,600 epochs.

  64 frames at the 50 Hz of EchoNet-Dynamic are 1.28 s.  An epoch is its 7,465
  training videos, two clips of each of 16 a batch.
  """
  config = joint_pretrain.get_config()
  with config.unlocked():
    config.encoder = parts.encoder_config("S")
  config.update_from_flattened_dict(
    {
      "data.views": ("A4C",),
      "input.span_s": 1.28,
      "input.size": 112,
      "input.mean": 0.127,  # of the three channels, which are nearly alike
      "input.std": 0.196,
      "encoder.patch": 8,
      "decoder.width": 192,
      "decoder.heads": 3,
      "mask.ratio": 0.75,
      "mask.scheme": "token",
      "mask.in_sector": True,
      "target.normalised": False,
      "target.median_px": 3,
      "optimizer.rate": 1e-4,
      "optimizer.end_rate": 1e-4,  # it stays
      "optimizer.clip_norm": 0.0,
      "optimizer.weight_decay": 0.05,
      "run.batch_size": 32,
      "run.steps": 1600 * 7465 // 16,
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """With and without each of its parts, as flat overrides."""
  yield {}
  yield {"weights.reconstruction": 1.0, "weights.contrast": 0.0}
  yield {"target.median_px": 0}
  yield {"target.normalised": True, "target.median_px": 0}
  yield {"mask.in_sector": False}
