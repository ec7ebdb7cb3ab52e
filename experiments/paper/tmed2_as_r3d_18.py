"""TMED-2, aortic stenosis: R3D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/tmed2_as_r3d_18.py \\
    --workdir runs/paper/tmed2_as_r3d_18
"""

from experiments.paper.models import R3D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, R3D_18
)
