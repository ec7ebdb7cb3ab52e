"""The largest batch that fits a chip, and the best of a few meshes."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from echo_jax.planning.memory import Memory
from echo_jax.planning.plan import Plan, Planner
from echo_jax.planning.program import Program
from echo_jax.training.sharding import MeshShape

Fitting = TypeVar("Fitting")


def largest_fitting(
  attempt: Callable[[int], Fitting | Memory], most: int
) -> tuple[int, Fitting | Memory]:
  """The largest size up to `most` that fits, to an eighth of itself.

  `attempt` gives what was made, or the Memory that was missing.  Sizes are
  doubled from 1 until one fails, then halved between.  If not even 1 fits: 0
  and what is missing.
  """
  size, fitting, below, missing = 1, 0, None, None
  while size <= most:
    made = attempt(size)
    if isinstance(made, Memory):
      missing = made
      break
    fitting, below = size, made
    size *= 2
  if not fitting:
    return 0, missing
  fails = size if missing else most + 1
  while fails - fitting > max(1, fitting // 8):
    middle = (fitting + fails) // 2
    made = attempt(middle)
    if isinstance(made, Memory):
      fails = middle
    else:
      fitting, below = middle, made
  return fitting, below


def meshes(chips: int, asked: MeshShape) -> list[MeshShape]:
  """The mesh asked for, and others that part weights less or more."""
  others = [MeshShape(fsdp=n) for n in (1, 8, chips) if chips % n == 0]
  return list(dict.fromkeys(one.over(chips) for one in (asked, *others)))


def search(planner: Planner, most: int) -> Iterator[Plan]:
  """The plan of the largest batch on each mesh, up to `most` a chip."""
  chips = planner.pod.size
  for mesh in meshes(chips, planner.mesh):
    # A row of each part of the batch, on all chips along model.
    step = mesh.data * mesh.fsdp * planner.built.accumulate

    def attempt(size: int, mesh=mesh, step=step) -> Program | Memory:
      return planner.program(mesh, size * step)

    size, found = largest_fitting(attempt, max(most * chips // step, 1))
    if isinstance(found, Memory):
      yield Plan(mesh, step, found)
    else:
      yield planner.complete(found, mesh, size * step)


def best(plans: list[Plan]) -> Plan | None:
  """The one whose bound is the most clips a second; None if none fits."""
  fitting = [plan for plan in plans if plan.roofline]
  return max(fitting, key=lambda plan: plan.roofline.clips_s, default=None)
