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
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

VARIABLES = (
  "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
)  # fmt: skip
HEARTBEAT_S = 20  # a process that is silent for so long counts as lost
CARRIED = 20_000  # bytes of a text that processes tell each other
SHOWN = 200  # letters of a value in a message
# How the runtime says that a computation over several processes failed.  Not a
# local error of any other kind: its process must not wait for the others.
_LOST = re.compile(
  "(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|DEADLINE_EXCEEDED): .*"
  "(gloo|nccl|nvshmem|heartbeat|unhealthy|connection)",
  re.IGNORECASE | re.DOTALL,
)


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
  initialize = partial(
    jax.distributed.initialize, local_device_ids=own_devices(environment),
    heartbeat_timeout_seconds=HEARTBEAT_S,
  )  # fmt: skip
  given = [name for name in VARIABLES if environment.get(name)]
  if given:
    missing = [name for name in VARIABLES if name not in given]
    if missing:
      raise ValueError(
        f"{' and '.join(given)} say that this is one of several processes, but "
        f"{' and '.join(missing)} is missing; set all three on every host"
      )
    address, count, number = (environment[name] for name in VARIABLES)
    initialize(address, int(count), int(number))
  elif in_a_cluster(environment):
    initialize()
  elif _has_chips():
    # A TPU machine knows from its metadata whether it is one of several.
    try:
      initialize()
    except ValueError as error:
      print(
        f"this machine has chips, and JAX finds no other hosts ({error}): it "
        "trains alone",
        file=sys.stderr,
      )


def in_a_cluster(environment: Mapping[str, str]) -> bool:
  """Whether JAX can find the others by itself: Slurm, Open MPI, TPU hosts."""
  for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
    if int(environment.get(name) or 1) > 1:
      return True
  hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
  return "," in hosts or bool(environment.get("MEGASCALE_COORDINATOR_ADDRESS"))


def own_devices(environment: Mapping[str, str]) -> list[int] | None:
  """Which devices of its host a process takes: [] all, None what JAX says.

  Under Slurm and Open MPI JAX gives each process one, also where it is the only
  one of its host.
  """
  if environment.get("JAX_LOCAL_DEVICE_IDS"):
    return None
  tasks = environment.get("SLURM_STEP_NUM_TASKS")
  alone = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1" or (
    tasks is not None and tasks == environment.get("SLURM_STEP_NUM_NODES")
  )
  return [] if alone else None


def _has_chips() -> bool:
  chips = ("/dev/accel0", "/dev/vfio/0")
  there = any(Path(chip).exists() for chip in chips)
  return there and importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
  """Whether this process is the one that writes records and logs."""
  return jax.process_index() == 0


def wait_for_all(name: str) -> None:
  """Goes on when every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def first_writes(write: Callable[[], None]) -> None:
  """The first process writes; the others go on when it has.

  Raises:
    RuntimeError: in the others, if it could not; it raises its own error.
  """
  failure = None
  if is_first():
    try:
      write()
    except Exception as error:  # raised below, once the others know of it
      failure = error
  if jax.process_count() > 1:
    said = _texts("" if failure is None else repr(failure))[0]
    if said and failure is None:
      raise RuntimeError(f"process 0 could not write: {said}")
  if failure is not None:
    raise failure


def _texts(mine: str) -> list[str]:
  """The beginning of a text of every process, in their order."""
  padded = mine.encode()[:CARRIED].ljust(CARRIED)
  each = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
  return [bytes(one).decode(errors="replace").strip() for one in each]


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
  """Where one of several processes fails, it ends without waiting for others.

  They would wait for it, and it for them, in JAX's farewell; so they see that
  it is silent, and end too.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1:
      raise
    traceback.print_exc()
    print(
      f"process {jax.process_index()} of {jax.process_count()} failed: {error}",
      file=sys.stderr, flush=True,
    )  # fmt: skip
    os._exit(1)


def refuse_unequal(name: str, value: str) -> None:
  """Every process gives its own value; they must be the same.

  Raises:
    ValueError: on every process; says which process has what.
  """
  if jax.process_count() == 1:
    return
  digests = _texts(hashlib.sha256(value.encode()).hexdigest())
  texts = _texts(value)
  for number, digest in enumerate(digests):
    if digest != digests[0]:
      same = len(os.path.commonprefix([texts[0], texts[number]]))
      start = texts[0].rfind(",", 0, same) + 1
      first, other = (texts[i][start:][:SHOWN].strip() for i in (0, number))
      raise ValueError(
        f"processes 0 and {number} differ in their {name}: from {first} and "
        f"from {other} on; give the same on every host"
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
    if jax.process_count() == 1 or not _LOST.match(str(error)):
      raise
    lost = ", ".join(map(str, sorted(_who_is_lost())))
    message = (
      f"process {lost or '(which, is not known)'} of {jax.process_count()} is "
      "gone; look at its own messages and start all again: the run goes on "
      "from the last whole checkpoint"
    )
    # At once: the runtime may end this process before it comes to its end.
    print(message, file=sys.stderr, flush=True)
    raise ProcessLost(message) from error


def _who_is_lost() -> set[int]:
  """Numbers of the processes that are gone, as number 0 knows them."""
  lost: set[int] = set()
  try:
    # Answers once silence has lasted for long enough.
    with multihost_utils.live_devices(jax.devices()) as alive:
      left = {device.process_index for device in alive}
      lost = set(range(jax.process_count())) - left
  except (
    jax.errors.JaxRuntimeError, multihost_utils.ProcessFailureError
  ) as error:  # fmt: skip
    # Number 0 does not answer: it is the one, or has ended since it did.
    if not lost and str(error).startswith("UNAVAILABLE"):
      lost = {0} - {jax.process_index()}
  return lost
