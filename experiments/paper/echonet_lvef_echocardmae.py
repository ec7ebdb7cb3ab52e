"""EchoNet-Dynamic, LVEF: EchoCardMAE's recipe.

Example:
  echo-jax sweep experiments/paper/echonet_lvef_echocardmae.py \\
    --workdir runs/paper/echonet_lvef_echocardmae
"""

from experiments.paper.models import ECHOCARDMAE
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_LVEF

get_config, build, sweep, tiny = make_row(
  ECHONET_LVEF, ECHOCARDMAE
)
