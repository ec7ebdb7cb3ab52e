"""Which header attributes stay, and on what ground; everything else goes.

Source: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile
(113100).  Its Table E.1-1 comes as data with dicom-anonymizer, of the
libraries on PyPI the one that follows the standard's editions.  The table lists
what is known to identify; it leaves free text such as ViewName, StageName or
TransducerData alone.  Therefore only attributes that a picture, its scale and
its times need are kept, and each by a check of its value.
"""

import functools
import re

from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag

EDITION = "2026c"

# Numbers of the ultrasound IODs (PS3.3 A.6, A.7): plain digits, re-written.
NUMBERS = frozenset({
  "InstanceNumber", "SeriesNumber", "AcquisitionNumber", "StageNumber",
  "NumberOfStages", "ViewNumber", "NumberOfViewsInStage",
  "LossyImageCompressionRatio", "FrameTime", "FrameTimeVector", "CineRate",
  "RecommendedDisplayFrameRate", "StartTrim", "StopTrim", "FrameDelay",
  "EffectiveDuration", "ActualFrameDuration", "PreferredPlaybackSequencing",
  "HeartRate", "RWaveTimeVector", "NominalInterval", "LowRRValue",
  "HighRRValue", "IntervalsAcquired", "IntervalsRejected", "TriggerTime",
  "EventElapsedTimes", "MechanicalIndex", "BoneThermalIndex",
  "SoftTissueThermalIndex", "CranialThermalIndex", "DepthOfScanField",
  "DepthsOfFocus", "FocusDepth", "TransducerFrequency",
  "UltrasoundColorDataPresent", "PixelSpacing", "PixelAspectRatio",
})  # fmt: skip
# Code strings: one pattern a value, the last for all that follow it.  Defined
# terms only (PS3.3 C.8.5.6, C.7.6.1), since any word may be a name.
_EXAMINATIONS = (
  "ABDOMINAL|BREAST|CHEST|ENDOCAVITARY|ENDORECTAL|ENDOVAGINAL|ENDOVASCULAR|"
  "EPICARDIAL|EXTREMITY|FETAL HEART|GYNECOLOGY|INTRAOPERATIVE|INTRAVASCULAR|"
  "MUSCULOSKELETAL|NEONATAL HEAD|OBSTETRICAL|OPHTHALMIC|PEDIATRIC|PELVIC|"
  "RETROPERITONEAL|SCROTAL|SMALL PARTS|TEE|THYROID|TRANSCRANIAL|TTE|US BIOPSY|"
  "VASCULAR"
)
WORDS = {
  "ImageType": (
    "ORIGINAL|DERIVED", "PRIMARY|SECONDARY", _EXAMINATIONS, "[0-9A-F]{4}", "",
  ),
  "LossyImageCompression": ("00|01", ""),
  "LossyImageCompressionMethod": (
    "ISO_(10918_1|14495_1|15444_1|15444_15|13818_2|14496_10|23008_2)",
  ),
  "QualityControlImage": ("YES|NO|BOTH", ""),
  "Laterality": ("[LRBU]", ""),
  "PatientOrientation": ("[APRLHF]{1,3}", "[APRLHF]{1,3}", ""),
  "TransducerType": (
    "SECTOR_(PHASED|MECH|ANNULAR)|LINEAR|CURVED LINEAR|SINGLE CRYSTAL|"
    "SPLIT XTAL CWD|IV_(PHASED|ROT XTAL|ROT MIRROR)|"
    "ENDOCAV_(PA|MECH|CLA|AA|LINEAR)|VECTOR_PHASED",
    "",
  ),
  "BeatRejectionFlag": ("[YN]", ""),
}  # fmt: skip
UIDS = frozenset({
  "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
  "FrameOfReferenceUID", "SynchronizationFrameOfReferenceUID",
})  # fmt: skip
# 113107, Retain Longitudinal Temporal Information With Modified Dates.
DATES = frozenset({
  "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate",
  "InstanceCreationDate", "AcquisitionDateTime",
})  # fmt: skip
TIMES = frozenset({
  "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime",
  "InstanceCreationTime",
})  # fmt: skip
# 113108, Retain Patient Characteristics: of its list only these.
PATIENT = frozenset({
  "PatientSex", "PatientAge", "PatientSize", "PatientWeight"
})  # fmt: skip
# 113109, Retain Device Identity: on request.
DEVICE = frozenset({"DeviceSerialNumber", "StationName", "DeviceUID"})
EMPTIED = frozenset({
  "PatientBirthDate", "PatientSex", "AccessionNumber",
  "ReferringPhysicianName", "StudyID", "StudyDate", "StudyTime",
})  # fmt: skip
# Private blocks that may stay.  None: what a maker writes there changes with
# its software, and names were found in such blocks more than once.
SAFE_PRIVATE: frozenset[tuple[int, str]] = frozenset()
REGIONS = "SequenceOfUltrasoundRegions"
VIEWS = "ViewCodeSequence"
NUMBER_VRS = ("DS", "IS", "US", "SS", "UL", "SL", "FL", "FD")
# A maker's name is kept if it is made of these words only.
MAKER_WORDS = frozenset(
  "acuson agfa aloka atl and bk butterfly canon chison co company "
  "corporation echonous edan electric esaote fuji fujifilm ge general "
  "healthcare healthineers hewlett hitachi hp imaging inc international "
  "kontron ltd medical medison mindray network of packard philips samsung "
  "siemens sonoque sonoscape sonosite systems technologies terason toshiba "
  "ultrasound vingmed vinno visualsonics zonare".split()
)
# Words of model names: families, and short mixtures of letters and digits.
MODEL_WORDS = frozenset(
  "accuvix affiniti alphus antares aplio artida arietta ascendus aspen avius "
  "bt compact cosmos cypress dimension edge elegra envisor epiq expert famio "
  "freestyle galaxy gi hdi imagepoint iq lisendo logiq lumify max mylab "
  "nemio omni platinum power premium prime prirus prosound pro resona sequoia "
  "sonos sonix sonoace triton ultimate venue vision vivid viamo voluson xario "
  "xe xg xpress xl zs".split()
)
MODEL_NUMBER = r"[A-Za-z]{0,3}\d{1,3}[A-Za-z]{0,2}|[A-Za-z]{2,3}\d{4}|[A-Za-z]"


def known_maker(text: str) -> str:
  """A maker's name that is made of known words; else ""."""
  words = re.findall(r"[A-Za-z]+", text)
  known = all(word.lower() in MAKER_WORDS for word in words)
  plain = re.fullmatch(r"[A-Za-z .,&()-]{2,64}", text)
  return text if known and plain else ""


def known_model(text: str) -> str:
  """A model of known words and short numbers; else "" ("Vivid Schneider")."""
  words = re.findall(r"[A-Za-z0-9]+", text)
  known = all(
    word.lower() in MODEL_WORDS | MAKER_WORDS
    or re.fullmatch(MODEL_NUMBER, word)
    for word in words
  )
  plain = re.fullmatch(r"[A-Za-z0-9 ./_()+-]{1,32}", text)
  return text if words and known and plain else ""


PROFILE = (
  ("113100", "Basic Application Confidentiality Profile"),
  ("113101", "Clean Pixel Data Option"),
  (
    "113107",
    "Retain Longitudinal Temporal Information Modified Dates Option",
  ),
  ("113108", "Retain Patient Characteristics Option"),
)
DEVICE_OPTION = ("113109", "Retain Device Identity Option")
METHOD = "DICOM PS3.15 Basic Profile by echo-jax"
VERSION_NAME = "ECHO_JAX"
DERIVATION = "Black outside of the ultrasound sector and where text was"
# Our words in each copy.  They may be somebody's name by chance ("Black").
CONSTANTS = (
  METHOD, VERSION_NAME, DERIVATION, "DERIVED", "ORIGINAL", "PRIMARY", "YES",
  "MODIFIED", "DCM", "SCT", "RGB", "MONOCHROME1", "MONOCHROME2", "YBR_FULL",
  "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT",
  *(word for option in (*PROFILE, DEVICE_OPTION) for word in option),
)  # fmt: skip


@functools.cache
def _table() -> dict[tuple[int, ...], str]:
  """Table E.1-1: (group, element) or with masks, to its action code."""
  # Imported here: reading a rule's name needs no extra package.
  from dicomanonymizer.dicomfields_selector import (
    dicom_anonymization_database_selector as read_table,
  )

  codes_of = {
    "D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U",
    "Z_D_TAGS": "Z/D", "X_Z_TAGS": "X/Z", "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U*",
  }  # fmt: skip
  lists = read_table(f"dicomfields_{EDITION}")
  return {
    tuple(tag): code for name, code in codes_of.items() for tag in lists[name]
  }


def table_action(tag: BaseTag) -> str:
  """The action code of Table E.1-1 for an attribute; "" if not listed."""
  table = _table()
  found = table.get((tag.group, tag.element), "")
  if found:
    return found
  for one, code in table.items():
    if len(one) == 4 and _matches(tag, one):
      return code
  return ""


def _matches(tag: BaseTag, one: tuple[int, ...]) -> bool:
  group, element, group_mask, element_mask = one
  return (tag.group & group_mask, tag.element & element_mask) == (
    group & group_mask, element & element_mask,
  )  # fmt: skip


@functools.cache
def view_meanings() -> dict[tuple[str, str], str]:
  """(scheme, code) of echocardiographic views (CID 12226) to its meaning."""
  return {
    (code.scheme_designator, code.value): code.meaning
    for code in codes.cid12226.concepts.values()
  }
