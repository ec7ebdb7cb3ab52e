"""EchoNet-Dynamic, ESV: Echo-VideoMAE.

Example:
  echo-jax sweep experiments/paper/echonet_esv_echo_videomae.py \\
    --workdir runs/paper/echonet_esv_echo_videomae
"""

from experiments.paper.models import ECHO_VIDEOMAE
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_ESV

get_config, build, sweep, tiny = make_row(
  ECHONET_ESV, ECHO_VIDEOMAE
)
