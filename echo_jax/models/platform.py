"""The one switch between platforms: what is faster on one of them alone."""

from collections.abc import Callable
from typing import Any

import jax


def by_platform(*arrays: Any, default: Callable, **ways: Callable) -> Any:
  """Calls the way of the platform that is compiled for, else the default.

  That need not be the platform that compiles.  `ways` are named cpu, tpu and
  cuda, and give the same but for rounding; where there are none, nothing is
  left to choose.
  """
  if not ways:
    return default(*arrays)
  return jax.lax.platform_dependent(*arrays, default=default, **ways)
