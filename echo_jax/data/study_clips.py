"""Clips of a study: each from whichever of its videos.

For contrast, which takes two clips of one study for alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echo_jax.data.contract import InputContract
from echo_jax.data.pipeline import Batch, ClipMaker
from echo_jax.data.schema import Record

Videos = Sequence[Callable[[], Record]]


class VideosOfStudies(Sequence):
  """The studies of some videos; `[i]` is how to read each video of one.

  Args:
    videos: records with an `index` (a `Subset` of a `VideoSource`).
  """

  def __init__(self, videos: Sequence[Record]):
    self._videos = videos
    _, study = np.unique(
      videos.index["study_id"].to_numpy(str), return_inverse=True
    )
    order = np.argsort(study, kind="stable")
    ends = np.flatnonzero(np.diff(study[order])) + 1
    self._rows = np.split(order, ends)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, number: int) -> Videos:
    return [
      lambda row=int(row): self._videos[row] for row in self._rows[number]
    ]

  def __repr__(self) -> str:
    return f"VideosOfStudies({len(self)} of {self._videos!r})"


@dataclass(frozen=True)
class StudyClips:
  """Draws clips of studies as a `ClipMaker` does of videos."""

  maker: ClipMaker

  @property
  def contract(self) -> InputContract:
    return self.maker.contract

  def drawn(self, study: Videos, rng: np.random.Generator) -> Batch:
    """A clip of a random video, from a random start, augmented."""
    return self.maker.drawn(study[int(rng.integers(len(study)))](), rng)

  def starts(self, study: Videos, clips: int) -> list[Any]:
    """Video and start of at most `clips` clips, of different videos first."""
    if len(study) < clips:
      found = [
        (number, start)
        for number, video in enumerate(study)
        for start in self.maker.starts(video(), clips)
      ]
      return found[:clips]
    chosen = np.linspace(0, len(study) - 1, clips).astype(int)
    return [(i, self.maker.starts(study[i](), 1)[0]) for i in chosen.tolist()]

  def at(self, study: Videos, start_ms: tuple[int, float]) -> Batch:
    """The clip of that video and start, without augmentation."""
    number, of_video_ms = start_ms
    return self.maker.at(study[number](), of_video_ms)
