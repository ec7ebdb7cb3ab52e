"""Tolerant reading of DICOM header values; what was odd is remembered.

A header is written by hundreds of machines and converters: numbers are empty,
text, several where one is allowed.  A value that cannot be read is unknown
(NaN, "" or empty) and becomes a warning that names the attribute, never its
content, since a misplaced value may be a patient's name.
"""

import struct
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

# What pydicom raises where it converts the bytes of one element.
VALUE_ERRORS = (
  BytesLengthException, ValueError, TypeError, KeyError, AttributeError,
  NotImplementedError, OverflowError, IndexError, LookupError,
  RecursionError, struct.error,
)  # fmt: skip


class Header:
  """A DICOM data set whose values are asked for by keyword.

  Attributes:
    warnings: one line for each value that was there but could not be used.
  """

  def __init__(self, dataset: Dataset, warnings: list[str] | None = None):
    self._dataset = dataset
    self.warnings = [] if warnings is None else warnings

  def has(self, keyword: str) -> bool:
    """True if the attribute is there, even when empty."""
    return keyword in self._dataset

  def raw_values(self, keyword: str) -> tuple[Any, ...]:
    """All values with the empty ones; none if absent or unreadable."""
    try:
      value = self._dataset.get(keyword)
    except VALUE_ERRORS as error:
      self.warn(f"{keyword} cannot be read ({type(error).__name__})")
      return ()
    several = isinstance(value, MultiValue | Sequence | list | tuple)
    return tuple(value) if several else (value,)

  def values(self, keyword: str) -> tuple[Any, ...]:
    """All values that are not empty; none if absent or unreadable."""
    values = self.raw_values(keyword)
    return tuple(v for v in values if v is not None and v != "")

  def numbers(self, keyword: str) -> Float64[np.ndarray, "n"]:
    """All values as float64; empty if any of them is not a finite number."""
    try:
      numbers = np.array([float(v) for v in self.values(keyword)], np.float64)
    except (ValueError, TypeError):
      self.warn(f"{keyword} is not a number: not used")
      return np.zeros(0)
    if not np.isfinite(numbers).all():
      self.warn(f"{keyword} is not a finite number: not used")
      return np.zeros(0)
    return numbers

  def number(self, keyword: str) -> float:
    """The first value as a number; NaN if there is none."""
    numbers = self.numbers(keyword)
    return float(numbers[0]) if len(numbers) else float("nan")

  def integer(self, keyword: str, unknown: int = -1) -> int:
    """The first value as a whole number; `unknown` if there is none."""
    number = self.number(keyword)
    return unknown if np.isnan(number) else int(number)

  def text(self, keyword: str) -> str:
    """The first value as text without padding; "" if there is none."""
    values = self.values(keyword)
    return str(values[0]).strip(" \0") if values else ""

  def items(self, keyword: str) -> list["Header"]:
    """The items of a sequence, with the same list of warnings."""
    sequence = self.values(keyword)
    return [
      Header(item, self.warnings)
      for item in sequence
      if isinstance(item, Dataset)
    ]

  def warn(self, message: str) -> None:
    """Remembers an oddity once."""
    if message not in self.warnings:
      self.warnings.append(message)
