"""The one door to files: looks at the first bytes and calls the right reader.
"""

from pathlib import Path

from echo_jax.data.ingest.dicom import load_dataset, read_dicom
from echo_jax.data.ingest.ecg import ECG, read_wfdb
from echo_jax.data.ingest.header import Header
from echo_jax.data.ingest.movie import read_movie
from echo_jax.data.ingest.recording import Recording
from echo_jax.data.ingest.waveform import is_waveform, read_waveform
from echo_jax.data.ledger import Rejected

HEAD_BYTES = 132


def read_recording(path: str | Path) -> Recording:
  """Reads a DICOM, AVI, MP4 or MOV file by its content, not by its name.

  Raises:
    Rejected: the file must not become a record; the message says why and
      holds no patient text.
    OSError: the file cannot be opened at all.
  """
  container = sniff(path)
  if container == "dicom":
    return read_dicom(Path(path))
  return read_movie(Path(path))


def read_ecg(path: str | Path) -> ECG:
  """Reads a WFDB record, by its header, or a DICOM waveform object.

  Raises:
    Rejected: as `read_wfdb` and `read_waveform`.
    ValueError: wfdb is not installed.
    OSError: the file cannot be opened.
  """
  return read_wfdb(path) if is_wfdb(path) else read_waveform(path)


def is_ecg(path: str | Path) -> bool:
  """True for what `read_ecg` reads.

  Raises:
    Rejected: damaged, empty, or no recording at all.
    OSError: the file cannot be opened.
  """
  if is_wfdb(path):
    return True
  dicom = sniff(path) == "dicom"
  return dicom and is_waveform(Header(load_dataset(Path(path), pixels=False)))


def is_wfdb(path: str | Path) -> bool:
  """True for the header of a WFDB record, which is known by its name."""
  return Path(path).suffix == ".hea" and Path(path).is_file()


def sniff(path: str | Path) -> str:
  """`dicom` or `movie`, from the first bytes.

  Raises:
    Rejected: empty, or neither of the two.
  """
  with Path(path).open("rb") as file:
    head = file.read(HEAD_BYTES)
  if not head:
    raise Rejected("empty file: 0 bytes")
  if head[128:132] == b"DICM" or _is_bare_dicom(head):
    return "dicom"
  if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
    return "movie"
  if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
    return "movie"
  raise Rejected(
    "not a recording: the first bytes are neither DICOM nor AVI, MP4 or MOV"
  )


def _is_bare_dicom(head: bytes) -> bool:
  """True for old files that begin with group 2 or 8 without a preamble."""
  return head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00"
