"""TMED-2, aortic stenosis: ViViT-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/tmed2_as_vivit.py \\
    --workdir runs/paper/tmed2_as_vivit
"""

from experiments.paper.models import VIVIT
from experiments.paper.rows import make_row
from experiments.paper.tasks import TMED2_AS

get_config, build, sweep, tiny = make_row(
  TMED2_AS, VIVIT
)
