"""The view that a header codes, and a cine without the page around it."""

import numpy as np
import pytest
from made_ecg import code
from made_files import drawn_clip, region, write_dicom
from pydicom.sr.codedict import codes

from echo_jax.data.ingest import read_recording, to_record
from echo_jax.data.ingest.recording import cut_to_picture
from echo_jax.data.ledger import Rejected
from echo_jax.simulate.dicom import VIEW_CODES

IDS = {
  "video_id": "x:1", "study_id": "x:2", "patient_id": "x:3", "split": "test"
}  # fmt: skip
CID = codes.cid12226


def recorded(folder, *views, box=None):
  path = write_dicom(
    folder / "a", drawn_clip(2), [box or region()], FrameTime="33",
    ViewCodeSequence=[code(*view) for view in views],
  )  # fmt: skip
  return read_recording(path)


@pytest.mark.parametrize(
  ("word", "view"),
  [
    (CID.ApicalFourChamber, "A4C"), (CID.ApicalTwoChamber, "A2C"),
    (CID.ApicalLongAxis, "A3C"), (CID.ParasternalLongAxis, "PLAX"),
    (CID.ParasternalShortAxisAtTheMitralValveLevel, "PSAX"),
    (CID.SubcostalLongAxis, "SC"), (CID.SuprasternalLongAxis, ""),
  ],
)  # fmt: skip
def test_codes_of_the_standard_are_views(tmp_path, word, view):
  """pydicom's list of the standard's codes is not ours."""
  made = recorded(tmp_path, (word.value, word.scheme_designator))
  assert made.view == view and to_record(made, **IDS)["view"] == view


def test_old_codes_and_those_of_synthecho_are_known_too(tmp_path):
  assert recorded(tmp_path, ("G-A19C", "SRT")).view == "A4C"
  assert recorded(tmp_path, ("G-A19C", "LOCAL")).view == ""
  for view, (value, _) in VIEW_CODES.items():
    assert recorded(tmp_path, (value, "SCT")).view == view


def test_two_views_are_none(tmp_path):
  made = recorded(tmp_path, ("399214001", "SCT"), ("399232001", "SCT"))
  assert made.view == "" and recorded(tmp_path).view == ""


def test_a_cine_is_cut_to_its_region(tmp_path):
  box = region(
    RegionLocationMinX0=40, RegionLocationMaxX1=279, RegionLocationMinY0=20,
    RegionLocationMaxY1=219,
  )  # fmt: skip
  made = recorded(tmp_path, box=box)
  cut = cut_to_picture(made)
  np.testing.assert_array_equal(
    cut.frames[..., 0], drawn_clip(2)[:, 20:220, 40:280]
  )
  assert cut.sector.shape == (200, 240)
  assert cut.spacing_mm == pytest.approx([0.5, 0.5])
  with pytest.raises(Rejected, match="has no 2D region that fits it"):
    cut_to_picture(cut)
