"""From an experiment and a pod to what a step of it needs there."""

import contextlib
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from tqdm import tqdm

from echo_jax import experiment
from echo_jax.experiment import Experiment
from echo_jax.planning import chips, layers
from echo_jax.planning.chips import Pod
from echo_jax.planning.collectives import Traffic
from echo_jax.planning.lowering import Shapes, batch_shapes, lowered_step
from echo_jax.planning.memory import Memory
from echo_jax.planning.program import Costs, Program, compile_program
from echo_jax.planning.roofline import Roofline, make_roofline
from echo_jax.training.flops import step_flops
from echo_jax.training.sharding import MeshShape

# Enough to see what a batch is; its rows are multiplied afterwards.
SAMPLE = (
  "run.batch_size=2", "compute.accumulate=1", "data.threads=0",
  "data.workers=0",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
  """An experiment as the command line names it."""

  source: str
  settings: tuple[str, ...] = ()
  tiny: bool = False

  def build(self, *more: str) -> Experiment:
    """The experiment with further settings; prints nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
      return experiment.prepare(
        self.source, (*self.settings, *more), tiny=self.tiny
      )


@dataclass(frozen=True)
class Plan:
  """What one step needs on one mesh.

  Attributes:
    mesh: chips along each axis.
    clips: global batch.
    memory: of a chip; where it does not fit, nothing below is known.
    model_flops: of all chips together, see `training.flops`.
    costs: of a chip.
    by_layers: what shallow steps tell of the same, where layers are a loop;
      FLOPs and accessed bytes of `costs` are from there.  Bytes of HBM differ
      by what XLA copies in a loop and not without one, or the reverse.
    collectives: what a chip sends, by kind.
    unknown_loops: loops that were counted as if they ran once.
    roofline: the bound that follows.
  """

  mesh: MeshShape
  clips: int
  memory: Memory
  model_flops: int = 0
  costs: Costs | None = None
  by_layers: Costs | None = None
  collectives: Mapping[str, Traffic] = dataclasses.field(default_factory=dict)
  unknown_loops: tuple[str, ...] = ()
  roofline: Roofline | None = None

  def as_dict(self, pod: Pod, clips: int, epochs: int) -> dict[str, Any]:
    """Plain numbers, with the hours for so many clips and epochs."""
    memory, roofline = self.memory, self.roofline
    found = {
      "topology": pod.name, "chips": pod.size,
      "mesh": dataclasses.asdict(self.mesh),
      "batch": self.clips, "batch_per_chip": self.clips / pod.size,
      "fits": memory.fits,
      "memory": dataclasses.asdict(memory)
      | {"spare_bytes": memory.spare_bytes},
    }  # fmt: skip
    if roofline is None:
      return found
    return found | {
      "model_flops": self.model_flops,
      "a_chip": dataclasses.asdict(self.costs),
      "by_layers": self.by_layers and dataclasses.asdict(self.by_layers),
      "collectives": {
        kind: dataclasses.asdict(one) for kind, one in self.collectives.items()
      },
      "loops_of_unknown_length": list(self.unknown_loops),
      "roofline": dataclasses.asdict(roofline),
      "run": {
        "clips": clips, "epochs": epochs, "hours": roofline.hours(clips, epochs)
      },
    }  # fmt: skip


class Planner:
  """Makes plans of one experiment on one pod; the bar counts what it compiles.

  Raises:
    ValueError: as `Subject.build`, `batch_shapes` and `MeshShape.over`.
  """

  def __init__(self, subject: Subject, pod: Pod, bar: tqdm):
    self.subject, self.pod, self._bar = subject, pod, bar
    self.built = subject.build()
    self.mesh = self.built.mesh_shape.over(pod.size)
    self._example = batch_shapes(subject.build(*SAMPLE), 1)
    self.usable_bytes = chips.usable_bytes(pod)

  @property
  def depths(self) -> dict[str, int]:
    """Layers of every stack of blocks, by the name of its setting."""
    return {
      f"{name}.depth": part["depth"]
      for name, part in self.built.config.items()
      if isinstance(part, Mapping) and {"depth", "heads"} <= set(part)
    }

  @property
  def looped(self) -> bool:
    """Whether XLA counts less than the step does."""
    scanned = self.built.config["compute"]["scan"]
    return bool(self.depths and scanned) or self.built.accumulate > 1

  def compiles(self) -> int:
    """How many programs a plan of one batch needs."""
    shallow = layers.layer_compiles(self.depths, self.built.accumulate)
    return 1 + shallow * self.looped

  def rows(self, clips: int) -> Shapes:
    """Shapes of a batch of so many clips."""
    return {
      name: jax.ShapeDtypeStruct((clips, *leaf.shape[1:]), leaf.dtype)
      for name, leaf in self._example.items()
    }

  def program(self, mesh: MeshShape, clips: int) -> Program | Memory:
    """Compiles the step as it will run."""
    return self._compile(self.built, mesh, clips, "the step")

  def plan(self, mesh: MeshShape, clips: int) -> Plan:
    """Compiles the step, and shallow ones where its layers are a loop."""
    program = self.program(mesh, clips)
    if isinstance(program, Memory):
      return Plan(mesh, clips, program)
    return self.complete(program, mesh, clips)

  def complete(self, program: Program, mesh: MeshShape, clips: int) -> Plan:
    """The plan of a step that was compiled."""
    costs, found = program.costs, None
    parts = self.built.accumulate
    if self.looped:
      found = layers.costs_by_layers(
        lambda depths, parts_now: self._shallow(
          depths, parts_now, mesh, clips // parts * parts_now
        ),
        self.depths, parts,
      )  # fmt: skip
      costs = dataclasses.replace(
        costs, flops=found.flops, accessed_bytes=found.accessed_bytes
      )
    count = step_flops(
      self.built.objective, experiment.state_shapes(self.built),
      self.rows(clips),
    )  # fmt: skip
    return Plan(
      mesh, clips, program.memory, count, costs, found,
      program.collectives, program.unknown_loops,
      make_roofline(self.pod, costs, count, clips),
    )  # fmt: skip

  def _shallow(
    self, depths: Mapping[str, int], parts: int, mesh: MeshShape, clips: int
  ) -> Costs:
    """Costs of an unrolled step of few layers."""
    more = [f"{name}={depth}" for name, depth in depths.items()]
    more += ["compute.scan=False", f"compute.accumulate={parts}"]
    label = "a step of " + "+".join(map(str, depths.values())) + " layers"
    program = self._compile(self.subject.build(*more), mesh, clips, label)
    if isinstance(program, Memory):
      raise ValueError(
        f"{label}, unrolled to be counted, needs "
        f"{program.peak_bytes / 2**30:.2f} GiB and does not fit"
      )
    return program.costs

  def _compile(
    self, built: Experiment, mesh: MeshShape, clips: int, label: str
  ) -> Program | Memory:
    rows = self.rows(clips)
    self._bar.set_description(
      f"{label}, batch {clips}, mesh {mesh.data}x{mesh.fsdp}x{mesh.model}"
    )
    lowered = lowered_step(built, self.pod.devices, mesh, rows)
    made = compile_program(lowered, self.usable_bytes)
    self._bar.update(1)
    return made
