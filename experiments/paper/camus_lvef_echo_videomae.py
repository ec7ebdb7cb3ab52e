"""CAMUS, LVEF: Echo-VideoMAE.

Example:
  echo-jax sweep experiments/paper/camus_lvef_echo_videomae.py \\
    --workdir runs/paper/camus_lvef_echo_videomae
"""

from experiments.paper.models import ECHO_VIDEOMAE
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, ECHO_VIDEOMAE
)
