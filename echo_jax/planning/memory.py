"""Memory that a compiled program needs of one chip, also where it lacks it."""

import re
from dataclasses import dataclass

import jax

UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Two ways in which XLA refuses: no order of its operations fits, or its
# arguments alone are too much.
REFUSALS = (
  re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
  re.compile(r"\(([\d.]+)([KMGTB]?)\) exceeds available HBM "
             r"\(([\d.]+)([KMGTB]?)\)"),
)  # fmt: skip


@dataclass(frozen=True)
class Memory:
  """Bytes of one chip.

  Attributes:
    peak_bytes: the most that is held at one time.
    argument_bytes: state and batch.
    temporary_bytes: what lives within a step only; of one that does not fit,
      unknown (-1), as are the arguments.
    usable_bytes: what the compiler gives to programs on this chip.
  """

  peak_bytes: int
  argument_bytes: int
  temporary_bytes: int
  usable_bytes: int

  @property
  def fits(self) -> bool:
    return self.peak_bytes <= self.usable_bytes

  @property
  def spare_bytes(self) -> int:
    """What is left; negative where it does not fit."""
    return self.usable_bytes - self.peak_bytes


def memory_of(compiled: jax.stages.Compiled, usable_bytes: int) -> Memory:
  """Memory of a program that fits."""
  found = compiled.memory_analysis()
  return Memory(
    found.peak_memory_in_bytes, found.argument_size_in_bytes,
    found.temp_size_in_bytes, usable_bytes,
  )  # fmt: skip


def out_of_memory(error: Exception) -> Memory:
  """What a compiler's refusal says; any other error is raised again.

  XLA rounds to a hundredth of a unit.
  """
  for pattern in REFUSALS:
    if found := pattern.search(str(error)):
      needed, needed_unit, has, has_unit = found.groups()
      return Memory(
        round(float(needed) * UNITS[needed_unit]), -1, -1,
        round(float(has) * UNITS[has_unit]),
      )  # fmt: skip
  raise error
