"""What the coded bytes of one frame say of themselves, read without decoding.

A decoder reserves memory for the size that it finds here, so a damaged or
hostile frame is refused before any decoder sees it.
Sources: ITU-T T.81 annex B (JPEG), T.87 annex C (JPEG-LS), T.800 annex A
(JPEG 2000 and HTJ2K), DICOM PS3.5 annex G (RLE).
"""

from dataclasses import dataclass

JPEG = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81))
JPEG_2000 = frozenset(
  f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)
)
RLE = "1.2.840.10008.1.2.5"

FRAME_HEADERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # without a length
END, SCAN, APP0, APP14 = 0xD9, 0xDA, 0xE0, 0xEE
MOST_SCANS = 64  # progressive pictures have about 10, sequential ones up to 4
MOST_TILES = 4096
SIZE_MARKER = b"\xff\x4f\xff\x51"  # start of code stream, then SIZ


@dataclass(frozen=True)
class CodedSize:
  """Size of a coded picture.

  Attributes:
    rows, columns, components: as the code stream has them.
    layout: everything else that decides how a decoder shows a JPEG: kind of
      coding, component ids and sampling, JFIF and Adobe markers.
  """

  rows: int
  columns: int
  components: int
  layout: tuple = ()


class BadCodestream(ValueError):
  """The coded bytes are not what they should be; the message says why."""


def coded_size(data: bytes, syntax: str) -> CodedSize | None:
  """Size that a coded frame states; None where its coding states none.

  Args:
    data: the bytes of one frame.
    syntax: transfer syntax UID.

  Raises:
    BadCodestream: no size is found, or it asks for absurd work.
  """
  if syntax in JPEG:
    return jpeg_size(data)
  if syntax in JPEG_2000:
    return _jpeg_2000_size(data)
  return None


def jpeg_size(data: bytes) -> CodedSize:
  """Size of a JPEG or JPEG-LS picture; see `coded_size`."""
  if data[:2] != b"\xff\xd8":
    raise BadCodestream("it does not start as a JPEG")
  if data.count(b"\xff\xda") > MOST_SCANS:
    raise BadCodestream(f"it has more than {MOST_SCANS} scans")
  at, size, layout = 2, None, {}
  while at + 4 <= len(data) and data[at] == 0xFF:
    marker = data[at + 1]
    if marker == 0xFF or marker in BARE_MARKERS:  # fill byte, or no length
      at += 1 if marker == 0xFF else 2
      continue
    if marker in (SCAN, END):
      break
    body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
    if marker in FRAME_HEADERS and len(body) >= 6:
      size = int.from_bytes(body[1:3]), int.from_bytes(body[3:5]), body[5]
      layout |= {"coding": marker, "components": bytes(body[6:])}
    elif marker == APP0 and body[:5] == b"JFIF\0":
      layout["jfif"] = True
    elif marker == APP14 and body[:5] == b"Adobe" and len(body) >= 12:
      layout["adobe"] = body[11]
    at += 4 + len(body)
  if size is None:
    raise BadCodestream("it has no JPEG frame header")
  return CodedSize(*size, layout=tuple(sorted(layout.items())))


def _jpeg_2000_size(data: bytes) -> CodedSize:
  """From the SIZ segment, which a JP2 wrapper may precede."""
  at = data.find(SIZE_MARKER) + len(SIZE_MARKER)
  body = data[at + 2 : at + 38]
  if at < len(SIZE_MARKER) or len(body) < 36:
    raise BadCodestream("it has no JPEG 2000 size")
  x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0 = (
    int.from_bytes(body[i : i + 4]) for i in range(2, 34, 4)
  )
  if not (tile_x and tile_y and x0 < x1 and y0 < y1):
    raise BadCodestream("its JPEG 2000 size is empty")
  tiles = -((tile_x0 - x1) // tile_x) * -((tile_y0 - y1) // tile_y)
  if tiles > MOST_TILES:
    raise BadCodestream(f"it has {tiles} tiles, more than {MOST_TILES}")
  return CodedSize(y1 - y0, x1 - x0, int.from_bytes(body[34:36]))


def rle_bytes_limit(pixels: int, segments: int) -> int:
  """Most bytes that an RLE frame of so many pixels can need.

  A literal run of 128 bytes takes 129, the header 64; rows may end runs.
  """
  return 64 + segments * (2 * pixels + 2)
