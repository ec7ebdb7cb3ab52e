"""EchoNet-Dynamic, EDV: R(2+1)D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_edv_r2plus1d_18.py \\
    --workdir runs/paper/echonet_edv_r2plus1d_18
"""

from experiments.paper.models import R2PLUS1D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EDV

get_config, build, sweep, tiny = make_row(
  ECHONET_EDV, R2PLUS1D_18
)
