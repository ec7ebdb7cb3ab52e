"""EchoNet-Dynamic, EDV: Echo-VideoMAE, frozen + linear probe.

Example:
  echo-jax sweep experiments/paper/echonet_edv_linear_probe.py \\
    --workdir runs/paper/echonet_edv_linear_probe
"""

from experiments.paper.models import LINEAR_PROBE
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EDV

get_config, build, sweep, tiny = make_row(
  ECHONET_EDV, LINEAR_PROBE
)
