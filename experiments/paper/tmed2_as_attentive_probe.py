"""TMED-2, aortic stenosis: Echo-VideoMAE, frozen + attentive probe.

Example:
  echo-jax sweep experiments/paper/tmed2_as_attentive_probe.py \\
    --workdir runs/paper/tmed2_as_attentive_probe
"""

from experiments.paper.models import ATTENTIVE_PROBE
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, ATTENTIVE_PROBE
)
