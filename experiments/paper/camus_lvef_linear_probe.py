"""CAMUS, LVEF: Echo-VideoMAE, frozen + linear probe.

Example:
  echo-jax sweep experiments/paper/camus_lvef_linear_probe.py \\
    --workdir runs/paper/camus_lvef_linear_probe
"""

from experiments.paper.models import LINEAR_PROBE
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, LINEAR_PROBE
)
