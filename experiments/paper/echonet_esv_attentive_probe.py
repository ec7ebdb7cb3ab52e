"""EchoNet-Dynamic, ESV: Echo-VideoMAE, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/echonet_esv_attentive_probe.py \\
    --workdir runs/paper/echonet_esv_attentive_probe
"""

from experiments.paper.models import ATTENTIVE_PROBE
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_ESV

get_config, build, sweep, tiny = make_row(
  ECHONET_ESV, ATTENTIVE_PROBE
)
