"""What one compiled program holds: memory, work, and what its chips send."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from echo_jax.planning import hlo
from echo_jax.planning.collectives import (
  Traffic,
  find_collectives,
  sum_by_kind,
)
from echo_jax.planning.kernels import kernel_flops
from echo_jax.planning.memory import Memory, memory_of, out_of_memory
from echo_jax.planning.traffic import hbm_bytes


@dataclass(frozen=True)
class Costs:
  """What a chip does in one step.

  `flops` and `accessed_bytes` are XLA's own counts, in which the body of a
  loop counts once and bytes of memory on the chip count too; what kernels of
  attention compute, which XLA does not count, is added.  `hbm_bytes` and
  `sent_bytes` are read from the program's text, loops as often as they run.
  """

  flops: float | int
  accessed_bytes: float | int
  hbm_bytes: float | int
  sent_bytes: float | int

  def plus(self, other: "Costs", times: float | int = 1) -> "Costs":
    """This and `times` the other."""
    return Costs(
      self.flops + times * other.flops,
      self.accessed_bytes + times * other.accessed_bytes,
      self.hbm_bytes + times * other.hbm_bytes,
      self.sent_bytes + times * other.sent_bytes,
    )


@dataclass(frozen=True)
class Program:
  """A program that fits; `unknown_loops` are counted as if they ran once."""

  memory: Memory
  costs: Costs
  collectives: Mapping[str, Traffic]
  unknown_loops: tuple[str, ...]


def compile_program(
  lowered: jax.stages.Lowered, usable_bytes: int
) -> Program | Memory:
  """Compiles; what is missing, as Memory, where a chip has too little."""
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    return out_of_memory(error)
  return read_program(compiled, usable_bytes)


def read_program(
  compiled: jax.stages.Compiled, usable_bytes: int
) -> Program:
  """Figures of a compiled program; they repeat exactly, its text does not."""
  text, counted = compiled.as_text(), compiled.cost_analysis()
  module = hlo.parse_module(text)
  collectives = sum_by_kind(find_collectives(module, text))
  costs = Costs(
    counted["flops"] + kernel_flops(module), counted["bytes accessed"],
    hbm_bytes(module),
    sum(one.sent_bytes for one in collectives.values()),
  )  # fmt: skip
  unknown = tuple(hlo.runs(module)[1])
  return Program(memory_of(compiled, usable_bytes), costs, collectives, unknown)
