"""The builder: whole records, patients kept together, refusals."""

import argparse
import dataclasses
from collections import Counter

import numpy as np
import pytest

from data_builders import synthetic_echo
from echo_jax.data import schema
from echo_jax.data.frames import decode_frame, decode_mask
from echo_jax.simulate import draw_study, measure_heart, simulate_video


def _dataset(**changed):
  settings = {"patients": 20, "size": 48, "duration_s": 1.5} | changed
  return synthetic_echo.dataset(**settings)


@pytest.mark.parametrize("codec", ["png", "raw"])
def test_record_is_the_simulated_video(codec):
  dataset = _dataset(codec=codec, seed=4, cohort="clinic_like")
  record, notes = dataset.read(dataset.items[3])
  schema.check_record(record)
  facts = dataset.items[3].facts
  study = draw_study(4, facts["patient"], facts["study"], "clinic_like")
  video = simulate_video(study, size=48, duration_s=1.5)
  frame = decode_frame(record["frames"][5], codec, (48, 48, 1))
  np.testing.assert_array_equal(frame[..., 0], video.frames[5])
  np.testing.assert_array_equal(
    decode_mask(record["lv_mask"][5]), video.lv_mask[5]
  )
  np.testing.assert_array_equal(decode_mask(record["sector"]), video.sector)
  assert record["ef_pct"] == video.ef_pct and record["view"] == "A4C"
  assert record["ef_method"] == "simulated" and notes == ()


def test_patients_stay_in_one_split_when_more_are_added():
  few, many = _dataset(patients=20).items, _dataset(patients=40).items
  assert many[: len(few)] == few
  split_of = {}
  for item in many:
    patient = item.facts["patient"]
    assert split_of.setdefault(patient, item.split) == item.split


def test_shares_are_kept_in_small_cohorts():
  found = Counter(synthetic_echo.split_patients(200, synthetic_echo.SHARES))
  for name, share in synthetic_echo.SHARES.items():
    assert found[name] == pytest.approx(200 * share, abs=2)


def test_an_empty_split_and_bad_shares_are_refused():
  with pytest.raises(ValueError, match="2 patients leave .* empty"):
    _dataset(patients=2)
  with pytest.raises(ValueError, match="shares sum"):
    _dataset(shares={"train": 0.5})


def test_a_video_without_a_whole_beat_is_noted():
  dataset = _dataset(duration_s=0.2)
  record, notes = dataset.read(dataset.items[0])
  assert record["ed_frame"] == -1
  assert notes == ("no complete beat in the recording",)


def test_an_ef_of_too_few_beats_is_noted(monkeypatch):
  def draw(*which):
    study = draw_study(*which)
    state = dataclasses.replace(
      study.heart, rhythm="atrial_fibrillation", heart_rate_bpm=70.0
    )
    return dataclasses.replace(study, heart=state)

  monkeypatch.setattr(synthetic_echo.simulate, "draw_study", draw)
  dataset = _dataset(duration_s=2.5)
  record, notes = dataset.read(dataset.items[0])
  assert record["ed_frame"] >= 0 and len(notes) == 1
  assert notes[0].endswith("atrial_fibrillation wants at least 5")


def test_options_give_the_same_data_set():
  parser = argparse.ArgumentParser()
  synthetic_echo.add_options(parser)
  args = parser.parse_args(["--patients", "20", "--size", "48"])
  made = synthetic_echo.from_options(args)
  assert made.items == _dataset().items
  assert made.settings == _dataset(duration_s=2.0).settings


def test_views_are_records_of_their_own_and_the_default_keeps_its_names():
  plain, many = _dataset(), _dataset(views=("A4C", "PSAX"), clips=2)
  names = {item.name for item in many.items}
  assert {item.name for item in plain.items} < names
  item = next(i for i in many.items if i.facts["view"] == "PSAX")
  assert item.name.endswith("-psax-c0")
  record, _ = many.read(item)
  assert record["view"] == "PSAX"
  with pytest.raises(ValueError, match="views"):
    _dataset(views=("A9C",))


def test_sizes_are_those_of_the_heart():
  dataset = _dataset()
  record, _ = dataset.read(dataset.items[0])
  found = measure_heart(draw_study(0, 0, 0, "independent").heart)
  for name in ("lvidd_mm", "lvids_mm", "ivsd_mm", "lvpws_mm"):
    assert record[name] == getattr(found, name)
