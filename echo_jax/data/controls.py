"""Control records: the same video with one cue taken away or turned round.

A model that reads motion must lose when motion is gone; a domain check must
notice a heart that is upside down.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from echo_jax.data.frames import decode_frame, encode_frame
from echo_jax.data.schema import Record, frame_shape

Change = Callable[[Record], Record]


def hold_still(record: Record) -> Record:
  """Every frame is the end-diastolic one; the first if that is unknown."""
  frame = record["frames"][max(record["ed_frame"], 0)]
  return record | {"frames": [frame] * len(record["frames"])}


def shuffle_frames(record: Record) -> Record:
  """The frames in random order at the old times; same order in every call."""
  seed = zlib.crc32(record["video_id"].encode())
  order = np.random.default_rng(seed).permutation(len(record["frames"]))
  return record | {"frames": [record["frames"][i] for i in order]}


def turn_upside_down(record: Record) -> Record:
  """Rows from bottom to top, apex at the bottom."""
  codec, shape = record["frames_codec"], frame_shape(record)
  codec_out = "raw" if codec == "raw" else "png"
  turned = [
    encode_frame(decode_frame(frame, codec, shape)[::-1], codec_out)
    for frame in record["frames"]
  ]
  return record | {"frames": turned, "frames_codec": codec_out, "sector": b""}


def replace_by_noise(record: Record) -> Record:
  """Independent uniform grey levels, different in every frame."""
  rng = np.random.default_rng(zlib.crc32(record["video_id"].encode()))
  shape = frame_shape(record)
  frames = [
    encode_frame(rng.integers(0, 256, shape, np.uint8), "raw")
    for _ in record["frames"]
  ]
  return record | {"frames": frames, "frames_codec": "raw"}


class Changed(Sequence):
  """A source whose records went through a change."""

  def __init__(self, source: Sequence[Record], change: Change):
    self._source = source
    self._change = change
    self.index = source.index

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, position: int) -> Record:
    return self._change(self._source[position])

  def __getstate__(self) -> dict[str, Any]:
    # A reading process needs no index.
    return {k: v for k, v in self.__dict__.items() if k != "index"}

  def __repr__(self) -> str:
    return f"Changed({self._source!r}, {self._change.__name__})"


CHANGES: dict[str, Change] = {
  change.__name__: change
  for change in (
    hold_still, shuffle_frames, turn_upside_down, replace_by_noise
  )
}  # fmt: skip
