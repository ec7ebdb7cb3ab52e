"""TMED-2, aortic stenosis: EchoFM's recipe.

Example:
  echo-jax sweep experiments/paper/tmed2_as_echofm.py \\
    --workdir runs/paper/tmed2_as_echofm
"""

from experiments.paper.models import ECHOFM
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, ECHOFM
)
