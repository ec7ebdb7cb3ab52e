"""EchoNet-Dynamic, EF below 50 %: EchoJEPA's recipe, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/echonet_ef_below_50_echojepa.py \\
    --workdir runs/paper/echonet_ef_below_50_echojepa
"""

from experiments.paper.models import ECHOJEPA
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EF_BELOW_50

get_config, build, sweep, tiny = make_row(
  ECHONET_EF_BELOW_50, ECHOJEPA
)
