"""Kills a build before each of its file operations, or each k-th.

Usage: kill_everywhere.py EMPTY_FOLDER K

Each build is a fork of this process, so that a start costs no import.  After
each kill the data set must be the old one, whole, or the new one, whole, and
the same build again must end with the bytes of a build that was not killed.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import made_builds as made

from echo_jax.data.build import build

OPERATIONS = ("link", "rename", "replace", "mkdir", "unlink", "rmdir", "fsync")


def kill_before(number):
  """Counts down file operations, then ends the process the hard way."""
  left = [number]

  def counting(operation):
    def counted(*args, **options):
      left[0] -= 1
      if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
      return operation(*args, **options)

    return counted

  for name in OPERATIONS:
    setattr(os, name, counting(getattr(os, name)))


def in_fork(work):
  """Does the work in a child; its exit code, negative if it was killed."""
  child = os.fork()
  if not child:
    sys.stdout = open(os.devnull, "w")
    work()
    os._exit(0)
  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(data_dir, items, overwrite, kill=0):
  """Builds once, killed before operation `kill`."""

  def work():
    if kill:
      kill_before(kill)
    log = data_dir.parent / "log"
    build(
      made.made_dataset(log, items), data_dir, overwrite=overwrite,
      progress=False,
    )  # fmt: skip

  return in_fork(work)


def main(root, step):
  """Prints before how many operations a build was killed."""
  one, other = ("a", "train", "read"), ("b", "test", "read")
  states = {}
  for name, items in (("old", [one]), ("new", [one, other, other])):
    assert run(root / name, items, False) == 0
    states[name] = made.files_of(root / name / "toy" / "1.0.0")
  assert states["old"].keys() != states["new"].keys()
  tried = 0
  for overwrite in (False, True):
    for number in range(1, 1000, step):
      data_dir = root / "killed"
      shutil.rmtree(data_dir, ignore_errors=True)
      if overwrite:
        shutil.copytree(root / "old", data_dir)
      code = run(data_dir, [one, other, other], overwrite, number)
      if code == 0:
        break  # it has no more operations than that
      assert code == -signal.SIGKILL
      tried += 1
      final = data_dir / "toy" / "1.0.0"
      if final.exists():
        assert made.files_of(final) in list(states.values()), number
      # Without --overwrite a build that was complete is refused, rightly.
      assert run(data_dir, [one, other, other], True) == 0, number
      assert made.files_of(final) == states["new"], number
      assert os.listdir(data_dir) == ["toy"], number
  print(tried)


if __name__ == "__main__":
  main(Path(sys.argv[1]), int(sys.argv[2]))
