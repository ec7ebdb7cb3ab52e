"""The proof beside each copy: what was done, what was checked, pass or fail.

The checks read the bytes that are to be written, as any file is read.  The
record itself holds no identity: tags, rules, counts and pseudonyms.
"""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from echo_jax.data.ingest.dicom import FILE_ERRORS, transfer_syntax
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.pixels import PIXEL_ERRORS, read_pixels
from echo_jax.privacy import rules
from echo_jax.privacy.identities import LEAST_NAME, LONG
from echo_jax.privacy.pixels import Frames, Mask, text_mask
from echo_jax.privacy.tags import Action, Cleaned
from echo_jax.privacy.text import Reader

PREAMBLE_BYTES = 128
LEAST_BASE64 = 10  # shorter ones meet by chance
NO_TEXT = "no text is read in the frames"
PIXEL_DATA = 0x7FE00010
TEXT_VRS = (
  "AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT",
)  # fmt: skip
ALLOWED = (
  rules.NUMBERS | set(rules.WORDS) | rules.UIDS | rules.DATES | rules.TIMES
  | rules.PATIENT | rules.DEVICE | rules.EMPTIED
  | {
    "SOPClassUID", "Modality", "Manufacturer", "ManufacturerModelName",
    "PatientName", "PatientID", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified", "BurnedInAnnotation",
    "DerivationDescription", rules.REGIONS, rules.VIEWS, "NumberOfFrames",
    "FrameIncrementPointer", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelData",
  }
)  # fmt: skip
IN_META = frozenset({
  "FileMetaInformationGroupLength", "FileMetaInformationVersion",
  "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID",
  "ImplementationClassUID", "ImplementationVersionName",
})  # fmt: skip


@dataclass(frozen=True)
class Check:
  """One question to the finished file; `found` holds counts, never text."""

  name: str
  passed: bool
  found: str = ""


def check_copy(
  data: bytes, cleaned: Cleaned, wanted: Frames, area: Mask, read: Reader
) -> tuple[tuple[Check, ...], Mask]:
  """Opens the finished bytes again and looks for everything that must be gone.

  Args:
    data: the file as it would be written.
    cleaned: its header, and the identities that the source held.
    wanted: frames as they were meant to be.
    area: what may be other than black.
    read: finds text.

  Returns:
    The checks, and where text is still read in the frames.
  """
  try:
    dataset = pydicom.dcmread(io.BytesIO(data))
    # As ingest does: decoders of JPEG differ by some grey levels.
    syntax = transfer_syntax(dataset)
    frames = read_pixels(Header(dataset), dataset, syntax).frames
  except (*FILE_ERRORS, *PIXEL_ERRORS) as error:
    opened = Check("the copy opens", False, type(error).__name__)
    return (opened,), np.zeros_like(area)
  text, pieces = text_mask(frames, area, read)
  equal = frames.shape == wanted.shape and np.array_equal(frames, wanted)
  checks = (
    Check("the copy opens", True),
    _check_preamble(data),
    _check_attributes(dataset),
    _check_marks(dataset),
    *_check_identities(data, dataset, cleaned),
    Check("frames are the blanked ones", equal),
    Check(NO_TEXT, pieces == 0, f"{pieces} pieces"),
  )
  return checks, text


def _check_preamble(data: bytes) -> Check:
  clean = data[:PREAMBLE_BYTES] == bytes(PREAMBLE_BYTES)
  return Check("the preamble is zero", clean)


def _check_attributes(dataset: Dataset) -> Check:
  """Only attributes of the list, no private ones, no overlays, no pictures."""
  strange = [e for e in dataset if e.keyword not in ALLOWED or not e.keyword]
  strange += [e for e in dataset.file_meta if e.keyword not in IN_META]
  nested = 0
  for element in dataset:
    if element.VR == "SQ":
      for item in element.value:
        nested += sum(e.tag.is_private or e.VR == "SQ" for e in item)
  count = len(strange) + nested
  return Check("only listed attributes", count == 0, f"{count} others")


def _check_marks(dataset: Dataset) -> Check:
  """(0012,0062), (0012,0063), (0012,0064), (0028,0301), (0028,0303)."""
  values = {
    item.CodeValue for item in dataset.DeidentificationMethodCodeSequence
  }
  right = (
    dataset.PatientIdentityRemoved == "YES"
    and dataset.BurnedInAnnotation == "NO"
    and dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    and bool(dataset.DeidentificationMethod)
    and {code for code, _ in rules.PROFILE} <= values
  )
  return Check("the header says how it was cleaned", right)


def _check_identities(
  data: bytes, dataset: Dataset, cleaned: Cleaned
) -> tuple[Check, ...]:
  """Every name, number, place, UID and day of the source, in its bytes."""
  texts = cleaned.identities.all_texts(but=cleaned.moments)
  start = _start_of_pixels(data, dataset)
  head, body = data[:start].lower().decode("latin-1"), data[start:].lower()
  head = _without(head, cleaned.constants).encode("latin-1")
  in_head = sum(_occurs(head, text) for text in texts)
  long = [text for text in texts if len(text) >= LONG]
  in_body = sum(
    form in body for text in long for form in (text.encode(), _wide(text))
  )
  in_values = _count_short(dataset, cleaned, texts)
  return (
    Check(
      "no identity in the header's bytes", in_head == 0,
      f"{in_head} of {len(texts)}",
    ),
    Check(
      "no identity in the pixel bytes", in_body == 0,
      f"{in_body} of {len(long)}",
    ),
    Check(
      "no identity in a value", in_values == 0, f"{in_values} of {len(texts)}"
    ),
  )  # fmt: skip


def _without(text: str, constants: Iterable[str]) -> str:
  """Lower-case text without the words that we put there ourselves.

  Whole words only, the longest first: "Original" is a name as well, but a part
  of "Originalski" is not ours.
  """
  for constant in sorted(constants, key=len, reverse=True):
    whole = rf"(?<![a-z0-9]){re.escape(constant.lower())}(?![a-z0-9])"
    text = re.sub(whole, lambda found: "\0" * len(found[0]), text)
  return text


def _start_of_pixels(data: bytes, dataset: Dataset) -> int:
  """Where the value of PixelData begins; the tag stands before its length."""
  tag = (PIXEL_DATA >> 16).to_bytes(2, "little") + (
    PIXEL_DATA & 0xFFFF
  ).to_bytes(2, "little")
  return data.rfind(tag, 0, len(data) - len(dataset.PixelData) + 1) + 12


def _wide(text: str) -> bytes:
  return text.encode("utf-16-le")


def _occurs(data: bytes, text: str) -> bool:
  """True if the text stands in the bytes in an encoding that is in use."""
  if len(text) < LONG and not (len(text) > LEAST_NAME and text.isalpha()):
    return False  # too short for bytes; looked for in the values
  for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
    try:
      coded = {t.encode(encoding).lower() for t in (text, text.upper())}
    except UnicodeEncodeError:
      continue
    for one in coded:
      if text.isdecimal() and encoding in ("utf-8", "latin-1"):
        if _whole_number(data, one):
          return True
      elif one in data:
        return True
  return any(len(one) > LEAST_BASE64 and one in data for one in _base64(text))


def _whole_number(data: bytes, digits: bytes) -> bool:
  """True if the digits stand there with no digit beside them: UIDs are long."""
  at = data.find(digits)
  while at >= 0:
    around = data[at - 1 : at] + data[at + len(digits) : at + len(digits) + 1]
    if not any(48 <= byte <= 57 for byte in around):
      return True
    at = data.find(digits, at + 1)
  return False


def _base64(text: str) -> Iterable[bytes]:
  """What the text looks like in base64, at each of three offsets."""
  for offset in range(3):
    coded = base64.b64encode(b"\0" * offset + text.encode())
    yield coded[offset + 1 : -4].lower()


def _count_short(
  dataset: Dataset, cleaned: Cleaned, texts: Iterable[str]
) -> int:
  """Identities that are a word of a value that is not a number or constant."""
  found: set[str] = set()
  for element in dataset.iterall():
    if element.VR not in TEXT_VRS or element.is_empty:
      continue
    if element.keyword in ("PatientName", "PatientID"):
      continue
    value = _without(str(element.value).lower(), cleaned.constants)
    if cleaned.identities.found_in(value):
      found.add(element.keyword)
  return len(found)


@dataclass(frozen=True)
class Audit:
  """What became of one file; holds no identity.

  Attributes:
    file: keyed id of the source's bytes.
    outcome: written or refused.
    reason: why it was refused; "" if it was not.
    copy: name of the copy below the output folder.
    sha256: of the copy.
    settings: profile, options, edition of the table, versions, key's name.
    header: one an attribute, see `tags.Action`.
    pixels: sizes, rule of the kept area, counts of what was blanked.
    checks: questions to the finished file.
    notes: what ingest had to say.
  """

  file: str
  outcome: str
  reason: str
  settings: dict[str, Any]
  copy: str = ""
  sha256: str = ""
  header: tuple[Action, ...] = ()
  pixels: dict[str, Any] | None = None
  checks: tuple[Check, ...] = ()
  notes: tuple[str, ...] = ()

  def to_json(self) -> str:
    """As text; equal attributes of a header are counted."""
    facts = asdict(self)
    counts = Counter(self.header)
    facts["header"] = [
      asdict(action) | {"count": count} for action, count in counts.items()
    ]
    return json.dumps(facts, indent=1) + "\n"


def read_outcome(path: Path) -> dict[str, Any]:
  """An audit record as written; empty if there is none or it is cut off."""
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, json.JSONDecodeError):
    return {}
