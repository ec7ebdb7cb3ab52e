"""From the losses of several targets to one.

A target without a known label in a batch has no part in it: it counts neither
as 0 nor in the denominator.  Axes: i target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from echo_jax.objectives.task_losses import loss_of
from echo_jax.targets import Target

WAYS = ("fixed", "uncertainty")
PARAMETERS = "task_weighting"  # beside "encoder" and "head"
# -log likelihood of a loss L at s = log variance: factor·exp(-power·s)·L + s/2.
# Half the square for l2 as in the paper; huber has that half in it; l1 is the
# error of a Laplace distribution, whose width goes with the root of variance.
_LIKELIHOOD = {"l2": (0.5, 1.0), "l1": (1.0, 0.5)}


@dataclass(frozen=True)
class Weighting:
  """How much each target counts.

  Attributes:
    by: "fixed" by `weights`, or by the "uncertainty" that is learned with the
      model: each loss is divided by its own variance, at the price of its
      logarithm (Kendall, Gal & Cipolla, CVPR 2018, equations 7 and 10).
    weights: of fixed ones, one a target, 0 or more; () is all alike.
  """

  by: str = "fixed"
  weights: tuple[float, ...] = ()

  def check(self, targets: Sequence[Target]) -> None:
    """Raises ValueError where this is no weighting of those targets."""
    if self.by not in WAYS:
      raise ValueError(f"weighting is {self.by!r}; there are {WAYS}")
    if not self.weights:
      return
    if self.by != "fixed":
      raise ValueError(f"weights are {self.weights}, but {self.by} is learned")
    names = [target.name for target in targets]
    fit = len(self.weights) == len(names) and np.isfinite(self.weights).all()
    if not fit or min(self.weights) < 0 or max(self.weights) == 0:
      raise ValueError(
        f"weights are {self.weights}; want one for each of {names}, 0 or "
        "more and not all 0"
      )

  def parameters(self, targets: Sequence[Target]) -> dict[str, dict]:
    """What is learned for it, at the start; joins the model's parameters.

    One vector, which `training.optimizers.decay_mask` leaves undecayed.
    """
    if self.by == "fixed":
      return {}
    return {PARAMETERS: {"log_variance": jnp.zeros(len(targets))}}


ALIKE = Weighting()


def weigh(
  each: Float[Array, "i"],
  known: Int[Array, "i"],
  weighting: Weighting,
  params: Mapping[str, Any],
  targets: Sequence[Target],
  loss: str,
  share: float = 1.0,
) -> Float[Array, ""]:
  """Mean over the targets of which a label is known; 0 if none is.

  Args:
    each: loss of each target.
    known: labels it is the mean over.
    params: of the model; holds `PARAMETERS` where uncertainty is learned.
    loss: of the regression targets that name none.
    share: of the batch's rows, where `each` is the part that these have in
      the losses of the whole.
  """
  has = known > 0
  if weighting.by == "uncertainty":
    logs = params[PARAMETERS]["log_variance"]
    likelihood = [
      _LIKELIHOOD.get(loss_of(target, loss), (1.0, 1.0)) for target in targets
    ]
    factor, power = jnp.asarray(likelihood).T
    each = factor * jnp.exp(-power * logs) * each + share * logs / 2
  counts = has * jnp.asarray(weighting.weights or 1.0)
  total = counts.sum()
  some = (each * counts).sum() / jnp.where(total > 0, total, 1.0)
  if weighting.weights:
    return some
  # The plain mean where it is one, so that no bit of it changes.
  return jnp.where(has.all(), each.mean(), some)
