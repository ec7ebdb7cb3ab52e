"""TMED-2, aortic stenosis: VideoMAE-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/tmed2_as_videomae_kinetics.py \\
    --workdir runs/paper/tmed2_as_videomae_kinetics
"""

from experiments.paper.models import VIDEOMAE_KINETICS
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, VIDEOMAE_KINETICS
)
