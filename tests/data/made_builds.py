"""Data sets for tests of building: every read is logged, some end badly."""

import os
import signal
import time
from pathlib import Path

from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item


def tiny_record(name, split="train", **known):
  """The least that a record may hold; another name is other bytes."""
  return schema.make_record(
    video_id=name, study_id="t:s", patient_id="t:p", kind="cine", split=split,
    frames=[name.encode() * 20], frames_codec="raw", frames_shape=(1, 1, 1),
    frame_time_ms=[0], **known,
  )  # fmt: skip


def read_logged(item):
  """Logs that it reads, then does what the item's facts say.

  "wait" lasts as long as there is a file `<log>-gate` that allows fewer reads
  than were begun.
  """
  facts = item.facts
  with open(facts["log"], "a") as log:
    log.write(f"{os.getpid()} {item.name}\n")
  do = facts["do"]
  once = Path(f"{facts['log']}-{item.name}")
  if do == "die" or (do == "die once" and not once.exists()):
    once.touch()
    os.kill(os.getpid(), signal.SIGSEGV)
  elif do == "exit":
    os._exit(3)
  elif do == "wait":
    gate = Path(f"{facts['log']}-gate")
    while gate.exists() and len(reads(facts["log"])) >= int(gate.read_text()):
      time.sleep(0.01)
  elif do == "raise":
    raise ZeroDivisionError("a bug in the reader")
  name = facts.get("as", item.name)
  return tiny_record(f"t:{name}", item.split), ("odd",)


def made_dataset(log, items, **more):
  """Items as (name, split, what to do), or a number that wait at the gate."""
  if isinstance(items, int):
    items = [(f"i{i}", "train", "wait") for i in range(items)]
  return Dataset(
    "toy", "1.0.0", "toy", {"size": 4},
    tuple(
      Item(name, split, {"log": str(log), "do": do} | more.get(name, {}))
      for name, split, do in items
    ),
    read_logged, (("gone.avi", "absent: named in the list"),),
  )  # fmt: skip


def reads(log):
  """(process, item) of every read so far."""
  if not Path(log).exists():
    return []
  return [line.split() for line in Path(log).read_text().splitlines()]


def files_of(folder):
  """Name to bytes of all files of a folder."""
  return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def check_files(dataset):
  """Every item says what it is read from, and that is there."""
  for item in dataset.items:
    paths = list(dataset.files(item))
    assert paths and all(path.exists() for path in paths), item.name
