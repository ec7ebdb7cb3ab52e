"""CAMUS, LVEF: EchoFM's recipe.

Example:
  echo-jax sweep experiments/paper/camus_lvef_echofm.py \\
    --workdir runs/paper/camus_lvef_echofm
"""

from experiments.paper.models import ECHOFM
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, ECHOFM
)
