"""Clips a second of our loader and of the usual one, round by round."""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from data_builders import synthetic_echo
from echo_jax.data.build import Dataset, Item, build
from echo_jax.data.contract import InputContract
from echo_jax.data.frames import decode_frame, encode_frames
from echo_jax.data.pipeline import ClipMaker, Subset, training_batches
from echo_jax.data.schema import Record, frame_shape
from echo_jax.data.sources import VideoSource, find_dataset

BATCH = 16
CODECS = ("raw", "jpeg", "png")
SHUFFLED = 10_000  # rows an epoch, about as many as EchoNet-Dynamic has
DURATION_S = 3.0  # 96 to 147 frames on the devices of SynthEcho
MIMIC_IV_ECHO = 525_328  # videos
MEAN = np.array([32.0, 32.5, 33.0], np.float32)  # about EchoNet-Dynamic's
STD = np.array([49.5, 50.0, 50.5], np.float32)


@dataclass(frozen=True)
class Case:
  """What is measured.

  Attributes:
    videos, stored: how many, of how many pixels a side.
    size, frames: of a clip.
    rounds: each way is measured once in each.
    seconds: of processor time that a way gets at least in a round.
  """

  videos: int
  stored: int
  size: int
  frames: int
  rounds: int
  seconds: float

  def __post_init__(self) -> None:
    for name in ("videos", "size", "frames", "rounds"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}, wants at least 1")

  @property
  def contract(self) -> InputContract:
    """A grey clip of 1.4 s."""
    return InputContract(frames=self.frames, size=self.size)


@dataclass(frozen=True)
class Files:
  """The same videos in each form: folders of data sets, and AVI files."""

  sets: dict[str, Path]
  avis: tuple[Path, ...]

  @property
  def raw(self) -> Path:
    """The data set of raw frames."""
    return self.sets["raw"]


def make_files(case: Case, folder: Path) -> Files:
  """Simulates the videos once and stores them in every form."""
  whole = synthetic_echo.dataset(
    name="simulated", patients=case.videos, size=case.stored,
    duration_s=DURATION_S, codec="raw", shares={"train": 1.0},
  )  # fmt: skip
  # A patient may have several studies.
  build(dataclasses.replace(whole, items=whole.items[: case.videos]), folder)
  simulated = VideoSource(find_dataset(folder, "simulated"), "train")
  sets = {}
  for codec in CODECS:
    items = tuple(
      Item(f"video-{i}", "train", {"position": i}) for i in range(case.videos)
    )
    recoded = Dataset(
      name=codec, version="1.0.0", description="for bench",
      settings={"codec": codec}, items=items,
      read=partial(recode, source=simulated, codec=codec),
    )  # fmt: skip
    build(recoded, folder, progress=False)
    sets[codec] = find_dataset(folder, codec)
  avis = tuple(folder / f"{i}.avi" for i in range(case.videos))
  for path, record in zip(avis, simulated, strict=True):
    write_avi(path, record)
  return Files(sets, avis)


def recode(
  item: Item, *, source: VideoSource, codec: str
) -> tuple[Record, tuple[str, ...]]:
  """A simulated record without its masks, its frames coded otherwise."""
  record = source[item.facts["position"]]
  shape = frame_shape(record)
  frames = np.stack([decode_frame(f, "raw", shape) for f in record["frames"]])
  masks = ("lv_mask", "myo_mask", "la_mask", "rv_mask")
  known = record | {name: [] for name in masks}
  coded = encode_frames(frames, codec)
  return known | {"frames": coded, "frames_codec": codec}, ()


def write_avi(path: Path, record: Record) -> None:
  """An MJPG AVI as EchoNet-Dynamic ships them, in OpenCV's own quality."""
  rows, columns, channels = frame_shape(record)
  coder = cv2.VideoWriter_fourcc(*"MJPG")
  writer = cv2.VideoWriter(str(path), coder, 50, (columns, rows))
  if not writer.isOpened():
    raise ValueError("this OpenCV cannot write MJPG AVI files")
  for data in record["frames"]:
    frame = decode_frame(data, "raw", (rows, columns, channels))
    writer.write(np.repeat(frame, 3 // channels, axis=-1))
  writer.release()


def measure(case: Case, files: Files) -> dict[str, dict[str, float]]:
  """Rates of each way, and what it is of the usual one in the same round."""
  ways = {
    "usual: AVI by OpenCV": partial(read_usual, case, files.avis, True),
    "decoding of it alone": partial(read_usual, case, files.avis, False),
  }
  sizes = [sum(path.stat().st_size for path in files.avis)] * 2
  for codec, folder in files.sets.items():
    ways[f"echo_jax, {codec}"] = _reader(case, folder)
    records = folder.glob("*.array_record*")
    sizes.append(sum(path.stat().st_size for path in records))
  rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
  turns = list(itertools.product(range(case.rounds), ways))
  with one_core():
    for read in ways.values():  # files into the page cache, readers open
      read()
    for _, name in tqdm(turns, desc="bench data", unit="turn"):
      rates[name].append(_rate(ways[name], case.seconds))
  of_core = {name: np.array(rates[name])[:, 0] for name in ways}
  usual, decoding = list(of_core.values())[:2]
  return {
    name: {
      "clips_per_s": float(np.median(of_core[name])),
      "low": float(of_core[name].min()),
      "high": float(of_core[name].max()),
      "by_the_clock": float(np.median(np.array(rates[name])[:, 1])),
      "times_usual": float(np.median(of_core[name] / usual)),
      "times_decoding": float(np.median(of_core[name] / decoding)),
      "bytes_a_video": size / case.videos,
      "gigabytes_525328": size / case.videos * MIMIC_IV_ECHO / 1e9,
    }
    for name, size in zip(ways, sizes, strict=True)
  }


def _reader(case: Case, folder: Path) -> Callable[[], int]:
  """Our whole pipeline, from shuffling to stacked batches."""
  videos = VideoSource(folder, "train")
  # Each many times over: grain's shuffle takes milliseconds a row where there
  # are only a few records, which no data set to be read fast has.
  times = max(SHUFFLED // len(videos), 1)
  source = Subset(videos, np.tile(np.arange(len(videos)), times))
  batches = training_batches(
    source, ClipMaker(case.contract), seed=0, batch_size=BATCH, threads=0
  )
  count = max(case.videos // BATCH, 1)

  def read() -> int:
    return sum(
      len(batch["video"]) for batch in itertools.islice(batches, count)
    )

  return read


def read_usual(case: Case, avis: tuple[Path, ...], floats: bool) -> int:
  """A pass over the AVIs as the loader of EchoNet-Dynamic goes, in batches.

  Every frame is decoded to RGB, channels come first; with `floats` the whole
  video becomes float32 and is normalised a channel.  The clip, every second
  frame from a random one on, is cut out of that.
  """
  rng = np.random.default_rng(0)
  for first in range(0, len(avis), BATCH):
    clips = []
    for path in avis[first : first + BATCH]:
      video = decode_whole(path).transpose(3, 0, 1, 2)
      if floats:
        video = video.astype(np.float32)
        video -= MEAN.reshape(3, 1, 1, 1)
        video /= STD.reshape(3, 1, 1, 1)
      count = video.shape[1]
      reach = max(count - 2 * (case.frames - 1), 1)
      chosen = rng.integers(reach) + 2 * np.arange(case.frames)
      clip = video[:, np.minimum(chosen, count - 1)]
      clips.append(_resized(clip, case.size))
    np.stack(clips)
  return len(avis)


def _resized(clip: np.ndarray, size: int) -> np.ndarray:
  """Frames of a clip, channels first, at another size."""
  if clip.shape[-1] == size:
    return clip
  frames = clip.transpose(1, 2, 3, 0)
  resized = [cv2.resize(np.ascontiguousarray(f), (size, size)) for f in frames]
  return np.stack(resized).transpose(3, 0, 1, 2)


def decode_whole(path: Path) -> np.ndarray:
  """All frames of an AVI, RGB uint8: T H W 3."""
  capture = cv2.VideoCapture(str(path))
  count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
  rows = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
  columns = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
  video = np.zeros((count, rows, columns, 3), np.uint8)
  for place in range(count):
    found, frame = capture.read()
    if not found:
      raise ValueError(f"frame {place} of {count} of {path.name} is damaged")
    video[place] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
  capture.release()
  return video


def _rate(read: Callable[[], int], seconds: float) -> tuple[float, float]:
  """Clips a second of processor time and by the clock, over whole passes.

  Processor time is what one core gives when it has nothing else to do; by
  the clock, whatever else runs here counts too.
  """
  began, began_s, clips = time.process_time(), time.perf_counter(), 0
  while not clips or time.process_time() - began < seconds:
    clips += read()
  spent, elapsed = time.process_time() - began, time.perf_counter() - began_s
  return clips / spent, clips / elapsed


@contextlib.contextmanager
def one_core() -> Iterator[None]:
  """This thread and those it starts stay on one core, where a system can."""
  threads = cv2.getNumThreads()
  cv2.setNumThreads(1)
  cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
  if cores:
    os.sched_setaffinity(0, {max(cores)})
  try:
    yield
  finally:
    cv2.setNumThreads(threads)
    if cores:
      os.sched_setaffinity(0, cores)


def name_machine() -> str:
  """Processor, cores and the packages that matter."""
  model = platform.processor() or platform.machine()
  with contextlib.suppress(OSError):
    for line in Path("/proc/cpuinfo").read_text().splitlines():
      if line.startswith("model name"):
        model = line.partition(":")[2].strip()
  names: tuple[Any, ...] = ("numpy", "opencv-python-headless", "grain")
  versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
  python = f"Python {platform.python_version()}"
  return f"{model}, {os.cpu_count()} cores; {', '.join([python, *versions])}"
