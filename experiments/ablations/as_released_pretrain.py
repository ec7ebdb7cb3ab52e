"""What does each difference between text and code do to the encoder?

Pre-training as described, with one point after another as in the paper's
public code, and with all of them.  Losses of these runs are of different tasks
and cannot be compared; a probe of each encoder can.

Example:
  echo-jax sweep experiments/ablations/as_released_pretrain.py \\
    --workdir runs/encoders --config.data.dir=data
  for run in runs/encoders/*/; do
    python -m experiments.probe $run --target ef_pct \\
      --config data.kinds="('cine',)"
  done
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import mae_pretrain
from experiments.paper.differences import PRETRAINING, one_by_one, set_described

build = mae_pretrain.build
tiny = mae_pretrain.tiny


def get_config() -> ConfigDict:
  """Everything as described."""
  config = mae_pretrain.get_config()
  set_described(config, PRETRAINING)
  return config


def sweep() -> Iterator[dict[str, object]]:
  """As described, each point alone, all together."""
  yield from one_by_one(PRETRAINING)
