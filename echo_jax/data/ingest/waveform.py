"""ECG waveform objects (DICOM) to ECG in millivolts.

A file holds multiplex groups: channels that were sampled together.  A value in
the channel's unit is sample x sensitivity x correction factor + baseline.
Source: DICOM PS3.3 C.10.9, A.34 (ECG storage); lead codes PS3.16 CID 3001.
Axes: S sample, lead.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from pydicom.dataset import FileDataset

from echo_jax.data.ingest import limits
from echo_jax.data.ingest.dicom import (
  load_dataset,
  quiet,
  transfer_syntax,
)  # fmt: skip
from echo_jax.data.ingest.ecg import ECG
from echo_jax.data.ingest.header import Header
from echo_jax.data.ledger import Rejected

ECG_STORAGE = {
  "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG",
  "1.2.840.10008.5.1.4.1.1.9.1.2": "General ECG",
  "1.2.840.10008.5.1.4.1.1.9.1.3": "Ambulatory ECG",
  "1.2.840.10008.5.1.4.1.1.9.1.4": "General 32-bit ECG",
}
MV_PER_UNIT = {"uV": 1e-3, "mV": 1.0, "V": 1e3}  # by UCUM; case counts
# Numbers of ISO/IEEE 11073-10102 (MDC, "2:61") and of SCP-ECG ("5.6.3-9-61").
LEAD_NUMBERS = {
  "1": "i", "2": "ii", "3": "v1", "4": "v2", "5": "v3", "6": "v4", "7": "v5",
  "8": "v6", "16": "vx", "17": "vy", "18": "vz", "61": "iii", "62": "avr",
  "63": "avl", "64": "avf",
}  # fmt: skip
LEAD_CODES = {"MDC": "2:", "SCPECG": "5.6.3-9-"}
UNSPECIFIED, OTHER = "0", "another"
LEAD_LABEL = re.compile(
  r"(?:lead[ _]?)?(i|ii|iii|av[rlf]|v[1-6])(?: *\(einthoven\))?", re.IGNORECASE
)
SAMPLES = {(8, "SB"): "i1", (16, "SS"): "i2", (32, "SL"): "i4"}
UNUSABLE = ("TEST DATA", "DISCONNECTED", "INVALID", "UNCALIBRATED")
FASTEST_HZ, SLOWEST_HZ = 10_000.0, 1.0
# Chosen: coarser steps show no QRS complex of 1 mV; skin electrodes carry up
# to 300 mV of their own (IEC 60601-2-25).
COARSEST_MV, LARGEST_OFFSET_MV = 1.0, 1000.0


@dataclass(frozen=True)
class Group:
  """One multiplex group.

  Attributes:
    mv: NaN where the recorder had no signal.
    hz: samples a second.
    leads: names in lower case.
    offset_ms: of its first sample, from whatever all groups count from.
  """

  mv: Float32[np.ndarray, "S lead"]
  hz: float
  leads: tuple[str, ...]
  offset_ms: float

  @property
  def rank(self) -> tuple[int, int]:
    """Leads, then samples: what of several groups is worth most."""
    return len(self.leads), len(self.mv)


def read_waveform(path: str | Path) -> ECG:
  """Reads the recorded channels of a 12-lead, general or ambulatory ECG.

  What the recorder derived (a median beat) is left out.  Of several recorded
  groups the one with most leads is taken, and with it those that were sampled
  with it (the same rate, start and length, other leads); `warnings` names
  what was left out.

  Raises:
    Rejected: not an ECG object, damaged, another sampling rate than 1 to
      10,000 Hz, channels without a unit, in a unit that is not V, mV or uV,
      without sensitivity, or that start apart.
  """
  path = Path(path)
  if path.stat().st_size > limits.LARGEST_BYTES:
    raise Rejected(
      f"too large: the file has {path.stat().st_size} bytes, more than "
      f"{limits.LARGEST_BYTES / 2**30:g} GiB"
    )
  dataset = load_dataset(path)
  header = Header(dataset)
  with quiet():
    if not is_waveform(header):
      raise Rejected("not an ECG: no ECG waveform object")
    groups = _recorded(header, _byte_order(dataset))
  taken = _together(groups, header)
  leads = sum((group.leads for group in taken), ())
  mv = np.concatenate([group.mv for group in taken], axis=1)
  return ECG(mv, taken[0].hz, leads, tuple(header.warnings))


def is_waveform(header: Header) -> bool:
  """True if the object is an ECG by its SOP class."""
  with quiet():
    return header.text("SOPClassUID") in ECG_STORAGE


def _byte_order(dataset: FileDataset) -> str:
  syntax = transfer_syntax(dataset)
  if syntax.is_valid and not syntax.is_private and syntax.is_transfer_syntax:
    return "<" if syntax.is_little_endian else ">"
  return "<"


def _recorded(header: Header, order: str) -> list[Group]:
  """All groups but those that are derived.

  Raises:
    Rejected: there is none.
  """
  items = header.items("WaveformSequence")
  recorded = [
    item for item in items if item.text("WaveformOriginality") != "DERIVED"
  ]
  if not recorded:
    raise Rejected(
      f"ECG without recorded signals: {len(items)} multiplex groups, none of "
      "them ORIGINAL"
    )
  if len(recorded) < len(items):
    header.warn(
      f"{len(items) - len(recorded)} derived groups of the ECG (median beats) "
      "left out"
    )
  return [_group(item, order) for item in recorded]


def _together(groups: list[Group], header: Header) -> list[Group]:
  """The group with most leads, and those that were sampled with it."""
  first = max(groups, key=lambda group: group.rank)
  taken = [first]
  for group in groups:
    known = {name for one in taken for name in one.leads}
    same = (group.hz, len(group.mv), group.offset_ms) == (
      first.hz, len(first.mv), first.offset_ms
    )  # fmt: skip
    if group is not first and same and not known & set(group.leads):
      taken.append(group)
  if len(taken) < len(groups):
    header.warn(
      f"{len(groups)} recorded groups in the ECG: the one with most leads, "
      f"{len(first.leads)} at {first.hz:g} Hz, and {len(taken) - 1} sampled "
      "with it were taken"
    )
  return taken


def _group(item: Header, order: str) -> Group:
  hz = item.number("SamplingFrequency")
  if not SLOWEST_HZ <= hz <= FASTEST_HZ:
    raise Rejected(
      f"ECG sampling rate is {hz:g} Hz, wants {SLOWEST_HZ:g} to "
      f"{FASTEST_HZ:g} Hz"
    )
  channels = item.items("ChannelDefinitionSequence")
  count = item.integer("NumberOfWaveformChannels")
  if not channels or count != len(channels):
    raise Rejected(
      f"damaged ECG: {count} channels, {len(channels)} of them defined"
    )
  samples, lost = _samples(item, count, order)
  # Not float64: a day of an ambulatory ECG has 10^8 samples.
  mv = np.empty(samples.shape, np.float32)
  for i, channel in enumerate(channels):
    factor, baseline = _calibration(channel, i + 1)
    mv[:, i] = samples[:, i] * np.float64(factor) + baseline
    _refuse_skew(channel, i + 1, hz)
    if _unusable(channel, i + 1):
      mv[:, i] = np.nan
  mv[lost] = np.nan
  offset_ms = item.number("MultiplexGroupTimeOffset")
  return Group(
    mv, hz, _lead_names(channels), 0.0 if np.isnan(offset_ms) else offset_ms
  )


def _samples(
  item: Header, channels: int, order: str
) -> tuple[np.ndarray, Bool[np.ndarray, "S lead"]]:
  """Stored whole numbers, and which of them are padding.

  Samples are sign-extended to what is allocated (C.10.9.1.5), so that the
  bits stored need not be known.
  """
  bits = item.integer("WaveformBitsAllocated")
  form = item.text("WaveformSampleInterpretation")
  if (bits, form) not in SAMPLES:
    allowed = ", ".join(f"{b} bits {f}" for b, f in SAMPLES)
    raise Rejected(f"ECG samples of {bits} bits are not one of {allowed}")
  dtype = np.dtype(order + SAMPLES[bits, form])
  data = _bytes(item, "WaveformData")
  count = item.integer("NumberOfWaveformSamples")
  wanted = count * channels * dtype.itemsize
  if count < 1 or len(data) not in (wanted, wanted + wanted % 2):
    raise Rejected(
      f"damaged ECG: {len(data)} bytes of samples, {count} samples of "
      f"{channels} channels have {wanted}"
    )
  samples = np.frombuffer(data[:wanted], dtype).reshape(count, channels)
  padding = _bytes(item, "WaveformPaddingValue")[: dtype.itemsize]
  if len(padding) < dtype.itemsize:
    return samples, np.zeros(samples.shape, bool)
  return samples, samples == np.frombuffer(padding, dtype)[0]


def _bytes(item: Header, keyword: str) -> bytes:
  values = item.values(keyword)
  return values[0] if values and isinstance(values[0], bytes) else b""


def _calibration(channel: Header, number: int) -> tuple[float, float]:
  """Millivolts of one step, and of a stored 0.

  Raises:
    Rejected: no sensitivity, no unit, or another than V, mV and uV.
  """
  sensitivity = channel.number("ChannelSensitivity")
  codes = channel.items("ChannelSensitivityUnitsSequence")
  if not codes or not codes[0].text("CodeValue"):
    raise Rejected(
      f"ECG without units: channel {number} has no "
      "ChannelSensitivityUnitsSequence; export it again with its calibration"
    )
  if not sensitivity > 0:
    raise Rejected(
      f"ECG without calibration: ChannelSensitivity of channel {number} is "
      f"{sensitivity:g}, wants above 0"
    )
  scheme, unit = (
    codes[0].text(word) for word in ("CodingSchemeDesignator", "CodeValue")
  )
  if scheme != "UCUM" or unit not in MV_PER_UNIT:
    raise Rejected(
      f"ECG unit not known: that of channel {number} is not V, mV or uV by UCUM"
    )
  factor = _stated(channel, number, "ChannelSensitivityCorrectionFactor", 1.0)
  step_mv = sensitivity * factor * MV_PER_UNIT[unit]
  zero_mv = _stated(channel, number, "ChannelBaseline", 0.0) * MV_PER_UNIT[unit]
  if not 0 < step_mv <= COARSEST_MV or abs(zero_mv) > LARGEST_OFFSET_MV:
    raise Rejected(
      f"ECG calibration not believable: channel {number} has steps of "
      f"{step_mv:g} mV (wants above 0, to {COARSEST_MV:g}) and a baseline of "
      f"{zero_mv:g} mV (wants within {LARGEST_OFFSET_MV:g})"
    )
  return step_mv, zero_mv


def _stated(channel: Header, number: int, keyword: str, absent: float) -> float:
  """A number of the calibration; `absent` where the header has none.

  Raises:
    Rejected: it is there and cannot be read.
  """
  value = channel.number(keyword)
  if np.isnan(value) and channel.values(keyword):
    raise Rejected(
      f"ECG without calibration: {keyword} of channel {number} is no number"
    )
  return absent if np.isnan(value) else value


def _refuse_skew(channel: Header, number: int, hz: float) -> None:
  """Raises Rejected where a channel starts a whole sample or more apart."""
  skew = channel.number("ChannelSampleSkew")
  if np.isnan(skew):
    skew = channel.number("ChannelTimeSkew") * hz
  if abs(skew) >= 1:
    raise Rejected(
      f"ECG channels that start apart: channel {number} by {skew:g} samples; "
      "not supported"
    )


def _unusable(channel: Header, number: int) -> bool:
  """True, with a warning, where the status says that it is no signal."""
  words = {str(value).strip() for value in channel.values("ChannelStatus")}
  said = [word for word in UNUSABLE if word in words]
  if said:
    channel.warn(f"ECG channel {number} is {said[0]}: its samples are unknown")
  elif "QUESTIONABLE" in words:
    channel.warn(f"ECG channel {number} is QUESTIONABLE by its status")
  return bool(said)


def _lead_names(channels: list[Header]) -> tuple[str, ...]:
  """Names by code, else by label; "channel 3" for what is not a known lead.

  Raises:
    Rejected: code and label differ, or a lead is there twice.
  """
  names = []
  for number, channel in enumerate(channels, start=1):
    coded = _coded_lead(channel)
    labelled = "" if coded == OTHER else _labelled_lead(channel)
    if coded and labelled and coded != labelled:
      raise Rejected(
        f"ECG lead names contradict: channel {number} is {coded} by its code "
        f"and {labelled} by its label"
      )
    if labelled and not coded:
      channel.warn(f"ECG channel {number} has no code of a lead: label taken")
    known = coded.removeprefix(OTHER) or labelled
    names.append(known or f"channel {number}")
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise Rejected(f"ECG lead {', '.join(twice)} is there twice")
  return tuple(names)


def _coded_lead(channel: Header) -> str:
  """By its code; `OTHER` for another lead (V3R, or one that is derived)."""
  for source in channel.items("ChannelSourceSequence"):
    start = LEAD_CODES.get(source.text("CodingSchemeDesignator"), "")
    code = source.text("CodeValue")
    number = code.removeprefix(start)
    if start and code.startswith(start) and number not in ("", UNSPECIFIED):
      return LEAD_NUMBERS.get(number, OTHER)
  return ""


def _labelled_lead(channel: Header) -> str:
  """By ChannelLabel, else by the meaning of a code that is not known."""
  texts = [channel.text("ChannelLabel")]
  for source in channel.items("ChannelSourceSequence"):
    texts.append(source.text("CodeMeaning"))
  for text in texts:
    match = LEAD_LABEL.fullmatch(text)
    if match:
      return match[1].lower()
  return ""
