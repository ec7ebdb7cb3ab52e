"""The small encoder that is released: ViT-Ti on SynthEcho's cines, no labels.

Masked reconstruction at 64 px of three views of simulated hearts.  It is there
to try things out with (`--config.init_from=FOLDER`), under its own input
contract alone, and knows nothing of patients.  How it does:
results/encoder/README.md.

Example:
  echo-jax build synthetic_echo --data-dir data --cohort referral \\
    --patients 600 --views A4C,A3C,PLAX --name referral
  echo-jax train experiments/synthetic_encoder.py --workdir runs/encoder \\
    --config.data.dir=data --config.data.name=referral
  echo-jax export runs/encoder --out synthecho-vit-ti-1
"""

from ml_collections import ConfigDict

from experiments import mae_pretrain, parts
from experiments.demo.recipe import STANDARD, pretrain_settings

build, sweep = mae_pretrain.build, mae_pretrain.sweep
tiny = mae_pretrain.tiny


def get_config() -> ConfigDict:
  """The demo's masks and input with twelve blocks of width 192."""
  config = mae_pretrain.get_config()
  config.encoder.update(parts.encoder_config("Ti"))
  config.update_from_flattened_dict(
    {
      **pretrain_settings(STANDARD),
      "data.views": ("A4C", "A3C", "PLAX"),
      "data.shift_px": 4,
      "data.gain": 0.1,
      "input.size": 64,
      "input.channels": 1,
      "input.mean": 0.2,
      "input.std": 0.25,
      "optimizer.rate": 1e-3,
      "optimizer.warmup_steps": 250,
      "run.batch_size": 32,
      "run.steps": 2500,
    }
  )
  return config
