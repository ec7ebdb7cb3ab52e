"""EchoFM's pre-training (Kim et al., IEEE TMI 2025), from its public code.

One spatial mask hides 75 % of all frames; normalised pixels are reconstructed;
beside it moments of equal phase in different beats are drawn together.

Known to differ: its contrast is a hard-mined triplet and a distillation of the
similarity of pixels, ours the supervised contrast of `objectives/periodic.py`
by measured phase, so its weight is a choice of ours; each slice is summed up
by its mean and a projector, not by a class token and a block; the two losses
have a forward pass and a mask each; and a clip covers 2 s, since 32 frames
next to each other often hold no second beat.

Example:
  echo-jax train experiments/paper/echofm_pretrain.py \\
    --workdir runs/paper/echofm_pretrain --config.data.name=mimic_iv_echo \\
    --config.run.dtype=bfloat16
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import joint_pretrain, parts

build = joint_pretrain.build


def get_config() -> ConfigDict:
  """ViT-L with 4 x 16 x 16 tubelets on 32 frames; 200 epochs of 290,000 clips.

  The rate is 1e-3 x batch / 256, and an epoch is 290,000 / 64 steps.
  """
  config = joint_pretrain.get_config()
  with config.unlocked():
    config.encoder = parts.encoder_config("L")
  epoch = 290_000 // 64
  config.update_from_flattened_dict(
    {
      "weights.reconstruction": 1.0,
      "weights.contrast": 0.0,
      "weights.phase": 1.0,
      "input.frames": 32,
      "input.span_s": 2.0,
      "encoder.tubelet": 4,
      "decoder.width": 512,
      "decoder.depth": 8,
      "decoder.heads": 16,
      "mask.ratio": 0.75,
      "optimizer.rate": 2.5e-4,
      "optimizer.warmup_steps": 10 * epoch,
      "optimizer.clip_norm": 0.0,
      "run.batch_size": 64,
      "run.steps": 200 * epoch,
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """How much phase weighs, as flat overrides."""
  for weight in (0.0, 0.1, 1.0):
    yield {"weights.phase": weight}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  joint_pretrain.tiny(config)
  config.update_from_flattened_dict(
    {"optimizer.warmup_steps": 2, "input.span_s": 1.4}
  )
