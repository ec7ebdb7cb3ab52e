"""EchoNet-Dynamic, EDV: ViViT-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_edv_vivit.py \\
    --workdir runs/paper/echonet_edv_vivit
"""

from experiments.paper.models import VIVIT
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EDV

get_config, build, sweep, tiny = make_row(
  ECHONET_EDV, VIVIT
)
