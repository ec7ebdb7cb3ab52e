"""What the chips of one program send each other in a step.

Bytes are those that one chip sends, by the best known algorithm on a ring of
the g chips of its group, for an array of x bytes:

  all-gather          (g - 1) / g of the result
  reduce-scatter      (g - 1) / g of the operand
  all-reduce          2 (g - 1) / g of the operand
  all-to-all          (g - 1) / g of the operand
  collective-permute  the operand

(Thakur et al. 2005, doi:10.1177/1094342005051521; the least that a chip can
send.)  Padding of layouts is not counted.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from echo_jax.planning import hlo

KINDS = (
  "all-gather", "reduce-scatter", "all-reduce", "all-to-all",
  "collective-permute",
)  # fmt: skip
OTHERS = ("ragged-all-to-all", "collective-broadcast", "send", "recv")
# An XLA:TPU reduce-scatter is an all-reduce, of which each chip takes a slice,
# in a fusion of this name.
REDUCE_SCATTER = "all-reduce-scatter"
# Pieces of one collective, each in the fusion that it is hidden behind.
CHAIN = re.compile(r'chain_id="(\w+)"')
LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[")
MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
AXIS = re.compile(r"'([^']+)'=(\d+)")
TAKEN = re.compile(r"'([^']+)'(?::\(\d+\)(\d+))?")
PARTITIONS = re.compile(r"num_partitions=(\d+)")
REPLICAS = re.compile(r"replica_count=(\d+)")


@dataclass(frozen=True)
class Collective:
  """One place in a program where chips exchange an array.

  Attributes:
    kind: one of KINDS.
    group: g, chips that take part together.
    operand_bytes: x of one chip before.
    result_bytes: of one chip after.
    times: how often in a step.
  """

  kind: str
  group: int
  operand_bytes: int
  result_bytes: int
  times: int = 1

  @property
  def sent_bytes(self) -> float | int:
    """Bytes that a chip sends each time."""
    others = (self.group - 1) / self.group
    match self.kind:
      case "all-gather":
        return others * self.group * self.operand_bytes
      case "all-reduce":
        return 2 * others * self.operand_bytes
      case "collective-permute":
        return self.operand_bytes
    return others * self.operand_bytes


@dataclass(frozen=True)
class Traffic:
  """All collectives of one kind: how many in a step, and bytes a chip sends."""

  count: int
  sent_bytes: float | int


def sum_by_kind(found: list[Collective]) -> Mapping[str, Traffic]:
  """Traffic of every kind that there is."""
  return {
    kind: Traffic(
      sum(one.times for one in found if one.kind == kind),
      sum(one.times * one.sent_bytes for one in found if one.kind == kind),
    )
    for kind in KINDS
    if any(one.kind == kind for one in found)
  }


def find_collectives(module: hlo.Module, text: str) -> list[Collective]:
  """Every collective of a program, each once.

  A start and its done are one; so are the pieces into which XLA:TPU cuts one
  to hide it behind several fusions.

  Raises:
    ValueError: a kind, or a way to write groups, that is not known here.
  """
  everyone = _everyone(text)
  found, chains = [], set()
  for run in hlo.runs(module)[0]:
    for where, one in _instructions(module, run.computation):
      chain = CHAIN.search(one.rest)
      kind = _kind(where, one)
      if not kind or (chain and (run.computation.name, chain[1]) in chains):
        continue
      if chain:
        chains.add((run.computation.name, chain[1]))
      found.append(_collective(where, one, kind, everyone, run.times))
  return found


def _instructions(
  module: hlo.Module, computation: hlo.Computation
) -> Iterator[tuple[hlo.Computation, hlo.Instruction]]:
  """Those of a computation and of the fusions in it."""
  for one in computation.instructions.values():
    yield computation, one
    if one.opcode == "fusion":
      yield from _instructions(module, module[one.called()[0]])


def _kind(where: hlo.Computation, one: hlo.Instruction) -> str:
  """The kind of a collective; "" of all else, also where one ends."""
  name = one.opcode.removesuffix("-start")
  if name in OTHERS:
    raise ValueError(f"the program has a {name}, which is not counted here")
  if name == "all-reduce" and where.name.startswith(REDUCE_SCATTER):
    return "reduce-scatter"
  return name if name in KINDS else ""


def _collective(
  where: hlo.Computation, one: hlo.Instruction, kind: str, everyone: int,
  times: int,
) -> Collective:  # fmt: skip
  sources = where.operands(one)
  # An in-place permute has its result and offsets among its operands.
  sources = sources[:1] if kind == "collective-permute" else sources
  return Collective(
    kind, _group(one, everyone), sum(source.size for source in sources),
    where.root.size if kind == "reduce-scatter" else one.size, times,
  )  # fmt: skip


def _everyone(text: str) -> int:
  """Chips of a program."""
  header = text.partition("\n")[0]
  parts, copies = PARTITIONS.search(header), REPLICAS.search(header)
  return (int(parts[1]) if parts else 1) * (int(copies[1]) if copies else 1)


def _group(one: hlo.Instruction, everyone: int) -> int:
  """How many chips take part in a collective together."""
  if "source_target_pairs=" in one.rest:
    return everyone
  if listed := LISTED.search(one.rest):
    return listed[1].count(",") + 1
  if iota := IOTA.search(one.rest):
    return int(iota[1].split(",")[-1])
  if mesh := MESH.search(one.rest):
    sides = {name: int(size) for name, size in AXIS.findall(mesh[1])}
    return math.prod(
      int(part) if part else sides[name]
      for name, part in TAKEN.findall(mesh[2])
    )
  if "replica_groups={}" in one.rest:
    return everyone
  raise ValueError(f"groups of {one.opcode} {one.name}: {one.rest[:120]!r}")
