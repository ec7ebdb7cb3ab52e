"""What is a model worth on a device that it never saw?

Every item is a fine-tuning on the videos of all devices but one, or of all;
each is judged on the whole test split.  `left_out_table` compares them on the
test patients of each device.  The devices are SynthEcho's: for a data set of
yours, copy this file and name its own.  With `--config.init_from`, the
pre-training must not have seen the device either.

Example:
  echo-jax sweep experiments/ablations/across_devices.py \\
    --workdir runs/devices --config.data.dir=data
  python -m experiments.ablations.left_out_table runs/devices
"""

from collections.abc import Iterator, Sequence

from echo_jax.simulate.scanner import DEVICES
from experiments import ef_finetune

build = ef_finetune.build
tiny = ef_finetune.tiny
get_config = ef_finetune.get_config

SEEDS = (0, 1, 2)


def sweep() -> Iterator[dict[str, object]]:
  """All devices, and all but each of them; every seed."""
  yield from leave_one_out("device", [device.name for device in DEVICES])


def leave_one_out(
  column: str, values: Sequence[str], seeds: Sequence[int] = SEEDS
) -> Iterator[dict[str, object]]:
  """Settings of training on all and without each value of a column."""
  for left_out in ("", *(f"{column}={value}" for value in values)):
    for seed in seeds:
      yield {"data.without": left_out, "run.seed": seed}
