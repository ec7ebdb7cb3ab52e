"""The index: values as in the records, shared text kept once."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_jax.data import schema
from echo_jax.data.index import (
  INDEX_FILE,
  INDEX_SCHEMA,
  SHARED_TEXT,
  as_text,
  write_index,
)
from echo_jax.data.mixing import Mixture
from echo_jax.data.sources import fingerprint, read_index

SPLITS = ("train", "test", "train", "validation", "train")


def made_rows(site="here"):
  """Five rows, many of whose values are unknown."""
  rows = []
  for i, split in enumerate(SPLITS):
    row = {name: schema.unknown(name) for name in schema.SCALARS}
    row |= {
      "video_id": f"t:v{i}", "study_id": f"t:s{i // 2}", "patient_id": "t:p",
      "split": split, "kind": "cine", "view": ("PLAX", "A4C", "")[i % 3],
      "site": site, "device": f"\u00fcber {i % 2}", "age_years": 50.0 + i,
      "has_sector": i % 2 == 0, "frame_count": i + 1, "span_ms": 40.0,
      "pixel_crc32": f"{i:08x}", "label_crc32": 2**32 - 1 - i,
    }  # fmt: skip
    rows.append(row)
  return rows


def write(folder, rows, columns=INDEX_SCHEMA):
  """An index of those rows, in two parts, and the settings beside it."""
  folder.mkdir(parents=True)
  table = pa.Table.from_pylist(rows, columns)
  if columns is INDEX_SCHEMA:
    write_index(folder / INDEX_FILE, [table[:2], table[2:]])
  else:
    pq.write_table(table, folder / INDEX_FILE)
  (folder / "settings.json").write_text("{}\n")
  return folder


@pytest.fixture
def folder(tmp_path):
  return write(tmp_path / "made" / "1.0.0", made_rows())


def plain(folder):
  """The table as pandas reads it."""
  return pq.read_table(folder / INDEX_FILE).to_pandas()


def test_it_holds_what_was_written(folder):
  index, wanted = read_index(folder), plain(folder)
  pd.testing.assert_frame_equal(as_text(index), wanted)
  assert repr(index.to_dict("records")) == repr(wanted.to_dict("records"))
  assert index["frame_count"].dtype == np.int32
  assert index["age_years"].dtype == np.float32
  assert index["ef_pct"].isna().all() and (index["sex"] == "").all()
  assert set(index.select_dtypes("category")) == set(SHARED_TEXT)


def test_text_is_compared_counted_and_sorted_as_text(folder):
  index, wanted = read_index(folder), plain(folder)
  for name in ("view", "device"):
    for value in (*wanted[name], "nobody has this"):
      np.testing.assert_array_equal(
        index[name] == value, wanted[name] == value
      )
      np.testing.assert_array_equal(
        index[name].isin([value, ""]), wanted[name].isin([value, ""])
      )
    assert index[name].tolist() == wanted[name].tolist()
    assert index.sort_values(name)["video_id"].tolist() == (
      wanted.sort_values(name)["video_id"].tolist()
    )
    counts = as_text(index)[name].value_counts()
    assert counts.to_dict() == wanted[name].value_counts().to_dict()


@pytest.mark.parametrize("split", [*sorted(set(SPLITS)), "pretrain"])
def test_a_split_is_its_rows(folder, split):
  wanted = plain(folder)
  wanted = wanted[wanted["split"] == split].reset_index(drop=True)
  pd.testing.assert_frame_equal(as_text(read_index(folder, split)), wanted)


def test_data_sets_are_joined(folder, tmp_path):
  other = write(tmp_path / "other" / "1.0.0", made_rows("there"))

  class Source(list):
    def __init__(self, folder):
      super().__init__(made_rows())
      self.index = read_index(folder)

  mixed = Mixture(("a", "b"), (0.5, 0.5), (Source(folder), Source(other)))
  wanted = pd.concat([plain(folder), plain(other)], ignore_index=True)
  wanted["cohort"] = ["a"] * 5 + ["b"] * 5
  assert repr(mixed.index.to_dict("records")) == (
    repr(wanted.to_dict("records"))
  )
  first, second = (source.index for source in mixed.sources)
  assert (first["view"] == second["view"]).all()
  both = first.merge(second, on=["video_id", "view"])
  assert len(both) == 5 and set(both["site_y"]) == {"there"}


def test_an_index_of_another_version_is_read(tmp_path):
  """A column that is not there any more, or not yet; a choice of its own."""
  rows = [
    {"video_id": "t:a", "view": "A9C", "split": "train", "extra": "1"},
    {"video_id": "t:b", "view": "A4C", "split": "test", "extra": "2"},
  ]
  columns = pa.schema([(name, pa.string()) for name in rows[0]])
  index = read_index(write(tmp_path / "old" / "1.0.0", rows, columns))
  assert index.to_dict("records") == rows


def test_the_fingerprint_is_of_the_plain_values(folder):
  """Of text the length of each and all as one; of numbers their bytes."""
  table = plain(folder)
  pixels, labels = hashlib.sha256(), hashlib.sha256(b"made:1.0.0 5{}\n")
  for name in table:
    digest = pixels if name == "pixel_crc32" else labels
    if digest is labels:
      digest.update(name.encode())
    values = table[name].to_numpy()
    if values.dtype.kind == "O":
      digest.update(np.array([len(v) for v in values], "<i4").tobytes())
      digest.update("".join(values).encode())
    else:
      digest.update(np.where(values != values, np.nan, values).tobytes())
  assert fingerprint(folder) == {
    "dataset": "made:1.0.0", "labels": labels.hexdigest()[:16],
    "pixels": pixels.hexdigest()[:16],
  }  # fmt: skip
