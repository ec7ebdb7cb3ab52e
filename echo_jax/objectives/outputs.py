"""What the numbers of a head mean: values in units and probabilities.

Axes: b clip, o output, y predicted value (one a class).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from echo_jax.targets import Target, layout

SINGLE = ("regression", "binary")  # kinds of one output, one label, one value


@dataclass(frozen=True)
class Standardisation:
  """Mean and standard deviation of each target on the training split only.

  Targets other than regression have mean 0 and deviation 1.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]

  def part(self, places: Sequence[int]) -> "Standardisation":
    """Of some targets alone."""
    return Standardisation(
      tuple(self.mean[i] for i in places), tuple(self.std[i] for i in places)
    )


def cumulative_logits(output: Float[Array, "b o"]) -> Float[Array, "b o"]:
  """Logits of P(grade > k) for k = 0 … o-1, which never rise with k.

  A cumulative link model (McCullagh, JRSS B 1980): the first output is the
  logit of the lowest threshold, each further one the distance to the next,
  made positive by softplus.  So grades are consistent by construction, which
  Cao, Mirjalili & Raschka (Pattern Recognition Letters 2020) reach by sharing
  weights.  The distances may depend on the clip: proportional odds are where
  training starts, not a condition.
  """
  first, gaps = output[:, :1], jax.nn.softplus(output[:, 1:])
  return jnp.concatenate([first, first - jnp.cumsum(gaps, axis=1)], axis=1)


def predictions_of(
  output: Float[Array, "b o"],
  targets: Sequence[Target],
  scale: Standardisation,
) -> Float[Array, "b y"]:
  """Model output to the targets' own units, or to probabilities.

  P(positive) of a binary target and of each label, one P a class of a
  multiclass or ordinal target; columns as in `layout`.
  """
  places = layout(targets)
  single = [i for i, one in enumerate(targets) if one.kind in SINGLE]
  found: dict[int, jax.Array] = {}
  if single:
    values = _single_values(
      take_columns(output, [places[i].output.start for i in single]),
      [targets[i] for i in single], scale.part(single),
    )  # fmt: skip
    if len(single) == len(targets):
      return values
    found = {i: values[:, n : n + 1] for n, i in enumerate(single)}
  for i, target in enumerate(targets):
    if i not in found:
      found[i] = _chances(target, output[:, places[i].output])
  return jnp.concatenate([found[i] for i in range(len(targets))], axis=1)


def take_columns(
  table: Float[Array, "b n"], wanted: Sequence[int]
) -> Float[Array, "b k"]:
  """Those columns; the table itself where they are all of it."""
  if list(wanted) == list(range(table.shape[1])):
    return table
  return table[:, jnp.asarray(wanted)]


def _single_values(
  output: Float[Array, "b o"],
  targets: Sequence[Target],
  scale: Standardisation,
) -> Float[Array, "b o"]:
  plain = output * jnp.asarray(scale.std) + jnp.asarray(scale.mean)
  binary = jnp.asarray([target.kind == "binary" for target in targets])
  return jnp.where(binary, jax.nn.sigmoid(output), plain)


def _chances(
  target: Target, output: Float[Array, "b o"]
) -> Float[Array, "b y"]:
  if target.kind == "multilabel":
    return jax.nn.sigmoid(output)
  if target.kind == "multiclass":
    return jax.nn.softmax(output, axis=1)
  above = jax.nn.sigmoid(cumulative_logits(output))
  sure = jnp.ones_like(above[:, :1])
  ends = jnp.concatenate([sure, above, 0 * sure], axis=1)
  # Rounding may let two equal ends differ by an ulp the wrong way round.
  return jnp.maximum(ends[:, :-1] - ends[:, 1:], 0.0)
