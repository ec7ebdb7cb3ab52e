"""CAMUS, LVEF: VideoMAE-B, from scratch.

Example:
  echo-jax sweep experiments/paper/camus_lvef_videomae_scratch.py \\
    --workdir runs/paper/camus_lvef_videomae_scratch
"""

from experiments.paper.models import VIDEOMAE_SCRATCH
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, VIDEOMAE_SCRATCH
)
