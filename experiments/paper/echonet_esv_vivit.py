"""EchoNet-Dynamic, ESV: ViViT-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_esv_vivit.py \\
    --workdir runs/paper/echonet_esv_vivit
"""

from experiments.paper.models import VIVIT
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_ESV

get_config, build, sweep, tiny = make_row(
  ECHONET_ESV, VIVIT
)
