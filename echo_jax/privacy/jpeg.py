"""A JPEG stream without its comments, thumbnails and application data.

Source: ITU-T T.81 Annex B.  Only segments that a decoder needs are kept.
"""

from echo_jax.data.ledger import Rejected

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
ADOBE = 0xEE  # says whether the samples are YCbCr or RGB: a decoder needs it
ADOBE_BYTES = 12
# SOF0-SOF15 with DHT (C4) and DAC (CC), DQT, DNL, DRI.  JPG (C8) is reserved.
NEEDED = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, SOS}) - {0xC8}


def strip_jpeg(data: bytes) -> bytes:
  """The same picture, bit for bit, and nothing else.

  Raises:
    Rejected: the stream is damaged.
  """
  if data[:2] != bytes((0xFF, SOI)):
    raise Rejected("damaged JPEG: a frame does not begin as one")
  kept = bytearray(data[:2])
  at = 2
  while True:
    while data[at : at + 2] == b"\xff\xff":
      at += 1  # fill bytes
    if at + 2 > len(data) or data[at] != 0xFF:
      raise Rejected("damaged JPEG: a frame ends before its end marker")
    marker = data[at + 1]
    if marker == EOI:
      return bytes(kept + data[at : at + 2])  # what follows is left behind
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if end > len(data) or end < at + 4:
      raise Rejected("damaged JPEG: a segment is longer than its frame")
    if marker in NEEDED or _is_adobe(marker, data[at + 4 : end]):
      kept += data[at:end]
    at = end
    if marker == SOS:
      scan_end = _end_of_scan(data, at)
      kept += data[at:scan_end]
      at = scan_end


def _is_adobe(marker: int, body: bytes) -> bool:
  return (
    marker == ADOBE and len(body) == ADOBE_BYTES and body[:5] == b"Adobe"
  )


def _end_of_scan(data: bytes, at: int) -> int:
  """Where the next marker stands; FF00 and restarts belong to the scan."""
  while True:
    at = data.find(b"\xff", at)
    if at < 0 or at + 1 >= len(data):
      raise Rejected("damaged JPEG: a scan does not end")
    follower = data[at + 1]
    if follower != 0 and not 0xD0 <= follower <= 0xD7 and follower != 0xFF:
      return at
    at += 1 if follower == 0xFF else 2
