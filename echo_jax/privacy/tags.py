"""From the header of a file to one that names nobody, and what was done to it.

The new header is built up from nothing: what no rule keeps is not there.
"""

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from echo_jax.data.ingest.header import VALUE_ERRORS
from echo_jax.privacy import rules
from echo_jax.privacy.identities import Identities, find_identities
from echo_jax.privacy.keys import Key

OLDEST_YEARS = 89
# Said anew by whoever writes the pixels.
OF_PIXELS = frozenset({
  "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
  "NumberOfFrames", "FrameIncrementPointer", "Rows", "Columns",
  "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
  "BurnedInAnnotation", "PixelData",
})  # fmt: skip


@dataclass(frozen=True)
class Action:
  """What was done to one attribute: its tag and keyword, why, and what."""

  tag: str
  keyword: str
  rule: str
  done: str


@dataclass(frozen=True)
class Cleaned:
  """A header that names nobody.

  Attributes:
    dataset: without pixels.
    actions: one an attribute that was removed, emptied or replaced.
    identities: what the old header held; never to be written.
    moments: dates and times in the new header: a date may by chance equal
      an old one, and a time of day stays while it may be a study's number.
    constants: texts of ours, and those out of closed lists, which may by
      chance hold a name ("Black", "Philips", "Apical").
    patient, study: pseudonyms.
  """

  dataset: Dataset
  actions: tuple[Action, ...]
  identities: Identities
  moments: frozenset[str]
  constants: tuple[str, ...]
  patient: str
  study: str


@dataclass
class _Work:
  """What the rules for one file need to know, and what they note."""

  key: Key
  identities: Identities
  shift: datetime.timedelta
  keep_device: bool
  actions: list[Action] = field(default_factory=list)
  moments: set[str] = field(default_factory=set)

  def note(self, element: DataElement, path: str, rule: str, done: str) -> None:
    keyword = "" if element.tag.is_private else element.keyword
    self.actions.append(Action(path + str(element.tag), keyword, rule, done))


def clean_header(
  dataset: Dataset, key: Key, keep_device: bool, file: str
) -> Cleaned:
  """Applies the Basic Profile with 113107 and 113108 to a header.

  A patient is a PatientID with its issuer; without one each study, and
  without that each file, counts as a patient of its own.

  Args:
    dataset: header of an ultrasound image; it is not changed.
    key: makes pseudonyms, UIDs and the patient's date offset.
    keep_device: 113109, keep serial number, station name and device UID.
    file: keyed id of the file.
  """
  patient = _patient(dataset)
  study = _text(dataset, "StudyInstanceUID")
  owner = patient or (f"study {study}" if study else f"file {file}")
  work = _Work(
    key, find_identities(dataset, keep_device),
    datetime.timedelta(days=key.shift_days(owner)), keep_device,
  )  # fmt: skip
  clean = Dataset()
  _copy(dataset, clean, work)
  name = key.word("patient", owner)
  _complete(dataset, clean, name, work)
  if not _text(clean, "SOPInstanceUID"):  # no copy can be stored without one
    clean.SOPInstanceUID = key.uid(f"file {file}")
  _mark(clean, keep_device)
  maker = _text(clean, "Manufacturer")
  views = [view.CodeMeaning for view in clean.get(rules.VIEWS) or ()]
  return Cleaned(
    clean, tuple(work.actions), work.identities, frozenset(work.moments),
    (*rules.CONSTANTS, *views, *filter(None, [maker])), name,
    key.word("study", study or owner),
  )  # fmt: skip


def _patient(dataset: Dataset) -> str:
  issuer, number = (
    _text(dataset, name) for name in ("IssuerOfPatientID", "PatientID")
  )
  return f"{issuer}|{number}" if number else ""


def _text(dataset: Dataset, keyword: str) -> str:
  """First value as text; "" if there is none or it cannot be read."""
  try:
    value = dataset.get(keyword)
  except VALUE_ERRORS:
    return ""
  if isinstance(value, MultiValue | list):
    value = value[0] if value else None
  return "" if value is None else str(value).strip(" \0")


def _copy(old: Dataset, new: Dataset, work: _Work) -> None:
  """Copies what a rule keeps; notes all else."""
  for tag in sorted(old.keys()):
    try:
      element = old[tag]
    except VALUE_ERRORS:
      work.actions.append(Action(str(tag), "", "cannot be read", "removed"))
      continue
    if element.keyword not in OF_PIXELS:
      _copy_element(element, new, work)


def _copy_element(element: DataElement, new: Dataset, work: _Work) -> None:
  keyword = element.keyword
  if element.tag.is_private:
    _remove(element, "", "private", work)
  elif keyword == rules.REGIONS:
    new.add_new(element.tag, "SQ", _regions(element, work))
  elif keyword == rules.VIEWS:
    _keep_views(element, new, work)
  elif (rule := _rule_for(keyword, work)) is None:
    listed = rules.table_action(element.tag)
    why = f"E.1-1 {listed}" if listed else "not known to be safe"
    if keyword in rules.EMPTIED:
      work.note(element, "", why, "emptied")
    else:
      _remove(element, "", why, work)
  else:
    name, change = rule
    _keep(element, new, work, name, change)


def _remove(element: DataElement, path: str, rule: str, work: _Work) -> None:
  work.note(element, path, rule, "removed")
  if element.VR == "SQ":
    for item in element.value or ():
      for tag in sorted(item.keys()):
        inner = f"{path}{element.tag}/"
        keyword = "" if tag.is_private else item.get_item(tag).keyword
        work.actions.append(
          Action(inner + str(tag), keyword, rule, "removed")
        )


Change = Callable[[DataElement, _Work], Any]


def _rule_for(keyword: str, work: _Work) -> tuple[str, Change] | None:
  """Name of the rule that keeps an attribute, and how; None if none does."""
  if keyword in rules.NUMBERS:
    return "number", _numbers
  if keyword in rules.WORDS:
    return "code string", _words
  if keyword in rules.UIDS:
    return "E.1-1 U", _uid
  if keyword in rules.DATES | rules.TIMES:
    return "113107", _moment
  if keyword in rules.PATIENT:
    return "113108", _patient_value
  if keyword in rules.DEVICE and work.keep_device:
    return "113109", _uid if keyword == "DeviceUID" else _plain
  kept = {
    "SOPClassUID": ("constant", lambda element, work: element.value),
    "Modality": ("constant", lambda element, work: "US"),
    "Manufacturer": ("known maker", _maker),
    "ManufacturerModelName": ("known model", _model),
  }
  return kept.get(keyword)


def _keep(
  element: DataElement, new: Dataset, work: _Work, rule: str, change: Change
) -> None:
  """Keeps what the rule makes of a value, if it holds no identity."""
  try:
    value = change(element, work)
  except VALUE_ERRORS:
    value = None
  if value is None or value == "" or value == []:
    if not element.is_empty:
      work.note(element, "", f"{rule}: value not allowed", "removed")
    return
  text = rule in ("code string", "113109", "known model")
  holds = work.identities.found_in if text else work.identities.is_number
  checked = text or rule == "number"
  if checked and any(holds(str(one)) for one in _several(value)):
    work.note(element, "", "holds an identity of this header", "removed")
    return
  if str(value) != str(element.value):
    work.note(element, "", rule, "replaced")
  setattr(new, element.keyword, value)


def _several(value: Any) -> list[Any]:
  return list(value) if isinstance(value, MultiValue | list) else [value]


def _numbers(element: DataElement, work: _Work) -> Any:
  values = _several(element.value)
  if element.VR == "IS":
    kept = [int(float(v)) for v in values]
  elif element.VR == "DS":
    # Written anew from the number: nothing but digits can come through.
    kept = [f"{float(v):.10g}" for v in values]
  else:
    kept = [v for v in values if isinstance(v, int | float)]
  return kept[0] if len(kept) == 1 else kept


def _words(element: DataElement, work: _Work) -> Any:
  values = [str(v or "").strip(" \0") for v in _several(element.value)]
  terms = rules.WORDS[element.keyword]
  safe = [
    v if re.fullmatch(terms[min(place, len(terms) - 1)], v) else ""
    for place, v in enumerate(values)
  ]
  while safe and not safe[-1]:
    safe.pop()
  return safe[0] if len(safe) == 1 else safe


def _uid(element: DataElement, work: _Work) -> str:
  value = str(_several(element.value)[0]).strip(" \0")
  return work.key.uid(value) if value else ""


def _moment(element: DataElement, work: _Work) -> str:
  """A date moved by the patient's offset; a time of day as it is."""
  value = str(_several(element.value)[0]).strip(" \0")
  if element.VR == "TM":
    value = value.replace(":", "")
    if not re.fullmatch(r"\d{2,6}(\.\d{1,6})?", value):
      return ""
    work.moments.update((value, value[:6]))
    return value
  found = re.fullmatch(
    r"(\d{4})[.\-/]?(\d\d)[.\-/]?(\d\d)(\d{0,6}(?:\.\d{1,6})?)?([+-]\d{4})?",
    value,
  )
  if not found:
    return ""
  year, month, day = (int(found[i]) for i in (1, 2, 3))
  moved = datetime.date(year, month, day) + work.shift
  text = f"{moved:%Y%m%d}"
  work.moments.add(text)
  return text + (found[4] or "") if element.VR == "DT" else text


def _patient_value(element: DataElement, work: _Work) -> Any:
  value = str(_several(element.value)[0]).strip(" \0").upper()
  if element.keyword == "PatientSex":
    return value if value in ("F", "M", "O") else ""
  if element.keyword == "PatientAge":
    return _age(value)
  number = float(value)
  return f"{number:.6g}" if 0 < number < 500 else ""


def _age(text: str) -> str:
  """Age as DICOM has it; over 89 years becomes 90 (read: 90 or more)."""
  if not re.fullmatch(r"\d{3}[DWMY]", text):
    return ""
  days = int(text[:3]) * {"D": 1, "W": 7, "M": 30.44, "Y": 365.25}[text[3]]
  return "090Y" if days > (OLDEST_YEARS + 1) * 365.25 - 1 else text


def _maker(element: DataElement, work: _Work) -> str:
  return rules.known_maker(str(_several(element.value)[0]).strip(" \0"))


def _model(element: DataElement, work: _Work) -> str:
  return rules.known_model(str(_several(element.value)[0]).strip(" \0"))


def _plain(element: DataElement, work: _Work) -> str:
  value = str(_several(element.value)[0]).strip(" \0")
  return value if re.fullmatch(r"[A-Za-z0-9 ./_()+-]{1,32}", value) else ""


def _regions(element: DataElement, work: _Work) -> Sequence:
  """Regions with nothing but numbers in them."""
  made = []
  for old in element.value or ():
    new = Dataset()
    for tag in sorted(old.keys()):
      try:
        inner = old[tag]
      except VALUE_ERRORS:
        continue
      path = f"{element.tag}/"
      if tag.group != 0x0018 or inner.VR not in rules.NUMBER_VRS:
        _remove(inner, path, "region: not a number", work)
        continue
      if inner.is_empty:
        continue
      value = _numbers(inner, work)
      if any(work.identities.is_number(str(v)) for v in _several(value)):
        work.note(inner, path, "holds an identity of this header", "removed")
      else:
        new.add_new(tag, inner.VR, value)
    made.append(new)
  return Sequence(made)


def _keep_views(element: DataElement, new: Dataset, work: _Work) -> None:
  """Views whose code is in DICOM's own list; their wording is taken from it."""
  made = []
  for item in element.value or ():
    code = _text(item, "CodingSchemeDesignator"), _text(item, "CodeValue")
    meaning = rules.view_meanings().get(code)
    if meaning is None:
      _remove(element, "", "view: not in CID 12226", work)
      return
    view = Dataset()
    view.CodingSchemeDesignator, view.CodeValue = code
    view.CodeMeaning = meaning
    made.append(view)
    known = {"CodingSchemeDesignator", "CodeValue", "CodeMeaning"}
    for inner in item:
      if inner.keyword not in known:
        _remove(inner, f"{element.tag}/", "view: not its code", work)
  new.add_new(element.tag, "SQ", Sequence(made))


def _complete(old: Dataset, new: Dataset, name: str, work: _Work) -> None:
  """Pseudonyms, an age that was only implied, and what must not be missing."""
  new.PatientName = name
  new.PatientID = name
  if "PatientAge" not in new and "PatientAge" not in old:
    age = _age_from_dates(old)
    if age:
      new.PatientAge = age
  for keyword in sorted(rules.EMPTIED):
    if keyword not in new:
      setattr(new, keyword, "")


def _age_from_dates(old: Dataset) -> str:
  """Whole years from birth to study, before both dates are gone."""
  found = [
    re.fullmatch(r"(\d{4})(\d\d)(\d\d)", _text(old, name))
    for name in ("PatientBirthDate", "StudyDate")
  ]
  if not all(found):
    return ""
  born, seen = (tuple(int(one[i]) for i in (1, 2, 3)) for one in found)
  years = seen[0] - born[0] - (seen[1:] < born[1:])
  return _age(f"{years:03d}Y") if 0 <= years <= 120 else ""


def _mark(new: Dataset, keep_device: bool) -> None:
  """Says in the header that it was cleaned, and how."""
  options = list(rules.PROFILE) + [rules.DEVICE_OPTION] * keep_device
  new.PatientIdentityRemoved = "YES"
  new.DeidentificationMethod = rules.METHOD
  items = []
  for value, meaning in options:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning
    items.append(item)
  new.DeidentificationMethodCodeSequence = items
  new.LongitudinalTemporalInformationModified = "MODIFIED"
  new.BurnedInAnnotation = "NO"
