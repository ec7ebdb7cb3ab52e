"""EchoNet-Dynamic, EDV: VideoMAE-B, from scratch.

Example:
  echo-jax sweep experiments/paper/echonet_edv_videomae_scratch.py \\
    --workdir runs/paper/echonet_edv_videomae_scratch
"""

from experiments.paper.models import VIDEOMAE_SCRATCH
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EDV

get_config, build, sweep, tiny = make_row(
  ECHONET_EDV, VIDEOMAE_SCRATCH
)
