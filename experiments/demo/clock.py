"""Wall time of the demo's stages."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
  """Wall time of each stage, printed as it begins."""

  def __init__(self) -> None:
    self.seconds: dict[str, float] = {}

  @contextmanager
  def __call__(self, stage: str) -> Iterator[None]:
    print(f"== {stage}", flush=True)
    start = time.monotonic()
    yield
    self.seconds[stage] = time.monotonic() - start
