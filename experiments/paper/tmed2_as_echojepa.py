"""TMED-2, aortic stenosis: EchoJEPA's recipe, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/tmed2_as_echojepa.py \\
    --workdir runs/paper/tmed2_as_echojepa
"""

from experiments.paper.models import ECHOJEPA
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, ECHOJEPA
)
