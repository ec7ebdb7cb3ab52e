"""EchoNet-Dynamic, LVEF: EchoJEPA's recipe, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/echonet_lvef_echojepa.py \\
    --workdir runs/paper/echonet_lvef_echojepa
"""

from experiments.paper.models import ECHOJEPA
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_LVEF

get_config, build, sweep, tiny = make_row(
  ECHONET_LVEF, ECHOJEPA
)
