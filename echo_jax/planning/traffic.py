"""Bytes between a chip and its HBM in one step, from the program's text.

`cost_analysis()["bytes accessed"]` counts the body of a loop once, arrays in
memory on the chip (on TPUs most small ones) as if they came from HBM, and a
collective again with every fusion that hides a piece of it.  Here each
instruction that runs reads its operands and writes its result if they lie in
HBM, as often as it runs; of what is sliced only the slice counts, and of an
update in place only what is updated.
"""

from collections.abc import Iterator

from echo_jax.planning import hlo
from echo_jax.planning.collectives import CHAIN, KINDS, REDUCE_SCATTER

# They move nothing, or what they move is counted where it is started.
FREE = (
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while",
  "conditional", "call", "after-all", "partition-id", "replica-id",
  "opt-barrier", "async-start", "add-dependency",
)  # fmt: skip
SLICES = ("dynamic-slice", "slice", "gather")
VIEWS = ("bitcast", "reshape")
# In a fusion: pieces of a collective, which is counted once as a whole, and
# what is handed through.
HANDED_ON = (*KINDS, "custom-call", "tuple", "parameter", "get-tuple-element")


def hbm_bytes(module: hlo.Module) -> int:
  """Bytes that one chip reads from and writes to its HBM in a step."""
  total = 0
  for run in hlo.runs(module)[0]:
    chains: set[str] = set()
    for one in run.computation.instructions.values():
      total += run.times * _moved(module, run.computation, one, chains)
  return total


def _moved(
  module: hlo.Module, where: hlo.Computation, one: hlo.Instruction,
  chains: set[str],
) -> int:  # fmt: skip
  """Bytes of one instruction, once.  `chains` remembers what was counted."""
  if one.opcode in FREE or one.opcode.endswith(("-done", "-update")):
    return 0
  sources = where.operands(one)
  if one.opcode == "fusion":
    inner = module[one.called()[0]]
    if not inner.name.startswith(REDUCE_SCATTER):
      reads = sum(
        min(_read(module, inner, name), sources[number].size)
        for name, number in inner.parameters().items()
        if _in_hbm(sources[number])
      )
      return reads + _written(module, inner, one) + sum(
        _collective(*piece, one, chains) for piece in _pieces(module, inner)
      )
  if one.opcode in SLICES:
    return one.size * _in_hbm(sources[0]) + _bytes(one)
  if one.opcode == "dynamic-update-slice":
    return _bytes(sources[1]) + sources[1].size * _in_hbm(one)
  if one.opcode == "copy-start":  # gives (result, operand, context)
    return _bytes(sources[0]) + _bytes(one, 1)
  if one.opcode.endswith("-start"):  # gives (operand, result)
    return _bytes(one)
  return sum(_bytes(source) for source in sources) + _bytes(one)


def _in_hbm(one: hlo.Instruction) -> bool:
  return all(buffer.in_hbm for buffer in one.buffers)


def _bytes(one: hlo.Instruction, first: int | None = None) -> int:
  """Bytes of a result, or of the first parts of it, that lie in HBM."""
  return sum(buffer.size for buffer in one.buffers[:first] if buffer.in_hbm)


def _read(module: hlo.Module, inner: hlo.Computation, name: str) -> int:
  """Bytes that a fusion reads of one array that it is given.

  More than it has where several instructions read all of it.
  """
  total = 0
  for one in inner.instructions.values():
    for place, operand in enumerate(one.operands):
      if operand != name:
        continue
      if one.opcode == "fusion":
        deeper = module[one.called()[0]]
        (given,) = (
          key for key, n in deeper.parameters().items() if n == place
        )
        total += _read(module, deeper, given)
      elif one.opcode in VIEWS:
        total += _read(module, inner, one.name)
      elif one.opcode in SLICES and place == 0:
        total += one.size
      elif one.opcode in HANDED_ON or (
        one.opcode == "dynamic-update-slice" and place == 0
      ):
        continue
      else:
        total += inner.instructions[name].size
  return total


def _written(
  module: hlo.Module, inner: hlo.Computation, fusion: hlo.Instruction
) -> int:
  """Bytes that a fusion writes to HBM."""
  root = inner.root
  parts = inner.operands(root) if root.opcode == "tuple" else [root]
  if len(parts) != len(fusion.buffers):  # a tuple that a piece hands on
    return 0 if root.opcode in HANDED_ON else _bytes(fusion)
  return sum(
    min(_new(module, inner, part), buffer.size)
    for part, buffer in zip(parts, fusion.buffers, strict=True)
    if buffer.in_hbm
  )


def _new(
  module: hlo.Module, inner: hlo.Computation, one: hlo.Instruction
) -> int:
  """Bytes of a fusion's result that were not there before."""
  if one.opcode == "dynamic-update-slice":
    return inner.operands(one)[1].size
  if one.opcode in VIEWS:
    return _new(module, inner, inner.operands(one)[0])
  if one.opcode == "fusion":
    deeper = module[one.called()[0]]
    return _new(module, deeper, deeper.root)
  return 0 if one.opcode in HANDED_ON else one.size


def _pieces(
  module: hlo.Module, inner: hlo.Computation
) -> Iterator[tuple[hlo.Computation, hlo.Instruction]]:
  """Collectives in a fusion."""
  for one in inner.instructions.values():
    if one.opcode in KINDS:
      yield inner, one
    elif one.opcode == "fusion":
      yield from _pieces(module, module[one.called()[0]])


def _collective(
  inner: hlo.Computation, one: hlo.Instruction, fusion: hlo.Instruction,
  chains: set[str],
) -> int:  # fmt: skip
  """Bytes of a collective that is hidden in fusions, at its first piece."""
  chain = CHAIN.search(one.rest)
  if chain and chain[1] in chains:
    return 0
  if chain:
    chains.add(chain[1])
  kept = any(b.in_hbm for b in fusion.buffers if b.size == one.size)
  return sum(_bytes(source) for source in inner.operands(one)) + (
    one.size * kept
  )
