"""Batches are pure functions of (seed, step); evaluation meets every clip."""

import dataclasses
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

from echo_jax.data.clips import choose_frames
from echo_jax.data.contract import InputContract, draw_clip, fit_frame
from echo_jax.data.controls import (
  Changed,
  hold_still,
  replace_by_noise,
  shuffle_frames,
  turn_upside_down,
)
from echo_jax.data.frames import decode_frame, decode_frames
from echo_jax.data.mixing import Mixture
from echo_jax.data.pipeline import (
  ClipMaker,
  Subset,
  arrays_of,
  evaluation_batches,
  training_batches,
)
from echo_jax.data.schema import frame_shape
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.data.transforms import Augmentation, augment
from echo_jax.targets import target_named

CONTRACT = InputContract(frames=4, span_s=1.0, size=16)
TARGETS = (target_named("ef_pct"), target_named("ef_below_50"))
MAKER = ClipMaker(CONTRACT, TARGETS, Augmentation(shift_px=2, gain=0.1))


@pytest.fixture(scope="module")
def source(data_dir):
  """Training split of the tiny cohort."""
  return VideoSource(find_dataset(data_dir, "synthetic_echo"), "train")


def take(source, count, **options):
  """The first batches with these options."""
  options = {"seed": 3, "batch_size": 4, "threads": 1} | options
  return list(
    itertools.islice(training_batches(source, MAKER, **options), count)
  )


def assert_same(first, second):
  """Two batches are equal, text and numbers."""
  assert first["video_id"] == second["video_id"]
  for name, value in arrays_of(first).items():
    np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_a_later_start_gives_the_same_batches(source):
  whole, late = take(source, 9), take(source, 4, first_step=5)
  for first, second in zip(whole[5:], late, strict=True):
    assert_same(first, second)


def test_threads_change_nothing(source):
  wanted = take(source, 6)
  for threads in (0, 4):
    for first, second in zip(
      wanted, take(source, 6, threads=threads), strict=True
    ):
      assert_same(first, second)


@pytest.fixture(scope="module")
def whole(source):
  """Two batches of 192, which does not divide by the records."""
  assert 192 % len(source)
  return take(source, 2, batch_size=192)


@pytest.mark.parametrize("processes", [1, 3, 64])
@pytest.mark.parametrize("scattered", [False, True])
def test_rows_of_the_processes_make_up_the_batch(
  source, whole, processes, scattered
):
  each = np.arange(192).reshape(processes, -1)
  if scattered:  # as chips of a pod lie
    each = np.arange(192).reshape(-1, processes).T
  parts = [
    take(source, 2, batch_size=192, rows=rows.tolist()) for rows in each
  ]
  for step, batch in enumerate(whole):
    for rows, part in zip(each, parts, strict=True):
      names = [batch["video_id"][row] for row in rows]
      assert part[step]["video_id"] == names
      for name, value in arrays_of(batch).items():
        np.testing.assert_array_equal(part[step][name], value[rows], name)


def test_every_record_comes_once_an_epoch_over_the_ends_of_batches(
  source, whole
):
  order, videos = whole[0]["video_id"] + whole[1]["video_id"], len(source)
  epochs = [
    order[i : i + videos] for i in range(0, len(order) - videos + 1, videos)
  ]
  assert len(epochs) > 30 and len({tuple(epoch) for epoch in epochs}) > 30
  assert all(len(set(epoch)) == videos for epoch in epochs)


def test_worker_processes_change_nothing(source):
  """Also from a later step, with cohorts and with the index left behind."""
  mixture = Mixture(("a", "b"), (0.75, 0.25), (source, Subset(source, [1, 0])))
  wanted = take(mixture, 5)
  for workers, first_step in ((2, 0), (1, 2)):
    batches = training_batches(
      mixture, MAKER, seed=3, batch_size=4, first_step=first_step,
      workers=workers,
    )  # fmt: skip
    got = list(itertools.islice(batches, 5 - first_step))
    batches.close()
    for first, second in zip(wanted[first_step:], got, strict=True):
      assert_same(first, second)
      assert first["cohort_name"] == second["cohort_name"]


def test_a_source_travels_without_its_index(source):
  subset = Subset(source, range(len(source)))
  for sent in (subset, Changed(subset, hold_still)):
    data = pickle.dumps(sent)
    assert len(data) < 2000 and b"pandas" not in data
    again = pickle.loads(data)
    assert again[1]["video_id"] == source[1]["video_id"]
    assert "index" not in vars(again) and "index" in vars(sent)


def test_a_worker_imports_no_table_library():
  """Eight of them would hold it eight times; grain itself is enough."""
  code = (
    "import sys; import echo_jax.data.pipeline, echo_jax.data.stored;"
    "import echo_jax.data.controls; print([name for name in "
    "('pandas', 'tensorflow_datasets', 'matplotlib') if name in sys.modules])"
  )
  ran = subprocess.run([sys.executable, "-c", code], capture_output=True)
  assert ran.stdout.decode().strip() == "[]", ran.stderr.decode()


def test_another_seed_is_another_order(source):
  (first,), (other,) = take(source, 1), take(source, 1, seed=4)
  assert first["video_id"] != other["video_id"]


def test_every_video_comes_once_an_epoch(source):
  batches = take(source, len(source), batch_size=1)
  assert len({b["video_id"][0] for b in batches}) == len(source)


def test_pairs_are_two_draws_of_a_video(source):
  batches = take(source, 3, clips_per_video=2)
  for batch in batches:
    names = batch["video_id"]
    assert names[::2] == names[1::2]
  starts = np.concatenate([batch["start_ms"] for batch in batches])
  assert (starts[::2] != starts[1::2]).all()
  # As with single clips: a function of seed and step, whoever reads which row.
  (late,) = take(source, 1, clips_per_video=2, first_step=2)
  (own,) = take(source, 1, clips_per_video=2, first_step=2, rows=(1, 2))
  assert_same(batches[2], late)
  np.testing.assert_array_equal(own["video"], late["video"][1:3])
  order = [name for batch in take(source, len(source), clips_per_video=2)
           for name in batch["video_id"][::2]]  # fmt: skip
  assert len(set(order[: len(source)])) == len(source)
  mixture = Mixture(("a", "b"), (0.75, 0.25), (source, source))
  (mixed,) = take(mixture, 1, clips_per_video=2, batch_size=40)
  assert mixed["video_id"][::2] == mixed["video_id"][1::2]
  assert set(mixed["cohort"].tolist()) == {0, 1}


def test_a_batch_that_parts_a_pair_is_refused(source):
  with pytest.raises(ValueError, match="run.batch_size is 5 clips, 2 of each"):
    take(source, 1, clips_per_video=2, batch_size=5)


def test_evaluation_is_filled_up_where_a_video_is_too_short(source):
  def rows(span_s):
    maker = ClipMaker(dataclasses.replace(CONTRACT, span_s=span_s), person=True)
    return next(evaluation_batches(
      source, maker, batch_size=4, clips_per_video=2, fill_up=True, threads=0
    ))  # fmt: skip

  whole, short = rows(1.0), rows(2.0)
  for batch in (whole, short):
    assert batch["video_id"][::2] == batch["video_id"][1::2]
    assert batch["person"].dtype == np.int32 and (batch["person"] >= 0).all()
  assert whole["frame_valid"].any(axis=1).all()
  assert short["row_valid"].tolist() == [True, False] * 2
  assert short["frame_valid"].any(axis=1).tolist() == [True, False] * 2


@pytest.mark.parametrize("batch_size", [3, 5])
def test_evaluation_meets_every_clip_once(source, batch_size):
  found = {}
  for batch in evaluation_batches(
    source, MAKER, batch_size=batch_size, clips_per_video=2
  ):
    assert len(batch["video"]) == batch_size
    for row in np.flatnonzero(batch["row_valid"]):
      key = batch["video_id"][row], float(batch["start_ms"][row])
      assert key not in found
      found[key] = batch["video"][row]
    assert not batch["frame_valid"][~batch["row_valid"]].any()
  assert len(found) == 2 * len(source)
  plain = dataclasses.replace(MAKER, augmentation=Augmentation())
  record = source[0]
  np.testing.assert_array_equal(
    found[record["video_id"], 0.0], plain.at(record, 0.0)["video"]
  )


def test_clip_holds_the_truth_and_only_decodes_its_frames(source, monkeypatch):
  record = source[0]
  clip = MAKER.at(record, 0.0)
  assert clip["target"][0] == np.float32(record["ef_pct"])
  assert clip["target"][1] == (record["ef_pct"] < 50)
  decoded = []
  monkeypatch.setattr(
    "echo_jax.data.contract.decode_frames",
    lambda data, *rest: decoded.extend(data) or decode_frames(data, *rest),
  )
  frames = choose_frames(record["frame_time_ms"], 4, 1.0)
  draw_clip(record, frames, CONTRACT)
  assert len(decoded) == 4 < len(record["frames"])


def test_contract_hash_sees_every_setting_and_refuses_another():
  hashes = {
    dataclasses.replace(CONTRACT, **{name: value}).hash()
    for name, value in {
      "frames": 8, "span_s": 2.0, "size": 32, "channels": 3, "mean": 0.1,
      "std": 2.0, "outside": "black", "span_beats": 2,
    }.items()
  }  # fmt: skip
  assert len(hashes | {CONTRACT.hash()}) == 9
  orders = (("ef_pct", "edv_ml"), ("edv_ml", "ef_pct"), ())
  assert len({CONTRACT.hash(order) for order in orders}) == 3
  with pytest.raises(ValueError, match=r"span_s 2.0 \(here 1.0\)"):
    CONTRACT.refuse_other(dataclasses.replace(CONTRACT, span_s=2.0), "run")


def test_frames_keep_their_aspect_and_become_grey():
  wide = np.zeros((10, 20, 3), np.uint8)
  wide[..., 1] = 100
  fitted = fit_frame(wide, 8, 1)
  assert fitted.shape == (8, 8, 1)
  assert (fitted[2:6] == 59).all()  # 0.587 * 100, by hand
  assert (fitted[:2] == 0).all() and (fitted[6:] == 0).all()


def test_augmentation_by_hand():
  video = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)
  same = augment({"video": video}, Augmentation(), np.random.default_rng(0))
  np.testing.assert_array_equal(same["video"], video)
  flipped = augment(
    {"video": video, "sector": video[0, ..., 0] > 3},
    Augmentation(flip_horizontal=1.0), np.random.default_rng(0),
  )  # fmt: skip
  np.testing.assert_array_equal(flipped["video"], video[:, :, ::-1])
  np.testing.assert_array_equal(flipped["sector"], video[0, :, ::-1, 0] > 3)


def test_controls_take_one_cue_away(source):
  record = source[0]
  still = hold_still(record)
  assert set(still["frames"]) == {record["frames"][record["ed_frame"]]}
  shuffled = shuffle_frames(record)
  assert sorted(shuffled["frames"]) == sorted(record["frames"])
  assert shuffled["frames"] == shuffle_frames(record)["frames"]
  assert shuffled["frames"] != record["frames"]
  shape = frame_shape(record)
  frame = decode_frame(record["frames"][0], "raw", shape)
  turned = decode_frame(turn_upside_down(record)["frames"][0], "raw", shape)
  np.testing.assert_array_equal(turned, frame[::-1])
  assert replace_by_noise(record)["frames"][0] != record["frames"][0]
