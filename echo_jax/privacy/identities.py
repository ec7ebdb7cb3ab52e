"""What in a header names a person, a place or a day; and where it turns up.

The texts live in memory while one file is worked on and are never written.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from echo_jax.data.ingest.header import VALUE_ERRORS
from echo_jax.privacy.rules import DEVICE, table_action

LEAST_NAME = 3  # letters of a piece of a person's name
LEAST_VALUE = 3
LEAST_WORD = 5  # letters of a piece of any other text
LONG = 6  # shorter texts count as whole words only, not inside of a word
PROSE = ("LT", "ST", "UC", "UT", "UR")
PROSE_NAMES = ("Description", "Comment", "ProtocolName", "Reason", "Label")
STANDARD_UID = "1.2.840.10008."


@dataclass(frozen=True)
class Identities:
  """Texts that must not be in the copy, in lower case.

  Attributes:
    texts: names, numbers, places and UIDs.
    days: dates as eight digits, YYYYMMDD.
  """

  texts: frozenset[str]
  days: frozenset[str]

  def found_in(self, text: str) -> bool:
    """True if the text holds one of them."""
    low = text.casefold()
    return any(_holds(low, one) for one in self.all_texts())

  def is_number(self, text: str) -> bool:
    """True if a number is one of them; short ones meet by chance."""
    return len(text) >= LONG and text in self.texts | self.days

  def all_texts(self, but: Iterable[str] = ()) -> frozenset[str]:
    """All of them, days in each usual writing, without those in `but`."""
    days = self.days - frozenset(but)
    forms = {form for day in days for form in _forms(day)}
    return (self.texts - frozenset(but)) | forms


NOBODY = Identities(frozenset(), frozenset())


def masked(text: str, identities: Identities) -> str:
  """A note or reason of ours without values that it quotes from a header.

  Numbers of four or more digits become "#": a birthday may stand where a
  number belongs.  What still holds an identity is cut to its first words.
  """
  text = re.sub(r"(?<!1\.2\.840\.)\d{4,}", "#", text)
  for shown in (text, text.split(":")[0]):
    if not identities.found_in(shown):
      return shown
  return "withheld: it repeats a value of the header"


def _holds(low: str, one: str) -> bool:
  if one.isdecimal():
    return re.search(rf"(?<!\d){one}(?!\d)", low) is not None
  if len(one) >= LONG:
    return one in low
  return re.search(rf"(?<!\w){re.escape(one)}(?!\w)", low) is not None


def _forms(day: str) -> tuple[str, ...]:
  year, month, date = day[:4], day[4:6], day[6:]
  return (
    day, f"{year}-{month}-{date}", f"{year}.{month}.{date}",
    f"{date}.{month}.{year}", f"{date}/{month}/{year}",
    f"{month}/{date}/{year}",
  )  # fmt: skip


def find_identities(dataset: Dataset, keep_device: bool) -> Identities:
  """Every name, number, place, UID and date of a header, nested ones too."""
  texts: set[str] = set()
  days: set[str] = set()
  for element in _elements(dataset):
    values = _values(element)
    if element.VR == "PN":
      for value in values:
        texts |= _of_name(value)
    elif element.VR in ("DA", "DT"):
      days |= {day for value in values if (day := _day(value))}
    elif element.VR == "UI":
      texts |= {v for v in values if v and not v.startswith(STANDARD_UID)}
    elif _is_identifying(element, keep_device):
      for value in values:
        texts |= _of_text(value, element)
  return Identities(frozenset(t.casefold() for t in texts), frozenset(days))


def _elements(dataset: Dataset) -> Iterator[DataElement]:
  """All elements that can be read, also those in sequences."""
  for tag in list(dataset.keys()):
    try:
      element = dataset[tag]
    except VALUE_ERRORS:
      continue  # unreadable: it is not kept either
    if element.VR == "SQ":
      for item in element.value or ():
        yield from _elements(item)
    else:
      yield element


def _values(element: DataElement) -> list[str]:
  value = element.value
  several = isinstance(value, MultiValue | list | tuple)
  found = list(value) if several else [value]
  return [
    str(v).strip(" \0") for v in found if v is not None and type(v) is not bytes
  ]


def _is_identifying(element: DataElement, keep_device: bool) -> bool:
  if element.VR not in ("AE", "LO", "SH", *PROSE):
    return False
  if keep_device and element.keyword in DEVICE:
    return False
  return table_action(element.tag) != ""


def _of_name(value: str) -> set[str]:
  """The name as it stands, with blanks, and each piece of it."""
  pieces = [p for p in re.split(r"[\W_]+", value) if p]
  whole = {value, " ".join(pieces), " ".join(reversed(pieces))}
  return {w for w in whole if len(w) > LEAST_NAME} | {
    p for p in pieces if len(p) >= LEAST_NAME
  }


def _of_text(value: str, element: DataElement) -> set[str]:
  """The text as it stands; words of it too, unless it is prose."""
  if len(value) < LEAST_VALUE:
    return set()
  prose = element.VR in PROSE or any(n in element.keyword for n in PROSE_NAMES)
  if prose:
    return {value} if len(value) >= LONG else set()
  if re.fullmatch(r"[\d.]+", value):
    return {value}  # a number or a UID: parts of it mean nothing
  return {value} | {
    w for w in re.split(r"[\W_]+", value) if len(w) >= LEAST_WORD
  }


def _day(value: str) -> str:
  digits = re.sub(r"[.\-/]", "", value[:10])[:8]
  return digits if len(digits) == 8 and digits.isdecimal() else ""
