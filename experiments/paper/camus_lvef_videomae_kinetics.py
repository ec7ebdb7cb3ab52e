"""CAMUS, LVEF: VideoMAE-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/camus_lvef_videomae_kinetics.py \\
    --workdir runs/paper/camus_lvef_videomae_kinetics
"""

from experiments.paper.models import VIDEOMAE_KINETICS
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, VIDEOMAE_KINETICS
)
