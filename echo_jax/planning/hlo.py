"""A compiled program's text as computations of instructions.

XLA prints one computation a block and one instruction a line:
  %name = type opcode(%operand, ...), attribute=..., ...
A type is an array, as in bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, or a tuple of
such; S(1) and up is memory on the chip, without it the array lies in HBM.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
NAME = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
OPERAND = re.compile(r"%([\w.\-]+)")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
SPACE = re.compile(r"S\((\d+)\)")
BITS = re.compile(r"(?:s|u|f|bf|c)(\d+)")
CALLED = re.compile(r"\b(?:calls|body|to_apply|condition)=%?([\w.\-]+)")
LONGEST_LOOP = 100_000


@dataclass(frozen=True)
class Buffer:
  """An array in memory: its bytes, and whether it lies in HBM."""

  size: int
  in_hbm: bool


@dataclass(frozen=True)
class Instruction:
  """One line; `rest` are its attributes as they are printed."""

  name: str
  opcode: str
  buffers: tuple[Buffer, ...]
  operands: tuple[str, ...]
  inside: str
  rest: str
  root: bool

  @property
  def size(self) -> int:
    """Bytes of the result."""
    return sum(buffer.size for buffer in self.buffers)

  def attribute(self, name: str) -> str | None:
    """The computation, or number, that an attribute names."""
    found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
    return found and found[1]

  def called(self) -> tuple[str, ...]:
    """Computations that run when it does, but not those of a loop."""
    if self.opcode in ("fusion", "call", "async-start"):
      return (self.attribute("calls") or self.attribute("to_apply"),)
    if self.opcode == "conditional":
      listed = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
      if listed:
        return tuple(OPERAND.findall(listed[1]))
      return (
        self.attribute("true_computation"), self.attribute("false_computation")
      )  # fmt: skip
    return ()


@dataclass(frozen=True)
class Computation:
  """Instructions by name, in order."""

  name: str
  instructions: Mapping[str, Instruction]

  @property
  def root(self) -> Instruction:
    return next(one for one in self.instructions.values() if one.root)

  def operands(self, of: Instruction) -> list[Instruction]:
    """What made an instruction's operands."""
    return [self.instructions[name] for name in of.operands]

  def parameters(self) -> dict[str, int]:
    """Number of each parameter by its name."""
    return {
      one.name: int(one.inside)
      for one in self.instructions.values()
      if one.opcode == "parameter"
    }


@dataclass(frozen=True)
class Module:
  """Computations by name, and which of them a run starts with."""

  computations: Mapping[str, Computation]
  entry: str

  def __getitem__(self, name: str) -> Computation:
    return self.computations[name]


def parse_module(text: str) -> Module:
  """The program that `Compiled.as_text()` printed."""
  computations, entry = {}, ""
  found: dict[str, Instruction] | None = None
  for line in text.splitlines():
    if found is None:
      header = HEADER.match(line)
      if header:
        found, name = {}, header[2]
        entry = name if header[1] else entry
    elif line.rstrip() == "}":  # what a kernel is told goes over several lines
      computations[name] = Computation(name, found)
      found = None
    elif one := _parse_line(line):
      found[one.name] = one
  if not entry:
    raise ValueError("the program's text has no entry computation")
  return Module(computations, entry)


def _parse_line(line: str) -> Instruction | None:
  start = NAME.match(line)
  if not start:
    return None
  end = _end_of_type(line, start.end())
  opcode, _, _ = line[end:].strip().partition("(")
  opened = line.index("(", end)
  closed = _closing(line, opened)
  inside = line[opened + 1 : closed]
  return Instruction(
    start[2], opcode, tuple(_buffers(line[start.end() : end])),
    tuple(OPERAND.findall(inside)), inside, line[closed + 1 :],
    bool(start[1]),
  )  # fmt: skip


def _end_of_type(line: str, start: int) -> int:
  if line[start] == "(":
    return _closing(line, start) + 1
  return line.index(" ", start)


def _closing(line: str, opened: int) -> int:
  depth = 0
  for place in range(opened, len(line)):
    depth += {"(": 1, ")": -1}.get(line[place], 0)
    if not depth:
      return place
  raise ValueError(f"no closing bracket in {line.strip()[:80]!r}")


def _buffers(text: str) -> Iterator[Buffer]:
  for kind, sides, layout in ARRAY.findall(text):
    count = math.prod(int(side) for side in sides.split(",") if side)
    space = SPACE.search(layout)
    yield Buffer(
      math.ceil(count * _bits(kind) / 8), not space or space[1] == "0"
    )


def _bits(kind: str) -> int:
  if kind in ("token", "opaque"):
    return 0
  if kind == "pred":
    return 8
  found = BITS.match(kind)
  if not found:
    raise ValueError(f"unknown element type {kind!r} in a program's text")
  return int(found[1])


# ---- loops


def count_trips(module: Module, where: Computation, loop: Instruction) -> int:
  """How often a loop's body runs; -1 where the program does not tell.

  What the compiler noted (`known_trip_count`), else the loop's counter is
  followed from where it starts until the condition is false.
  """
  if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
    return int(noted[1])
  condition = module[loop.attribute("condition")]
  body = module[loop.attribute("body")]
  counters = {
    int(one.attribute("index"))
    for one in condition.instructions.values()
    if one.opcode == "get-tuple-element"
  }
  (start,) = where.operands(loop)
  state = {i: _element(module, where, start, i, ()) for i in counters}
  for trip in range(LONGEST_LOOP):
    goes_on = _value(module, condition, condition.root, (state,))
    if goes_on is None:
      return -1
    if not goes_on:
      return trip
    state = {
      i: _element(module, body, body.root, i, (state,)) for i in counters
    }
  return -1


def _element(
  module: Module, where: Computation, of: Instruction, index: int, given: tuple
) -> int | None:
  """One number of a tuple, if it can be told."""
  if of.opcode == "tuple":
    return _value(module, where, where.operands(of)[index], given)
  found = _value(module, where, of, given)
  return found.get(index) if isinstance(found, dict) else None


def _value(
  module: Module, where: Computation, one: Instruction, given: tuple
) -> int | bool | dict | None:
  """What an instruction on whole numbers gives; None if it cannot be told.

  `given` are the values of the computation's parameters.
  """
  if one.opcode == "constant":
    return int(one.inside) if re.fullmatch(r"-?\d+", one.inside) else None
  if one.opcode == "parameter":
    number = int(one.inside)
    return given[number] if number < len(given) else None
  sources = where.operands(one)
  if one.opcode == "get-tuple-element":
    return _element(
      module, where, sources[0], int(one.attribute("index")), given
    )
  if one.opcode in ("fusion", "call"):
    inner = module[one.called()[0]]
    return _value(
      module, inner, inner.root,
      tuple(_value(module, where, source, given) for source in sources),
    )  # fmt: skip
  if one.opcode in ("copy", "bitcast", "convert", "reshape", "copy-done"):
    return _value(module, where, sources[0], given)
  if one.opcode in ("add", "subtract", "compare"):
    left, right = (_value(module, where, one, given) for one in sources)
    if left is None or right is None:
      return None
    return _compute(one, left, right)
  return None


def _compute(one: Instruction, left: int, right: int) -> int | bool | None:
  match one.opcode, one.attribute("direction"):
    case "add", _:
      return left + right
    case "subtract", _:
      return left - right
    case "compare", "LT":
      return left < right
    case "compare", "LE":
      return left <= right
    case "compare", "GT":
      return left > right
    case "compare", "GE":
      return left >= right
    case "compare", "NE":
      return left != right
  return None


# ---- what runs


@dataclass(frozen=True)
class Run:
  """A computation that runs by itself, and how often in one step."""

  computation: Computation
  times: int


def runs(module: Module) -> tuple[list[Run], list[str]]:
  """What runs in one step, and the loops of unknown length.

  Bodies of loops count as often as they run; of a loop whose length is
  unknown, once.  Every branch of a conditional counts.  Fusions are part of
  the computation that calls them.
  """
  found, unknown = [], []

  def visit(name: str, times: int) -> None:
    computation = module[name]
    found.append(Run(computation, times))
    for one in computation.instructions.values():
      if one.opcode == "while":
        trips = count_trips(module, computation, one)
        if trips < 0:
          unknown.append(one.name)
        visit(one.attribute("body"), times * (trips if trips >= 0 else 1))
      elif one.opcode in ("call", "conditional", "async-start"):
        for inner in one.called():
          visit(inner, times)

  visit(module.entry, 1)
  return found, unknown
