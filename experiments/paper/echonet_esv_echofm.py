"""EchoNet-Dynamic, ESV: EchoFM's recipe.

Example:
  echo-jax sweep experiments/paper/echonet_esv_echofm.py \\
    --workdir runs/paper/echonet_esv_echofm
"""

from experiments.paper.models import ECHOFM
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_ESV

get_config, build, sweep, tiny = make_row(
  ECHONET_ESV, ECHOFM
)
