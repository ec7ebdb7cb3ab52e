"""EchoNet-Dynamic, EF below 50 %: EchoFM's recipe.

Example:
  echo-jax sweep experiments/paper/echonet_ef_below_50_echofm.py \\
    --workdir runs/paper/echonet_ef_below_50_echofm
"""

from experiments.paper.models import ECHOFM
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EF_BELOW_50

get_config, build, sweep, tiny = make_row(
  ECHONET_EF_BELOW_50, ECHOFM
)
