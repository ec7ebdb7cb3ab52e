"""Stand-ins for a process that reads with workers; imports nothing heavy."""

import subprocess
import sys


def with_workers(folder, contract, workers):
  """As many processes as were asked for, for half a second."""
  words = [sys.executable, "-c", "import time; time.sleep(0.5)"]
  for process in [subprocess.Popen(words) for _ in range(workers)]:
    process.wait()


def without_one(folder, contract, workers):
  """One fewer."""
  with_workers(folder, contract, workers - 1)


def failing(folder, contract, workers):
  """Ends in an error."""
  sys.exit(3)
