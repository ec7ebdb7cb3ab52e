"""CAMUS, LVEF: ViViT-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/camus_lvef_vivit.py \\
    --workdir runs/paper/camus_lvef_vivit
"""

from experiments.paper.models import VIVIT
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, VIVIT
)
