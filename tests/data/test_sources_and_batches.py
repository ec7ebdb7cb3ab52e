"""Batches over a source of made records: epochs, leaks, padding, starts."""

import itertools

import numpy as np
import pandas as pd
import pytest

from echo_jax.data.contract import InputContract
from echo_jax.data.frames import encode_frames, encode_mask
from echo_jax.data.pipeline import (
  ClipMaker,
  Subset,
  arrays_of,
  evaluation_batches,
  stack,
  training_batches,
)
from echo_jax.data.sources import VideoSource
from echo_jax.data.transforms import Augmentation
from echo_jax.targets import target_named, truth_of

TARGETS = (target_named("ef_pct"), target_named("ef_below_50"))
CONTRACT = InputContract(frames=4, span_s=0.4, size=8)
PLAIN = ClipMaker(CONTRACT, TARGETS)
WILD = ClipMaker(
  CONTRACT, TARGETS, Augmentation(2, 0.3, 0.5, 0.5), sector=True
)


class Source(list):
  """Records in memory, with an index."""

  def __repr__(self):
    return f"Source({len(self)})"


def make_source(lengths=(20, 4, 7, 30, 12)):
  """Video i has `lengths[i]` frames 50 ms apart; frame j is grey i * 40 + j."""
  records = []
  for i, count in enumerate(lengths):
    frames = np.full((count, 8, 8, 1), 40 * i, np.uint8)
    frames += np.arange(count, dtype=np.uint8)[:, None, None, None]
    frames[:, 0, 0] = 255  # a mark that flips and shifts would move
    records.append(
      {
        "video_id": f"t:{i}", "frames": encode_frames(frames, "raw"),
        "frames_codec": "raw", "frames_shape": np.array([8, 8, 1], np.int32),
        "spacing_mm": np.float32([0.3, 0.3]),
        "frame_time_ms": np.arange(count, dtype=np.float32) * np.float32(50),
        "sector": encode_mask(np.tri(8, dtype=bool)), "ef_pct": 48.0 + i,
      }  # fmt: skip
    )
  source = Source(records)
  source.index = pd.DataFrame({"video_id": [r["video_id"] for r in records]})
  return source


def take(source, count, maker=WILD, **options):
  options = {"seed": 5, "batch_size": 3, "threads": 2} | options
  batches = training_batches(source, maker, **options)
  return list(itertools.islice(batches, count))


def names(batches):
  return [name for batch in batches for name in batch["video_id"]]


def test_every_epoch_has_every_video_once_in_another_order():
  order = names(take(make_source(), 25))  # 15 epochs of 5 in batches of 3
  epochs = [tuple(order[i : i + 5]) for i in range(0, 75, 5)]
  assert all(len(set(epoch)) == 5 for epoch in epochs)
  assert len(set(epochs)) > 5


def test_the_same_video_is_drawn_otherwise_in_the_next_epoch():
  batches = take(make_source((30,)), 6, batch_size=1)
  starts = {float(batch["start_ms"][0]) for batch in batches}
  assert len(starts) == 6


@pytest.mark.parametrize("first_step", [1, 7, 1000])
def test_step_i_is_the_same_wherever_one_begins(first_step):
  late = take(make_source(), 2, first_step=first_step)
  later = take(make_source(), 1, first_step=first_step + 1, threads=1)
  for name, value in arrays_of(later[0]).items():
    np.testing.assert_array_equal(late[1][name], value, err_msg=name)
  assert late[1]["video_id"] == later[0]["video_id"]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_give_the_rows_of_the_global_batch(processes):
  source = make_source()
  whole = take(source, 3, batch_size=6, first_step=4)
  for i in range(processes):
    part = take(
      source, 3, batch_size=6, first_step=4,
      rows=range(i * 6 // processes, (i + 1) * 6 // processes),
    )
    for mine, all_rows in zip(part, whole, strict=True):
      for name, value in arrays_of(mine).items():
        pieces = np.split(all_rows[name], processes)
        np.testing.assert_array_equal(value, pieces[i])


def test_wrong_batches_are_refused():
  with pytest.raises(ValueError, match="are not of a batch of 3"):
    take(make_source(), 1, rows=(0, 99))
  with pytest.raises(ValueError, match="no videos to train on"):
    take(Source(), 1)


def test_a_batch_may_be_larger_than_the_source():
  (batch,) = take(make_source((20, 20)), 1, batch_size=7)
  assert sorted(batch["video_id"]) in (
    ["t:0"] * 3 + ["t:1"] * 4, ["t:0"] * 4 + ["t:1"] * 3,
  )  # fmt: skip


def test_training_clips_are_augmented_and_evaluation_clips_never():
  source = make_source()
  drawn = np.concatenate([batch["video"] for batch in take(source, 6)])
  assert (drawn[:, 0, 0, 0, 0] != 255).any()
  shown = evaluation_batches(source, WILD, batch_size=4, clips_per_video=3)
  plain = evaluation_batches(source, PLAIN, batch_size=4, clips_per_video=3)
  for wild, tame in zip(shown, plain, strict=True):
    np.testing.assert_array_equal(wild["video"], tame["video"])
    assert (wild["video"][:, :, 0, 0] == 255).all()
    assert (wild["sector"] == np.tri(8, dtype=bool)).all()


def rows_of(**options):
  """(video, start) -> clip of an evaluation."""
  options = {"batch_size": 4, "clips_per_video": 3, "threads": 2} | options
  found = {}
  for batch in evaluation_batches(make_source(), PLAIN, **options):
    assert len(batch["video"]) == options["batch_size"]
    for i in np.flatnonzero(batch["row_valid"]):
      key = batch["video_id"][i], float(batch["start_ms"][i])
      assert key not in found
      found[key] = {n: v[i] for n, v in arrays_of(batch).items()}
  return found


def test_evaluation_starts_by_hand():
  starts = {}
  for name, start in rows_of():
    starts.setdefault(name, []).append(start)
  # 20, 4, 7, 30 and 12 frames of 50 ms; the clip lasts 400 ms.
  assert starts == {
    "t:0": [0, 300, 600], "t:1": [0], "t:2": [0], "t:3": [0, 550, 1100],
    "t:4": [0, 100, 200],
  }  # fmt: skip


@pytest.mark.parametrize(
  "options",
  [
    {"batch_size": 1}, {"batch_size": 11}, {"batch_size": 64}, {"threads": 4},
    {"threads": 0},
  ],  # fmt: skip
)
def test_evaluation_does_not_depend_on_batch_or_threads(options):
  wanted, got = rows_of(), rows_of(**options)
  assert list(wanted) == list(got)
  for key, row in wanted.items():
    for name, value in row.items():
      np.testing.assert_array_equal(got[key][name], value, err_msg=name)


def test_padding_rows_are_flagged_and_hold_no_valid_frame():
  batches = list(
    evaluation_batches(make_source(), PLAIN, batch_size=8, clips_per_video=3)
  )
  assert [int(b["row_valid"].sum()) for b in batches] == [8, 3]
  assert not batches[1]["frame_valid"][3:].any()
  assert batches[1]["frame_valid"][:3].any(axis=1).all()


def test_no_videos_no_batches():
  empty = evaluation_batches(Source(), PLAIN, batch_size=4, clips_per_video=2)
  assert list(empty) == []


def test_a_single_clip_starts_at_zero_and_short_videos_are_flagged():
  rows = rows_of(clips_per_video=1)
  assert {start for _, start in rows} == {0.0}
  # 4 frames last 200 ms: moments 0, 100 are real, 200 and 300 are not.
  assert rows["t:1", 0.0]["frame_valid"].tolist() == [True, True, False, False]
  assert rows["t:1", 0.0]["frame_index"].tolist() == [0, 2, 0, 2]


def test_targets_follow_their_video():
  rows = rows_of(clips_per_video=1)
  for i in range(5):
    ef, below = rows[f"t:{i}", 0.0]["target"]
    assert ef == 48 + i and below == float(48 + i < 50)


def test_truth_of_a_class_by_hand():
  ef, below = TARGETS
  for value, wanted in ((49.9, 1.0), (50.0, 0.0), (72.0, 0.0)):
    assert truth_of(below, {"ef_pct": value}) == wanted
    assert truth_of(ef, {"ef_pct": value}) == value
  assert np.isnan(truth_of(below, {"ef_pct": float("nan")}))
  with pytest.raises(ValueError, match="no target 'lvef'; there are"):
    target_named("lvef")


def test_subset_keeps_order_and_index_together():
  class InMemory(VideoSource):
    def __init__(self, records):
      self._source, self.index = records, records.index

    def __getitem__(self, position):
      return self._source[position]

  part = Subset(InMemory(make_source()), [3, 0])
  assert [record["video_id"] for record in (part[0], part[1])] == ["t:3", "t:0"]
  assert part.index["video_id"].tolist() == ["t:3", "t:0"]
  assert len(part) == 2 and repr(part) == "Subset(2 of VideoSource(5 records))"


def test_stack_keeps_text_on_the_host():
  batch = stack([{"video_id": "a", "x": np.ones(2)}] * 3)
  assert batch["video_id"] == ["a"] * 3 and batch["x"].shape == (3, 2)
  assert list(arrays_of(batch)) == ["x"]
