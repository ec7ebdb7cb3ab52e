"""CAMUS, LVEF: EchoJEPA's recipe, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/camus_lvef_echojepa.py \\
    --workdir runs/paper/camus_lvef_echojepa
"""

from experiments.paper.models import ECHOJEPA
from experiments.paper.rows import make_row
from experiments.paper.tasks import CAMUS_LVEF

get_config, build, sweep, tiny = make_row(
  CAMUS_LVEF, ECHOJEPA
)
