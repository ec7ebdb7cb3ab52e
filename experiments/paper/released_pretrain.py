"""Pre-training as the paper's public code does it, differences and recipe.

What `differences.PRETRAINING` lists, with the script's own defaults: 50 epochs
of 525,328 files on 4 GPUs x 32 clips, from VideoMAE's encoder of Kinetics-400.
Not carried over: the decoder of those weights, and the choice of the epoch with
the lowest training loss; here 1 % of the patients validates.

Example:
  echo-jax build mimic_iv_echo --source MIMIC-ECHO --data-dir data \\
    --splits train=0.99,validation=0.01
  echo-jax train experiments/paper/released_pretrain.py --workdir runs/released
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import mae_pretrain
from experiments.paper.differences import PRETRAINING, released
from experiments.paper.models import KINETICS
from experiments.paper.pretrain import recipe

build = mae_pretrain.build


def get_config() -> ConfigDict:
  """ViT-B on MIMIC-IV-ECHO; hides a tenth of the tokens."""
  config = mae_pretrain.get_config()
  config.update_from_flattened_dict(
    {
      **recipe(), "data.views": (), "init_from": KINETICS["videomae"],
      **released(PRETRAINING),
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """As released, and with the number of hidden tokens that the text gives."""
  yield {"mask.ratio": 0.9}
  yield {"mask.ratio": 0.15}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  mae_pretrain.tiny(config)
  config.init_from = ""  # weights of full size do not fit
  config.optimizer.warmup_steps = 2
