"""Files that the tests make: drawn sectors, DICOM, movies, EchoNet folders."""

from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

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
