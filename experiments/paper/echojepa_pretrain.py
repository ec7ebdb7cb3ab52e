"""EchoJEPA-L's pre-training (arXiv 2602.02603) on MIMIC-IV-ECHO.

V-JEPA 2 (Assran et al. 2025) on echo: 16 frames at 8 a second, masks of blocks
through all frames, features of an average encoder predicted, L1.

Known to differ: it starts from V-JEPA 2's weights and uses rotary positions;
its rate stays after the warm-up and falls linearly in the last 24,000 steps,
here it falls as a cosine; and a mask here hides the mean of what its blocks
hide, in every clip, see `latent_pretrain`.  ImageNet's mean and deviation are
those of the three channels together.

Example:
  echo-jax train experiments/paper/echojepa_pretrain.py \\
    --workdir runs/paper/echojepa_pretrain --config.data.name=mimic_iv_echo \\
    --config.run.dtype=bfloat16 --config.compute.scan=True
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import latent_pretrain, parts

build = latent_pretrain.build


def get_config() -> ConfigDict:
  """ViT-L, batches of 1,024, 84,000 steps of which 12,000 warm up."""
  config = latent_pretrain.get_config()
  with config.unlocked():
    config.encoder = parts.encoder_config("L")
  config.update_from_flattened_dict(
    {
      "input.span_s": 2.0,
      "input.mean": 0.449,
      "input.std": 0.226,
      "data.crop": 0.5,
      "data.crop_aspect": 0.1,
      "optimizer.rate": 1.75e-4,
      "optimizer.start_rate": 3.33e-5,
      "optimizer.end_rate": 1e-6,
      "optimizer.warmup_steps": 12_000,
      "optimizer.betas": (0.9, 0.999),
      "optimizer.weight_decay": 0.04,
      "optimizer.clip_norm": 0.0,
      "run.batch_size": 1024,
      "run.steps": 84_000,
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """Its masks, and the two kinds of them alone, as flat overrides."""
  yield {}
  yield {"masks.large.block": 0.15, "masks.large.ratio": 0.63}
  yield {"masks.small.block": 0.7, "masks.small.ratio": 0.81}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  latent_pretrain.tiny(config)
  config.update_from_flattened_dict({"optimizer.warmup_steps": 2})
