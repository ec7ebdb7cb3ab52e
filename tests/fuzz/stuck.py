"""Readers that end badly in case 0, for the tests of the fuzzing itself."""

import os
import signal
import time


def waits(seeds, kind, case):
  """As a reader that hangs, and takes an OSError for a bad file."""
  try:
    time.sleep(0 if case else 20)
  except OSError:
    return "refused"
  return "read"


def waits_deaf(seeds, kind, case):
  """As a library that hangs in C, where Python raises nothing."""
  if not case:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(20)
  return "read"


def dies(seeds, kind, case):
  if not case:
    os.abort()
  return "read"


def swells(seeds, kind, case):
  """Takes memory and gives it back."""
  bytearray(0 if case else 2**27)
  return "read"


def fails(seeds, kind, case):
  return {1: "read"}[case]
