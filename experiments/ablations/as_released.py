"""What does each difference between text and code do to the number?

Fine-tuning as described, with one point after another as in the paper's public
code, and with all of them: EF, volumes and the class of EF in one run.  From
scratch: weights of a pre-training run refuse another input contract, which
sampling, resize and normalisation change (`as_released_pretrain` has theirs).
Three points change no weight and train all the same: threshold, interval and
validation-as-test.  `experiments/released_study.py` does it on SynthEcho;
what came out of some points is in results/released.

Example:
  echo-jax sweep experiments/ablations/as_released.py --workdir runs/released \\
    --config.data.dir=data --clips 1
  echo-jax table --runs runs/released --mixed  # one tests on validation
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import ef_finetune
from experiments.paper.differences import FINETUNING, one_by_one, set_described

build = ef_finetune.build
tiny = ef_finetune.tiny


def get_config() -> ConfigDict:
  """Everything as described."""
  config = ef_finetune.get_config()
  set_described(config, FINETUNING)
  return config


def sweep() -> Iterator[dict[str, object]]:
  """As described, each point alone, all together."""
  yield from one_by_one(FINETUNING)
