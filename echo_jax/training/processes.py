"""Several processes, one on each host, that train one model together.

`echo-jax train` on every host is all that a pod or a Slurm job needs: whom to
join is in the environment.  Elsewhere JAX_COORDINATOR_ADDRESS (host:port of
process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID say it.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

ADDRESS = "JAX_COORDINATOR_ADDRESS"
NUMBERS = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
HEARTBEAT_S = 20  # a process that is silent for so long counts as lost
SHOWN = 2000  # bytes of a value in a message
_LOST = re.compile("gloo|nccl|unavailable|connection|heartbeat", re.IGNORECASE)


class ProcessLost(RuntimeError):
  """Another process of the run is gone; the message says which."""


def join_others(environment: Mapping[str, str] = os.environ) -> None:
  """Joins the other processes of a job; alone, it does nothing.

  Must come before anything is computed.

  Raises:
    ValueError: a part of the environment's description is missing.
  """
  if jax.distributed.is_initialized():
    return
  if environment.get(ADDRESS):
    missing = [name for name in NUMBERS if not environment.get(name)]
    if missing:
      raise ValueError(
        f"{ADDRESS} is set, so this is one of several processes, but "
        f"{' and '.join(missing)} is not; set all three on every host"
      )
    count, number = (int(environment[name]) for name in NUMBERS)
    jax.distributed.initialize(
      environment[ADDRESS], count, number,
      heartbeat_timeout_seconds=HEARTBEAT_S,
    )  # fmt: skip
  elif in_a_cluster(environment):
    jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_S)


def in_a_cluster(environment: Mapping[str, str]) -> bool:
  """Whether JAX can find the others by itself: Slurm, Open MPI, TPU hosts."""
  for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
    if int(environment.get(name) or 1) > 1:
      return True
  hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
  if "," in hosts or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
    return True
  # A TPU virtual machine of a pod learns of the others from its metadata.
  chips = ("/dev/accel0", "/dev/vfio/0")
  has_chips = any(Path(chip).exists() for chip in chips)
  return has_chips and importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
  """Whether this process is the one that writes records and logs."""
  return jax.process_index() == 0


def wait_for_all(name: str) -> None:
  """Goes on when every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def first_writes(name: str, write: Callable[[], None]) -> None:
  """The first process writes; the others go on when it has."""
  if is_first():
    write()
  wait_for_all(name)


def refuse_unequal(name: str, value: str) -> None:
  """Every process gives its own value; they must be the same.

  Raises:
    ValueError: on every process; says which process has what.
  """
  if jax.process_count() == 1:
    return
  mine = np.frombuffer(value.encode()[:SHOWN].ljust(SHOWN), np.uint8)
  whole = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
  digests = multihost_utils.process_allgather(whole)
  texts = multihost_utils.process_allgather(mine)
  for number, digest in enumerate(digests):
    if (digest != digests[0]).any():
      first, other = (
        bytes(texts[i]).decode(errors="replace").strip() for i in (0, number)
      )
      raise ValueError(
        f"processes 0 and {number} differ in their {name}: {first} and "
        f"{other}; install the same code and give the same data on every host"
      )


@contextlib.contextmanager
def name_the_lost() -> Iterator[None]:
  """Says which process is gone, where a computation over all of them fails.

  Raises:
    ProcessLost: names it.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    if jax.process_count() == 1 or not _LOST.search(str(error)):
      raise
    # Answers once silence has lasted for long enough.
    with multihost_utils.live_devices(jax.devices()) as alive:
      left = {device.process_index for device in alive}
    lost = sorted(set(range(jax.process_count())) - left)
    message = (
      f"process {', '.join(map(str, lost)) or '(which, is not known)'} of "
      f"{jax.process_count()} is gone; look at its own messages and start all "
      "again: the run goes on from the last whole checkpoint"
    )
    # At once: the runtime may end this process before it comes to its end.
    print(message, file=sys.stderr, flush=True)
    raise ProcessLost(message) from error
