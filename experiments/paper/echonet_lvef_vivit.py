"""EchoNet-Dynamic, LVEF: ViViT-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_lvef_vivit.py \\
    --workdir runs/paper/echonet_lvef_vivit
"""

from experiments.paper.models import VIVIT
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_LVEF

get_config, build, sweep, tiny = make_row(
  ECHONET_LVEF, VIVIT
)
