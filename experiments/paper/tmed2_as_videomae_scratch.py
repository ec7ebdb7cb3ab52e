"""TMED-2, aortic stenosis: VideoMAE-B, from scratch.

Example:
  echo-jax sweep experiments/paper/tmed2_as_videomae_scratch.py \\
    --workdir runs/paper/tmed2_as_videomae_scratch
"""

from experiments.paper.models import VIDEOMAE_SCRATCH
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, VIDEOMAE_SCRATCH
)
