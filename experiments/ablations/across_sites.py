"""What is a model worth at a hospital that it never saw?

As `across_devices`, by site.  In SynthEcho's independent cohort sites differ
in nothing; in the others each has mostly a device of its own.

Example:
  echo-jax sweep experiments/ablations/across_sites.py --workdir runs/sites \\
    --config.data.dir=data
  python -m experiments.ablations.left_out_table runs/sites
"""

from collections.abc import Iterator

from echo_jax.simulate.person import SITES
from experiments import ef_finetune
from experiments.ablations.across_devices import leave_one_out

build = ef_finetune.build
tiny = ef_finetune.tiny
get_config = ef_finetune.get_config


def sweep() -> Iterator[dict[str, object]]:
  """All sites, and all but each of them; every seed."""
  yield from leave_one_out("site", SITES)
