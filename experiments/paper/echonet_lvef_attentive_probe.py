"""EchoNet-Dynamic, LVEF: Echo-VideoMAE, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/echonet_lvef_attentive_probe.py \\
    --workdir runs/paper/echonet_lvef_attentive_probe
"""

from experiments.paper.models import ATTENTIVE_PROBE
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_LVEF

get_config, build, sweep, tiny = make_row(
  ECHONET_LVEF, ATTENTIVE_PROBE
)
