"""A build that is broken off, or finds the odd, never passes for a whole one.

Also: every key of the schema comes back from the files as it went in.
"""

import errno

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from echo_jax.data import finish as finishing
from echo_jax.data import schema
from echo_jax.data.build import BuildFailed, Dataset, Item, build
from echo_jax.data.index import index_row
from echo_jax.data.ledger import Rejected
from echo_jax.data.plan import items_a_shard
from echo_jax.data.shards import serialise
from echo_jax.data.sources import (
  VideoSource,
  find_dataset,
  fingerprint,
  read_index,
)


def full_record(name="t:v", split="train", **changes):
  """A record in which every key of the schema is known."""
  known = dict(
    video_id=name, study_id="t:s", patient_id="t:p", patient_known=0,
    site="Køge, 2nd \"floor\"", device="Maker, Model\n3", view="A2C",
    kind="still", split=split, frames=[b"\x00\xff\n", b"", b"\r,\""],
    frames_codec="raw", frames_shape=(1, 3, 1), colour="YBR_FULL_422",
    frame_time_ms=(0, 16.7, 33.3), spacing_mm=(0.1234567, 2.0),
    sector=b"\x89PNG\x00", ed_frame=0, es_frame=2, r_wave_ms=(-3.5, 820.25),
    tracing_frame=(0, 2), tracing_count=(2, 1),
    tracing_px=((1.5, 2.5), (3, 4), (5, 6)), volume_ml=(120.5, np.nan, 60),
    lv_mask=[b"a", b"", b"c\x00"], quality="poor", sex="M", age_years=61.25,
    heart_rate_bpm=71.5, ef_pct=50.21, edv_ml=120.5, esv_ml=60.0,
    ef_method="biplane", caliper_name="lvidd_mm,ivsd_mm", caliper_frame=(0, 2),
    caliper_px=((1, 2, 3, 4.5), (5, 6, 7, 8)), myo_mask=[b"", b"m", b""],
    la_mask=[b"", b"", b"l"], rv_mask=[b"r", b"", b""], height_cm=171.5,
    weight_kg=70.25, ivsd_mm=10.5, lvidd_mm=48.0, lvpwd_mm=9.5, ivss_mm=14.0,
    lvids_mm=30.5, lvpws_mm=13.0, as_tmed5="mild_AS", as_tmed3="early",
    ecg_mv=((0.5, -0.25), (1, 2), (0, 0)), ecg_hz=500.0, ecg_leads="I,V1",
    ecg_after_video_h=-30.5, doppler_box_px=(1, 2, 30, 40),
    doppler_zero_px=20.5, doppler_cm_s=1.5, doppler_ms=4.25,
    doppler_location="mitral_pw", ef_beat_pct=(50.5, 48.25), la_ml=61.5,
    lv_mass_g=180.25, rv_basal_mm=34.5, as_grade="mild", as_vmax_cm_s=270.5,
    as_mean_mmhg=17.25, as_area_cm2=1.75, as_discordant=0,
    stroke_index_ml_m2=38.5, mr_grade="none", mr_ml=2.5, rhythm="sinus",
    disease="valvular", study_day=365.0, arrhythmic_event_2y=1,
    **{f"segment_{i:02d}": "akinetic" for i in range(1, 18)},
    systolic_mmhg=128.0, diastolic_mmhg=76.5, diabetes="yes",
    creatinine_mg_dl=1.25, nt_probnp_pg_ml=820.0, beta_blocker="no",
    renin_angiotensin_inhibitor="yes", diuretic="no", anticoagulant="yes",
    polygenic_score_sd=-0.75,
    **{f"carrier_{gene}": "no" for gene in
       ("ttn", "lmna", "flnc", "myh7", "mybpc3", "ttr")},
  )  # fmt: skip
  assert set(known) == set(schema.FIELDS)
  return schema.make_record(**(known | changes))


def bare_record(name="t:bare", split="train"):
  """A record in which nothing is known that need not be."""
  return schema.make_record(
    video_id=name, study_id="t:s", patient_id="t:p", kind="cine",
    split=split, frames=[b"x"], frames_codec="raw", frames_shape=(1, 1, 1),
    frame_time_ms=[np.nan],
  )  # fmt: skip


def read(item):
  """Does what the item's facts say."""
  return item.facts["make"](), ()


def dataset(makers, split="train", name="toy"):
  items = tuple(
    Item(f"i{i}", split, {"make": make}) for i, make in enumerate(makers)
  )
  return Dataset(name, "1.0.0", "toy", {}, items, read)


def raising(error):
  def make():
    raise error

  return make


def nothing_left(data_dir):
  """No folder that could be taken for a data set, whole or half."""
  return not [
    p for p in data_dir.rglob("*") if p.is_file() and p.suffix != ".csv"
  ] and not list(data_dir.glob(".*"))


@pytest.mark.parametrize("make", [full_record, bare_record])
def test_every_key_comes_back_in_type_and_value(tmp_path, make):
  build(dataset([make]), tmp_path, progress=False)
  source = VideoSource(find_dataset(tmp_path, "toy"), "train")
  wanted, got = make(), source[0]
  wants = {"int": "i", "float": "f"}
  assert set(got) == set(schema.FIELDS)
  for name, field in schema.FIELDS.items():
    stored = wanted[name]
    stored = np.float32(stored) if field.type == "float" else stored
    np.testing.assert_array_equal(got[name], stored, err_msg=name)
    if field.type == "array":
      assert got[name].dtype == field.dtype, name
      assert got[name].shape == wanted[name].shape, name
    elif field.type == "text":
      assert isinstance(got[name], str), name
    elif field.type == "images":
      assert [bytes(one) for one in got[name]] == wanted[name], name
    elif field.type == "image":
      assert bytes(got[name]) == wanted[name]
    else:
      assert np.asarray(got[name]).dtype.kind == wants[field.type], name
  schema.check_record(got)


def test_index_says_what_the_records_say(tmp_path):
  build(dataset([full_record, bare_record]), tmp_path, progress=False)
  folder = find_dataset(tmp_path, "toy")
  index, source = read_index(folder), VideoSource(folder, "train")
  for row, record in zip(index.to_dict("records"), source, strict=True):
    for name in schema.SCALARS:
      if schema.FIELDS[name].type == "text":
        assert row[name] == record[name], name
      else:
        # Equal to the last bit: a threshold must say the same of both.
        np.testing.assert_array_equal(
          row[name], float(record[name]), err_msg=name
        )
  assert index["frame_count"].tolist() == [3, 1]
  assert index["has_sector"].tolist() == [True, False]
  assert index["span_ms"][0] == pytest.approx(33.3)
  assert np.isnan(index["span_ms"][1])


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
  "error",
  [
    KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"), MemoryError(),
    RuntimeError("codec"), KeyError("FileName"),
  ],
  ids=lambda e: type(e).__name__ + str(getattr(e, "errno", "")),
)  # fmt: skip
def test_whatever_breaks_a_build_off_nothing_half_made_stays(
  tmp_path, error, before
):
  if before:
    old = build(dataset([full_record]), tmp_path, progress=False)
    kept = fingerprint(old.path)
  broken = dataset([bare_record, raising(error)])
  wanted = BuildFailed if "No space" in str(error) else type(error)
  with pytest.raises(wanted):
    build(broken, tmp_path, overwrite=before, progress=False)
  if before:
    assert fingerprint(find_dataset(tmp_path, "toy")) == kept
    assert len(VideoSource(old.path, "train")) == 1
    assert not list(tmp_path.glob(".*"))
  else:
    assert nothing_left(tmp_path)


def test_no_space_says_where_and_how_much_is_free(tmp_path):
  full = OSError(errno.ENOSPC, "No space left on device")
  with pytest.raises(BuildFailed, match=r"toy/1.0.0 \([\d,]+ MiB free\)"):
    build(dataset([raising(full)]), tmp_path, progress=False)


@pytest.mark.parametrize(
  "error",
  [OSError(errno.ENOSPC, "No space left"), OSError(errno.EDQUOT, "Quota")],
  ids=["disk", "quota"],
)
def test_no_space_while_the_data_set_is_finished(tmp_path, monkeypatch, error):
  """All records are there; only what lies beside them was wanting."""

  def full(*_, **__):
    raise error

  with monkeypatch.context() as patched:
    patched.setattr(finishing, "write_index", full)
    with pytest.raises(BuildFailed, match="other 0 of 1 .* 1 of 1 shards"):
      build(dataset([full_record]), tmp_path, progress=False)
  assert not (tmp_path / "toy").exists()
  build(dataset([full_record]), tmp_path, progress=False)
  assert len(VideoSource(find_dataset(tmp_path, "toy"), "train")) == 1


def test_a_ledger_names_every_item_once(tmp_path):
  makers = [
    full_record, lambda: full_record(), lambda: full_record("t:w"),
    raising(Rejected("codec: not readable")),
    raising(Rejected("codec: not known")),
    lambda: full_record("t:x") | {"ef_pct": 140.0},
    lambda: full_record("t:y") | {"patient_id": ""},
  ]  # fmt: skip
  report = build(dataset(makers), tmp_path, progress=False)
  ledger = pd.read_csv(report.path / "ledger.csv")
  assert ledger["item"].tolist() == [f"i{i}" for i in range(7)]
  assert (report.found, report.written, report.rejected) == (7, 2, 5)
  assert sum(report.reasons.values()) == report.rejected
  assert report.reasons == {"duplicate id": 1, "codec": 2, "bad record": 2}
  assert "7 found = 2 written + 5 rejected" in str(report)
  assert "2 x codec" in str(report)


def test_an_id_that_is_no_text_is_rejected_and_the_others_stay(tmp_path):
  """A file name in another coding reaches a builder with such characters."""
  makers = [full_record, lambda: full_record() | {"video_id": "t:b\udcff"}]
  items = dataset(makers).items
  odd = Item("b\udcff.avi", "train", items[1].facts)
  report = build(
    Dataset("toy", "1.0.0", "toy", {}, (items[0], odd), read), tmp_path,
    progress=False,
  )  # fmt: skip
  assert report.reasons == {"bad record": 1} and report.written == 1
  ledger = pd.read_csv(report.path / "ledger.csv").set_index("item")
  assert "video_id cannot be stored" in ledger["reason"][r"b\udcff.avi"]


@pytest.mark.parametrize("splits", [("test", "train"), ("train", "test")])
def test_the_same_id_in_two_splits_is_a_duplicate(tmp_path, splits):
  """The first in the listing stays, whatever the order of the splits."""
  items = tuple(
    Item(s, s, {"make": lambda s=s: full_record(split=s)}) for s in splits
  )
  report = build(
    Dataset("toy", "1.0.0", "toy", {}, items, read), tmp_path, progress=False
  )
  assert (report.written, report.rejected) == (1, 1)
  assert read_index(report.path)["split"].tolist() == [splits[0]]


def test_duplicates_are_found_across_shards(tmp_path):
  """Three of one id in three shards, of which the last is left empty."""
  ids = ["a", "b", "c", "d", "b", "e", "f", "g", "b", "c"]
  assert items_a_shard(len(ids)) == 4
  made = dataset([lambda n=n: full_record(f"t:{n}") for n in ids])
  report = build(made, tmp_path, progress=False)
  source = VideoSource(report.path, "train")
  assert [record["video_id"] for record in source] == [
    f"t:{n}" for n in "abcdefg"
  ]
  assert source.index["video_id"].tolist() == [f"t:{n}" for n in "abcdefg"]
  ledger = pd.read_csv(report.path / "ledger.csv").set_index("item")
  lost = ledger[ledger["status"] == "rejected"]["reason"]
  assert lost.index.tolist() == ["i4", "i8", "i9"]
  assert lost["i8"] == "duplicate id: t:b was written before"
  files = sorted(p.name for p in report.path.glob("*array_record*"))
  assert [name[-8:] for name in files] == ["of-00002"] * 2
  # What went out is not counted: sizes are those of a set without it.
  size = len(serialise(full_record("t:a")))  # ids are of equal length
  info = tfds.builder_from_directory(str(report.path)).info
  assert info.splits["train"].num_bytes == 7 * size


def test_a_record_is_not_written_under_another_split(tmp_path):
  """The index goes by the record's split, the files by the item's."""
  makers = [full_record, lambda: full_record("t:w", split="test")]
  try:
    report = build(dataset(makers), tmp_path, progress=False)
  except BuildFailed:
    return
  assert report.written == 1 and report.rejected == 1
  assert len(VideoSource(report.path, "train")) == 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"frame_time_ms": (0, 20, np.inf)}, "frame_time_ms"),
    ({"spacing_mm": (np.inf, 0.3)}, "spacing_mm"),
    ({"r_wave_ms": (5, 5, 900)}, "r_wave_ms"),
    ({"r_wave_ms": (900, 5)}, "r_wave_ms"),
    ({"r_wave_ms": (5, np.nan)}, "r_wave_ms"),
    ({"tracing_count": (2, 2)}, "tracing_count"),
    ({"tracing_count": (3,)}, "tracing_count"),
    ({"tracing_frame": (0, 3)}, "tracing_frame"),
    ({"patient_known": 7}, "patient_known"),
    ({"ed_frame": float("nan")}, "ed_frame"),
    ({"ef_pct": np.inf}, "ef_pct"),
    ({"age_years": -1.0}, "age_years"),
    ({"frames_shape": (0, 3, 1)}, "frames_shape"),
    ({"frames_shape": (2, 3, 2)}, "frames_shape"),
    ({"frames_codec": ""}, "frames_codec"),
    ({"kind": "video"}, "kind"),
    ({"video_id": ""}, "video_id is empty"),
  ],
  ids=str,
)
def test_values_that_later_code_could_misread_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    full_record(**changes)


def test_versions_are_ordered_as_numbers_and_can_be_asked_for(tmp_path):
  for version in ("1.2.0", "1.10.0", "1.9.3"):
    (tmp_path / "toy" / version).mkdir(parents=True)
  assert find_dataset(tmp_path, "toy").name == "1.10.0"
  assert find_dataset(tmp_path, "toy:1.9.3").name == "1.9.3"
  with pytest.raises(FileNotFoundError, match="no data set toy 2.0.0"):
    find_dataset(tmp_path, "toy:2.0.0")


def test_an_index_that_does_not_fit_the_files_is_refused(tmp_path):
  build(dataset([full_record, bare_record]), tmp_path, progress=False)
  path = find_dataset(tmp_path, "toy") / "index.parquet"
  pq.write_table(pq.read_table(path).slice(1), path)
  with pytest.raises(ValueError, match="build the data set again"):
    VideoSource(path.parent, "train")
  path.unlink()
  with pytest.raises(ValueError, match="no index.parquet; build"):
    VideoSource(path.parent, "train")


def test_fingerprint_sees_labels_and_pixels_apart(tmp_path):
  def prints(folder, **changes):
    made = dataset([lambda: full_record(**changes), bare_record])
    build(made, tmp_path / folder, progress=False)
    return fingerprint(find_dataset(tmp_path / folder, "toy"))

  same, again = prints("a"), prints("b")
  other = dataset([bare_record, full_record])
  turned = build(other, tmp_path / "e", progress=False).path
  assert fingerprint(turned)["labels"] != same["labels"]  # other batches
  label = prints("c", ef_pct=51.0)
  pixel = prints("d", frames=[b"\x00\xff\n", b"", b"\r,."])
  assert same == again
  assert label["pixels"] == same["pixels"] != pixel["pixels"]
  assert pixel["labels"] == same["labels"] != label["labels"]
  assert same["dataset"] == "toy:1.0.0"


CHANGED = {
  "volume_ml": (120.5, np.nan, 61), "lv_mask": [b"ac", b"", b"\x00"],
  "tracing_px": ((1.5, 2.5), (3, 4), (5, 6.5)), "tracing_count": (1, 2),
  "caliper_px": ((1, 2, 3, 4.5), (5, 6, 7, 9)), "spacing_mm": (0.1234568, 2.0),
  "frame_time_ms": (0, 16.8, 33.3), "r_wave_ms": (-3.5, 820.5),
  "ecg_mv": ((0.5, -0.25), (1, 2), (0, 0.5)), "sector": b"\x89PNG\x01",
  "doppler_box_px": (1, 2, 30, 41), "myo_mask": [b"m", b"", b""],
}  # fmt: skip


def test_a_checksum_sees_every_label_and_no_pixel():
  """Whatever a clip or a target may come from, not the scalars alone."""
  whole = index_row(full_record())["label_crc32"]
  assert index_row(full_record())["label_crc32"] == whole
  assert index_row(full_record(frames=[b"a"] * 3))["label_crc32"] == whole
  for name, value in CHANGED.items():
    row = index_row(full_record(**{name: value}))
    assert row["label_crc32"] != whole, name
  # NaN is one value, however its bits lie.
  odd = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
  same = full_record(volume_ml=(120.5, odd, 60))
  assert index_row(same)["label_crc32"] == whole


def test_fingerprint_sees_labels_of_frames(tmp_path):
  def labels(folder, **changes):
    made = dataset([lambda: full_record(**changes)])
    return fingerprint(build(made, tmp_path / folder, progress=False).path)

  same = labels("a")
  other = labels("b", volume_ml=CHANGED["volume_ml"])
  assert other["labels"] != same["labels"]
  assert other["pixels"] == same["pixels"]
