"""`Key: value` text files that lie beside pictures (CAMUS, ACDC)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from echo_jax.data.tables import NUMBER

MOST_BYTES = 2**16


@dataclass(frozen=True)
class Cfg:
  """One file: its name for messages, and its values by lower-case key.

  What is absent or of no use is unknown, and one of `notes` says so.
  """

  name: str
  values: Mapping[str, str]

  def text(self, key: str, notes: list[str]) -> str:
    """The value of a key, "" if there is none."""
    value = self.values.get(key.lower(), "")
    if not value and self.values:
      notes.append(f"{self.name} has no {key}")
    return value

  def choice(
    self, key: str, choices: Mapping[str, str], notes: list[str]
  ) -> str:
    """What a word stands for, whatever its case; "" for another word."""
    word = self.text(key, notes)
    if word and word.lower() not in choices:
      notes.append(f"{self.name}: {key} is none of {', '.join(choices)}")
    return choices.get(word.lower(), "")

  def number(
    self, key: str, low: float | int, high: float | int, unit: str,
    notes: list[str],
  ) -> float:  # fmt: skip
    """The value of a key in its unit, NaN if it is no number or outside."""
    text = self.text(key, notes)
    if not text:
      return math.nan
    if not NUMBER.fullmatch(text):
      notes.append(f"{self.name}: {key} is no number")
      return math.nan
    value = float(text)
    if not low <= value <= high:
      notes.append(
        f"{self.name}: {key} {value:g} {unit} outside {low:g} to {high:g}"
      )
      return math.nan
    return value

  def frame(self, key: str, frames: int, notes: list[str]) -> int:
    """A frame counted from 0, from one counted from 1; -1 if unknown."""
    value = self.number(key, 1, frames, "of the frames", notes)
    if value % 1 > 0:
      notes.append(f"{self.name}: {key} {value:g} is no whole number")
      return -1
    return -1 if math.isnan(value) else int(value) - 1


def read_cfg(path: Path, notes: list[str]) -> Cfg:
  """Reads a file with any line ends; an absent or odd one gives no values."""
  if not path.is_file():
    notes.append(f"{path.name} is absent")
    return Cfg(path.name, {})
  with path.open("rb") as file:
    text = file.read(MOST_BYTES).decode("utf-8-sig", "replace")
  pairs = (line.partition(":") for line in text.splitlines())
  values = {
    key.strip().lower(): value.strip() for key, colon, value in pairs if colon
  }
  if not values:
    notes.append(f"{path.name} has no line `Key: value`")
  return Cfg(path.name, values)
