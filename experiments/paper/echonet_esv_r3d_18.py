"""EchoNet-Dynamic, ESV: R3D-18, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_esv_r3d_18.py \\
    --workdir runs/paper/echonet_esv_r3d_18
"""

from experiments.paper.models import R3D_18
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_ESV

get_config, build, sweep, tiny = make_row(
  ECHONET_ESV, R3D_18
)
