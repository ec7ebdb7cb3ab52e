"""EchoNet-Dynamic, LVEF: Echo-VideoMAE + STF-Net.

Example:
  echo-jax sweep experiments/paper/echonet_lvef_stf.py \\
    --workdir runs/paper/echonet_lvef_stf
"""

from experiments.paper.models import STF
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_LVEF

get_config, build, sweep, tiny = make_row(
  ECHONET_LVEF, STF
)
