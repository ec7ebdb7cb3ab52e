"""One secret key, and the pseudonyms, UIDs and dates that follow from it.

The same key gives the same names in every run, so that a study which arrives
in two parts stays one study.  Without the key nothing can be turned back, nor
tried: a list of all hospital numbers is no help (HMAC-SHA-256).
"""

import base64
import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

LEAST_BYTES = 16
LONGEST_SHIFT_DAYS = 3650  # ten years
CHUNK_BYTES = 1 << 20


class Key:
  """Makes pseudonyms; neither it nor its text shows the secret."""

  def __init__(self, secret: bytes):
    if len(secret) < LEAST_BYTES:
      raise ValueError(
        f"the key has {len(secret)} bytes, wants {LEAST_BYTES} or more; make "
        "one with --make-key"
      )
    self._secret = secret

  def __repr__(self) -> str:
    return f"Key({self.name})"

  @property
  def name(self) -> str:
    """Tells keys apart in an audit record; says nothing of the secret."""
    return self.word("key", "name")[:6]

  def digest(self, use: str, value: str) -> bytes:
    """32 bytes that belong to this value in this use."""
    text = f"{use}\0{value}".encode()
    return hmac.new(self._secret, text, hashlib.sha256).digest()

  def word(self, use: str, value: str) -> str:
    """Sixteen letters and digits (80 bits) that stand for the value."""
    return base64.b32encode(self.digest(use, value)[:10]).decode().lower()

  def uid(self, value: str) -> str:
    """The UID that stands for this one (PS3.5 B.2: 2.25 and a UUID)."""
    made = uuid.UUID(bytes=self.digest("uid", value)[:16], version=5)
    return f"2.25.{made.int}"

  def shift_days(self, patient: str) -> int:
    """Days to add to each date of a patient: -3650 to -1."""
    number = int.from_bytes(self.digest("shift", patient)[:8], "big")
    return -1 - number % LONGEST_SHIFT_DAYS

  def name_file(self, path: Path) -> tuple[str, str]:
    """Pseudonym of a file and ""; or of its path, and why it stays closed."""
    try:
      return self.file_id(path), ""
    except OSError as error:
      name = self.word("path", str(path.absolute()))
      return name, f"cannot be opened ({type(error).__name__})"

  def file_id(self, path: Path) -> str:
    """Stands for the bytes of a file, wherever it lies.

    Raises:
      OSError: it cannot be read, or is no file (a pipe would never end).
    """
    if not path.is_file():
      raise FileNotFoundError("there is no such file")
    found = hashlib.sha256()
    with path.open("rb") as file:
      while chunk := file.read(CHUNK_BYTES):
        found.update(chunk)
    return self.word("file", found.hexdigest())


def random_key() -> Key:
  """A key that is thrown away with the run."""
  return Key(secrets.token_bytes(32))


def read_key(path: Path) -> Key:
  """The key in a file that only its owner may read.

  Raises:
    ValueError: too short, or others may read it.
    OSError: it cannot be read.
  """
  mode = path.stat().st_mode & 0o777
  if os.name == "posix" and mode & 0o077:
    raise ValueError(
      f"the key file has mode {mode:o}: others may read it; run "
      "`chmod 600` on it"
    )
  return Key(path.read_bytes().strip())


def make_key(path: Path) -> Key:
  """Writes a new random key, mode 600; an old one is never replaced.

  Raises:
    FileExistsError: there is a file of that name.
  """
  flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
  with open(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
    file.write(secrets.token_hex(32) + "\n")
  return read_key(path)
