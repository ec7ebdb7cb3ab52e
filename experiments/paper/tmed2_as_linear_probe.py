"""TMED-2, aortic stenosis: Echo-VideoMAE, frozen + linear probe.

Example:
  echo-jax sweep experiments/paper/tmed2_as_linear_probe.py \\
    --workdir runs/paper/tmed2_as_linear_probe
"""

from experiments.paper.models import LINEAR_PROBE
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, LINEAR_PROBE
)
