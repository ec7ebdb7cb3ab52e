"""EchoNet-Dynamic, EF below 50 %: VideoMAE-B, from scratch.

Example:
  echo-jax sweep experiments/paper/echonet_ef_below_50_videomae_scratch.py \\
    --workdir runs/paper/echonet_ef_below_50_videomae_scratch
"""

from experiments.paper.models import VIDEOMAE_SCRATCH
from experiments.paper.rows import make_row
from experiments.paper.tasks import ECHONET_EF_BELOW_50

get_config, build, sweep, tiny = make_row(
  ECHONET_EF_BELOW_50, VIDEOMAE_SCRATCH
)
