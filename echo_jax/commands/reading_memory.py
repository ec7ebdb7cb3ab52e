"""Peak memory of a process that reads with several worker processes."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

from echo_jax.data.contract import InputContract
from echo_jax.data.pipeline import ClipMaker, training_batches
from echo_jax.data.sources import VideoSource

BATCH = 16
BATCHES_A_WORKER = 6
PAUSE_S = 0.02
PROC = Path("/proc")


def measure(
  folder: Path, contract: InputContract, workers: int
) -> dict[str, float | int] | None:
  """Highest sum over a reading process and its workers, in MiB.

  RSS counts a page in every process that maps it; PSS shares it out, so that
  its sum is what the machine needs.  None where there is no /proc that tells
  the memory and the children of a process.

  Raises:
    OSError: reading failed, or its workers were never seen all at once.
  """
  me = PROC / "self"
  children = me / "task" / str(os.getpid()) / "children"
  if not ((me / "smaps_rollup").exists() and children.exists()):
    return None
  spawn = multiprocessing.get_context("spawn")
  reader = spawn.Process(target=read, args=(folder, contract, workers))
  reader.start()
  peak, seen = {"Rss": 0, "Pss": 0}, 0
  while reader.is_alive():
    found = [memory_of(process) for process in family(reader.pid)]
    found = [one for one in found if one]
    seen = max(seen, len(found) - 1)
    for name in peak:
      peak[name] = max(peak[name], sum(one[name] for one in found))
    time.sleep(PAUSE_S)
  if reader.exitcode:
    raise OSError(f"reading with {workers} workers ended in an error")
  if seen < workers:
    raise OSError(
      f"{seen} of {workers} workers were seen at once: the memory of the "
      "others is not known; ask for no measurement with --workers 0"
    )
  return {
    "workers": workers, "batch_size": BATCH,
    "peak_pss_mib": peak["Pss"] / 1024, "peak_rss_mib": peak["Rss"] / 1024,
  }  # fmt: skip


def read(folder: Path, contract: InputContract, workers: int) -> None:
  """Reads some batches of each worker."""
  source = VideoSource(folder, "train")
  batches = training_batches(
    source, ClipMaker(contract), seed=0, batch_size=BATCH, workers=workers
  )
  count = BATCHES_A_WORKER * workers
  if sum(1 for _ in itertools.islice(batches, count)) != count:
    raise OSError("the workers ended early")
  batches.close()


def family(pid: int) -> Iterator[int]:
  """A process and all that it started, directly or not."""
  yield pid
  try:
    lists = [
      (task / "children").read_text()
      for task in (PROC / str(pid) / "task").iterdir()
    ]
  except OSError:  # it ended just now
    return
  for child in " ".join(lists).split():
    yield from family(int(child))


def memory_of(pid: int) -> dict[str, int]:
  """Rss and Pss of a process in kB; nothing if it ended just now."""
  try:
    text = (PROC / str(pid) / "smaps_rollup").read_text()
  except OSError:
    return {}
  fields = (line.split() for line in text.splitlines())
  return {
    words[0][:-1]: int(words[1])
    for words in fields
    if words[0] in ("Rss:", "Pss:")
  }
