"""The least time that a step can take on a chip, and what that leaves.

Compute, memory and network are taken to overlap wholly and to run at the speed
that the maker names: what is found is a bound that no run beats, not a forecast
of one (Williams et al. 2009, doi:10.1145/1498765.1498785).
"""

from dataclasses import dataclass

from echo_jax.planning.chips import Pod
from echo_jax.planning.program import Costs

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Roofline:
  """Times of one step, in seconds, and what follows from the longest.

  Attributes:
    compute_s: all that a chip computes, at its bfloat16 peak.
    memory_s: all that it reads from and writes to HBM.
    network_s: all that it sends, on all its links at once.
    binds: the longest of them.
    mfu_pct: the highest model FLOPs utilisation that leaves.
    clips_s: clips a second of the pod.
  """

  compute_s: float
  memory_s: float
  network_s: float
  binds: str
  mfu_pct: float
  clips_s: float

  def hours(self, clips: int, epochs: int) -> float:
    """Hours for so many clips an epoch."""
    return clips * epochs / self.clips_s / SECONDS_AN_HOUR


def make_roofline(
  pod: Pod, costs: Costs, model_flops: int, clips: int
) -> Roofline:
  """The roofline of a step on `clips`, of which `costs` are one chip's."""
  chip = pod.chip
  times = {
    "compute": costs.flops / chip.flops_s,
    "memory": costs.hbm_bytes / chip.hbm_bytes_s,
    "network": costs.sent_bytes / chip.ici_bytes_s,
  }
  binds = max(times, key=times.get)
  step_s = times[binds]
  mfu = model_flops / (pod.size * chip.flops_s * step_s)
  return Roofline(
    *times.values(), binds=binds, mfu_pct=100 * mfu, clips_s=clips / step_s
  )
