"""EchoNet-Dynamic, EF below 50 %: R3D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_ef_below_50_r3d_18.py \\
    --workdir runs/paper/echonet_ef_below_50_r3d_18
"""

from experiments.paper.models import R3D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EF_BELOW_50

get_config, build, sweep, tiny = make_row(
  ECHONET_EF_BELOW_50, R3D_18
)
