"""EchoNet-Dynamic, ESV: VideoMAE-B, Kinetics.

Example:
  echo-jax sweep experiments/paper/echonet_esv_videomae_kinetics.py \\
    --workdir runs/paper/echonet_esv_videomae_kinetics
"""

from experiments.paper.models import VIDEOMAE_KINETICS
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_ESV

get_config, build, sweep, tiny = make_row(
  ECHONET_ESV, VIDEOMAE_KINETICS
)
