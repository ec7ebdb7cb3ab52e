"""TMED-2, aortic stenosis: Echo-VideoMAE + STF-Net.

Example:
  echo-jax sweep experiments/paper/tmed2_as_stf.py \\
    --workdir runs/paper/tmed2_as_stf
"""

from experiments.paper.models import STF
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, STF
)
