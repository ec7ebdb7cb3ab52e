"""CAMUS, LVEF: EchoCardMAE's recipe.

Example:
  echo-jax sweep experiments/paper/camus_lvef_echocardmae.py \\
    --workdir runs/paper/camus_lvef_echocardmae
"""

from experiments.paper.models import ECHOCARDMAE
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, ECHOCARDMAE
)
