"""Cohorts mixed with stated weights; the share is exact in every 1,000 rows.

Each cohort goes through its own epochs, so that each of its records comes
once before any comes twice, whatever its weight.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import grain
import numpy as np

from echo_jax.data.schema import Record

BLOCK = 1000  # rows in which each cohort has its share
_ROWS = 2**48  # endless in practice


class Mixture(Sequence):
  """Several sources as one; a record also says which cohort it is of.

  Attributes:
    names: of the cohorts, in their order.
    weights: shares of the rows in training, in sum 1.
    sources: records of each cohort.

  Raises:
    ValueError: names or weights that make no mixture.
  """

  def __init__(
    self,
    names: Sequence[str],
    weights: Sequence[float],
    sources: Sequence[Sequence[Record]],
  ):
    check_weights(names, weights)
    self.names, self.weights = tuple(names), tuple(weights)
    self.sources = tuple(sources)
    self._ends = np.cumsum([len(source) for source in self.sources]).tolist()
    for name, source in zip(self.names, self.sources, strict=True):
      if not len(source):
        raise ValueError(f"cohort {name} has no videos to mix in")

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, position: int) -> Record:
    if not 0 <= position < len(self):
      raise IndexError(f"record {position} of {len(self)}")  # ends `for`
    cohort = int(np.searchsorted(self._ends, position, "right"))
    before = self._ends[cohort] - len(self.sources[cohort])
    return self.read(cohort, position - before)

  def read(self, cohort: int, position: int) -> Record:
    """A record by its cohort and its position there."""
    record = self.sources[cohort][position]
    return record | {"cohort": cohort, "cohort_name": self.names[cohort]}

  @property
  def index(self) -> Any:
    """The index rows of all cohorts with a column `cohort`."""
    import pandas as pd  # not at the top: a reading process needs none

    tables = [
      source.index.assign(cohort=name)
      for name, source in zip(self.names, self.sources, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)

  def __repr__(self) -> str:
    parts = zip(self.names, self.weights, self.sources, strict=True)
    text = ", ".join(f"{w:g} of {n} ({len(s)})" for n, w, s in parts)
    return f"Mixture({text})"


class Shares(grain.transforms.DatasetSelectionMap):
  """Which cohort a row is of, and the how-many-eth row of that cohort it is.

  In each block of `BLOCK` rows every cohort has its share, in an order that
  seed and block decide.
  """

  def __init__(self, weights: Sequence[float], seed: int):
    self._counts, self._seed = tuple(rows_a_block(weights)), seed

  def __len__(self) -> int:
    return _ROWS

  def __getitem__(self, row: int) -> tuple[int, int]:
    block, place = divmod(row, BLOCK)
    cohorts, ranks = _block(self._counts, self._seed, block)
    cohort = int(cohorts[place])
    return cohort, block * self._counts[cohort] + int(ranks[place])


def parse_mix(mix: Sequence[str]) -> tuple[tuple[str, ...], tuple[float, ...]]:
  """Names and weights of `("mimic_iv_echo:0.8", "echonet_dynamic:0.2")`.

  A version may stand between: `mimic_iv_echo:1.0.0:0.8`.

  Raises:
    ValueError: text of another form, or weights that do not add up.
  """
  names, weights = [], []
  for text in mix:
    name, _, weight = text.rpartition(":")
    try:
      weights.append(float(weight))
    except ValueError as error:
      raise ValueError(
        f"data.mix has {text!r}, which is not NAME:WEIGHT, as in "
        "('mimic_iv_echo:0.8', 'echonet_dynamic:0.2')"
      ) from error
    names.append(name)
  check_weights(names, weights)
  return tuple(names), tuple(weights)


def check_weights(names: Sequence[str], weights: Sequence[float]) -> None:
  """Refuses what is no mixture.

  Raises:
    ValueError: names the cohort, its weight and what is allowed.
  """
  if not names or len(names) != len(weights):
    raise ValueError(f"{len(names)} cohorts have {len(weights)} weights")
  if not all(names) or len(set(names)) < len(names):
    raise ValueError(f"cohorts {list(names)}: each needs a name of its own")
  for name, weight in zip(names, weights, strict=True):
    if not 1 / BLOCK <= weight <= 1:
      raise ValueError(
        f"weight of cohort {name} is {weight:g}, wants {1 / BLOCK:g} to 1"
      )
  if not math.isclose(sum(weights), 1, abs_tol=1e-6):
    raise ValueError(f"weights of the cohorts sum to {sum(weights):g}, want 1")


def rows_a_block(weights: Sequence[float]) -> list[int]:
  """Rows of each cohort in a block: whole numbers by largest remainder."""
  wanted = np.asarray(weights, np.float64) * BLOCK
  counts = np.floor(wanted + 1e-6).astype(int)
  most_lacking = np.argsort(counts - wanted, kind="stable")
  counts[most_lacking[: BLOCK - counts.sum()]] += 1
  return counts.tolist()


@lru_cache(maxsize=16)
def _block(
  counts: tuple[int, ...], seed: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
  """Cohort of each row of a block, and its rank among those of the cohort."""
  rng = np.random.default_rng((seed, block))
  cohorts = rng.permutation(np.repeat(np.arange(len(counts)), counts))
  ranks = np.empty(BLOCK, int)
  for cohort, count in enumerate(counts):
    ranks[cohorts == cohort] = np.arange(count)
  return cohorts, ranks
