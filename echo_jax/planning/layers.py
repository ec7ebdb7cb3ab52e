"""Costs of a deep step from shallow ones, for XLA counts a loop's body once.

A step whose layers are the body of a loop (`compute.scan`) is cheap to compile
and badly counted; unrolled it is the other way round.  All layers of a stack
cost the same, so the unrolled step with one layer a stack, and with two in each
stack in turn, tell what any depth costs.  The same holds for the parts of an
accumulated batch.
"""

from collections.abc import Callable, Mapping

from echo_jax.planning.program import Costs

# (layers of each stack, parts of the batch) -> costs of the unrolled step.
Measure = Callable[[Mapping[str, int], int], Costs]


def costs_by_layers(
  measure: Measure, depths: Mapping[str, int], parts: int = 1
) -> Costs:
  """Costs of a step of those depths, whose batch is taken in so many parts.

  Args:
    measure: compiles the unrolled step; every part is of the same size.
    depths: layers of each stack, by the name of its setting.
    parts: micro-batches, one after another.
  """
  one = _at_parts(measure, depths, 1)
  if parts == 1:
    return one
  more = _at_parts(measure, depths, 2).plus(one, -1)
  return one.plus(more, parts - 1)


def _at_parts(measure: Measure, depths: Mapping[str, int], parts: int) -> Costs:
  shallow = dict.fromkeys(depths, 1)
  base = measure(shallow, parts)
  total = base
  for name, depth in depths.items():
    if depth > 1:
      layer = measure({**shallow, name: 2}, parts).plus(base, -1)
      total = total.plus(layer, depth - 1)
  return total


def layer_compiles(depths: Mapping[str, int], parts: int = 1) -> int:
  """How often `measure` will be called."""
  return (1 + sum(depth > 1 for depth in depths.values())) * min(parts, 2)
