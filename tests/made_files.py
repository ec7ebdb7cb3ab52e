"""Files that the tests make: drawn sectors, DICOM, movies, EchoNet folders."""

import base64
import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.6.1"


def sector_mask(rows=240, columns=320, apex=(160, 20), depth=190, half_deg=38):
  """A sector with its apex on top: exact geometry."""
  y, x = np.mgrid[:rows, :columns]
  dx, dy = x - apex[0], y - apex[1]
  angle = np.degrees(np.arctan2(dx, dy))
  return (np.hypot(dx, dy) <= depth) & (np.abs(angle) <= half_deg)


def drawn_clip(frames=12, mask=None, text=True, seed=0):
  """Speckle inside a sector; text and a running ECG trace outside: T H W."""
  rng = np.random.default_rng(seed)
  mask = sector_mask() if mask is None else mask
  rows, columns = mask.shape
  video = np.zeros((frames, rows, columns), np.uint8)
  for i, frame in enumerate(video):
    speckle = rng.gamma(2.0, 20.0, mask.shape)
    cv2.circle(speckle, (columns // 2, rows // 2), 25 + i % 5, 2.0, -1)
    frame[mask] = np.clip(speckle, 0, 255)[mask]
    if text:
      font = cv2.FONT_HERSHEY_SIMPLEX
      cv2.putText(frame, "TEST 4V", (4, 20), font, 0.5, 200, 1)
      cv2.putText(frame, f"{60 + i}", (columns - 34, 20), font, 0.5, 200, 1)
      x = np.arange(10, 10 + (columns - 20) * (i + 1) // frames)
      y = rows - 10 - 8 * (x % 60 == 30)
      cv2.polylines(frame, [np.stack([x, y], 1).astype(np.int32)], False, 220)
  return video


def region(**changes):
  """A 2D tissue region of the whole 320x240 picture, 0.05 cm a pixel."""
  item = Dataset()
  values = {
    "RegionSpatialFormat": 1, "RegionDataType": 1,
    "RegionLocationMinX0": 0, "RegionLocationMinY0": 0,
    "RegionLocationMaxX1": 319, "RegionLocationMaxY1": 239,
    "PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3,
    "PhysicalDeltaX": 0.05, "PhysicalDeltaY": 0.05,
  }  # fmt: skip
  for keyword, value in (values | changes).items():
    setattr(item, keyword, value)
  return item


def write_dicom(path, video, regions=(), **header):
  """An uncompressed ultrasound file; grey if `video` is T H W, else RGB."""
  meta = FileMetaDataset()
  meta.TransferSyntaxUID = ExplicitVRLittleEndian
  meta.MediaStorageSOPClassUID = header.get("SOPClassUID", MULTI_FRAME)
  meta.MediaStorageSOPInstanceUID = generate_uid()
  dataset = Dataset()
  dataset.file_meta = meta
  grey = video.ndim == 3
  values = {
    "SOPClassUID": MULTI_FRAME, "Modality": "US",
    "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
    "PatientName": "SECRET^NAME", "PatientID": "4711",
    "StudyInstanceUID": generate_uid(),
    "Rows": video.shape[1], "Columns": video.shape[2],
    "NumberOfFrames": len(video), "SamplesPerPixel": 1 if grey else 3,
    "PhotometricInterpretation": "MONOCHROME2" if grey else "RGB",
    "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
    "PixelRepresentation": 0,
  }  # fmt: skip
  if not grey:
    values["PlanarConfiguration"] = 0
  for keyword, value in (values | header).items():
    if value is not None:
      setattr(dataset, keyword, value)
    elif keyword in dataset:
      delattr(dataset, keyword)
  if len(regions):
    dataset.SequenceOfUltrasoundRegions = list(regions)
  data = video.tobytes()
  dataset.PixelData = data + b"\0" * (len(data) % 2)
  with pydicom.config.disable_value_validation():
    dataset.save_as(path, enforce_file_format=True)
  return Path(path)


def rewrite(path, syntax):
  """The same file in another transfer syntax that pydicom can write."""
  dataset = pydicom.dcmread(path)
  syntax = UID(syntax)
  if syntax.is_compressed and syntax.is_encapsulated:
    dataset.compress(syntax, generate_instance_uid=False)
  fresh = Dataset()  # one that was read keeps its byte order
  for element in dataset:
    fresh.add(element)
  fresh.file_meta = dataset.file_meta
  fresh.file_meta.TransferSyntaxUID = syntax
  pydicom.dcmwrite(path, fresh, enforce_file_format=True)
  return Path(path)


def write_coded(
  path, coded, shape, syntax, regions=(), pieces=1, table=True, **header
):
  """A file with coded frames of a shape (T, H, W or T, H, W, 3).

  `pieces` cuts each frame into so many fragments; `table` is True for the
  basic offset table, "extended" for the other, False for none.
  """
  write_dicom(path, np.zeros(shape, np.uint8), regions, **header)
  dataset = pydicom.dcmread(path)
  dataset.file_meta.TransferSyntaxUID = UID(syntax)
  if table == "extended":
    data, offsets, lengths = encapsulate_extended(coded)
    dataset.ExtendedOffsetTable = offsets
    dataset.ExtendedOffsetTableLengths = lengths
  else:
    data = encapsulate(coded, fragments_per_frame=pieces, has_bot=bool(table))
  dataset.PixelData = data
  dataset["PixelData"].VR = "OB"
  dataset["PixelData"].is_undefined_length = True
  # pydicom would not write a video's frames as one item.
  dataset.save_as(
    path, implicit_vr=False, little_endian=True, enforce_file_format=False
  )
  return Path(path)


def jpeg(frame, sampling="4:4:4", **more):
  """Baseline JPEG of a grey or RGB frame."""
  data = io.BytesIO()
  grey = {} if frame.ndim == 2 else {"subsampling": sampling}
  Image.fromarray(frame).save(data, "JPEG", quality=95, **grey, **more)
  return data.getvalue()


def unmarked_rgb_jpeg(frame):
  """Baseline JPEG that holds RGB as it is, and no marker that says so."""
  data = io.BytesIO()
  # Told that it has luminance and chroma, the coder changes no value.
  image = Image.frombytes("YCbCr", frame.shape[1::-1], frame.tobytes())
  image.save(data, "JPEG", quality=95, subsampling="4:4:4")
  data = data.getvalue()
  assert data[2:4] == b"\xff\xe0"
  return data[:2] + data[4 + int.from_bytes(data[4:6]) :]  # without JFIF


def av_frame(frame, codec, pixel_format):
  """One frame coded by FFmpeg: `jpegls` (gray, rgb24) or `ljpeg`."""
  coder = av.CodecContext.create(codec, "w")
  coder.height, coder.width = frame.shape[:2]
  coder.pix_fmt, coder.time_base = pixel_format, Fraction(1, 25)
  coder.options = {"strict": "experimental"}
  planes = np.moveaxis(frame, -1, 0) if pixel_format == "yuvj444p" else frame
  picture = av.VideoFrame.from_ndarray(
    np.ascontiguousarray(planes), format=pixel_format
  )
  packets = [*coder.encode(picture), *coder.encode()]
  return b"".join(bytes(packet) for packet in packets)


# By OpenJPH (imagecodecs 2026.3.6, htj2k_encode, reversible): 24 x 32 pixels
# of value (7 column + 5 row) modulo 256.
HTJ2K = base64.b64decode(
  "/0//UQApQAAAAAAgAAAAGAAAAAAAAAAAAAAAIAAAABgAAAAAAAAAAAABBwEB/1AACAACAA"
  "AAAv9SAAwAAgABAAUEBEAB/1wAEyBIUFBQUFBQUFBQUFBQSEhI/2QAFwABT3BlbkpQSCBW"
  "ZXIgMC4yNi4zLv+QAAoAAAAAATUAAf+TwCXvAAd0AMASwBLAEoD0AQd0AJIBB3QA6QAHdA"
  "DAFRAEsATAgoLw9gBClAAB/jIzAASCAEI0AMAVUAVsAVYhaKyk7rMwArUARxAsqzfxgOQ+"
  "fABXAEF49DIJ+pmYI5UAwBa0AWzAFrBemSKxNwsQMKCVz0ID8uXBXl8UAlgA5qVQVCgRAT"
  "imTx46yuUBAJ7k9lgFcVPcAIHDXuNRNwIPZPeZJ8HnBG95ODwDWQDALqYBdbALcCTD/Idf"
  "fIyHx08fw3w8vq+HwfD6/OiB/Pnngpy98m5HZHDZLi5HQnEB/j9+z9fj8+t7/3v/PhEAAA"
  "Ae8iMeIeD+q2E9iqE/ZJ79knssNR4MNkuKAFYB/v9Pv39+/n7/fz+/fv7+q8CPjBOjlsMK"
  "SiBeAP/Z"
)


def htj2k_picture():
  """The picture that HTJ2K codes."""
  row, column = np.mgrid[:24, :32]
  return ((7 * column + 5 * row) % 256).astype(np.uint8)


def video_stream(video, codec, form, rate_hz=25):
  """A grey video coded by FFmpeg (mpeg2video, libx264, libx265), as bytes."""
  data = io.BytesIO()
  options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
  with av.open(data, "w", format=form) as container:
    stream = container.add_stream(codec, rate=rate_hz, options=options)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = "yuv420p"
    for pixels in video:
      frame = av.VideoFrame.from_ndarray(pixels, format="gray")
      container.mux(stream.encode(frame.reformat(format="yuv420p")))
    container.mux(stream.encode())
  return data.getvalue()


def steps(frames=6, rows=48, columns=64):
  """A video whose frames are told apart by their grey: T H W."""
  grey = 40 + 25 * np.arange(frames, dtype=np.uint8)
  return np.tile(grey[:, None, None], (1, rows, columns))


def write_avi(path, video, rate_hz=50.0):
  """A motion-JPEG AVI as EchoNet-Dynamic has them: grey T H W or RGB."""
  rows, columns = video.shape[1:3]
  code = cv2.VideoWriter_fourcc(*"MJPG")
  writer = cv2.VideoWriter(str(path), code, rate_hz, (columns, rows))
  for frame in video:
    colour = cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR
    writer.write(cv2.cvtColor(frame, colour))
  writer.release()
  return Path(path)


def write_mp4(path, video, times_ms):
  """An MP4 whose frames are shown at the given times."""
  with av.open(str(path), "w", format="mp4") as container:
    stream = container.add_stream("mpeg4", rate=1000)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = "yuv420p"
    for pixels, time_ms in zip(video, times_ms, strict=True):
      frame = av.VideoFrame.from_ndarray(pixels, format="gray")
      frame = frame.reformat(format="yuv420p")
      frame.pts = int(time_ms)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return Path(path)


ECHONET_HEADER = (
  "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
)
TRACING_HEADER = "FileName,X1,Y1,X2,Y2,Frame"


def echonet_clip(frames=10, seed=0):
  """112x112 with a masked sector, as the owner ships it."""
  mask = sector_mask(112, 112, apex=(56, 4), depth=100, half_deg=40)
  return drawn_clip(frames, mask, text=False, seed=seed)


def chords(name, frame, width, count=20):
  """Tracing rows: the long axis, then chords of an ellipse."""
  rows = [(name, 56, 20, 56, 90, frame)]
  for y in np.linspace(22, 88, count):
    half = width * np.sqrt(1 - ((y - 55) / 36) ** 2)
    rows.append((name, 56 - half, y, 56 + half, y, frame))
  return [",".join(str(value) for value in row) for row in rows]


def make_echonet(root, rows, tracings, videos, line_end="\n", mark=""):
  """A folder in the owner's form; rows and tracings are lines of text."""
  root = Path(root)
  (root / "Videos").mkdir(parents=True)
  for name, video in videos.items():
    write_avi(root / "Videos" / f"{name}.avi", video)
  for name, lines in (
    ("FileList.csv", [ECHONET_HEADER, *rows]),
    ("VolumeTracings.csv", [TRACING_HEADER, *tracings]),
  ):
    text = mark + line_end.join(lines) + line_end
    (root / name).write_bytes(text.encode("utf-8"))
  return root
