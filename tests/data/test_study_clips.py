"""Clips of a study come from any of its videos, and of no other study."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from echo_jax.data.clips import windows_of_seconds
from echo_jax.data.contract import InputContract
from echo_jax.data.frames import encode_frames
from echo_jax.data.pipeline import (
  ClipMaker,
  evaluation_batches,
  training_batches,
)
from echo_jax.data.study_clips import StudyClips, VideosOfStudies

STUDY = "bacabaaa"  # of videos 0 to 7
TIMES = np.arange(20, dtype=np.float32) * 100


class Videos(Sequence):
  """Eight made records and their index."""

  index = pd.DataFrame({"study_id": list(STUDY)})

  def __len__(self):
    return len(STUDY)

  def __getitem__(self, number):
    frames = np.full((20, 4, 4, 1), number, np.uint8)
    coded, codec = encode_frames(frames, "raw"), "raw"
    return {
      "frames": coded, "frames_codec": codec, "frame_time_ms": TIMES,
      "frames_shape": np.array([4, 4, 1], np.int32),
      "spacing_mm": np.ones(2, np.float32), "video_id": f"v{number}",
      "patient_id": f"p:{STUDY[number]}",
    }  # fmt: skip


def make(span_s=1.0):
  maker = ClipMaker(InputContract(4, span_s, 4), person=True)
  return VideosOfStudies(Videos()), StudyClips(maker)


def study_of(name):
  return STUDY[int(name[1:])]


def test_training_pairs_share_a_study_and_not_always_a_video():
  studies, clips = make()
  assert len(studies) == 3 and [len(s) for s in studies] == [5, 2, 1]
  batches = training_batches(
    studies, clips, seed=0, batch_size=30, clips_per_video=2, threads=0
  )
  names = next(batches)["video_id"]
  first, second = names[::2], names[1::2]
  assert [study_of(n) for n in first] == [study_of(n) for n in second]
  alike = sum(a == b for a, b in zip(first, second, strict=True))
  assert 0 < alike < 15 and set(names) == {f"v{i}" for i in range(8)}


def test_evaluation_takes_two_videos_or_two_starts_of_one():
  assert windows_of_seconds(TIMES, 1.0).spread(2) == [0, 1000]
  studies, clips = make()
  rows = evaluation_batches(
    studies, clips, batch_size=6, clips_per_video=2, fill_up=True, threads=0
  )
  (batch,) = rows
  assert batch["video_id"] == ["v1", "v7", "v0", "v4", "v2", "v2"]
  assert batch["start_ms"].tolist() == [0, 0, 0, 0, 0, 1000]
  assert batch["frame_valid"].all()


def test_a_study_of_one_short_video_is_filled_up():
  studies, clips = make(span_s=2.0)
  (batch,) = evaluation_batches(
    studies, clips, batch_size=6, clips_per_video=2, fill_up=True, threads=0
  )
  assert batch["row_valid"].tolist() == [True] * 5 + [False]
  assert batch["frame_valid"].any(axis=1).tolist() == [True] * 5 + [False]
  assert len(set(batch["person"][[0, 2, 4]].tolist())) == 3
