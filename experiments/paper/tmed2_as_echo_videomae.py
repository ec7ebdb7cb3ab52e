"""TMED-2, aortic stenosis: Echo-VideoMAE.

Example:
  echo-jax sweep experiments/paper/tmed2_as_echo_videomae.py \\
    --workdir runs/paper/tmed2_as_echo_videomae
"""

from experiments.paper.models import ECHO_VIDEOMAE
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, ECHO_VIDEOMAE
)
