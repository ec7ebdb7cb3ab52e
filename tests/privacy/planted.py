"""DICOM files with identities planted in every place, and the search for them.

Each place gets a text of its own, so that a leak says where it came from.  The
pictures are SynthEcho's; where each letter lies is known pixel for pixel.
Run as a script it makes many files, cleans them and counts what is left:

  python -m tests.privacy.planted --files 1000 --seed 1 --out report.json
"""

import argparse
import functools
import io
import json
import string
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
  JPEG2000,
  MPEG4HP41,
  DeflatedExplicitVRLittleEndian,
  ExplicitVRBigEndian,
  ExplicitVRLittleEndian,
  ImplicitVRLittleEndian,
  JPEG2000Lossless,
  JPEGBaseline8Bit,
  JPEGExtended12Bit,
  JPEGLosslessSV1,
  JPEGLSLossless,
  RLELossless,
)  # fmt: skip

from echo_jax.data.ingest import read_recording
from echo_jax.privacy.deidentify import Options
from echo_jax.privacy.folder import run_folder
from echo_jax.privacy.keys import Key
from echo_jax.simulate import cohort, video

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.6.1"
SIZE = 144
RING_PX = 12  # around planted text: what a text box may take with it
SECRET = Key(b"a secret of tests only")
SYLLABLES = (
  "ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "vu", "wa", "ze", "dor",
  "kel", "mun", "par", "rik", "sten", "tov", "wil", "zan",
)  # fmt: skip

# How pixels may be stored: name, colour, transfer syntax.
FORMS = {
  "implicit little endian, grey": ("MONOCHROME2", ImplicitVRLittleEndian),
  "explicit little endian, RGB": ("RGB", ExplicitVRLittleEndian),
  "explicit big endian, grey": ("MONOCHROME2", ExplicitVRBigEndian),
  "deflated, grey": ("MONOCHROME2", DeflatedExplicitVRLittleEndian),
  "raw, RGB by planes": ("RGB planes", ExplicitVRLittleEndian),
  "raw, YBR_FULL": ("YBR_FULL", ExplicitVRLittleEndian),
  "raw, palette": ("PALETTE COLOR", ExplicitVRLittleEndian),
  "raw, palette of 8 bits": ("PALETTE 8", ExplicitVRLittleEndian),
  "raw, MONOCHROME1": ("MONOCHROME1", ExplicitVRLittleEndian),
  "raw, 12 bits": ("12 bits", ExplicitVRLittleEndian),
  "RLE, grey": ("MONOCHROME2", RLELossless),
  "RLE, RGB": ("RGB", RLELossless),
  "RLE, palette": ("PALETTE COLOR", RLELossless),
  "JPEG baseline, grey": ("MONOCHROME2", JPEGBaseline8Bit),
  "JPEG baseline, YBR_FULL_422": ("YBR_FULL_422", JPEGBaseline8Bit),
  "JPEG baseline, clean picture": ("clean", JPEGBaseline8Bit),
  "JPEG extended, grey": ("MONOCHROME2", JPEGExtended12Bit),
  "JPEG-LS, grey": ("MONOCHROME2", JPEGLSLossless),
  "JPEG-LS, RGB": ("RGB", JPEGLSLossless),
  "JPEG lossless, grey": ("MONOCHROME2", JPEGLosslessSV1),
  "JPEG 2000 lossless, RGB": ("RGB", JPEG2000Lossless),
  "JPEG 2000, grey": ("MONOCHROME2", JPEG2000),
  "H.264": ("YBR_PARTIAL_420", MPEG4HP41),
}
# There is no free encoder of HTJ2K; its decoding is a test of ingest.
OWN_CODE = (
  JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless,
)  # fmt: skip
IN_PIXELS = (
  "pixels: outside of the sector", "pixels: inside", "pixels: across the edge",
  "pixels: faint, +20 grey levels inside", "pixels: in one frame",
  "pixels: coloured inside", "pixels: dark inside", "pixels: turned by 90",
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
  """A file and everything that was hidden in it.

  Attributes:
    path: where it lies.
    form: key of FORMS.
    texts: place to the texts planted there.
    strokes: place to the pixels [H, W] of its letters.
    sector: bool [H, W], true sector.
    shown: uint8 [T, H, W, c], what a reader sees of the file.
  """

  path: Path
  form: str
  texts: dict[str, tuple[str, ...]]
  strokes: dict[str, np.ndarray]
  sector: np.ndarray
  shown: np.ndarray


def _name(rng: np.random.Generator) -> str:
  """A made-up name of 8 to 11 letters."""
  word = ""
  while len(word) < 8:
    word += SYLLABLES[rng.integers(len(SYLLABLES))]
  return word.capitalize()


def _number(rng: np.random.Generator) -> str:
  letters = string.ascii_uppercase
  prefix = "".join(letters[i] for i in rng.integers(0, 26, 2))
  return f"{prefix}{rng.integers(10**7, 10**8)}"


@functools.cache
def _scene(number: int, frames: int) -> video.SimulatedVideo:
  study = cohort.draw_study(7, number, 0, "independent")
  span_s = frames / study.device.frame_hz
  return video.simulate_video(study, size=SIZE, duration_s=span_s)


def plant(folder: Path, number: int, seed: int) -> Planted:
  """File `number` of a seed: form and places follow from the number."""
  rng = np.random.default_rng((seed, number))
  form = list(FORMS)[number % len(FORMS)]
  colour, syntax = FORMS[form]
  texts: dict[str, tuple[str, ...]] = {}
  grey = colour in ("MONOCHROME2", "MONOCHROME1", "12 bits", "clean")
  scene = _scene(int(rng.integers(8)), 1 if number % 3 == 2 else 4)
  frames = np.repeat(scene.frames[..., None], 1 if grey else 3, -1)
  strokes: dict[str, np.ndarray] = {}
  choice = [IN_PIXELS[0], IN_PIXELS[1 + number // len(FORMS) % 7]]
  if grey:
    choice = [c for c in choice if "colour" not in c]
  if colour == "clean":
    choice, frames = [], frames * scene.sector[..., None]
  for place in choice:
    frames, words = _write(frames, scene.sector, place, strokes, rng)
    texts[place] = words
  dataset = _header(rng, texts, len(frames))
  shown = _store(dataset, frames, colour, syntax, texts, rng)
  name = _name(rng), _number(rng)
  texts["file name"] = name
  path = folder / f"{name[0]}_{name[0]}" / f"{name[0]}^{name[1]}.dcm"
  path.parent.mkdir(parents=True, exist_ok=True)
  _save(dataset, path, syntax, texts, rng)
  if syntax == MPEG4HP41:  # the decoder's colours
    shown = read_recording(path).frames
  return Planted(path, form, texts, strokes, scene.sector, shown)


def _write(
  frames: np.ndarray, sector: np.ndarray, place: str,
  strokes: dict[str, np.ndarray], rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[str, ...]]:  # fmt: skip
  """Draws a text into the frames; notes which pixels its letters cover."""
  words = _name(rng).upper() if rng.integers(2) else _number(rng)
  font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
  (width, height), _ = cv2.getTextSize(words, font, size, 1)
  layer = np.zeros(sector.shape, np.uint8)
  rows = np.flatnonzero(sector.any(1))
  middle = (rows[0] + rows[-1]) // 2
  columns = np.flatnonzero(sector[middle])
  x, y = int(columns.mean()) - width // 2, middle + int(rng.integers(-8, 20))
  if "outside" in place:
    x, y = int(rng.integers(2, 20)), height + 3
  if "edge" in place:
    x = min(int(columns[-1]) - width // 2, SIZE - width - 1)
  cv2.putText(layer, words, (x, y), font, size, 255, 1, cv2.LINE_AA)
  if "90" in place:
    layer = np.ascontiguousarray(np.rot90(layer))
  share = layer[..., None] / 255.0
  if "outside" in place:
    frames = np.where(_around(layer), 0, frames)  # a bar, as scanners draw it
  changed = frames.astype(np.float32)
  if "faint" in place:
    changed += 20 * share
  else:
    ink = [20, 20, 20] if "dark" in place else [255, 255, 255]
    if "dark" in place:  # on a bright bar
      changed = np.where(_around(layer), 190, changed)
    if "colour" in place:
      ink = [255, 160, 0]
    changed = changed * (1 - share) + np.array(ink[: frames.shape[-1]]) * share
  changed = np.clip(changed, 0, 255).astype(np.uint8)
  if "one frame" in place:
    changed = np.concatenate([frames[:-1], changed[-1:]])
  strokes[place] = layer > 128
  return changed, (words,)


def _around(layer: np.ndarray) -> np.ndarray:
  rows, columns = np.nonzero(layer)
  bar = np.zeros((*layer.shape, 1), bool)
  top, left = max(rows.min() - 3, 0), max(columns.min() - 3, 0)
  bar[top : rows.max() + 4, left : columns.max() + 4] = True
  return bar


def _header(
  rng: np.random.Generator, texts: dict[str, tuple[str, ...]], frames: int
) -> Dataset:
  """A header with a text of its own in every kind of place."""

  def name(place: str) -> str:
    last, first = _name(rng), _name(rng)
    texts[place] = (*texts.get(place, ()), last, first)
    return f"{last}^{first}"

  def text(place: str) -> str:
    words = f"{_name(rng)} {_number(rng)}"
    texts[place] = (*texts.get(place, ()), *words.split())
    return words

  def uid(place: str) -> str:
    value = f"1.2.276.0.45.{rng.integers(10**11, 10**12)}.{rng.integers(10**6)}"
    texts[place] = (*texts.get(place, ()), value)
    return value

  def day(place: str, year: int) -> str:
    value = f"{year}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    texts[place] = (*texts.get(place, ()), value)
    return value

  dataset = Dataset()
  single = frames == 1
  dataset.SOPClassUID = SINGLE_FRAME if single else MULTI_FRAME
  for keyword in (
    "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "DeviceUID",
  ):  # fmt: skip
    setattr(dataset, keyword, uid(f"standard: {keyword}"))
  year = int(rng.integers(2005, 2024))
  # Dates move by less than ten years: none of these can come to lie on another.
  dataset.StudyDate = day("standard: dates", year)
  dataset.AcquisitionDateTime = dataset.StudyDate + "101112.5+0100"
  dataset.PatientBirthDate = day("standard: dates", year - 70)
  for keyword in ("PatientName", "ReferringPhysicianName"):
    setattr(dataset, keyword, name(f"standard: {keyword}"))
  for keyword in (
    "PatientID", "StudyID", "InstitutionName", "InstitutionAddress",
    "StationName", "StudyDescription", "SeriesDescription", "ProtocolName",
    "PatientAddress", "PatientComments", "ImageComments", "DeviceSerialNumber",
    "IssuerOfPatientID",
  ):  # fmt: skip
    value = text(f"standard: {keyword}")
    if dataset.get(keyword) is None:
      setattr(dataset, keyword, value[:16] if keyword == "StudyID" else value)
  texts["standard: StudyID"] = tuple(
    w for w in texts["standard: StudyID"] if w in dataset.StudyID
  )
  dataset.Manufacturer = text("standard: Manufacturer")
  # Names that stand nowhere else, where no list of names of the header helps.
  place = "standard: ManufacturerModelName"
  texts[place] = (_name(rng),)
  dataset.ManufacturerModelName = f"Vivid {texts[place][0]}"
  place = "standard: code strings"
  texts[place] = tuple(_name(rng).upper() for _ in range(3))
  dataset.ImageType = ["ORIGINAL", "PRIMARY", texts[place][0]]
  dataset.TransducerType, dataset.PatientOrientation = texts[place][1:]
  place = "not in Table E.1-1"
  for keyword in ("ViewName", "StageName"):
    setattr(dataset, keyword, name(place)[:16].split("^")[0])
  texts[place] = tuple(texts[place][::2])
  dataset.TransducerData = [text(place), text(place)]
  dataset.SoftwareVersions = text(place)
  place = "multi-valued"
  dataset.AccessionNumber = [_code_of(text(place)), _code_of(text(place))]
  dataset.OtherPatientIDs = [text(place), text(place)]
  dataset.OtherPatientNames = [name(place), name(place)]
  dataset.OperatorsName = [name(place), name(place)]
  texts[place] = tuple(texts[place])
  _plant_nested(dataset, name, text, uid, day)
  _plant_private(dataset, name, text)
  _plant_overlay(dataset, text)
  dataset.Modality = "US"
  dataset.PatientSex, dataset.PatientAge = "F", "091Y"
  dataset.HeartRate = 61
  if not single:
    dataset.NumberOfFrames = frames
    dataset.FrameTime = 20.5
  _ = place
  return dataset


def _code_of(words: str) -> str:
  return words.split()[1]


def _plant_nested(dataset, name, text, uid, day) -> None:
  place = "nested"
  deepest, deeper, deep = Dataset(), Dataset(), Dataset()
  deepest.PersonName = name(place)
  deepest.TextValue = text(place)
  deepest.ReferencedSOPInstanceUID = uid(place)
  deeper.ContentSequence = Sequence([deepest])
  deeper.PatientID = text(place)
  deep.OriginalAttributesSequence = Sequence([deeper])
  deep.RequestedProcedureDescription = text(place)
  deep.ScheduledProcedureStepStartDate = day(place, 1975)
  dataset.RequestAttributesSequence = Sequence([deep])
  region = Dataset()
  for keyword, value in {
    "RegionSpatialFormat": 1, "RegionDataType": 1,
    "RegionLocationMinX0": 0, "RegionLocationMinY0": 0,
    "RegionLocationMaxX1": SIZE - 1, "RegionLocationMaxY1": SIZE - 1,
    "PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3,
    "PhysicalDeltaX": 0.1, "PhysicalDeltaY": 0.1,
  }.items():  # fmt: skip
    setattr(region, keyword, value)
  region.ImageComments = text(place)
  region.private_block(0x0019, text(place), create=True).add_new(
    1, "LO", text(place)
  )
  dataset.SequenceOfUltrasoundRegions = Sequence([region])
  view = Dataset()
  view.CodeValue, view.CodingSchemeDesignator = "399214001", "SCT"
  view.CodeMeaning = text(place)
  dataset.ViewCodeSequence = Sequence([view])
  icon = Dataset()
  icon.Rows, icon.Columns = 8, 32
  icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
  icon.BitsAllocated, icon.BitsStored, icon.HighBit = 8, 8, 7
  icon.PixelRepresentation = 0
  words = text("icon image").encode()
  icon.PixelData = words + bytes(256 - len(words))
  icon["PixelData"].VR = "OB"
  dataset.IconImageSequence = Sequence([icon])


def _plant_private(dataset, name, text) -> None:
  place = "private"
  block = dataset.private_block(0x0009, text(place), create=True)
  block.add_new(1, "LO", text(place))
  block.add_new(2, "PN", name(place))
  block.add_new(3, "UN", text(place).encode("utf-16-le"))
  inner = Dataset()
  inner.PatientName = name(place)
  inner.private_block(0x0011, "MAKER", create=True).add_new(
    5, "ST", text(place)
  )
  block.add_new(4, "SQ", Sequence([inner]))
  dataset.private_block(0x7FE1, "MAKER", create=True).add_new(
    1, "OB", text(place).encode()
  )


def _plant_overlay(dataset, text) -> None:
  place = "overlay and curve"
  for keyword, tag, vr in (
    ("OverlayDescription", 0x60000022, "LO"),
    ("OverlayLabel", 0x60001500, "LO"),
    ("OverlayComments", 0x60004000, "LT"),
    ("CurveDescription", 0x50000022, "LO"),
  ):
    dataset.add_new(tag, vr, text(place))
    del keyword
  dataset.add_new(0x60000010, "US", SIZE)
  dataset.add_new(0x60000011, "US", SIZE)
  dataset.add_new(0x60000100, "US", 1)
  dataset.add_new(0x60000102, "US", 0)
  dataset.add_new(0x60003000, "OW", text(place).ljust(64).encode())


def _store(
  dataset: Dataset, frames: np.ndarray, colour: str, syntax: str,
  texts: dict[str, tuple[str, ...]], rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
  """Sets the pixels; returns the frames as a reader will see them."""
  grey = frames.shape[-1] == 1
  dataset.Rows, dataset.Columns = frames.shape[1:3]
  dataset.SamplesPerPixel = 1 if grey else 3
  dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
  dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
  dataset.PixelRepresentation = 0
  if not grey:
    dataset.PlanarConfiguration = 0
  dataset.file_meta = FileMetaDataset()
  dataset.file_meta.TransferSyntaxUID = syntax
  stored, shown = frames, frames
  if colour == "MONOCHROME1":
    dataset.PhotometricInterpretation = colour
    stored = 255 - frames
  elif colour == "12 bits":
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    low = rng.integers(0, 16, frames.shape, dtype=np.uint16)
    stored = frames.astype("<u2") << 4 | low
  elif colour == "RGB planes":
    dataset.PlanarConfiguration = 1
    stored = frames.transpose(0, 3, 1, 2)
  elif colour == "YBR_FULL":
    dataset.PhotometricInterpretation = colour
    stored = np.stack([
      np.asarray(Image.fromarray(f).convert("YCbCr")) for f in frames
    ])  # fmt: skip
    shown = _rgb(stored)
  elif colour in ("PALETTE COLOR", "PALETTE 8"):
    bits = 8 if colour == "PALETTE 8" else 16
    stored, shown = _palette(dataset, frames, rng, bits)
  if syntax == MPEG4HP41:
    dataset.PhotometricInterpretation = colour
    dataset.PixelData = encapsulate([_h264(frames, texts, rng)])
    dataset["PixelData"].VR = "OB"
  elif syntax in OWN_CODE:
    coded = [_jpeg(f, syntax, texts, rng) for f in stored]
    dataset.PixelData = encapsulate(coded)
    dataset["PixelData"].VR = "OB"
    if colour == "YBR_FULL_422":
      dataset.PhotometricInterpretation = colour
    shown = _decoded(dataset, frames.shape)
  elif syntax in (JPEG2000, JPEG2000Lossless, RLELossless):
    array = stored[..., 0] if stored.shape[-1] == 1 else stored
    options = {"j2k_cr": [6.0]} if syntax == JPEG2000 else {}
    if syntax == JPEG2000Lossless:
      dataset.PhotometricInterpretation = "YBR_RCT"
    dataset.compress(
      syntax, array if len(array) > 1 else array[0],
      generate_instance_uid=False, **options,
    )  # fmt: skip
    shown = _decoded(dataset, frames.shape) if syntax == JPEG2000 else shown
  else:
    place = "after the last frame"
    texts[place] = (_name(rng), _number(rng))
    data = stored.tobytes() + " ".join(texts[place]).encode()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
  return shown


def _rgb(stored: np.ndarray) -> np.ndarray:
  from pydicom.pixels import convert_color_space

  return convert_color_space(stored, "YBR_FULL", "RGB")


def _decoded(dataset: Dataset, shape: tuple[int, ...]) -> np.ndarray:
  """Decoders of JPEG Baseline differ: Pillow's is the one that ingest uses."""
  baseline = dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
  plugin = "pillow" if baseline else ""
  return pixel_array(dataset, decoding_plugin=plugin).reshape(shape)


def _palette(
  dataset: Dataset, frames: np.ndarray, rng: np.random.Generator, bits: int
) -> tuple[np.ndarray, np.ndarray]:
  """64 tinted greys, coloured ink and, not at index 0, black."""
  levels = np.linspace(0, 255, 64).astype(np.uint8)
  table = np.stack([levels, levels, np.clip(levels.astype(int) + 8, 0, 255)], 1)
  table[0] = 0
  inks = [[255, 160, 0], [220, 220, 220]]
  table = np.concatenate([table, inks]).astype(np.uint8)
  order = rng.permutation(len(table))
  table = table[order]
  flat = frames.reshape(-1, 3).astype(np.int32)
  colours, back = np.unique(flat, axis=0, return_inverse=True)
  gaps = np.abs(colours[:, None] - table[None].astype(np.int32)).sum(-1)
  index = gaps.argmin(1).astype(np.uint8)[back.ravel()]
  index = index.reshape(*frames.shape[:3], 1)
  dataset.SamplesPerPixel = 1
  dataset.PhotometricInterpretation = "PALETTE COLOR"
  del dataset.PlanarConfiguration
  for name, column in zip(("Red", "Green", "Blue"), table.T, strict=True):
    setattr(
      dataset, f"{name}PaletteColorLookupTableDescriptor", [len(table), 0, bits]
    )
    wide = column.astype("<u2") * 257 if bits == 16 else column
    setattr(dataset, f"{name}PaletteColorLookupTableData", wide.tobytes())
  return index, table[index[..., 0]]


def _jpeg(
  frame: np.ndarray, syntax: str, texts: dict[str, tuple[str, ...]],
  rng: np.random.Generator,
) -> bytes:  # fmt: skip
  """One coded frame with a comment and an application segment in it."""
  place = "inside the JPEG stream"
  if place not in texts:
    texts[place] = (_name(rng), _number(rng))
  if syntax == JPEGLosslessSV1:
    data = jpeg_lossless(frame[..., 0])
  elif syntax == JPEGLSLossless:
    data = _jpeg_ls(frame)
  else:
    buffer = io.BytesIO()
    pixels = frame[..., 0] if frame.shape[-1] == 1 else frame
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling=1)
    data = buffer.getvalue()
    if syntax == JPEGExtended12Bit:  # SOF1 with 8 bits is a part of it
      data = data.replace(b"\xff\xc0\x00", b"\xff\xc1\x00", 1)
  words = " ".join(texts[place]).encode()
  size = (len(words) + 2).to_bytes(2, "big")
  data = data[:2] + b"\xff\xfe" + size + words + data[2:]
  data = data[:2] + b"\xff\xe5" + size + words + data[2:]
  return data + b"\0" * (len(data) % 2)


def _jpeg_ls(frame: np.ndarray) -> bytes:
  """One frame by FFmpeg's encoder."""
  rows, columns, channels = frame.shape
  coder = av.CodecContext.create("jpegls", "w")
  coder.width, coder.height = columns, rows
  coder.pix_fmt = "gray" if channels == 1 else "rgb24"
  coder.time_base = Fraction(1, 25)
  pixels = frame[..., 0] if channels == 1 else frame
  picture = av.VideoFrame.from_ndarray(
    np.ascontiguousarray(pixels), format=coder.pix_fmt
  )
  packets = [*coder.encode(picture), *coder.encode(None)]
  return b"".join(bytes(packet) for packet in packets)


def _h264(
  frames: np.ndarray, texts: dict[str, tuple[str, ...]],
  rng: np.random.Generator,
) -> bytes:  # fmt: skip
  """An MP4 file with an identity in its title and its comment."""
  place = "inside the video stream"
  texts[place] = (_name(rng), _number(rng))
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="mp4") as movie:
    movie.metadata["title"], movie.metadata["comment"] = texts[place]
    stream = movie.add_stream("libx264", rate=50, options={"crf": "12"})
    stream.width, stream.height = frames.shape[2], frames.shape[1]
    stream.pix_fmt = "yuv420p"
    for frame in frames:
      shown = np.repeat(frame, 3, -1) if frame.shape[-1] == 1 else frame
      movie.mux(
        stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24"))
      )
    movie.mux(stream.encode(None))
  data = buffer.getvalue()
  return data + b"\0" * (len(data) % 2)


def jpeg_lossless(grey: np.ndarray) -> bytes:
  """JPEG Lossless, first-order prediction (ITU-T T.81 H.1), 8 bits, grey.

  Every category has a code of four bits, which needs no statistics.
  """
  rows, columns = grey.shape
  values = grey.astype(np.int32)
  before = np.roll(values, 1, axis=1)
  before[1:, 0] = values[:-1, 0]
  before[0, 0] = 128
  bits: list[str] = []
  for change in (values - before).ravel().tolist():
    size = abs(change).bit_length()
    low = change if change > 0 else change + (1 << size) - 1
    bits.append(f"{size:04b}" + (f"{low:0{size}b}" if size else ""))
  text = "".join(bits)
  text += "1" * (-len(text) % 8)
  scan = int(text, 2).to_bytes(len(text) // 8, "big")
  scan = scan.replace(b"\xff", b"\xff\x00")
  codes = bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
  return b"".join((
    b"\xff\xd8",
    b"\xff\xc3\x00\x0b\x08",
    rows.to_bytes(2, "big"), columns.to_bytes(2, "big"),
    b"\x01\x01\x11\x00",
    b"\xff\xc4", (3 + len(codes)).to_bytes(2, "big"), b"\x00", codes,
    b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00", scan, b"\xff\xd9",
  ))  # fmt: skip


def _save(
  dataset: Dataset, path: Path, syntax: str,
  texts: dict[str, tuple[str, ...]], rng: np.random.Generator,
) -> None:  # fmt: skip
  """Writes the file with texts in its preamble, meta header and tail."""
  meta = dataset.file_meta
  meta.MediaStorageSOPClassUID = dataset.SOPClassUID
  meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
  texts["file meta"] = (_name(rng), _number(rng), _name(rng))
  meta.SourceApplicationEntityTitle = texts["file meta"][0]
  meta.PrivateInformationCreatorUID = "1.2.276.0.7230010.3.1.9"
  meta.PrivateInformation = " ".join(texts["file meta"][1:]).encode()
  texts["preamble"] = (_name(rng), _number(rng))
  dataset.preamble = " ".join(texts["preamble"]).encode().ljust(128, b"\0")
  texts["trailing padding"] = (_name(rng), _number(rng))
  dataset.add_new(
    0xFFFCFFFC, "OB", " ".join(texts["trailing padding"]).encode().ljust(64)
  )
  with pydicom.config.disable_value_validation():
    dataset.save_as(
      path, enforce_file_format=True,
      implicit_vr=syntax == ImplicitVRLittleEndian,
      little_endian=syntax != ExplicitVRBigEndian,
    )  # fmt: skip


# --- the search -----------------------------------------------------------


@dataclass(frozen=True)
class Found:
  """What the search found in the copy of one file.

  Attributes:
    leaks: places whose text is still there.
    kept_pct: of the clean pixels of the sector (no letters near), the share
      that is as it was; NaN if the file was refused.
  """

  leaks: tuple[str, ...]
  kept_pct: float


def bytes_of(folder: Path, stem: str = "") -> bytes:
  """Names of everything in a folder and contents, in lower case.

  Of copies and audit records the contents only where the name is `stem`, of
  all other files always: a date of one patient, moved, may by chance be a
  date of another.
  """
  parts = []
  for path in sorted(folder.rglob("*")):
    parts.append(str(path.relative_to(folder)).encode())
    of_one_file = path.suffix in (".dcm", ".json")
    if path.is_file() and (not (stem and of_one_file) or path.stem == stem):
      parts.append(path.read_bytes())
  return b"\0".join(parts).lower()


def leaks_in_bytes(data: bytes, file: Planted) -> list[str]:
  """Places of a file whose text stands in the bytes, in any encoding."""
  found = []
  for place, words in file.texts.items():
    forms = {
      word.lower().encode(code) for word in words if len(word) > 3
      for code in ("utf-8", "utf-16-le", "utf-16-be")
    }  # fmt: skip
    if any(form in data for form in forms):
      found.append(place)
  return found


def look_at(copy: Path, file: Planted, engine) -> Found:
  """Compares the frames of a copy with where each letter was planted."""
  frames = _decoded(pydicom.dcmread(copy), file.shown.shape)
  leaks = []
  near = np.zeros(file.sector.shape, np.uint8)
  for place, letters in file.strokes.items():
    still = frames.max(axis=(0, 3))[letters] > 0
    # The sector's own speckle may be left under a corner of a letter.
    if still.mean() > 0.1:
      leaks.append(place)
    near |= cv2.dilate(
      letters.astype(np.uint8), np.ones((2 * RING_PX + 1,) * 2, np.uint8)
    )
  for word in _read_all(frames, engine):
    leaks += [p for p in file.strokes if _alike(word, file.texts[p][0])]
  clean = file.sector & (near == 0)
  same = (frames == file.shown).all(-1)[:, clean]
  return Found(tuple(dict.fromkeys(leaks)), 100 * float(same.mean()))


def _read_all(frames: np.ndarray, engine) -> list[str]:
  """What OCR reads in every single frame, enlarged, with no other help."""
  words = []
  for frame in frames:
    grey = np.ascontiguousarray(frame.max(-1))
    large = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    words += engine(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR)).txts or ()
  return words


def _alike(read: str, planted: str) -> bool:
  """True if four signs in a row agree."""
  read = "".join(s for s in read.upper() if s.isalnum())
  planted = planted.upper()
  return any(planted[i : i + 4] in read for i in range(len(planted) - 3))


def judge(files: list[Planted], out: Path, engine) -> dict:
  """Counts by place and by form for files that were cleaned into `out`."""
  copies = {p.stem: p for p in out.rglob("*.dcm")}
  places, forms = Counter(), Counter()
  leaks, refused, shares, pieces = Counter(), Counter(), [], 0
  leaked_files = []
  for file in files:
    places.update(list(file.texts))
    forms[file.form] += 1
    stem = SECRET.file_id(file.path)
    found = leaks_in_bytes(bytes_of(out, stem), file)
    copy = copies.get(stem)
    if copy is None:
      refused[file.form] += 1
    else:
      seen = look_at(copy, file, engine)
      found += seen.leaks
      shares.append(seen.kept_pct)
      pieces += 1
    leaks.update(set(found))
    if found:
      leaked_files.append((file.path.name, file.form, sorted(set(found))))
  return {
    "files": len(files), "written": pieces, "refused": sum(refused.values()),
    "leaks": sum(leaks.values()), "leaks_by_place": dict(leaks),
    "planted_by_place": dict(places), "planted_by_form": dict(forms),
    "refused_by_form": dict(refused), "leaked_files": leaked_files,
    "clean_pixels_kept_pct": {
      "mean": float(np.mean(shares)) if shares else None,
      "lowest": float(np.min(shares)) if shares else None,
      "files_below_99": int((np.array(shares) < 99).sum()),
    },
  }  # fmt: skip


def make_engine():
  """OCR as it comes, not through our own views."""
  import rapidocr

  return rapidocr.RapidOCR(
    params={
      "Global.log_level": "critical", "Global.use_cls": False,
      "Det.limit_side_len": 32,
      "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    }
  )  # fmt: skip


def run(numbers: list[int], seed: int, engine, work: Path) -> dict:
  """Plants, cleans and judges some files in a folder."""
  source, out = work / "source", work / "out"
  files = [plant(source, number, seed) for number in numbers]
  counts = run_folder(
    source, out, SECRET, work / "map.csv", Options(), progress=False
  )
  verdict = judge(files, out, engine)
  reasons = Counter(
    json.loads(p.read_text())["reason"]
    for p in (out / "audit").rglob("*.json")
  )
  reasons.pop("", None)
  return verdict | {"counts": counts, "reasons": dict(reasons)}


def _add(total: dict, more: dict) -> dict:
  """Sums of counts, lists joined; of shares the mean and the lowest."""
  summed = {}
  for name, value in more.items():
    old = total.get(name)
    if isinstance(value, dict):
      summed[name] = dict(Counter(old or {}) + Counter(value))
    else:
      summed[name] = value if old is None else old + value
  return summed


def main() -> int:
  """Batches of files, each in a folder that is deleted after it."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--files", type=int, default=1000)
  parser.add_argument("--seed", type=int, default=1)
  parser.add_argument("--batch", type=int, default=17)
  parser.add_argument("--out", type=Path, required=True)
  args = parser.parse_args()
  engine, total, shares = make_engine(), {}, []
  start = time.time()
  for first in range(0, args.files, args.batch):
    numbers = list(range(first, min(first + args.batch, args.files)))
    with tempfile.TemporaryDirectory() as work:
      verdict = run(numbers, args.seed, engine, Path(work))
    kept = verdict.pop("clean_pixels_kept_pct")
    shares.append((verdict["written"], kept))
    total = _add(total, verdict)
    weights = [n for n, k in shares if k["mean"] is not None]
    means = [k["mean"] for _, k in shares if k["mean"] is not None]
    report = total | {
      "seed": args.seed, "seconds": round(time.time() - start),
      "clean_pixels_kept_pct": {
        "mean": float(np.average(means, weights=weights)) if means else None,
        "lowest": min(
          (k["lowest"] for _, k in shares if k["lowest"] is not None),
          default=None,
        ),
        "files_below_99": sum(k["files_below_99"] for _, k in shares),
      },
    }  # fmt: skip
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(
      f"{report['files']} files, {report['written']} written, "
      f"{report['leaks']} leaks, {report['seconds']} s", flush=True,
    )  # fmt: skip
  return 1 if report["leaks"] else 0


if __name__ == "__main__":
  sys.exit(main())
