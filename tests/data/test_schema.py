"""The video record refuses what later code could misread."""

import numpy as np
import pytest

from echo_jax.data import clinical, schema
from echo_jax.simulate import condition, doppler, grades, rhythm, segments
from echo_jax.targets import TARGETS


def record(**changes):
  """A small whole record with some keys changed."""
  known = {
    "video_id": "t:v", "study_id": "t:s", "patient_id": "t:p", "kind": "cine",
    "split": "train", "frames": [b"1234", b"5678"], "frames_codec": "raw",
    "frames_shape": (2, 2, 1), "frame_time_ms": [0.0, 20.0],
  }  # fmt: skip
  return schema.make_record(**(known | changes))


def test_unknown_is_marked_and_never_guessed():
  made = record()
  assert np.isnan(made["ef_pct"]) and np.isnan(made["spacing_mm"]).all()
  assert made["ed_frame"] == -1 and made["view"] == ""
  assert made["lv_mask"] == [] and made["tracing_px"].shape == (0, 2)
  assert set(made) == set(schema.FIELDS)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"ef_pct": 140.0}, "ef_pct .* is 140; allowed: 0 to 100"),
    ({"edv_ml": 0.1}, "edv_ml .* allowed: 1 to 1000"),
    ({"patient_id": ""}, "patient_id is empty"),
    ({"view": "4CH"}, "view is '4CH'"),
    ({"site": "K\udcf8ge"}, "site cannot be stored as UTF-8; .* another name"),
    ({"split": "TRAIN"}, "split is 'TRAIN'"),
    ({"frames": []}, "frames is empty"),
    ({"frame_time_ms": [0.0]}, "2 frames but 1 frame times"),
    ({"frame_time_ms": [5.0, 20.0]}, "must start at 0 and rise"),
    ({"frame_time_ms": [0.0, 0.0]}, "smallest step is 0 ms"),
    ({"frame_time_ms": [0.0, np.nan]}, "must start at 0 and rise"),
    ({"spacing_mm": (0.3, -0.3)}, "both must be above 0 mm"),
    ({"ed_frame": 2}, "ed_frame is 2 but frames end at 1"),
    ({"volume_ml": [100.0]}, "volume_ml has 1 values for 2"),
    ({"tracing_px": [1.0, 2.0]}, "tracing_px has shape"),
    ({"ejection": 55.0}, "not in the video record"),
  ],
)
def test_refusals_name_key_value_and_what_is_allowed(changes, message):
  with pytest.raises(ValueError, match=message):
    record(**changes)


def test_unknown_times_of_a_whole_video_are_allowed():
  assert np.isnan(record(frame_time_ms=[np.nan, np.nan])["frame_time_ms"]).all()


def test_words_of_the_simulation_are_those_of_the_record():
  """Each is written down once more so that no floor needs the other."""
  assert schema.RHYTHMS == (*rhythm.RHYTHMS, "")
  assert schema.VALVE_GRADES == (*grades.GRADES, "")
  assert schema.SEGMENT_FUNCTIONS == (*segments.FUNCTIONS, "")
  assert schema.DOPPLER_LOCATIONS == (*doppler.LOCATIONS, "")
  assert schema.DISEASES == (*condition.DISEASES, "")
  assert TARGETS["disease"].classes == condition.DISEASES
  assert TARGETS["rhythm"].classes == rhythm.RHYTHMS
  assert TARGETS["as_grade"].classes == grades.GRADES


def test_every_clinical_and_genetic_column_is_a_key_of_the_record():
  for column in (*clinical.CLINICAL, *clinical.GENETIC):
    field = schema.FIELDS[column.name]
    assert field.type == ("text" if column.kind == "category" else "float")
    assert field.meaning
