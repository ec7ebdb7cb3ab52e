"""EchoNet-Dynamic, LVEF: R(2+1)D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_lvef_r2plus1d_18.py \\
    --workdir runs/paper/echonet_lvef_r2plus1d_18
"""

from experiments.paper.models import R2PLUS1D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_LVEF

get_config, build, sweep, tiny = make_row(
  ECHONET_LVEF, R2PLUS1D_18
)
