"""TMED-2, aortic stenosis: R(2+1)D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/tmed2_as_r2plus1d_18.py \\
    --workdir runs/paper/tmed2_as_r2plus1d_18
"""

from experiments.paper.models import R2PLUS1D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, R2PLUS1D_18
)
