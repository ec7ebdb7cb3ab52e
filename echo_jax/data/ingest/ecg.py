"""WFDB records (PhysioNet) to ECG in millivolts, and R peaks found in them.

Source: the WFDB header format, https://physionet.org/physiotools/wag/header-5.htm
Axes: S sample, lead, r R wave.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy.signal import resample_poly

from echo_jax.data.ingest.moment import Moment, moment_of
from echo_jax.data.ledger import Rejected
from echo_jax.units import MS_PER_S

# Not V: wfdb drops letters that are not ASCII, so that a micro sign is lost.
MV_PER_UNIT = {"mV": 1.0, "mv": 1.0, "uV": 1e-3, "uv": 1e-3}
RHYTHM_LEADS = ("ii", "mlii", "i", "v5", "v1")  # tall, narrow QRS first
DETECTOR_HZ = 360
FLAT_MV = 0.05  # from lowest to highest; a QRS of "low voltage" has 0.5 mV
LEAST_S, LEAST_HZ = 2.0, 50.0  # the detector filters at 5 to 20 Hz
MOST_SAMPLES_PER_BYTE = 64  # of FLAC; more cannot lie in the file
CHECKSUM = 2**16
SUBJECT = re.compile(
  r"^#\s*<?(?:subject|patient)[ _]?id>?\s*:\s*(\S+)", re.MULTILINE | re.I
)
SEX = re.compile(r"^#\s*sex\s*:\s*([fm])", re.MULTILINE | re.I)
AGE = re.compile(r"^#\s*age\s*:\s*(\d{1,3})\b", re.MULTILINE | re.I | re.A)
# Time and date end the line of the record; a date is not without a time.
STARTED = re.compile(r"\s(\d+:\d+:\d+)(?:\.\d+)?\s+(\d+/\d+/\d{4})$")
FORM = "%H:%M:%S %d/%m/%Y"
LONGEST_LINE = 1000  # the format allows 255; wfdb takes minutes for 70,000
# What wfdb raises on a record that is damaged or not as the format says.
RECORD_ERRORS = (
  OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError,
  ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True)
class ECG:
  """One record.

  Attributes:
    mv: float32; NaN where the recorder lost the signal.
    hz: samples a second.
    leads: names in lower case, as PTB writes them: i ii iii avr avl avf v1...
    warnings: what a user should know; without patient text.
  """

  mv: Float32[np.ndarray, "S lead"]
  hz: float
  leads: tuple[str, ...]
  warnings: tuple[str, ...] = ()


def require_wfdb() -> ModuleType:
  """The wfdb package.

  Raises:
    ValueError: it is not installed; says how to.
  """
  try:
    import wfdb
    import wfdb.processing
  except ImportError as error:
    raise ValueError(
      "reading ECG records needs `pip install 'echo-jax[ecg]'`"
    ) from error
  return wfdb


def read_wfdb(path: str | Path) -> ECG:
  """Reads all leads of a record, of one or of several signal files.

  Args:
    path: of the header, with or without its `.hea`.

  Raises:
    Rejected: no or damaged header, a signal file that is absent, too short or
      another record's (its checksum differs), a unit that is not mV or uV.
  """
  wfdb = require_wfdb()
  path = Path(path)
  stem = path.with_suffix("") if path.suffix == ".hea" else path
  header = stem.with_name(stem.name + ".hea")
  if not header.is_file():
    raise Rejected("ECG record absent: it has no .hea file")
  try:
    if any(len(line) > LONGEST_LINE for line in _lines(header)):
      raise Rejected(
        f"damaged ECG record: a header line above {LONGEST_LINE} characters"
      )
    about = wfdb.rdheader(str(stem))
    _check_header(about, header)
    record = wfdb.rdrecord(str(stem), physical=False)
    _check_signals(record, about.checksum)
    mv = record.dac() * [MV_PER_UNIT[unit] for unit in record.units]
  except Rejected:
    raise
  except RECORD_ERRORS as error:
    raise Rejected(
      f"damaged ECG record: it cannot be read ({type(error).__name__})"
    ) from error
  return ECG(
    mv.astype(np.float32), float(record.fs), _lead_names(record.sig_name)
  )


def _check_header(about: object, header: Path) -> None:
  """Refuses what a header alone shows to be unusable."""
  if getattr(about, "n_seg", None):
    raise Rejected("ECG record of several segments: not supported")
  if not about.n_sig or not about.file_name:
    raise Rejected("ECG record without signals: its header lists none")
  if not about.fs > 0:
    raise Rejected(f"ECG sampling rate is {about.fs} Hz, wants above 0")
  # Leads go by their place: a name is the owner's text.
  for number, unit in enumerate(about.units, start=1):
    if unit not in MV_PER_UNIT:
      raise Rejected(
        f"ECG unit not known: {unit!r} of lead {number}, wants mV or uV"
      )
  if set(about.samps_per_frame) != {1}:
    raise Rejected("ECG leads of different sampling rates: not supported")
  for line in _lines(header)[1:]:
    gain = re.match(r"[\d.]+(?:[eE][+-]?\d+)?", (line.split() + [""] * 3)[2])
    if not gain or not float(gain[0]):
      raise Rejected("ECG without calibration: its header gives no gain")
  _check_files(about, header.parent)


def _lines(header: Path) -> list[str]:
  """The line of the record and those of its signals, without comments."""
  text = header.read_text(encoding="ascii", errors="ignore")
  lines = [line.strip() for line in text.splitlines()]
  return [line for line in lines if line and not line.startswith("#")]


def signal_files(header: Path) -> tuple[Path, ...]:
  """The files beside a header that hold its signals; none if it is closed."""
  try:
    names = dict.fromkeys(line.split()[0] for line in _lines(header)[1:])
  except OSError:  # is said when the record is read
    return ()
  # Those that lead elsewhere are refused by `read_wfdb`.
  return tuple(header.parent / name for name in names if "/" not in name)


@dataclass(frozen=True)
class Origin:
  """Whose a record is, as the owner wrote it: never to be stored.

  Attributes:
    patient: MIMIC-IV-ECG writes `# <subject_id>: 1`; "" if not said.
    sex: F, M or ""; PTB writes `# sex: female`.
    age_years: NaN if not said; PTB writes `# age: 81`.
    taken: start of the record; None if its date is not said.
  """

  patient: str
  sex: str
  age_years: float
  taken: Moment | None


def read_origin(header: Path) -> Origin:
  """Person and time that a header states, mostly in its comments.

  Raises:
    OSError: it cannot be read.
  """
  text = header.read_text(encoding="ascii", errors="ignore")
  named, sex, age = (
    said[1] if (said := form.search(text)) else ""
    for form in (SUBJECT, SEX, AGE)
  )
  start = STARTED.search((_lines(header) or [""])[0])
  try:
    time = start and datetime.strptime(" ".join(start.groups()), FORM)
  except ValueError:
    time = None
  return Origin(
    named, sex.upper(), float(age or "nan"), moment_of(time) if time else None
  )


def _check_files(about: object, folder: Path) -> None:
  """Every signal file lies beside its header and can hold what it claims."""
  bytes_there = 0
  for name in sorted(set(about.file_name)):
    if not (folder / name).is_file():
      raise Rejected(
        "ECG signal file absent: "
        f"{Path(name).suffix or 'one without suffix'} is not beside its header"
      )
    bytes_there += (folder / name).stat().st_size
  samples = (about.sig_len or 0) * about.n_sig
  if not 0 <= samples <= MOST_SAMPLES_PER_BYTE * bytes_there:
    raise Rejected(
      f"ECG signal file too short: {samples} samples in {bytes_there} bytes"
    )


def _check_signals(record: object, checksums: list[int | None]) -> None:
  """Refuses samples that are not those that the header was written for."""
  sums = [None if s is None else s % CHECKSUM for s in checksums]
  pairs = zip(sums, record.calc_checksum(), strict=True)
  for number, (wanted, got) in enumerate(pairs, start=1):
    if wanted not in (None, got % CHECKSUM):
      raise Rejected(
        f"ECG signal file is not its header's: lead {number} has checksum "
        f"{got % CHECKSUM}, the header says {wanted}"
      )


def _lead_names(names: list[str | None]) -> tuple[str, ...]:
  leads = tuple((name or "").strip().lower() for name in names)
  if not all(leads) or len(set(leads)) < len(leads) or "," in "".join(leads):
    raise Rejected(
      f"ECG lead names of {len(leads)} leads: want distinct ones, none empty, "
      "none with a comma"
    )
  return leads


def bridged(
  signal: Float[np.ndarray, "S"], known: Bool[np.ndarray, "S"]
) -> Float64[np.ndarray, "S"]:
  """Straight lines over what is lost, for a filter's sake; 0 where all is."""
  if not known.any():
    return np.zeros(len(signal))
  places = np.arange(len(signal))
  return np.interp(places, places[known], signal[known])


def rate_ratio(hz: float | int, to_hz: float | int) -> Fraction:
  """Samples at the new rate for one at the old, of numbers up to 1000."""
  return Fraction(to_hz / hz).limit_denominator(1000)


def resampled(
  signal: Float64[np.ndarray, "S *lead"], ratio: Fraction
) -> Float64[np.ndarray, "s *lead"]:
  """The same seconds at another rate, by scipy's polyphase filter.

  Past its ends a lead goes on; zeros there would be steps, taken for QRS.
  """
  if ratio == 1:
    return signal
  return resample_poly(
    signal, ratio.numerator, ratio.denominator, axis=0, padtype="line"
  )


def r_peaks_ms(ecg: ECG, lead: str = "") -> Float64[np.ndarray, "r"]:
  """R peaks in ms from the first sample, by wfdb's detector XQRS.

  The lead is brought to 360 Hz first: XQRS has thresholds in millivolts that
  hold at MIT-BIH's rate, and at 1000 Hz it finds no beat in most leads of a
  PTB record.  Gaps are bridged by straight lines, and what is found in one is
  left out; a flat lead has no beats.

  Args:
    ecg: the record.
    lead: where to look; by default the first of `RHYTHM_LEADS` that is there,
      else the first lead.

  Raises:
    ValueError: no such lead, a lead without signal, less than 2 s, or less
      than 50 samples a second.
  """
  wfdb = require_wfdb()
  if lead and lead not in ecg.leads:
    raise ValueError(f"no ECG lead {lead!r}; there are {ecg.leads}")
  there = [name for name in RHYTHM_LEADS if name in ecg.leads]
  lead = lead or (there + [ecg.leads[0]])[0]
  signal = ecg.mv[:, ecg.leads.index(lead)].astype(np.float64)
  known = np.isfinite(signal)
  span_s = len(signal) / ecg.hz
  if span_s < LEAST_S or ecg.hz < LEAST_HZ:
    raise ValueError(
      f"ECG of {span_s:.3g} s at {ecg.hz:g} Hz; R peaks want at least "
      f"{LEAST_S:g} s and {LEAST_HZ:g} Hz"
    )
  if not known.any():
    raise ValueError(f"ECG lead {lead} has no sample: R peaks unknown")
  if np.ptp(signal[known]) < FLAT_MV:
    return np.zeros(0)
  ratio = rate_ratio(ecg.hz, DETECTOR_HZ)
  signal = resampled(bridged(signal, known), ratio)
  found = wfdb.processing.xqrs_detect(
    signal, fs=float(ecg.hz * ratio), verbose=False
  )
  sample = np.asarray(found, np.float64) / float(ratio)
  nearest = np.minimum(sample.round().astype(int), len(known) - 1)
  return MS_PER_S * sample[known[nearest]] / ecg.hz
