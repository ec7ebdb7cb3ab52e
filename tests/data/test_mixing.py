"""Cohorts: exact shares, own epochs, refusals, the cohort in the batch."""

import itertools

import numpy as np
import pandas as pd
import pytest

from echo_jax.data.contract import InputContract
from echo_jax.data.frames import encode_frames
from echo_jax.data.mixing import (
  BLOCK,
  Mixture,
  Shares,
  parse_mix,
  rows_a_block,
)
from echo_jax.data.pipeline import (
  ClipMaker,
  arrays_of,
  evaluation_batches,
  training_batches,
)

MAKER = ClipMaker(InputContract(frames=2, span_s=0.2, size=4))


class Source(list):
  """Records in memory, with an index."""

  def __init__(self, name, count):
    frames = encode_frames(np.zeros((6, 4, 4, 1), np.uint8), "raw")
    super().__init__(
      {
        "video_id": f"{name}:{i}", "frames": frames, "frames_codec": "raw",
        "frames_shape": np.array([4, 4, 1], np.int32), "sector": b"",
        "spacing_mm": np.float32([0.3, 0.3]),
        "frame_time_ms": np.arange(6, dtype=np.float32) * np.float32(50),
      }
      for i in range(count)
    )  # fmt: skip
    self.index = pd.DataFrame({"video_id": [row["video_id"] for row in self]})


def mixture(weights=(0.7, 0.2, 0.1), counts=(120, 40, 30)):
  names = ("big", "small", "third")[: len(weights)]
  sources = [Source(n, c) for n, c in zip(names, counts, strict=False)]
  return Mixture(names, weights, sources)


def take(source, count, **options):
  options = {"seed": 5, "batch_size": 100, "threads": 0} | options
  return list(
    itertools.islice(training_batches(source, MAKER, **options), count)
  )


def test_every_block_has_the_stated_shares_in_another_order():
  shares = Shares((0.7, 0.2, 0.1), seed=5)
  cohorts = np.array([shares[row][0] for row in range(3 * BLOCK)])
  blocks = cohorts.reshape(-1, BLOCK)
  for block in blocks:
    assert np.bincount(block).tolist() == [700, 200, 100]
  assert (blocks[0] != blocks[1]).any()
  # No pattern: a cohort does not always fall to the same rows of a batch.
  assert len(np.unique(blocks[0].reshape(-1, 10), axis=0)) > 50
  other = Shares((0.7, 0.2, 0.1), seed=6)
  assert [other[row][0] for row in range(BLOCK)] != blocks[0].tolist()


def test_batches_have_the_cohorts_that_the_shares_give():
  cohorts = np.concatenate([batch["cohort"] for batch in take(mixture(), 2)])
  shares = Shares((0.7, 0.2, 0.1), seed=5)
  assert cohorts.tolist() == [shares[row][0] for row in range(200)]


def test_each_cohort_has_epochs_of_its_own():
  batches = take(mixture(counts=(60, 20, 11)), 4)
  for name, count in (("big", 60), ("small", 20), ("third", 11)):
    seen = [
      video for batch in batches
      for video, of in zip(batch["video_id"], batch["cohort_name"], strict=True)
      if of == name
    ]  # fmt: skip
    assert all(video.startswith(name) for video in seen)
    epochs = [
      tuple(seen[i : i + count])
      for i in range(0, len(seen) - count + 1, count)
    ]
    assert len(epochs) >= 2 and len(set(epochs)) == len(epochs)
    assert all(len(set(epoch)) == count for epoch in epochs)


def test_cohorts_name_what_their_number_says():
  (batch,) = take(mixture(), 1)
  names = [("big", "small", "third")[i] for i in batch["cohort"]]
  assert names == batch["cohort_name"]
  assert batch["cohort"].dtype == np.int32
  assert "cohort_name" not in arrays_of(batch)


@pytest.mark.parametrize("first_step", [1, 13, 5000])
def test_a_mixture_is_resumed_at_the_exact_batch(first_step):
  late = take(mixture(), 2, first_step=first_step, batch_size=20)
  (later,) = take(
    mixture(), 1, first_step=first_step + 1, batch_size=20, threads=2
  )
  assert late[1]["video_id"] == later["video_id"]
  for name, value in arrays_of(later).items():
    np.testing.assert_array_equal(late[1][name], value, err_msg=name)


def test_pieces_of_three_processes_join_to_the_batch():
  (whole,) = take(mixture(), 1, batch_size=30, first_step=20)
  parts = [
    take(mixture(), 1, batch_size=30, first_step=20, rows=range(i, i + 10))[0]
    for i in (0, 10, 20)
  ]
  for name in ("video_id", "cohort_name"):
    assert sum((part[name] for part in parts), []) == whole[name]
  joined = np.concatenate([part["start_ms"] for part in parts])
  np.testing.assert_array_equal(joined, whole["start_ms"])


def test_weights_become_whole_rows():
  assert rows_a_block((0.5, 0.5)) == [500, 500]
  assert sorted(rows_a_block((1 / 3,) * 3)) == [333, 333, 334]
  assert rows_a_block((0.29, 0.57, 0.14)) == [290, 570, 140]
  assert rows_a_block((0.001, 0.999)) == [1, 999]
  shares = Shares((0.8, 0.2), seed=1)
  rows = [shares[row] for row in range(3 * BLOCK)]
  for cohort, count in ((0, 2400), (1, 600)):
    of_cohort = [rank for which, rank in rows if which == cohort]
    assert of_cohort == list(range(count))


def test_a_mixture_is_also_a_source_for_evaluation():
  mixed = mixture(counts=(50, 7, 30))
  assert len(mixed) == len(list(mixed)) == 87
  assert [mixed[i]["video_id"] for i in (0, 49, 50, 56, 57, 86)] == [
    "big:0", "big:49", "small:0", "small:6", "third:0", "third:29"
  ]  # fmt: skip
  assert mixed.index["video_id"].tolist() == [r["video_id"] for r in mixed]
  assert mixed.index["cohort"].tolist()[48:52] == ["big"] * 2 + ["small"] * 2
  batches = list(
    evaluation_batches(mixed, MAKER, batch_size=30, clips_per_video=1)
  )
  seen = [
    (video, cohort) for batch in batches
    for video, cohort, real in zip(
      batch["video_id"], batch["cohort_name"], batch["row_valid"], strict=True
    ) if real
  ]  # fmt: skip
  assert len(seen) == len(set(seen)) == 87
  assert all(video.split(":")[0] == cohort for video, cohort in seen)


def test_a_position_outside_is_no_record_of_another_cohort():
  mixed = mixture()
  for position in (-1, len(mixed)):
    with pytest.raises(IndexError, match=f"record {position} of 190"):
      mixed[position]


def test_what_the_setting_says():
  names, weights = parse_mix(("mimic_iv_echo:1.0.0:0.8", "camus:0.2"))
  assert names == ("mimic_iv_echo:1.0.0", "camus") and weights == (0.8, 0.2)


@pytest.mark.parametrize(
  ("mix", "message"),
  [
    (("camus",), "not NAME:WEIGHT"),
    (("camus:1.0.0",), "not NAME:WEIGHT"),
    (("a:0.8", "b:0.1"), "sum to 0.9, want 1"),
    (("a:0.5", "a:0.5"), "name of its own"),
    (("a:1.2", "b:-0.2"), "weight of cohort a is 1.2"),
    (("a:0.9999", "b:0.0001"), "cohort b is 0.0001, wants 0.001 to 1"),
    (("a:nan", "b:0.5"), "weight of cohort a is nan"),
  ],
)
def test_settings_that_are_no_mixture(mix, message):
  with pytest.raises(ValueError, match=message):
    parse_mix(mix)


def test_an_empty_cohort_is_refused():
  with pytest.raises(ValueError, match="cohort b has no videos"):
    Mixture(("a", "b"), (0.5, 0.5), (Source("a", 2), Source("b", 0)))
