"""Files with identities planted everywhere: none of them leaves the house.

The short form runs with all tests; `planted.py --files 1000` is the long one.
"""

import pytest
from planted import FORMS, IN_PIXELS, make_engine, plant, run

pytest.importorskip("rapidocr", reason="needs the extra [deid]")
# One of each photometric interpretation and family of syntax, all places.
NUMBERS = (0, 15, 37, 53, 91, 110, 123, 143)


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
  return run(list(NUMBERS), 1, make_engine(), tmp_path_factory.mktemp("p"))


def test_nothing_leaks_by_bytes_or_to_another_reader(verdict):
  assert verdict["files"] == len(NUMBERS)
  assert verdict["leaks"] == 0, verdict["leaked_files"]
  assert verdict["written"] == len(NUMBERS), verdict["reasons"]


def test_planted_in_every_place(verdict):
  places = verdict["planted_by_place"]
  assert set(IN_PIXELS) <= set(places)
  assert len(verdict["planted_by_form"]) >= 8
  for place in (
    "private", "nested", "multi-valued", "overlay and curve", "file name",
    "preamble", "file meta", "icon image", "trailing padding",
    "standard: code strings", "standard: ManufacturerModelName",
  ):  # fmt: skip
    assert places[place] >= 8, place


def test_the_picture_stays(verdict):
  assert verdict["clean_pixels_kept_pct"]["mean"] >= 99


def test_the_search_finds_what_is_planted(tmp_path):
  """Before it is cleaned, the same search sees the identity in the bytes."""
  from planted import bytes_of, leaks_in_bytes

  file = plant(tmp_path, list(FORMS).index("explicit little endian, RGB"), 1)
  found = leaks_in_bytes(bytes_of(tmp_path), file)
  assert {"private", "nested", "standard: PatientName", "file name"} <= set(
    found
  )
