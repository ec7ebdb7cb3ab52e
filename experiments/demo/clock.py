"""Wall time of the demo's stages."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echo_jax.training.writers import write_whole


class Clock:
  """Wall time of each stage, over all starts of an interrupted demo."""

  def __init__(self, workdir: Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    self._path = workdir / "clock.json"
    known = self._path.read_text() if self._path.exists() else "{}"
    self.seconds: dict[str, float] = json.loads(known)

  @contextmanager
  def __call__(self, stage: str) -> Iterator[None]:
    print(f"== {stage}", flush=True)
    start = time.monotonic()
    try:
      yield
    finally:
      spent = time.monotonic() - start
      self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
      write_whole(self._path, json.dumps(self.seconds))
