"""EchoNet-Dynamic, EF below 50 %: R(2+1)D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_ef_below_50_r2plus1d_18.py \\
    --workdir runs/paper/echonet_ef_below_50_r2plus1d_18
"""

from experiments.paper.models import R2PLUS1D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EF_BELOW_50

get_config, build, sweep, tiny = make_row(
  ECHONET_EF_BELOW_50, R2PLUS1D_18
)
