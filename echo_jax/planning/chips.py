"""TPU chips: what they hold and move, and pods of them to compile for.

Nothing here needs a TPU: libtpu brings the compiler, and a topology's devices
stand for chips that are not there.
"""

import functools
import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from echo_jax.planning.memory import out_of_memory
from echo_jax.training.flops import PEAK_FLOPS_S

TOPOLOGY = re.compile(r"(\w+):(\d+)x(\d+)(?:x(\d+))?")
# Before libtpu is loaded: no instance to ask who we are, no lock on a chip,
# and no word on that.
ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Chip:
  """One TPU chip.

  From https://docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e, as read
  in 2026.  Those pages give the interconnect in both directions together,
  twice what is here; v4's is 6 links of 50 GB/s (Jouppi et al. 2023,
  arXiv:2304.01433, table 4).

  Attributes:
    hbm_gib: memory; the compiler keeps some, see `usable_bytes`.
    flops_s: multiplications and additions a second, bfloat16, dense.
    hbm_bytes_s: bytes a second from and to memory.
    ici_bytes_s: bytes a second that leave the chip on all its links together.
    layout: dimensions of the torus, as many as a topology's name has.
    config: what libtpu calls the way in which one chip is one device.
  """

  hbm_gib: int
  flops_s: float
  hbm_bytes_s: float
  ici_bytes_s: float
  layout: int
  config: str = ""


CHIPS = {
  "v4": Chip(32, PEAK_FLOPS_S["TPU v4"], 1200e9, 300e9, 3, "megacore"),
  "v5e": Chip(16, PEAK_FLOPS_S["TPU v5 lite"], 819e9, 200e9, 2),
  "v5p": Chip(95, PEAK_FLOPS_S["TPU v5"], 2765e9, 600e9, 3),
  "v6e": Chip(32, PEAK_FLOPS_S["TPU v6 lite"], 1600e9, 400e9, 2),
}


@dataclass(frozen=True)
class Pod:
  """A topology such as v5e:16x16: a chip, and devices to compile for."""

  name: str
  chip: Chip
  devices: tuple

  @property
  def size(self) -> int:
    return len(self.devices)


def read_topology(name: str) -> tuple[Chip, list[int]]:
  """Chip and sides of a topology's name, as in v5e:16x16 or v5p:4x4x4.

  Raises:
    ValueError: libtpu is not installed, or the name is none.
  """
  found = TOPOLOGY.fullmatch(name)
  if not found or found[1] not in CHIPS:
    raise ValueError(
      f"no topology {name!r}: a chip of {', '.join(CHIPS)} and its layout, as "
      "in v5e:16x16 or v5p:4x4x4"
    )
  chip = CHIPS[found[1]]
  sides = [int(side) for side in found.groups()[1:] if side]
  if len(sides) != chip.layout:
    raise ValueError(
      f"topology {name} has {len(sides)} dimensions; {found[1]} has "
      f"{chip.layout}"
    )
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      "libtpu, the compiler for TPUs, is not installed: "
      "pip install 'echo-jax[plan]'"
    )
  return chip, sides


def open_pod(name: str) -> Pod:
  """The pod of a topology's name.

  Loads libtpu, under an environment that lets it run without a TPU and beside
  other processes that have it loaded.

  Raises:
    ValueError: as `read_topology`, or libtpu does not have it.
  """
  chip, sides = read_topology(name)
  options = {"chip_config_name": chip.config} if chip.config else {}
  # A host of v5e and v6e has 4 chips unless told so.
  if chip.layout == 2 and 1 in sides:
    options["chips_per_host_bounds"] = [1, 1, 1]
  return _open(name, chip, options)


def _open(name: str, chip: Chip, options: dict) -> Pod:
  for key, value in ENVIRONMENT.items():
    os.environ.setdefault(key, value)
  try:
    topology = topologies.get_topology_desc(
      platform="tpu", topology_name=name, **options
    )
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f"libtpu has no topology {name}: {error}") from error
  return Pod(name, chip, tuple(topology.devices))


def compiler_version() -> str:
  """Version of the installed libtpu."""
  return importlib.metadata.version("libtpu")


@functools.cache
def usable_bytes(pod: Pod) -> int:
  """Memory of a chip that the compiler gives to programs.

  It says so only when it refuses one, so it is asked for too much.
  """
  too_much = jax.ShapeDtypeStruct(
    (int(8 * pod.chip.hbm_gib * 2**30),), jnp.int8,
    sharding=SingleDeviceSharding(pod.devices[0]),
  )  # fmt: skip
  try:
    jax.jit(lambda x: x + 1).lower(too_much).compile()
  except jax.errors.JaxRuntimeError as error:
    return out_of_memory(error).usable_bytes
  raise AssertionError(f"{pod.name} took eight times its memory")
