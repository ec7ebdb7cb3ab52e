"""The contract of predictions.csv, and the way from clips to studies."""

import warnings

import numpy as np
import pandas as pd
import pytest

from echo_jax.evaluation import aggregate
from echo_jax.evaluation.predictions import (
  COLUMNS,
  OPTIONAL,
  PredictionsWarning,
  check_predictions,
  read_predictions,
  write_predictions,
)


@pytest.fixture
def clips(make_clips):
  return make_clips(12)


def test_reading_back_is_exact(clips, tmp_path):
  clips["prediction"] = clips["prediction"].astype(np.float32)
  clips["quality"] = "good, but \"dark\""
  clips.loc[3, "truth"] = np.nan
  write_predictions(tmp_path / "p.csv", clips)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    again = read_predictions(tmp_path / "p.csv")
  pd.testing.assert_frame_equal(again, check_predictions(clips))
  assert (again.prediction == clips.prediction.astype(np.float64)).all()
  assert list(again) == [*COLUMNS, *OPTIONAL]
  assert set(again.site) == {"NA"}  # a site of that name, not a missing one
  assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


def test_a_bad_table_leaves_no_file(clips, tmp_path):
  with pytest.raises(ValueError, match="repeat a key"):
    write_predictions(tmp_path / "p.csv", pd.concat([clips, clips]))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"prediction": np.nan}, r"not a finite number in 144 of 144 rows, first"),
    ({"prediction": np.inf}, "not a finite number"),
    ({"prediction": "high"}, "prediction is 'high' in row 1"),
    ({"truth": np.inf}, "truth is infinite"),
    ({"patient_id": ""}, "patient_id is empty in 144 of 144 rows"),
    ({"level": "frame"}, "level is 'frame'; allowed"),
    ({"kind": "cine"}, "kind is 'cine'; allowed"),
    ({"start_ms": np.nan}, "a clip has no start_ms in 144 of"),
    ({"start_ms": 0.0}, "repeat a key; the first is level=clip, item_id"),
    ({"level": "video"}, "start_ms belongs to clips only"),
  ],
)
def test_refuses(clips, change, message):
  with pytest.raises(ValueError, match=message):
    check_predictions(clips.assign(**change))


def test_refuses_missing_columns_and_no_rows(clips):
  with pytest.raises(ValueError, match="missing column truth; found: level, i"):
    check_predictions(clips.drop(columns="truth"))
  with pytest.raises(ValueError, match="no rows"):
    check_predictions(clips[:0])


def read_text(tmp_path, text):
  (tmp_path / "p.csv").write_bytes(text.encode("utf-8-sig"))
  return read_predictions(tmp_path / "p.csv")


def test_foreign_file_named_by_clip(make_foreign, tmp_path):
  text = make_foreign().to_csv(index=False)
  with pytest.warns(PredictionsWarning, match="taken as one clip"):
    frame = read_text(tmp_path, text)
  assert set(frame.level) == {"clip"} and frame.start_ms.isna().all()
  with pytest.raises(ValueError, match="names clips only"):
    aggregate.mean_over_clips(frame)


def test_foreign_file_named_by_item(make_foreign, tmp_path):
  foreign = make_foreign().rename(columns={"clip_id": "item_id"})
  with pytest.warns(PredictionsWarning, match="taken as one video"):
    frame = read_text(tmp_path, foreign.to_csv(index=False))
  assert set(frame.level) == {"video"}
  with pytest.warns(PredictionsWarning, match="name single clips"):
    read_text(tmp_path, foreign.assign(level="clip").to_csv(index=False))
  with pytest.warns(PredictionsWarning, match=r"one clip \(it has start_ms"):
    read_text(tmp_path, foreign.assign(start_ms=0).to_csv(index=False))
  foreign["start_ms"] = ["0"] + [""] * (len(foreign) - 1)
  with pytest.raises(ValueError, match="only some rows have a start_ms"):
    read_text(tmp_path, foreign.to_csv(index=False))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "is empty"),
    ("item_id,patient_id,split,target,truth,prediction\n", "no rows"),
    ("item_id,patient_id,split,target,prediction\na,b,test,x,1\n",
     "missing column truth; found: item_id, patient_id, split, target"),
    ("patient_id,split,target,truth,prediction\nb,test,x,1,1\n",
     "no column item_id or clip_id; found: patient_id"),
    ("item_id,patient_id,split,target,truth,prediction\na,b,test,x,1\n",
     "not a finite number"),  # a line cut short
    ("item_id,patient_id\na,b,c,d\n,,,,,,,,\n", "not a CSV"),
  ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_foreign_file_refused(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    read_text(tmp_path, text)


def test_mean_over_clips_and_videos(clips):
  frame = check_predictions(clips)
  videos = aggregate.mean_over_clips(frame)
  assert len(videos) == 12 * 2 * 2 and set(videos.clips) == {3}
  row = videos[(videos.item_id == "set:v4_1") & (videos.target == "ef_pct")]
  of = (clips.item_id == "set:v4_1") & (clips.target == "ef_pct")
  assert row.prediction.item() == pytest.approx(clips[of].prediction.mean())
  assert row.truth.item() == clips[of].truth.iloc[0]
  check_predictions(videos)
  studies = aggregate.mean_over_videos(videos)
  assert set(studies.level) == {"study"} and len(studies) == len(videos)
  assert set(studies.item_id) == set(clips.study_id)
  assert set(studies.videos) == {1} and set(studies.clips) == {3}


def test_first_clips(clips):
  frame = check_predictions(clips.sample(frac=1, random_state=0))
  first = aggregate.first_clips(frame)
  assert set(first.start_ms) == {0.0} and len(first) == 12 * 2 * 2


def test_studies_keep_what_their_videos_share(clips):
  videos = aggregate.mean_over_clips(check_predictions(clips))
  videos["study_id"] = videos.patient_id
  videos["truth"] = 1.0
  videos.loc[videos.item_id.str.endswith("_1"), "view"] = "A2C"
  studies = aggregate.mean_over_videos(videos)
  assert set(studies.view) == {""} and set(studies.site) == {"NA"}
  assert set(studies.videos) == {2} and set(studies.clips) == {6}


@pytest.mark.parametrize(
  ("column", "value"),
  [("truth", 33.0), ("truth", np.nan), ("split", "train"),
   ("patient_id", "set:p999")],
)  # fmt: skip
def test_clips_of_one_video_must_agree(clips, column, value):
  frame = check_predictions(clips)
  frame.loc[frame.index[0], column] = value
  with pytest.raises(ValueError, match=f"{column} differs within one video"):
    aggregate.mean_over_clips(frame)


def test_level_is_chosen_out_loud(clips):
  frame = check_predictions(clips)
  videos = aggregate.mean_over_clips(frame)
  both = check_predictions(pd.concat([frame, videos]))
  with pytest.warns(PredictionsWarning, match="levels clip, video; video is"):
    assert set(aggregate.at_level(both).level) == {"video"}
  assert set(aggregate.at_level(frame).level) == {"clip"}
  assert set(aggregate.at_level(frame, "study").level) == {"study"}
  with pytest.raises(ValueError, match="no clip rows; the table has video"):
    aggregate.at_level(videos, "clip")
  with pytest.raises(ValueError, match="level is 'frame'"):
    aggregate.at_level(videos, "frame")
