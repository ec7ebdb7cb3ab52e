"""Building: counts add up, nothing half-made is taken for whole."""

import errno
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from echo_jax.data import schema
from echo_jax.data.build import BuildFailed, Dataset, Item, build
from echo_jax.data.frames import (
  decode_frame,
  decode_mask,
  encode_frames,
  encode_mask,
)
from echo_jax.data.ledger import Rejected
from echo_jax.data.plan import items_a_shard
from echo_jax.data.sources import VideoSource, find_dataset, fingerprint

MASK = np.eye(4, dtype=bool)


def read(item):
  """A record full of values, or the trouble that the item stands for."""
  trouble = item.facts.get("trouble")
  if trouble == "rejected":
    raise Rejected("unreadable: 3 bytes")
  if trouble == "full disk":
    raise OSError(errno.ENOSPC, "No space left on device")
  if trouble == "bug":
    raise ZeroDivisionError("a bug in the reader")
  frames = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4, 1)
  name = "a" if trouble == "duplicate" else item.name
  record = schema.make_record(
    video_id=f"t:{name}", study_id="t:s", patient_id="t:p", patient_known=1,
    kind="cine", split=item.split, view="A4C", sex="F", age_years=61.5,
    frames=encode_frames(frames, "png"), frames_codec="png",
    frames_shape=(4, 4, 1), frame_time_ms=[0, 21.5, 40], ed_frame=0,
    spacing_mm=(0.5, 0.25), sector=encode_mask(MASK),
    lv_mask=[encode_mask(MASK)] * 3, volume_ml=[100, 90, 50],
    r_wave_ms=[5.0], ef_pct=50.0, ef_method="reported",
    tracing_frame=[0], tracing_count=[2], tracing_px=[[1, 2], [3, 4]],
  )  # fmt: skip
  if trouble == "EF 140":
    record["ef_pct"] = 140.0
  return record, (("noted",) if trouble == "note" else ())


def dataset(**troubles):
  """Items a, b, … with the trouble that each name is given."""
  names = ["a", "b", *troubles]
  items = tuple(
    Item(name, "test" if name == "b" else "train", {"trouble": t})
    for name, t in zip(names, [None, None, *troubles.values()], strict=True)
  )
  refused = (("gone.avi", "absent: named in the list"),)
  return Dataset("toy", "1.0.0", "toy", {"size": 4}, items, read, refused)


def test_counts_add_up_and_every_reason_is_kept(tmp_path):
  odd = dataset(
    c="rejected", d="duplicate", e="EF 140", f="note"
  )
  report = build(odd, tmp_path, progress=False)
  assert (report.found, report.written, report.rejected) == (7, 3, 4)
  ledger = pd.read_csv(report.path / "ledger.csv").set_index("item")
  reasons = ledger[ledger["status"] == "rejected"]["reason"]
  assert "named in the list" in reasons["gone.avi"]
  assert "3 bytes" in reasons["c"] and "t:a was written before" in reasons["d"]
  assert "ef_pct" in reasons["e"] and "140" in reasons["e"]
  assert (ledger["status"] == "noted").sum() == 1
  assert json.loads((report.path / "settings.json").read_text()) == {"size": 4}


def test_every_key_of_a_record_comes_back(tmp_path):
  build(dataset(), tmp_path, progress=False)
  folder = find_dataset(tmp_path, "toy")
  source = VideoSource(folder, "train")
  wanted, _ = read(Item("a", "train"))
  got = source[0]
  assert set(got) == set(schema.FIELDS)
  for name, value in wanted.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  frame = decode_frame(got["frames"][2], "png", (4, 4, 1))
  assert frame[0, 0, 0] == 32
  np.testing.assert_array_equal(decode_mask(got["lv_mask"][1]), MASK)
  assert source.index["frame_count"].tolist() == [3]


def test_workers_change_nothing(tmp_path):
  for workers in (0, 1, 3):
    odd = dataset(
      c="rejected", d=None, e="note", f=None, g="duplicate", h=None, i=None
    )
    build(odd, tmp_path / str(workers), workers=workers, progress=False)
  first = find_dataset(tmp_path / "0", "toy")
  assert len(list(first.glob("*array_record*"))) == 4
  for other in "13":
    assert files_of(find_dataset(tmp_path / other, "toy")) == files_of(first)


def files_of(folder):
  return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_data_set_says_what_it_is(tmp_path):
  folder = build(dataset(c="rejected"), tmp_path, progress=False).path
  counts = json.loads((folder / "counts.json").read_text())
  assert counts == {
    "found": 4, "written": 2, "rejected": 2, "noted": 0,
    "reasons": {"absent": 1, "unreadable": 1},
    "splits": {"train": 1, "test": 1},
  }  # fmt: skip
  kept = json.loads((folder / "fingerprint.json").read_text())
  assert kept == fingerprint(folder)
  info = tfds.builder_from_directory(str(folder)).info
  assert info.splits["test"].num_examples == 1
  assert info.version == "1.0.0" and info.name == "toy"


@pytest.mark.parametrize(
  ("count", "items"),
  [(0, 1), (1, 1), (2, 2), (100, 10), (101, 11), (525_328, 256)],
)
def test_items_a_shard_by_hand(count, items):
  assert items_a_shard(count) == items


@pytest.mark.parametrize("trouble", ["full disk", "bug"])
def test_a_failed_build_leaves_nothing_and_keeps_the_old_one(tmp_path, trouble):
  before = build(dataset(), tmp_path, progress=False).path
  kept = (before / "ledger.csv").read_text()
  only = Dataset("toy", "1.0.0", "toy", {}, dataset(c=trouble).items[2:], read)
  wanted = BuildFailed if trouble == "full disk" else ZeroDivisionError
  with pytest.raises(wanted, match="no space left|a bug"):
    build(only, tmp_path, overwrite=True, progress=False)
  assert (before / "ledger.csv").read_text() == kept
  assert not list(tmp_path.glob(".*unfinished*"))


def test_nothing_usable_fails_and_keeps_the_ledger(tmp_path):
  nothing = Dataset(
    "toy", "1.0.0", "toy", {}, (Item("c", "train", {"trouble": "rejected"}),),
    read,
  )  # fmt: skip
  with pytest.raises(BuildFailed, match="none of 1 files"):
    build(nothing, tmp_path, progress=False)
  assert "3 bytes" in (tmp_path / "toy-1.0.0-failed.csv").read_text()
  assert not (tmp_path / "toy" / "1.0.0").exists()


def test_a_split_may_be_lost_while_others_stay(tmp_path):
  items = (Item("a", "train"), Item("c", "test", {"trouble": "rejected"}))
  some = Dataset("toy", "1.0.0", "toy", {}, items, read)
  assert build(some, tmp_path, progress=False).written == 1
  with pytest.raises(ValueError, match="no split 'test'"):
    VideoSource(find_dataset(tmp_path, "toy"), "test")


def test_a_finished_data_set_is_not_overwritten_by_accident(tmp_path):
  build(dataset(), tmp_path, progress=False)
  with pytest.raises(BuildFailed, match="--overwrite"):
    build(dataset(), tmp_path, progress=False)


def test_absent_data_set_says_what_is_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="echo-jax build toy"):
    find_dataset(tmp_path, "toy")
