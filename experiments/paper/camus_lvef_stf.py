"""CAMUS, LVEF: Echo-VideoMAE + STF-Net.

Example:
  echo-jax sweep experiments/paper/camus_lvef_stf.py \\
    --workdir runs/paper/camus_lvef_stf
"""

from experiments.paper.models import STF
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, STF
)
